"""Requests to experiments: every architecture of a study at one budget, solved for together."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError, InfeasibleError
from harness.experiment import Experiment
from harness.scales import Scale
from harness.settings import Settings
from harness.solver import (
    Targets,
    check_tolerance,
    no_feasible_width,
    proxy_widths,
    rounded,
    rounded_all,
    solve,
    width_for,
    worst_deviation,
)
from harness.studies.study import Point, Request, Study


@dataclass(frozen=True, kw_only=True)
class Infeasible:
    """A request that has no architecture."""

    compute: float
    """Budget, FLOPs."""
    request: Request
    reason: InfeasibleError


def build(study: Study, settings: Settings, scale: Scale) -> tuple[list[Point], list[Infeasible]]:
    """The experiments of `study` at `scale` in its order, seeds of a repeated one side by side; and what is infeasible.

    Raises:
        ConfigError: a value of the configuration cannot be used.
    """
    try:
        requests = list(study.requests(settings, scale))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise ConfigError(
            f"studies.{study.name} is not of the form that the study needs ({what}): configs/studies/paper.yaml shows it"
        ) from error
    solved = _solve(settings, requests)
    points: list[Point] = []
    infeasible: list[Infeasible] = []
    for request, found in zip(requests, solved, strict=True):
        if isinstance(found, InfeasibleError):
            infeasible.append(Infeasible(compute=scale.compute, request=request, reason=found))
        else:
            points.extend(_experiments(study.name, settings, scale, request, *found))
    return points, infeasible


def _solve(settings: Settings, requests: list[Request]) -> list[tuple[Targets, Architecture] | InfeasibleError]:
    """For each request its targets and its architecture, or why there is none."""
    solved: list[tuple[Targets, Architecture] | InfeasibleError] = [InfeasibleError("not solved yet")] * len(requests)
    groups: dict[Backbone, list[int]] = {}
    targets: dict[int, Targets] = {}
    for index, request in enumerate(requests):
        try:
            targets[index] = Targets.from_ratios(
                request.backbone,
                flops_per_token=request.flops_per_token,
                m_over_na=request.m_over_na,
                n_over_na=request.n_over_na,
            )
            groups.setdefault(request.backbone, []).append(index)
        except InfeasibleError as error:
            solved[index] = error
    for backbone, members in groups.items():
        widths = _widths(
            settings, backbone, [requests[index] for index in members], [targets[index] for index in members]
        )
        _round_group(settings, backbone, members, requests, targets, widths, solved)
    return solved


def _widths(
    settings: Settings, backbone: Backbone, requests: list[Request], targets: list[Targets]
) -> list[int | InfeasibleError]:
    """The width that each request means, a whole number of steps."""
    step = settings.rules.hidden_size_step
    proxied = [index for index, request in enumerate(requests) if request.value is None]
    proxies: dict[int, int] = {}
    if proxied:
        found = proxy_widths(backbone, Targets.stack([targets[index] for index in proxied]), settings.rules)
        proxies = dict(zip(proxied, found.tolist(), strict=True))
    widths: list[int | InfeasibleError] = []
    for index, (request, target) in enumerate(zip(requests, targets, strict=True)):
        if request.value is None:
            widths.append(proxies[index] or no_feasible_width(backbone, target, settings.rules))
            continue
        if request.quantity == "hidden_size" and request.value % step:
            near = [
                width
                for width in (int(request.value // step) * step, int(request.value // step + 1) * step)
                if width > 0
            ]
            raise ConfigError(
                f"hidden_size={request.value:g} is not a multiple of {step} (rules.hidden_size_step): "
                f"{' or '.join(map(str, near)) or step} would be"
            )
        try:
            width = width_for(backbone, target, request.quantity, request.value)
            widths.append(max(1, int(np.floor(width / step + 0.5))) * step)
        except InfeasibleError as error:
            widths.append(error)
    return widths


def _round_group(
    settings: Settings,
    backbone: Backbone,
    members: list[int],
    requests: list[Request],
    targets: dict[int, Targets],
    widths: list[int | InfeasibleError],
    solved: list[tuple[Targets, Architecture] | InfeasibleError],
) -> None:
    """Round the requests of one backbone together and put what comes out into `solved`."""
    able = [(index, width) for index, width in zip(members, widths, strict=True) if isinstance(width, int)]
    for index, width in zip(members, widths, strict=True):
        if isinstance(width, InfeasibleError):
            solved[index] = width
    if not able:
        return
    stacked = Targets.stack([targets[index] for index, _ in able])
    architectures = rounded_all(backbone, stacked, np.array([width for _, width in able]), settings.rules)
    whole = np.array(
        [
            (a.hidden_size, a.num_dense_layers, a.num_moe_layers, a.moe_ffn_hidden_size) if a else (1, 1, 1, 1)
            for a in architectures
        ]
    ).T
    solution = solve(backbone, stacked, whole[0])
    inside = (solution.num_dense_layers >= 0) & (
        solution.num_moe_layers > 0
    )  # a solved d may round out of the interval
    safe = inside & (worst_deviation(backbone, stacked, *whole) <= min(settings.rules.tolerances))
    for (index, width), architecture, fine in zip(able, architectures, safe.tolist(), strict=True):
        try:
            if architecture is None:
                architecture = rounded(backbone, targets[index], width, settings.rules)  # raises, and says why
            if not fine:
                width_for(
                    backbone, targets[index], "hidden_size", architecture.hidden_size
                )  # raises where it is outside
                check_tolerance(backbone, targets[index], architecture, settings.rules)
            solved[index] = (targets[index], architecture)
        except InfeasibleError as error:
            solved[index] = _named(requests[index], error)


def _named(request: Request, error: InfeasibleError) -> InfeasibleError:
    """The error with what was asked for, where that was another quantity than d."""
    if request.quantity == "hidden_size" or request.value is None:
        return error
    return InfeasibleError(f"{request.quantity}={request.value:g}: {error}")


def _experiments(
    study: str, settings: Settings, scale: Scale, request: Request, targets: Targets, architecture: Architecture
) -> Iterable[Point]:
    """The experiments at one architecture: one, or one a seed where the request is repeated."""
    tokens = settings.tokens(scale, request.backbone, architecture, spend_budget=request.spend_budget)
    marks = request.marks + (("extrapolated",) if scale.extrapolated else ())
    for repeat in range(settings.seeds if request.repeated else 1):
        training = settings.training(
            request.recipe or scale,
            request.backbone,
            tokens=tokens,
            hidden_size=architecture.hidden_size,
            seed=settings.first_seed + repeat,
            learning_rate_factor=request.learning_rate_factor,
            global_batch_size=request.global_batch_size,
        )
        experiment = Experiment(
            backbone=request.backbone, architecture=architecture, training=training, data=settings.data
        )
        yield Point(
            study=study, compute=scale.compute, request=request, targets=targets, experiment=experiment, marks=marks
        )

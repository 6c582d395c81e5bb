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
    width_for,
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


type Answer = tuple[Targets, Architecture] | InfeasibleError
"""A request's targets and architecture, or why there is none."""


def _solve(settings: Settings, requests: list[Request]) -> list[Answer]:
    """The answer to each request; those of one backbone are solved together."""
    answers: dict[int, Answer] = {}
    groups: dict[Backbone, dict[int, Targets]] = {}
    for index, request in enumerate(requests):
        try:
            groups.setdefault(request.backbone, {})[index] = Targets.from_ratios(
                request.backbone,
                flops_per_token=request.flops_per_token,
                m_over_na=request.m_over_na,
                n_over_na=request.n_over_na,
            )
        except InfeasibleError as error:
            answers[index] = error
    for backbone, targets in groups.items():
        members = [requests[index] for index in targets]
        widths = _widths(settings, backbone, members, list(targets.values()))
        answers |= zip(targets, _rounded(settings, backbone, members, list(targets.values()), widths), strict=True)
    return [answers[index] for index in range(len(requests))]


def _widths(
    settings: Settings, backbone: Backbone, requests: list[Request], targets: list[Targets]
) -> list[int | InfeasibleError]:
    """The width that each request means, a whole number of steps."""
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
        try:
            widths.append(_solved_width(settings, target, request, request.value))
        except InfeasibleError as error:
            widths.append(error)
    return widths


def _solved_width(settings: Settings, targets: Targets, request: Request, value: float) -> int:
    """The width at which the request's quantity has its value: to the nearest step, and still one that Eq. 3 allows."""
    step = settings.rules.hidden_size_step
    if request.quantity == "hidden_size" and value % step:
        below = int(value // step) * step
        near = [width for width in (below, below + step) if width > 0]
        raise ConfigError(
            f"hidden_size={value:g} is not a multiple of {step} (rules.hidden_size_step): "
            f"{' or '.join(map(str, near)) or step} would be"
        )
    exact = width_for(request.backbone, targets, request.quantity, value)
    width = max(1, int(np.floor(exact / step + 0.5))) * step
    try:
        width_for(request.backbone, targets, "hidden_size", width)  # it may have rounded out of the interval
    except InfeasibleError as error:
        raise _named(request, error) from error
    return width


def _rounded(
    settings: Settings,
    backbone: Backbone,
    requests: list[Request],
    targets: list[Targets],
    widths: list[int | InfeasibleError],
) -> list[Answer]:
    """The architectures at `widths`, rounded together; a width that is an error answers with it."""
    answers: dict[int, Answer] = {}
    whole: dict[int, int] = {}
    for index, width in enumerate(widths):
        if isinstance(width, InfeasibleError):
            answers[index] = width
        else:
            whole[index] = width
    stacked = Targets.stack([targets[index] for index in whole])
    architectures = rounded_all(backbone, stacked, np.array(list(whole.values()), dtype=int), settings.rules)
    for (index, width), found in zip(whole.items(), architectures, strict=True):
        try:
            # at the very edge of the interval there is none: then `rounded` raises, and says why
            architecture = found or rounded(backbone, targets[index], width, settings.rules)
            if requests[index].value is not None:  # a proxy is feasible, which holds the tolerance
                check_tolerance(backbone, targets[index], architecture, settings.rules)
            answers[index] = (targets[index], architecture)
        except InfeasibleError as error:
            answers[index] = _named(requests[index], error)
    return [answers[index] for index in range(len(widths))]


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

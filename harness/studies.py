"""The paper's studies, each as a list of points: what is asked for, and the experiment that answers it.

A study takes the `Settings` and a budget and yields `Point`s in a fixed order. Its numbers stand in the backbone's
configuration (``configs/backbone/``), under ``studies``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.accounting import count, score_flops
from harness.architecture import Backbone
from harness.errors import ConfigError, InfeasibleError, nearest
from harness.experiment import Experiment
from harness.settings import Scale, Settings
from harness.solver import MIN_M_OVER_NA, Targets, proxy_width, rounded


@dataclass(frozen=True, kw_only=True)
class Point:
    """One experiment with what the study asked for."""

    study: str
    compute: float
    """Nominal budget C, FLOPs."""
    targets: Targets
    experiment: Experiment
    marks: tuple[str, ...] = ()
    """``inferred``: the target M is the one that the published tables imply."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A named study."""

    name: str
    label: str
    """In the names of sweeps."""
    points: Callable[[Settings, Scale], Iterator[Point]]


def grid(settings: Settings, scale: Scale) -> Iterator[Point]:
    """Phase 1 (section 5.2): every (M/N_a, N/N_a) at the median proxy width."""
    numbers = settings.study("grid")
    densities = _list(settings.config.m_over_na, _at(scale, numbers["m_over_na"]), "m_over_na")
    expansions = _list(settings.config.n_over_na, _at(scale, numbers["n_over_na"]), "n_over_na")
    backbone = settings.backbone(scale)
    for density in densities:
        for expansion in expansions:
            targets = Targets.from_ratios(
                backbone, flops_per_token=scale.grid_flops_per_token, m_over_na=density, n_over_na=expansion
            )
            repeated = _in(numbers["repeat_at"], m_over_na=density, n_over_na=expansion)
            yield from _points(settings, scale, "grid", backbone, targets, repeated, tuple(numbers.get("marks", ())))


def classical(settings: Settings, scale: Scale) -> Iterator[Point]:
    """IsoFLOP sets around M_opt(C) (section 4.2.1): sizes with D = C / M, in the shapes that the configuration states."""
    numbers = settings.study("classical")
    for name in ("m_over_na", "n_over_na"):
        if settings.config[name] is not None:
            raise ConfigError(
                f"{name}={settings.config[name]} is for phase=1; the classical study has studies.classical.*"
            )
    for size in _list(numbers["sizes"] or [], [], "studies.classical.sizes"):
        if not size > 0:
            raise ConfigError(f"studies.classical.sizes: {size:g} is not above 0")
        flops = size * scale.flops_per_token
        shape = next((shape for shape in numbers["shapes"] if flops <= shape["up_to"]), None)
        if shape is None:
            raise ConfigError(f"studies.classical.shapes has no shape for M = {flops:.4g}: add one with a larger up_to")
        backbone = settings.backbone(shape)
        targets = Targets.from_ratios(
            backbone,
            flops_per_token=flops,
            m_over_na=shape["m_over_na"] if "m_over_na" in shape else _density(backbone, flops, shape["num_layers"]),
            n_over_na=numbers["n_over_na"],
        )
        repeated = _in(numbers["repeat_at"], sizes=size)
        yield from _points(settings, scale, "classical", backbone, targets, repeated, spend_budget=True)


STUDIES = (
    Study(name="grid", label="phase1", points=grid),
    Study(name="classical", label="classical", points=classical),
)

_BY_PHASE = {"1": STUDIES[0]} | {study.name: study for study in STUDIES}


def find_study(phase: Any) -> Study:
    """The study that ``phase=`` names.

    Raises:
        ConfigError: there is none of that name; with the valid ones.
    """
    if (study := _BY_PHASE.get(str(phase))) is None:
        start = "phase is not set" if phase is None else f"phase={phase}: no such study"
        raise ConfigError(f"{start}; choose one of {', '.join(_BY_PHASE)}{nearest(phase, _BY_PHASE)}")
    return study


def _points(
    settings: Settings,
    scale: Scale,
    study: str,
    backbone: Backbone,
    targets: Targets,
    repeated: bool,
    marks: tuple[str, ...] = (),
    spend_budget: bool = False,
) -> Iterator[Point]:
    """The experiments at one target: one, or one a seed where the point is repeated.

    `spend_budget`: D = C / realised M, whatever ``training.tokens`` says.
    """
    architecture = rounded(backbone, targets, proxy_width(backbone, targets, settings.rules), settings.rules)
    flops = count(backbone, architecture).flops_per_token
    tokens = scale.compute / flops if spend_budget else settings.tokens(scale, flops)
    for repeat in range(settings.seeds if repeated else 1):
        training = settings.training(
            scale, backbone, tokens=tokens, hidden_size=architecture.hidden_size, seed=settings.first_seed + repeat
        )
        experiment = Experiment(backbone=backbone, architecture=architecture, training=training, data=settings.data)
        yield Point(study=study, compute=scale.compute, targets=targets, experiment=experiment, marks=marks)


def _density(backbone: Backbone, flops: float, num_layers: float) -> float:
    """M/N_a of a model of `num_layers` layers: M = 6 N_a + scores."""
    left = 1 - score_flops(backbone, num_layers) / flops
    if left <= 0:
        raise InfeasibleError(
            f"M={flops:.4g} FLOPs a token do not pay for the attention scores of {num_layers} layers "
            f"({score_flops(backbone, num_layers):.4g}): use fewer layers or heads"
        )
    return MIN_M_OVER_NA / left


def _at(scale: Scale, numbers: list[float] | dict[Any, list[float]]) -> list[float]:
    """A study's numbers at a budget: one list for all, or a list a budget."""
    if isinstance(numbers, list):
        return numbers
    by_budget = {float(compute): values for compute, values in numbers.items()}
    if scale.compute not in by_budget:
        raise ConfigError(f"the study states nothing for budget {scale.label}, only for {', '.join(map(str, numbers))}")
    return by_budget[scale.compute]


def _list(given: Any, default: list[float], name: str) -> list[float]:
    """The numbers of an option that replaces a study's own."""
    if given is None:
        return default
    values = [given] if isinstance(given, int | float) else given
    try:
        numbers = list(dict.fromkeys(float(value) for value in values))
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={given}: a number or a list of numbers in brackets is wanted") from None
    if not numbers:
        raise ConfigError(f"{name}=[]: at least one number is wanted")
    return numbers


def _in(repeat_at: dict[str, list[float]], **values: float) -> bool:
    """Whether a point is one of those that are repeated over seeds."""
    return all(value in repeat_at[name] for name, value in values.items())

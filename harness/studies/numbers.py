"""A study's numbers as the configuration and the command line give them."""

import math
from collections.abc import Iterable
from typing import Any

from harness.architecture import Backbone
from harness.equations import MIN_M_OVER_NA
from harness.errors import ConfigError
from harness.scales import Scale
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, thinned


def numbers(given: Any, name: str) -> list[float]:
    """The value of an option that takes a number or a list of them; without repetitions.

    Raises:
        ConfigError: it is no number, an empty list, or no finite number is in it.
    """
    values = [given] if isinstance(given, int | float | str) else given
    try:
        if any(isinstance(value, bool) for value in values):
            raise TypeError
        found = list(dict.fromkeys(float(value) for value in values))
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={given}: a number or a list of numbers in brackets is wanted") from None
    if not found:
        raise ConfigError(f"{name}=[]: at least one number is wanted")
    if wrong := [value for value in found if not math.isfinite(value)]:
        raise ConfigError(f"{name}={given}: {wrong[0]:g} is not finite")
    return found


def stated_at(scale: Scale, values: Any) -> Any | None:
    """What a study states for a budget: the same for all, or by budget; None where it states nothing for this one."""
    if not isinstance(values, dict):
        return values
    return {float(compute): value for compute, value in values.items()}.get(scale.compute)


def ratios(settings: Settings, scale: Scale, study: str, name: str) -> list[float]:
    """A study's `name` (``m_over_na`` or ``n_over_na``) at a budget: the command line's, or its own.

    Raises:
        ConfigError: neither says anything about this budget.
    """
    if (given := settings.config[name]) is not None:
        return numbers(given, name)
    stated = stated_at(scale, settings.study(study).get(name))
    if stated is None:
        raise ConfigError(f"the study {study} states no {name} for budget {scale.label}: give {name}=[...]")
    return numbers(stated, f"studies.{study}.{name}")


def optimum(settings: Settings, scale: Scale) -> tuple[list[float], list[float]]:
    """M/N_a and N/N_a at which the studies around an optimum stand: the command line's, those of ``laws=``, or the stated ones.

    Raises:
        ConfigError: none of them says anything about this budget.
    """
    found = []
    for name in ("m_over_na", "n_over_na"):
        if settings.config[name] is not None:
            found.append(numbers(settings.config[name], name))
            continue
        stated = stated_at(scale, settings.study("optima").get(name))
        fitted = settings.laws.value(name, name, scale.compute) if settings.laws is not None else None
        if fitted is None and stated is None:
            held = f" ({settings.laws.path} has {', '.join(settings.laws.names())})" if settings.laws else ""
            raise ConfigError(
                f"no optimal {name} is stated for budget {scale.label}: give {name}=<number>, or laws=<laws.json> with a law of "
                f"it{held}"
            )
        found.append(numbers(stated if fitted is None else fitted, f"studies.optima.{name}"))
        if fitted is not None and name == "m_over_na" and fitted <= MIN_M_OVER_NA:
            raise ConfigError(
                f"the law of m_over_na in {settings.laws and settings.laws.path} reads {fitted:.4g} at {scale.label}, where no "
                f"architecture is (M/N_a is above {MIN_M_OVER_NA:g}): give m_over_na=<number>"
            )
    return found[0], found[1]


def is_repeated(repeat_at: Any, **values: float) -> bool:
    """Whether a point is one of those that are repeated over seeds: ``all``, or the listed values of each name."""
    if repeat_at is None:
        return False
    if repeat_at == "all":
        return True
    if not isinstance(repeat_at, dict):
        raise ConfigError(f"repeat_at={repeat_at}: all, or lists of values by name, are wanted")
    return all(value in numbers(repeat_at.get(name, [math.pi]), f"repeat_at.{name}") for name, value in values.items())


def spread_of_widths(
    settings: Settings, study: str, backbone: Backbone, *, flops_per_token: float, m_over_na: float, n_over_na: float
) -> list[int]:
    """So many feasible widths, evenly by rank, as ``num_widths`` says (the command line's, or the study's own).

    Raises:
        ConfigError: neither is a whole number of at least 1.
        InfeasibleError: a ratio is outside its bounds.
    """
    targets = Targets.from_ratios(backbone, flops_per_token=flops_per_token, m_over_na=m_over_na, n_over_na=n_over_na)
    return thinned(feasible_widths(backbone, targets, settings.rules), _num_widths(settings, study))


def _num_widths(settings: Settings, study: str) -> int:
    value = settings.num_widths or settings.study(study).get("num_widths")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"studies.{study}.num_widths={value}: a whole number of at least 1 is wanted (or num_widths=<n>)"
        )
    return value


def refuse_options(settings: Settings, study: str, names: Iterable[str], instead: str) -> None:
    """Refuse options that mean nothing to a study, rather than pass them over.

    Raises:
        ConfigError: one of them is given.
    """
    for name in names:
        if settings.config[name] is not None:
            raise ConfigError(f"{name}={settings.config[name]} means nothing to the study {study}: it has {instead}")

"""What a fit returns, and how it says that it went wrong.

Soft trouble (the data do not show what was asked for) is a value of `FitStatus`; input that no fit can mean anything
for raises `FitError`.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError

type Array = NDArray[np.float64]
"""Any array of floats; docstrings give its shape."""

type Mask = NDArray[np.bool_]
"""Any array of yes and no."""


class FitError(HarnessError):
    """The input of a fit is impossible: NaN, lengths that differ, or a logarithm of a number that is not positive."""


class FitStatus(Enum):
    """How a fit ended. Everything but `CONVERGED` is a reason to look before using the numbers."""

    CONVERGED = "converged"
    """As asked: of a curve, one minimum inside the data."""
    AT_BOUND = "at a bound"
    """A coefficient ended where its range ends: a term has vanished, or a pole lies at the data or infinitely far."""
    AMBIGUOUS = "two different optima fit equally well"
    """Another optimum, with other parameters, has an objective within 1%."""
    NOT_CONVERGED = "not converged"
    """The optimiser stopped before its tolerance."""
    EDGE = "minimum at the edge of the data or outside"
    """The curve falls or rises over the whole sampled range."""
    NO_MINIMUM = "no minimum"
    """The best curve of the family is flat or curved the other way."""
    NOT_IDENTIFIABLE = "not identifiable"
    """The points do not determine the coefficients: too few distinct abscissae."""
    TOO_FEW_POINTS = "too few points"
    """Fewer points than coefficients."""
    UNRESOLVED = "noise hides the minimum in some repetitions"
    """Of a chain: in more than 1% of the resamples a budget has no minimum, so that what is left of them is not fair."""


LEVEL = 0.95
"""Coverage that every interval claims unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval; an end that the data leave open is infinite."""

    low: float
    high: float
    level: float
    """Share of repetitions of the experiment whose intervals hold the truth."""
    method: str
    """How it was found: t, Fieller, profile, percentile, BCa, studentised ..."""

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """A fitted number with its unit."""

    value: float
    unit: str
    """Empty for a pure number, or where the caller named no units."""
    interval: Interval
    """NaN at both ends where the data say nothing of it; `Interval.method` then says why."""


def unknown(why: str) -> Interval:
    """The interval of a number of which the data say nothing: NaN at both ends, and the reason as its method."""
    return Interval(low=float("nan"), high=float("nan"), level=float("nan"), method=f"none: {why}")


UNKNOWN = unknown("nothing measures the noise")
"""The interval of a fit without residual degrees of freedom, or without residuals beyond rounding."""

NO_FIT = unknown("the points determine no fit")
"""The interval where the numbers themselves are NaN: the status is not identifiable or too few points."""

NO_OPTIMUM = unknown("the data refute a minimum")
"""The interval of an optimum where every curve that the data allow has a maximum, or rises or falls all along."""

NO_MINIMUM = unknown("the fitted curve has no minimum")
"""The interval of an optimum that would be searched for outward from the fitted one."""

ROUNDING = 1e-13
"""What is below this share of the ordinates is not told from 0."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A law's value where it may not have been measured."""

    value: float
    law: Interval
    """Of the law itself there."""
    observation: Interval
    """Of one more observation there: of the law, and of the noise about it."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a law fitted without the largest abscissa (budget) says about it."""

    at: float
    """That abscissa."""
    predicted: float
    observed: float
    """The mean, where it was observed more than once."""

    @property
    def relative_error(self) -> float:
        """Predicted over observed, less 1."""
        return self.predicted / self.observed - 1


def check_level(level: float) -> None:
    """Refuse a coverage that is no probability.

    Raises:
        FitError: it is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise FitError(f"a level of {level:g}: it must lie between 0 and 1, for example 0.95")


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    """A curve through n points. Where `status` names no fit (not identifiable, too few points) the numbers are NaN."""

    status: FitStatus
    coefficients: Array
    """Shape (p,), in the order of the curve's `names`."""
    optimum: float
    """Abscissa of the minimum; an end of the axis (0 or the floor, or infinity) where the curve has none inside."""
    minimum: float
    """Ordinate there; NaN where the curve has no minimum."""
    band: tuple[float, float]
    """Where the curve is within `tolerance` (relative) of its minimum; NaN where there is none."""
    tolerance: float
    """Relative height of the band above the minimum."""
    fitted: Array
    """Shape (n,)."""
    residuals: Array
    """Shape (n,): ordinates less `fitted`."""
    residual_sd: float
    """Square root of the residual sum of squares over `dof`; NaN where `dof` is 0."""
    dof: int
    """Points less coefficients."""
    sampled: tuple[float, float]
    """Smallest and largest abscissa."""
    intervals: dict[str, Interval]
    """Of the coefficients by name, and of ``optimum`` and ``minimum``. They take the curve's form for granted, and hold for
    the coefficients without sign constraints."""
    units: tuple[str, ...]
    """Of what `intervals` has, in its order."""

    @property
    def points(self) -> int:
        """n."""
        return len(self.fitted)

    @property
    def named(self) -> dict[str, Coefficient]:
        """Coefficients, ``optimum`` and ``minimum`` by name, with unit and interval."""
        values = (*self.coefficients.tolist(), self.optimum, self.minimum)
        return {
            name: Coefficient(value=value, unit=unit, interval=interval)
            for (name, interval), value, unit in zip(self.intervals.items(), values, self.units, strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The standard deviation of one observation, as well as it is known."""

    sd: float
    """Standard deviation, in the unit of the ordinate."""
    dof: int
    """Degrees of freedom that it was estimated with, at least 1."""
    source: str
    """Where it comes from, for a person."""

    def __post_init__(self) -> None:
        """Refuse a noise that nothing could have.

        Raises:
            FitError: `sd` is negative or not finite, or `dof` is below 1 or not finite.
        """
        if not (np.isfinite(self.sd) and self.sd >= 0 and np.isfinite(self.dof) and self.dof >= 1):
            raise FitError(
                f"noise of {self.sd} with {self.dof} degrees of freedom ({self.source}): give a finite sd of at least 0 "
                "and at least one degree of freedom, or no noise"
            )


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """A curve fitted to r simulated repetitions of the same experiment."""

    coefficients: Array
    """Shape (r, p)."""
    optimum: Array
    """Shape (r,); an end of the axis where a repetition has no minimum (see `CurveFit.optimum`)."""
    minimum: Array
    """Shape (r,); NaN where a repetition has no minimum."""
    inside: float
    """Share of the repetitions with a minimum inside the sampled range."""
    failed: int
    """How many repetitions had none."""
    noise: Noise
    """The noise that they were drawn with."""


def check_points(**columns: Array) -> None:
    """Refuse columns that no fit can use.

    Raises:
        FitError: a value is NaN or infinite, a column is empty, or the lengths differ.
    """
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise FitError(f"columns of different lengths: {lengths}; give one value of each per point")
    for name, column in columns.items():
        if not len(column):
            raise FitError(f"no points: {name} is empty; leave the fit out")
        if not np.isfinite(column).all():
            worst = column[~np.isfinite(column)][0]
            raise FitError(f"{name} holds {worst}: every value must be finite; leave such points out and say why")


def check_above(name: str, column: Array, floor: float) -> None:
    """Refuse values at or below `floor` (0 for a logarithm).

    Raises:
        FitError: the smallest value is not above it, or `floor` is not finite.
    """
    if not np.isfinite(floor):
        raise FitError(f"a floor of {floor:g} under {name}: it must be finite")
    if not column.min() > floor:
        raise FitError(f"{name} holds {column.min():g}: every value must be above {floor:g}; leave such points out")

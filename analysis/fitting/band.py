"""The narrowest band between two parallel lines in log-log that holds a stated share of the points.

    band = fit_band({"compute": budgets}, learning_rates)
    band.exponents["compute"], band.factor, band.predict({"compute": 1e22}), band.held_out

The band's middle is the law; its lines are the law times and over `factor`. The width is measured along y, as a factor
between near-optimal settings. `band_lines.py` finds it, `band_errors.py` draws its intervals.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from analysis.fitting.band_errors import SpreadErrors, check_drawn
from analysis.fitting.band_lines import Lines, narrowest_band
from analysis.fitting.inputs import columns_of, places_of
from analysis.fitting.results import (
    LEVEL,
    NO_FIT,
    UNKNOWN,
    Array,
    FitError,
    FitStatus,
    HeldOut,
    Interval,
    Prediction,
    unknown,
)

METHOD = "pivot, even spread"
"""Of the intervals."""

SEVERAL = unknown("the band has several variables: its errors are drawn for one")
SHARE = unknown("the band holds a share of the points: its errors are drawn for all")
FREE = unknown("other slopes give a band as narrow")


@dataclass(frozen=True, kw_only=True)
class BandFit:
    """ln y is within ln(factor) of ln(centre) + sum_i exponent_i ln(x_i / reference_i)."""

    status: FitStatus
    """At a bound: the points lie on one law exactly, and the band has no width. Not identifiable: other slopes give a band as
    narrow (two points at one x span it alone, say); the slopes are then one choice of many, without intervals. Too few points:
    any line would hold the share that was asked for."""
    centre: float
    """y of the middle line at the reference, in the unit of y."""
    exponents: dict[str, float]
    """Slope by variable."""
    references: dict[str, float]
    """Geometric mean of each variable."""
    factor: float
    """At least 1: the lines are the middle times and over it."""
    coverage: float
    """Share of the points that it was asked to hold."""
    held: float
    """Share that it holds."""
    residuals: Array
    """Shape (n,): ln y less the middle line."""
    intervals: dict[str, Interval]
    """Of ``centre`` and of the exponents under their variables' names, for points spread evenly over the true band; only with
    one variable and all points held, else NaN with the reason."""
    held_out: HeldOut | None
    """Mean (of ln y) at the largest value of the variable that was named, or the only one, by the middle line without it; None
    where none is named, or the rest determines no band."""
    unit: str
    """Of y, and so of `centre`; an exponent has none."""
    _errors: SpreadErrors | Interval = field(repr=False)
    """Behind the intervals, or why there are none."""

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)

    def __call__(self, variables: Mapping[str, float]) -> float:
        """The middle line; infinite beyond the largest number.

        Raises:
            FitError: a variable is missing, unknown or not a positive number.
        """
        places = places_of(tuple(self.exponents), variables)
        power = sum(slope * np.log(places[name] / self.references[name]) for name, slope in self.exponents.items())
        with np.errstate(over="ignore"):
            return float(np.exp(np.log(self.centre) + power))

    def predict(self, variables: Mapping[str, float], *, level: float = LEVEL) -> Prediction:
        """The middle line at `variables`, with its interval there and that of one more point, as of `intervals`.

        Raises:
            FitError: a variable is missing, unknown or not a positive number, or `level` is none that draws can show.
        """
        check_drawn(level)
        value = self(variables)
        if isinstance(self._errors, Interval):
            return Prediction(value=value, law=self._errors, observation=self._errors)
        ((name, reference),) = self.references.items()
        place = float(np.log(variables[name] / reference))
        return Prediction(
            value=value,
            law=_factors(self._errors.line(place, level), level),
            observation=_factors(self._errors.point(place, level), level),
        )


def fit_band(
    variables: Mapping[str, Array],
    y: Array,
    *,
    coverage: float = 1.0,
    held_out: str | None = None,
    level: float = LEVEL,
    unit: str = "",
) -> BandFit:
    """The narrowest band that holds at least the share `coverage` of the points.

    Args:
        variables: each of shape (n,), positive.
        y: shape (n,), positive.
        coverage: above 0, at most 1; below 1 only with one variable.
        held_out: the variable whose largest value is predicted without it; None: the only one, if there is but one.
        level: of the intervals.
        unit: of y, for print.

    Raises:
        FitError: a value is impossible, lengths differ, a share is asked for with several variables, no variable has the
            name `held_out`, or a variable is called ``y`` or ``centre``.
    """
    columns, y = columns_of(variables, y, reserved=("centre",))
    check_drawn(level)
    if not 0 < coverage <= 1:
        raise FitError(f"a coverage of {coverage:g}: it must be above 0 and at most 1")
    if coverage < 1 and len(columns) > 1:
        raise FitError(f"a coverage of {coverage:g} with {len(columns)} variables: below 1 there can be only one")
    if held_out is not None and held_out not in columns:
        raise FitError(f"no variable is called {held_out!r} whose largest value to hold out: {', '.join(columns)}")
    along = held_out or (next(iter(columns)) if len(columns) == 1 else None)
    log_x, log_y = np.log(np.stack(list(columns.values()))), np.log(y)
    lines = narrowest_band(log_x, log_y, coverage=coverage)
    residuals = log_y - lines(log_x)
    errors = _errors(lines, log_x, coverage)
    intervals = dict.fromkeys(("centre", *columns), errors) if isinstance(errors, Interval) else {}
    if isinstance(errors, SpreadErrors):
        low, high = errors.slope(level)
        intervals["centre"] = _factors(errors.line(0.0, level), level)
        intervals[next(iter(columns))] = Interval(low=low, high=high, level=level, method=METHOD)
    return BandFit(
        status=lines.status,
        centre=float(np.exp(lines.middle)),
        exponents=dict(zip(columns, lines.slopes.tolist(), strict=True)),
        references=dict(zip(columns, np.exp(lines.centres).tolist(), strict=True)),
        factor=float(np.exp(lines.half)),
        coverage=coverage,
        held=float((np.abs(residuals) <= lines.half * (1 + 1e-9) + 1e-12).mean()) if lines.found else float("nan"),
        residuals=residuals,
        intervals=intervals,
        held_out=None if along is None else _held_out(columns[along], log_x, log_y, coverage),
        unit=unit,
        _errors=errors,
    )


def _errors(lines: Lines, log_x: Array, coverage: float) -> SpreadErrors | Interval:
    """What the intervals are drawn from, or why there are none."""
    if not lines.found:
        return NO_FIT
    if lines.status is FitStatus.AT_BOUND:
        return UNKNOWN
    if lines.status is FitStatus.NOT_IDENTIFIABLE:
        return FREE
    if len(log_x) > 1:
        return SEVERAL
    if coverage < 1:
        return SHARE
    return SpreadErrors(log_x[0] - lines.centres[0], lines.middle, float(lines.slopes[0]), lines.half)


def _factors(ends: tuple[float, float], level: float) -> Interval:
    """From logarithms."""
    with np.errstate(over="ignore"):
        low, high = np.exp(ends)
    return Interval(low=float(low), high=float(high), level=level, method=METHOD)


def _held_out(column: Array, log_x: Array, log_y: Array, coverage: float) -> HeldOut | None:
    """What the middle line without the largest value of `column` says there, on average of the logarithms."""
    at = float(column.max())
    largest = column == at
    if largest.all():
        return None
    lines = narrowest_band(log_x[:, ~largest], log_y[~largest], coverage=coverage)
    if lines.status not in (FitStatus.CONVERGED, FitStatus.AT_BOUND):
        return None
    with np.errstate(over="ignore"):
        predicted = float(np.exp(lines(log_x[:, largest]).mean()))
    return HeldOut(at=at, predicted=predicted, observed=float(np.exp(log_y[largest].mean())))

"""Power laws with an unknown offset, y = e + a (x / x0)^b, by least squares of y.

    fit = fit_offset_power_law(compute, loss);  fit.offset, fit.exponent, fit.intervals["offset"], fit.predict(1e24)

For a fixed exponent the model is linear, so only the exponent is searched for. It is written with (x^b - 1)/b, which
becomes ln x at b = 0: the fit passes smoothly from a law that levels off to one that does not. Intervals are profiles: the
offset of data that hardly bend is open on one side, and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from analysis.fitting.edges import has_rival, interval_ends
from analysis.fitting.inputs import column_of, place_of, weights_of
from analysis.fitting.results import (
    LEVEL,
    NO_FIT,
    UNKNOWN,
    Array,
    Coefficient,
    FitStatus,
    HeldOut,
    Interval,
    Prediction,
    check_above,
    check_level,
    check_points,
    unknown,
)

STEEPEST = 25.0
"""Exponents are searched for up to where the law changes by exp(25) over the sampled range."""

GRID = 201
"""Exponents that the search looks at first."""

POLISH = 4
"""Gauss-Newton steps after the search: it ends where a sum of squares no longer changes, long before the residuals do."""

NOT_FINITE = unknown("the law's value there is no finite number")

ROUNDING = 1e-13
"""Residuals, relative to the observations, that say nothing about noise."""


@dataclass(frozen=True, kw_only=True)
class OffsetPowerLawFit:
    """y = offset + at_reference (x / reference)^exponent through n points."""

    status: FitStatus
    offset: float
    """e, in the unit of y."""
    at_reference: float
    """a: y - e at x0, in the unit of y."""
    exponent: float
    """b."""
    reference: float
    """x0, the geometric mean of x."""
    residuals: Array
    """Shape (n,): y - model."""
    residual_sd: float
    """Square root of the weighted residual sum of squares over `dof`; NaN where `dof` is 0."""
    dof: int
    """Points that have weight, less 3."""
    intervals: dict[str, Interval]
    """Profile intervals of offset, at_reference and exponent."""
    held_out: HeldOut | None
    """The largest x, predicted without it; None where the others determine no law."""
    units: tuple[str, str]
    """Of x and y, for print."""
    _profile: "_Profile" = field(repr=False)

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)

    @property
    def coefficients(self) -> dict[str, Coefficient]:
        """Every coefficient with unit and interval."""
        units = {"offset": self.units[1], "at_reference": self.units[1], "exponent": ""}
        return {
            name: Coefficient(value=getattr(self, name), unit=unit, interval=self.intervals[name])
            for name, unit in units.items()
        }

    def __call__(self, x: float) -> float:
        """y at `x`; infinite beyond the largest number, NaN where the law has no offset (b = 0)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.offset + self.at_reference * np.power(x / self.reference, self.exponent))

    def predict(self, x: float, *, level: float = LEVEL) -> Prediction:
        """y at `x`, with the profile interval of the law there, and that of one more observation.

        Raises:
            FitError: `x` is no positive number, or `level` no probability.
        """
        check_level(level)
        x = place_of("x", x)
        value = self(x)
        if np.isnan(self.exponent) or not self._profile.measures_noise or not np.isfinite(value):
            why = NO_FIT if np.isnan(self.exponent) else NOT_FINITE if self._profile.measures_noise else UNKNOWN
            return Prediction(value=value, law=why, observation=why)
        low, high = self._profile.value_interval(float(np.log(x / self.reference)), value, level)
        noise = float(stdtrit(self.dof, (1 + level) / 2)) * self.residual_sd
        wide = value - np.hypot(value - low, noise), value + np.hypot(high - value, noise)
        return Prediction(
            value=value,
            law=Interval(low=low, high=high, level=level, method="profile"),
            observation=Interval(low=float(wide[0]), high=float(wide[1]), level=level, method="profile and t"),
        )


def fit_offset_power_law(
    x: Array,
    y: Array,
    *,
    weights: Array | None = None,
    level: float = LEVEL,
    units: tuple[str, str] = ("", ""),
) -> OffsetPowerLawFit:
    """Least squares of y = e + a (x / x0)^b.

    Args:
        x: shape (n,), positive.
        y: shape (n,).
        weights: shape (n,), inverse variances up to a factor; None: all equal.
        level: of the intervals.
        units: of x and y, for print.

    Raises:
        FitError: a value is impossible, or lengths differ.
    """
    x, y = column_of("x", x), column_of("y", y)
    check_points(x=x, y=y)
    check_above("x", x, 0.0)
    check_level(level)
    given = weights_of(weights, len(x))
    weight = np.ones(len(x)) if given is None else given
    used = weight > 0
    reference = float(np.exp(np.log(x[used]).mean()))
    u = np.log(x / reference)
    profile = _Profile(u[used], y[used], weight[used], max(int(used.sum()) - 3, 0))
    different = len(np.unique(x[used]))
    if different < 3:
        nothing = float("nan")
        return OffsetPowerLawFit(
            status=FitStatus.TOO_FEW_POINTS if used.sum() < 3 else FitStatus.NOT_IDENTIFIABLE,
            offset=nothing,
            at_reference=nothing,
            exponent=nothing,
            reference=reference,
            residuals=np.full(len(x), np.nan),
            residual_sd=nothing,
            dof=profile.dof,
            intervals=dict.fromkeys(("offset", "at_reference", "exponent"), NO_FIT),
            held_out=None,
            units=units,
            _profile=profile,
        )
    exponent = profile.best_exponent()
    level_there, slope = profile.linear(exponent)
    straight = abs(exponent) < 1e-9 / profile.reach
    at_reference = float("inf") if straight else slope / exponent
    offset = level_there - at_reference
    residuals = y - level_there - slope * _box_cox(u, exponent)
    sd = float(np.sqrt((weight * residuals**2).sum() / profile.dof)) if profile.dof else float("nan")
    steep = abs(exponent) * profile.reach > 0.999 * STEEPEST
    flat = abs(slope) * profile.reach <= 1e-12 * max(float(np.abs(y[used]).max()), 1e-300)
    status = FitStatus.AMBIGUOUS if has_rival(profile.free(profile.grid)) else FitStatus.CONVERGED
    status = FitStatus.AT_BOUND if steep else FitStatus.NOT_IDENTIFIABLE if straight or flat else status
    at = float(x[used].max())
    largest, earlier = used & (x == at), used & (x != at)
    held_out = None
    if len(np.unique(x[earlier])) >= 3:
        without = _Profile(u[earlier], y[earlier], weight[earlier], 0)
        found = without.best_exponent()
        base, rise = without.linear(found)
        predicted = base + rise * float(_box_cox(np.array([np.log(at / reference)]), found)[0])
        observed = float(np.average(y[largest], weights=weight[largest]))
        held_out = HeldOut(at=at, predicted=predicted, observed=observed)
    return OffsetPowerLawFit(
        status=status,
        offset=float(offset),
        at_reference=float(at_reference),
        exponent=exponent,
        reference=reference,
        residuals=np.asarray(residuals),
        residual_sd=sd,
        dof=profile.dof,
        intervals=profile.intervals(exponent, float(offset), float(at_reference), level),
        held_out=held_out,
        units=units,
        _profile=profile,
    )


def _box_cox(u: Array, exponent: float | Array) -> Array:
    """(exp(b u) - 1) / b, and u at b = 0; broadcasts."""
    b = np.asarray(exponent, dtype=float)
    safe = np.where(np.abs(b) < 1e-10, 1.0, b)
    return np.asarray(np.where(np.abs(b) < 1e-10, u, np.expm1(safe * u) / safe))


class _Profile:
    """Sums of squares of y = p + q (exp(b u) - 1)/b with everything but b, or but b and one more quantity, fitted.

    They are sums over residuals: a difference of sums of squares says nothing below 1e-8 of y.
    """

    def __init__(self, u: Array, y: Array, weight: Array, dof: int):
        self.u, self.y, self.weight, self.dof = u, y, weight / weight.mean(), dof
        self.root = np.sqrt(self.weight)
        self.reach = float(np.ptp(u)) or 1.0
        self.steepest = STEEPEST / self.reach
        # Finer near 0, where laws are: cubes of an even grid.
        self.grid = self.steepest * np.linspace(-1, 1, GRID) ** 3

    def linear(self, exponent: float) -> tuple[float, float]:
        """p and q at one exponent."""
        phi = _box_cox(self.u, exponent)
        mean_phi, mean_y = np.average(phi, weights=self.weight), np.average(self.y, weights=self.weight)
        spread = float((self.weight * (phi - mean_phi) ** 2).sum())
        slope = float((self.weight * (phi - mean_phi) * (self.y - mean_y)).sum()) / spread if spread else 0.0
        return float(mean_y - slope * mean_phi), slope

    def free(self, exponent: Array) -> Array:
        """Sum of squares at exponents of shape (m,)."""
        return _sums(self.free_rest(exponent))

    def free_rest(self, exponent: Array) -> Array:
        """Residuals times the roots of the weights, shape (m, n), at exponents of shape (m,)."""
        phi = _box_cox(self.u, exponent[:, None])
        return self._rest(phi - self._mean(phi)[:, None], self.y - self._mean(self.y))

    def tied_rest(self, exponent: Array, value: float, at: float | None) -> Array:
        """The same where the law has `value` at u = `at`; None: in the limit, that is e = value."""
        b = exponent[:, None]
        # g may have any factor: the largest entry is 1, so that nothing overflows
        g = np.exp(b * self.u - (b * self.u).max(axis=1, keepdims=True)) if at is None else _between(self.u, at, b)
        return self._rest(g, self.y - value)

    def amplitude_rest(self, exponent: Array, amplitude: float) -> Array:
        """The same where a = `amplitude`."""
        rest = self.y - amplitude * np.exp(np.clip(exponent[:, None] * self.u, None, 300))
        return np.asarray((rest - self._mean(rest)[:, None]) * self.root)

    def _rest(self, g: Array, y: Array) -> Array:
        """What the best multiple of each row of `g` (m, n) leaves of `y` (n,)."""
        along, spread = (g * self.weight) @ y, (g**2) @ self.weight
        return np.asarray((y - (along / np.where(spread > 0, spread, 1.0))[:, None] * g) * self.root)

    def _mean(self, values: Array) -> Array:
        return np.asarray(values @ self.weight / self.weight.sum())

    def best_exponent(self) -> float:
        """Where `free` is least."""
        return self._least(self.free_rest)[0]

    def _least(self, rest: Callable[[Array], Array]) -> tuple[float, float]:
        on_grid = _sums(rest(self.grid))
        place = int(np.argmin(on_grid))
        low, high = self.grid[max(place - 1, 0)], self.grid[min(place + 1, GRID - 1)]
        found = minimize_scalar(
            lambda b: float(_sums(rest(np.array([b])))[0]),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-12 * self.steepest},
        )
        best, least = float(self.grid[place]), float(on_grid[place])
        if found.fun <= least:
            best, least = float(found.x), float(found.fun)
        step = 1e-6 / self.reach
        for _ in range(POLISH):
            below, here, above = rest(np.array([best - step, best, best + step]))
            slope = (above - below) / (2 * step)
            flat = float(slope @ slope)
            trial = float(np.clip(best - float(slope @ here) / flat, low, high)) if flat > 0 else best
            there = float(_sums(rest(np.array([trial])))[0])
            if not there < least:
                break
            best, least = trial, there
        return best, least

    @cached_property
    def least_squares(self) -> float:
        """The least sum of squares."""
        return self._least(self.free_rest)[1]

    @property
    def measures_noise(self) -> bool:
        """Whether there are residuals, beyond rounding."""
        return bool(self.dof and self.least_squares > ROUNDING**2 * float(self.weight @ self.y**2))

    def _bound(self, level: float) -> float:
        return self.least_squares * (1 + float(stdtrit(self.dof, (1 + level) / 2)) ** 2 / self.dof)

    def value_interval(self, at: float | None, value: float, level: float) -> tuple[float, float]:
        """Of the law's value at u = `at`, or of e."""
        bound = self._bound(level)
        step = max(np.sqrt(bound / max(self.dof, 1)), 1e-300)
        return _ends(lambda v: self._least(lambda b: self.tied_rest(b, v, at))[1] - bound, value, float(step))

    def intervals(self, exponent: float, offset: float, at_reference: float, level: float) -> dict[str, Interval]:
        """Of the three coefficients."""
        names = ("offset", "at_reference", "exponent")
        if not self.measures_noise:
            return dict.fromkeys(names, UNKNOWN)
        bound = self._bound(level)
        b = _ends(
            lambda b: float(self.free(np.array([b]))[0]) - bound,
            exponent,
            0.05 / self.reach,
            (-self.steepest, self.steepest),
        )
        e = self.value_interval(None, offset, level) if np.isfinite(offset) else (-np.inf, np.inf)
        # At x0 the law's value is e + a: a is that value less e, and its profile ties the two together.
        a = self._amplitude_interval(at_reference, bound) if np.isfinite(at_reference) else (-np.inf, np.inf)
        ends = {"offset": e, "at_reference": a, "exponent": b}
        return {
            name: Interval(low=ends[name][0], high=ends[name][1], level=level, method="profile, F") for name in names
        }

    def _amplitude_interval(self, at_reference: float, bound: float) -> tuple[float, float]:
        return _ends(
            lambda a: self._least(lambda b: self.amplitude_rest(b, a))[1] - bound,
            at_reference,
            0.05 * abs(at_reference) + 1e-300,
        )


def _ends(
    excess: Callable[[float], float], best: float, step: float, limits: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """Those of `interval_ends`, as accurate relative to the interval as they would be relative to `best`."""
    low, high = interval_ends(
        lambda far: excess(best + far), 0.0, step, (min(limits[0] - best, 0.0), max(limits[1] - best, 0.0))
    )
    return best + low, best + high


def _sums(rest: Array) -> Array:
    return np.asarray((rest**2).sum(axis=1))


def _between(u: Array, at: float, b: Array) -> Array:
    """(exp(b u) - exp(b at)) / b up to a factor that keeps it finite."""
    shift = np.maximum((b * u).max(axis=1, keepdims=True), b * at)
    safe = np.where(np.abs(b) < 1e-10, 1.0, b)
    return np.asarray(
        np.where(np.abs(b) < 1e-10, u - at, (np.exp(safe * u - shift) - np.exp(safe * at - shift)) / safe)
    )

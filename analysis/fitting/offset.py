"""Power laws with an unknown offset, y = e + a (x / x0)^b, by least squares of y.

    fit = fit_offset_power_law(compute, loss);  fit.offset, fit.exponent, fit.intervals["offset"], fit.predict(1e24)

For a fixed exponent the model is linear, so only the exponent is searched for. It is written with (x^b - 1)/b, which
becomes ln x at b = 0: the fit passes smoothly from a law that levels off to one that does not. Intervals are profiles: the
offset of data that hardly bend is open on one side, and says so.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from analysis.fitting.edges import has_rival, interval_ends
from analysis.fitting.results import (
    LEVEL,
    UNKNOWN,
    Array,
    Coefficient,
    FitError,
    FitStatus,
    HeldOut,
    Interval,
    Prediction,
    check_above,
    check_level,
    check_points,
)

STEEPEST = 25.0
"""Exponents are searched for up to where the law changes by exp(25) over the sampled range."""

GRID = 201
"""Exponents that the search looks at first."""


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
        """y at `x`."""
        with np.errstate(over="ignore"):
            return float(self.offset + self.at_reference * (x / self.reference) ** self.exponent)

    def predict(self, x: float, *, level: float = LEVEL) -> Prediction:
        """y at `x`, with the profile interval of the law there, and that of one more observation."""
        check_level(level)
        value = self(x)
        if not self.dof or not np.isfinite(value):
            return Prediction(value=value, law=UNKNOWN, observation=UNKNOWN)
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
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    check_points(x=x, y=y)
    check_above("x", x, 0.0)
    check_level(level)
    weight = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=float)
    check_points(x=x, weights=weight)
    if weight.min() < 0 or not weight.any():
        raise FitError("weights must be at least 0, and one of them above it")
    used = weight > 0
    reference = float(np.exp(np.log(x[used]).mean()))
    profile = _Profile(np.log(x / reference), y, weight, max(int(used.sum()) - 3, 0))
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
            intervals=dict.fromkeys(("offset", "at_reference", "exponent"), UNKNOWN),
            held_out=None,
            units=units,
            _profile=profile,
        )
    exponent = profile.best_exponent()
    level_there, slope = profile.linear(exponent)
    straight = abs(exponent) < 1e-9 / profile.reach
    at_reference = float("inf") if straight else slope / exponent
    offset = level_there - at_reference
    residuals = y - level_there - slope * _box_cox(profile.u, exponent)
    sd = float(np.sqrt((weight * residuals**2).sum() / profile.dof)) if profile.dof else float("nan")
    steep = abs(exponent) * profile.reach > 0.999 * STEEPEST
    flat = abs(slope) * profile.reach <= 1e-12 * max(float(np.abs(y).max()), 1e-300)
    status = FitStatus.AMBIGUOUS if has_rival(profile.free(profile.grid)) else FitStatus.CONVERGED
    status = FitStatus.AT_BOUND if steep else FitStatus.NOT_IDENTIFIABLE if straight or flat else status
    largest = x == x.max()
    held_out = None
    if len(np.unique(x[used & ~largest])) >= 3:
        earlier = _Profile(profile.u[~largest], y[~largest], weight[~largest], 0)
        found = earlier.best_exponent()
        base, rise = earlier.linear(found)
        at = float(x.max())
        predicted = base + rise * float(_box_cox(np.array([np.log(at / reference)]), found)[0])
        held_out = HeldOut(at=at, predicted=predicted, observed=float(y[largest].mean()))
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
    """Sums of squares of y = p + q (exp(b u) - 1)/b with everything but b, or but b and one more quantity, fitted."""

    def __init__(self, u: Array, y: Array, weight: Array, dof: int):
        self.u, self.y, self.weight, self.dof = u, y, weight, dof
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
        phi = _box_cox(self.u, np.atleast_1d(exponent)[:, None])
        total = self.weight.sum()
        phi = phi - (phi @ self.weight / total)[:, None]
        y = self.y - self.y @ self.weight / total
        along = (phi * self.weight) @ y
        spread = (phi**2) @ self.weight
        return np.asarray(((self.weight * y) @ y) - along**2 / np.where(spread > 0, spread, 1.0))

    def tied(self, exponent: Array, value: float, at: float | None) -> Array:
        """The same where the law has `value` at u = `at`; None: in the limit, that is e = value."""
        b = np.atleast_1d(exponent)[:, None]
        # g may have any factor: the largest entry is 1, so that nothing overflows
        g = np.exp(b * self.u - (b * self.u).max(axis=1, keepdims=True)) if at is None else _between(self.u, at, b)
        rest = self.y - value
        along, spread = (g * self.weight) @ rest, (g**2) @ self.weight
        return np.asarray((self.weight * rest) @ rest - along**2 / np.where(spread > 0, spread, 1.0))

    def best_exponent(self) -> float:
        """Where `free` is least."""
        return self._least(self.free)[0]

    def _least(self, squares: Callable[[Array], Array]) -> tuple[float, float]:
        on_grid = squares(self.grid)
        place = int(np.argmin(on_grid))
        low, high = self.grid[max(place - 1, 0)], self.grid[min(place + 1, GRID - 1)]
        found = minimize_scalar(
            lambda b: float(squares(np.array([b]))[0]),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-12 * self.steepest},
        )
        if found.fun <= on_grid[place]:
            return float(found.x), float(found.fun)
        return float(self.grid[place]), float(on_grid[place])

    def _bound(self, level: float) -> float:
        best = float(self.free(np.array([self.best_exponent()]))[0])
        return best * (1 + float(stdtrit(self.dof, (1 + level) / 2)) ** 2 / self.dof)

    def value_interval(self, at: float | None, value: float, level: float) -> tuple[float, float]:
        """Of the law's value at u = `at`, or of e."""
        bound = self._bound(level)
        step = max(np.sqrt(bound / max(self.dof, 1) / self.weight.mean()), 1e-9 * abs(value), 1e-300)
        return interval_ends(lambda v: self._least(lambda b: self.tied(b, v, at))[1] - bound, value, float(step))

    def intervals(self, exponent: float, offset: float, at_reference: float, level: float) -> dict[str, Interval]:
        """Of the three coefficients."""
        names = ("offset", "at_reference", "exponent")
        if not self.dof or self._bound(level) <= 0:
            return dict.fromkeys(names, UNKNOWN)
        bound = self._bound(level)
        b = interval_ends(
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
        total = self.weight.sum()

        def squares(b: Array, amplitude: float) -> Array:
            rest = self.y - amplitude * np.exp(np.clip(b[:, None] * self.u, None, 300))
            rest = rest - (rest @ self.weight / total)[:, None]
            return np.asarray((rest**2) @ self.weight)

        return interval_ends(
            lambda a: self._least(lambda b: squares(b, a))[1] - bound, at_reference, 0.05 * abs(at_reference) + 1e-300
        )


def _between(u: Array, at: float, b: Array) -> Array:
    """(exp(b u) - exp(b at)) / b up to a factor that keeps it finite."""
    shift = np.maximum((b * u).max(axis=1, keepdims=True), b * at)
    safe = np.where(np.abs(b) < 1e-10, 1.0, b)
    return np.asarray(
        np.where(np.abs(b) < 1e-10, u - at, (np.exp(safe * u - shift) - np.exp(safe * at - shift)) / safe)
    )

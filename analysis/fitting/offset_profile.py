"""Sums of squares of a power law with an offset, and the intervals that they give: for `offset.py`.

    profile = OffsetProfile(u, y, weight, dof)             u = ln(x / x0)
    b = profile.best_exponent();  p, q = profile.linear(b)
    profile.intervals(b, offset, at_reference, level), profile.value_interval(u_there, value, level)

The law is y = p + q (exp(b u) - 1)/b, linear but for b: so only b is searched for, on a grid and then between its best
places. An interval moves the wanted number and fits everything else again until the F test refuses.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import stdtrit

from analysis.fitting.edges import interval_ends
from analysis.fitting.results import ROUNDING, UNKNOWN, Array, Interval

STEEPEST = 25.0
"""Exponents are searched for up to where the law changes by exp(25) over the sampled range."""

GRID = 201
"""Exponents that the search looks at first."""

POLISH = 4
"""Gauss-Newton steps after the search: it ends where a sum of squares no longer changes, long before the residuals do."""


def box_cox(u: Array, exponent: float | Array) -> Array:
    """(exp(b u) - 1) / b, and u at b = 0; broadcasts."""
    b = np.asarray(exponent, dtype=float)
    safe = np.where(np.abs(b) < 1e-10, 1.0, b)
    return np.asarray(np.where(np.abs(b) < 1e-10, u, np.expm1(safe * u) / safe))


class OffsetProfile:
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
        phi = box_cox(self.u, exponent)
        mean_phi, mean_y = np.average(phi, weights=self.weight), np.average(self.y, weights=self.weight)
        spread = float((self.weight * (phi - mean_phi) ** 2).sum())
        slope = float((self.weight * (phi - mean_phi) * (self.y - mean_y)).sum()) / spread if spread else 0.0
        return float(mean_y - slope * mean_phi), slope

    def free(self, exponent: Array) -> Array:
        """Sum of squares at exponents of shape (m,)."""
        return _sums(self.free_rest(exponent))

    def free_rest(self, exponent: Array) -> Array:
        """Residuals times the roots of the weights, shape (m, n), at exponents of shape (m,)."""
        phi = box_cox(self.u, exponent[:, None])
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

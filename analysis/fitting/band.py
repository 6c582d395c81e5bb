"""The narrowest band between two parallel lines in log-log that holds a stated share of the points.

    band = fit_band({"compute": budgets}, learning_rates)
    band.exponents["compute"], band.factor, band({"compute": 1e22})

The band's middle is the law; its lines are the law times and over `factor`. The width is measured along y, as a factor
between near-optimal settings. Holding all points it is a linear programme, for any number of variables. Holding a share of
them, with one variable, it is found exactly: the best band's edge passes through two points, so their slopes are all tried.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from analysis.fitting.intervals import interval
from analysis.fitting.results import (
    LEVEL,
    UNKNOWN,
    Array,
    FitError,
    FitStatus,
    Interval,
    check_above,
    check_level,
    check_points,
)

DRAWS = 1000
"""Repetitions behind the intervals."""

GOLDEN = (math.sqrt(5) - 1) / 2
ROUNDS = 64
"""Of golden section: the bracket shrinks to 1e-13 of its width."""


@dataclass(frozen=True, kw_only=True)
class BandFit:
    """ln y is within ln(factor) of ln(centre) + sum_i exponent_i ln(x_i / reference_i)."""

    status: FitStatus
    """At a bound: the points lie on one law exactly, and the band has no width."""
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
    """Of ``centre`` and of the exponent under its variable's name, for points spread evenly over the true band; only with
    one variable and all points held."""
    unit: str
    """Of y, and so of `centre`; an exponent has none."""

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)

    def __call__(self, variables: Mapping[str, float]) -> float:
        """The middle line."""
        return float(
            self.centre
            * math.prod((variables[name] / self.references[name]) ** power for name, power in self.exponents.items())
        )


def fit_band(
    variables: Mapping[str, Array], y: Array, *, coverage: float = 1.0, level: float = LEVEL, unit: str = ""
) -> BandFit:
    """The narrowest band that holds at least the share `coverage` of the points.

    Args:
        variables: each of shape (n,), positive.
        y: shape (n,), positive.
        coverage: above 0, at most 1; below 1 only with one variable.
        level: of the intervals.
        unit: of y, for print.

    Raises:
        FitError: a value is impossible, lengths differ, or a share is asked for with several variables.
    """
    columns = {name: np.asarray(column, dtype=float) for name, column in variables.items()}
    y = np.asarray(y, dtype=float)
    if not columns:
        raise FitError("no variables: a band needs at least one")
    check_points(**columns, y=y)
    check_level(level)
    for name, column in {**columns, "y": y}.items():
        check_above(name, column, 0.0)
    if not 0 < coverage <= 1:
        raise FitError(f"a coverage of {coverage:g}: it must be above 0 and at most 1")
    if coverage < 1 and len(columns) > 1:
        raise FitError(f"a coverage of {coverage:g} with {len(columns)} variables: below 1 there can be only one")
    log_x = np.log(np.stack(list(columns.values())))
    centres = log_x.mean(axis=1)
    u, v = log_x - centres[:, None], np.log(y)
    design = np.concatenate([np.ones((1, len(v))), u])
    enough = len(v) > len(design)
    if not enough or np.linalg.matrix_rank(design) < len(design):
        nothing = float("nan")
        return BandFit(
            status=FitStatus.NOT_IDENTIFIABLE if enough else FitStatus.TOO_FEW_POINTS,
            centre=nothing,
            exponents=dict.fromkeys(columns, nothing),
            references=dict(zip(columns, np.exp(centres).tolist(), strict=True)),
            factor=nothing,
            coverage=coverage,
            held=nothing,
            residuals=np.full(len(v), np.nan),
            intervals=dict.fromkeys(("centre", *columns), UNKNOWN),
            unit=unit,
        )
    slopes = _programme(u, v) if coverage == 1 else _share(u[0], v, math.ceil(coverage * len(v) - 1e-9))
    rest = v - slopes @ u
    low, high = (rest.min(), rest.max()) if coverage == 1 else _shortest(rest, math.ceil(coverage * len(v) - 1e-9))
    middle, half = (low + high) / 2, (high - low) / 2
    intervals = dict.fromkeys(("centre", *columns), UNKNOWN)
    if len(columns) == 1 and coverage == 1 and half > 0:
        intervals = dict(
            zip(
                ("centre", *columns), _intervals(u[0], float(middle), float(slopes[0]), float(half), level), strict=True
            )
        )
    return BandFit(
        status=FitStatus.CONVERGED if half > 1e-12 else FitStatus.AT_BOUND,
        centre=float(np.exp(middle)),
        exponents=dict(zip(columns, slopes.tolist(), strict=True)),
        references=dict(zip(columns, np.exp(centres).tolist(), strict=True)),
        factor=float(np.exp(half)),
        coverage=coverage,
        held=float((np.abs(rest - middle) <= half * (1 + 1e-9) + 1e-12).mean()),
        residuals=rest - middle,
        intervals=intervals,
        unit=unit,
    )


def _programme(u: Array, v: Array) -> Array:
    """min h over slopes m, centre c and half-width h with |v - c - m u| <= h."""
    count, points = u.shape
    above = np.concatenate([u.T, np.ones((points, 1)), -np.ones((points, 1))], axis=1)
    below = np.concatenate([-u.T, -np.ones((points, 1)), -np.ones((points, 1))], axis=1)
    solved = linprog(
        np.r_[np.zeros(count + 1), 1.0],
        A_ub=np.concatenate([above, below]),
        b_ub=np.concatenate([v, -v]),
        bounds=[(None, None)] * (count + 1) + [(0, None)],
        method="highs",
    )
    if solved.x is None:
        raise FitError(f"the linear programme of the band failed: {solved.message}")
    return np.asarray(solved.x[:count])


def _share(u: Array, v: Array, held: int) -> Array:
    """The slope of the narrowest band of `held` points: among the slopes between two points."""
    first, second = np.triu_indices(len(u), 1)
    apart = np.abs(u[first] - u[second]) > 1e-12
    slopes = np.unique((v[first] - v[second])[apart] / (u[first] - u[second])[apart])
    widths = np.concatenate([_widths(part, u, v, held) for part in np.array_split(slopes, len(slopes) // 512 + 1)])
    return slopes[[int(np.argmin(widths))]]


def _widths(slopes: Array, u: Array, v: Array, held: int) -> Array:
    rest = np.sort(v - slopes[:, None] * u, axis=1)
    return np.asarray((rest[:, held - 1 :] - rest[:, : len(u) - held + 1]).min(axis=1))


def _shortest(rest: Array, held: int) -> tuple[float, float]:
    """The shortest interval with `held` of the values."""
    ordered = np.sort(rest)
    lengths = ordered[held - 1 :] - ordered[: len(rest) - held + 1]
    first = int(np.argmin(lengths))
    return float(ordered[first]), float(ordered[first + held - 1])


def _intervals(u: Array, middle: float, slope: float, half: float, level: float) -> list[Interval]:
    """Of the centre and the slope. Their errors in units of the half-width do not depend on the truth: draws tell them."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1.0, 1.0, (DRAWS, len(u)))
    slopes = _narrowest(u, noise)
    rest = noise - slopes[:, None] * u
    low, high = rest.min(axis=1), rest.max(axis=1)
    made = []
    for value, errors, scale in ((middle, (low + high) / 2, np.exp), (slope, slopes, float)):
        below, above = interval(errors / ((high - low) / 2), level)
        ends = scale(value - above * half), scale(value - below * half)
        made.append(Interval(low=float(ends[0]), high=float(ends[1]), level=level, method="pivot, even spread"))
    return made


def _narrowest(u: Array, v: Array) -> Array:
    """Slopes (r,) of the narrowest bands around v (r, n): the width is convex in the slope, so golden section finds it."""

    def width(slopes: Array) -> Array:
        rest = v - slopes[:, None] * u
        return np.asarray(np.ptp(rest, axis=1))

    centre = v @ u / (u @ u)
    reach = 2 * width(centre) / np.ptp(u)  # further out the ends of the data alone are wider apart
    low, high = centre - reach, centre + reach
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = width(left), width(right)
    for _ in range(ROUNDS):
        falls = at_left > at_right
        low, high = np.where(falls, left, low), np.where(falls, high, right)
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        at_left, at_right = width(left), width(right)
    return np.asarray((low + high) / 2)

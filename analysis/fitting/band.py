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

from analysis.fitting.inputs import columns_of, places_of
from analysis.fitting.intervals import interval
from analysis.fitting.results import (
    LEVEL,
    UNKNOWN,
    Array,
    FitError,
    FitStatus,
    Interval,
    check_level,
)

DRAWS = 1000
"""Repetitions behind the intervals."""

GOLDEN = (math.sqrt(5) - 1) / 2
ROUNDS = 64
"""Of golden section: the bracket shrinks to 1e-13 of its width."""

ROUNDING = 1e-13
"""A half-width that is at most this share of the logarithms it comes from is none."""

FREE = 1e-3
"""Bands as narrow as the narrowest are different if their slopes move the line by this many half-widths over the data."""

SLACK = 1e-9
"""Relative: bands whose widths differ by less are equally narrow."""


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
    """Of ``centre`` and of the exponent under its variable's name, for points spread evenly over the true band; only with
    one variable and all points held."""
    unit: str
    """Of y, and so of `centre`; an exponent has none."""

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
        FitError: a value is impossible, lengths differ, a share is asked for with several variables, or a variable is
            called ``y`` or ``centre``.
    """
    columns, y = columns_of(variables, y, reserved=("centre",))
    check_level(level)
    if not 0 < coverage <= 1:
        raise FitError(f"a coverage of {coverage:g}: it must be above 0 and at most 1")
    if coverage < 1 and len(columns) > 1:
        raise FitError(f"a coverage of {coverage:g} with {len(columns)} variables: below 1 there can be only one")
    log_x = np.log(np.stack(list(columns.values())))
    centres = log_x.mean(axis=1)
    u, v = log_x - centres[:, None], np.log(y)
    design = np.concatenate([np.ones((1, len(v))), u])
    count = math.ceil(coverage * len(v) - 1e-9)  # of the points that the band holds
    enough = count > len(design)
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
    slopes, spread = _programme(u, v) if coverage == 1 else _share(u[0], v, count)
    rest = v - slopes @ u
    low, high = (rest.min(), rest.max()) if coverage == 1 else _shortest(rest, count)
    middle, half = (low + high) / 2, (high - low) / 2
    logarithms = np.abs(v).max() + np.abs(slopes) @ np.abs(log_x).max(axis=1)
    exact = half <= ROUNDING * logarithms
    free = not exact and bool((spread * np.ptp(u, axis=1) > FREE * half).any())
    intervals = dict.fromkeys(("centre", *columns), UNKNOWN)
    if len(columns) == 1 and coverage == 1 and not exact and not free:
        made = _intervals(u[0], float(middle), float(slopes[0]), float(half), level)
        intervals = dict(zip(("centre", *columns), made, strict=True))
    trouble = FitStatus.NOT_IDENTIFIABLE if free else FitStatus.AT_BOUND if exact else None
    return BandFit(
        status=trouble or FitStatus.CONVERGED,
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


def _programme(u: Array, v: Array) -> tuple[Array, Array]:
    """min h over slopes m, centre c and half-width h with |v - c - m u| <= h; and how far each slope can move at that h."""
    count, points = u.shape
    reach = np.ptp(u, axis=1)
    scaled = (u / reach[:, None]).T
    # From least squares, in units of what they leave: the solver's tolerances are absolute, and noise may be small.
    base = np.linalg.lstsq(np.concatenate([np.ones((points, 1)), scaled], axis=1), v, rcond=None)[0][1:]
    rest = v - scaled @ base
    size = float(np.ptp(rest))
    if size <= ROUNDING * float(np.abs(v).max()):
        return base / reach, np.zeros(count)
    wanted = (rest - rest.mean()) / size
    ones = np.ones((points, 1))
    table = np.concatenate(
        [np.concatenate([scaled, ones, -ones], axis=1), np.concatenate([-scaled, -ones, -ones], axis=1)]
    )

    def solve(costs: Array, widest: float | None) -> Array:
        solved = linprog(
            costs,
            A_ub=table,
            b_ub=np.concatenate([wanted, -wanted]),
            bounds=[(None, None)] * (count + 1) + [(0, widest)],
            method="highs",
        )
        if solved.x is None:
            raise FitError(f"the linear programme of the band failed: {solved.message}")
        return np.asarray(solved.x)

    best = solve(np.r_[np.zeros(count + 1), 1.0], None)
    spread = np.zeros(count)
    widest = float(best[-1]) * (1 + SLACK)
    for index in range(count):
        cost = np.eye(count + 2)[index]
        spread[index] = abs(solve(-cost, widest)[index] - solve(cost, widest)[index])
    return (base + best[:count] * size) / reach, spread / reach * size


def _share(u: Array, v: Array, held: int) -> tuple[Array, Array]:
    """The slope of the narrowest band of `held` points, among the slopes between two points; and how far apart the slopes of
    equally narrow bands are."""
    first, second = np.triu_indices(len(u), 1)
    apart = np.abs(u[first] - u[second]) > 1e-12
    slopes = np.unique((v[first] - v[second])[apart] / (u[first] - u[second])[apart])
    widths = np.concatenate([_widths(part, u, v, held) for part in np.array_split(slopes, len(slopes) // 512 + 1)])
    equal = slopes[widths <= widths.min() * (1 + SLACK)]
    return slopes[[int(np.argmin(widths))]], np.ptp(equal, keepdims=True)


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

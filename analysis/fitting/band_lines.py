"""The narrowest band between parallel lines around points, as numbers: `band.py` makes a law of it.

    lines = narrowest_band(log_x, log_y, coverage=1.0);  lines(log_x_there), lines.half

Holding all points it is a linear programme, for any number of variables. Holding a share of them, with one variable, it is
found exactly: the best band's edge passes through two points, so their slopes are all tried.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from analysis.fitting.results import ROUNDING, Array, FitError, FitStatus

FREE = 1e-3
"""Bands as narrow as the narrowest are different if their slopes move the line by this many half-widths over the data."""

SLACK = 1e-9
"""Relative: bands whose widths differ by less are equally narrow."""


@dataclass(frozen=True, kw_only=True)
class Lines:
    """|v - middle - slopes (x - centres)| <= half for the points that the band holds; NaN where there is no band."""

    status: FitStatus
    """As of `BandFit`."""
    middle: float
    """v of the middle line at the centres."""
    slopes: Array
    """Shape (k,)."""
    centres: Array
    """Means of x, shape (k,)."""
    half: float
    """Half of the width along v."""

    @property
    def found(self) -> bool:
        """Whether there is a band, be it one of many."""
        return not math.isnan(self.half)

    def __call__(self, x: Array) -> Array:
        """The middle line at x of shape (k, m), shape (m,)."""
        return np.asarray(self.middle + self.slopes @ (x - self.centres[:, None]))


def narrowest_band(x: Array, v: Array, *, coverage: float) -> Lines:
    """The narrowest band that holds at least the share `coverage` of the points.

    Args:
        x: shape (k, n).
        v: shape (n,).
        coverage: above 0, at most 1; below 1 only with k = 1.

    Raises:
        FitError: the linear programme failed.
    """
    centres = x.mean(axis=1)
    u = x - centres[:, None]
    design = np.concatenate([np.ones((1, len(v))), u])
    count = math.ceil(coverage * len(v) - 1e-9)  # of the points that the band holds
    enough = count > len(design)
    if not enough or np.linalg.matrix_rank(design) < len(design):
        status = FitStatus.NOT_IDENTIFIABLE if enough else FitStatus.TOO_FEW_POINTS
        return Lines(status=status, middle=np.nan, slopes=np.full(len(u), np.nan), centres=centres, half=np.nan)
    slopes, spread = _programme(u, v) if coverage == 1 else _share(u[0], v, count)
    rest = v - slopes @ u
    low, high = (rest.min(), rest.max()) if coverage == 1 else _shortest(rest, count)
    half = float(high - low) / 2
    logarithms = np.abs(v).max() + np.abs(slopes) @ np.abs(x).max(axis=1)
    status = FitStatus.CONVERGED
    if half <= ROUNDING * logarithms:  # no width, only what is left of the logarithms
        status = FitStatus.AT_BOUND
    elif (spread * np.ptp(u, axis=1) > FREE * half).any():
        status = FitStatus.NOT_IDENTIFIABLE
    return Lines(status=status, middle=float(low + high) / 2, slopes=slopes, centres=centres, half=half)


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

"""Profiles over one quantity: where one crosses its bound (the ends of an interval), and whether it has two minima."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq

from analysis.fitting.results import Array

EQUAL = 0.01
"""Two optima fit equally well when the objective of one is at most this share above the other's."""

DOUBLINGS = 40
"""Steps outward, each twice the last, before an end counts as open."""


def interval_ends(
    excess: Callable[[float], float], best: float, step: float, limits: tuple[float, float] = (-np.inf, np.inf)
) -> tuple[float, float]:
    """Both ends of the interval about `best` in which `excess` is negative; an end beyond `limits` is infinite.

    Where `excess` is above 0 even at `best`, rounding has eaten the bound: both ends are `best`.

    Args:
        excess: of the profile over its bound.
        best: where the profile is least.
        step: first step outward, about a standard error.
        limits: where `excess` can be asked for.
    """
    return _end(excess, best, -step, limits[0]), _end(excess, best, step, limits[1])


def has_rival(values: Array) -> bool:
    """Whether `values` (m,), a profile on a grid, has two separate minima within 1% of each other."""
    padded = np.concatenate([[np.inf], values, [np.inf]])
    lowest = (values < padded[:-2]) & (values <= padded[2:])
    return int((lowest & (values <= (1 + EQUAL) * values.min())).sum()) > 1


def _end(excess: Callable[[float], float], best: float, step: float, limit: float) -> float:
    inside = best
    if excess(best) > 0:
        return best
    for _ in range(DOUBLINGS):
        outside = best + step
        beyond = abs(step) >= abs(limit - best)
        if beyond:
            outside = limit
        if excess(outside) > 0:
            return float(brentq(excess, inside, outside, xtol=1e-12 * max(abs(inside), abs(outside)), rtol=1e-10))
        if beyond:
            break
        inside, step = outside, 2 * step
    return float(np.copysign(np.inf, step))

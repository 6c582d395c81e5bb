"""How far the narrowest band lies from the true one, by draws: what the intervals of `band.py` are made of.

    errors = SpreadErrors(u, middle, slope, half)                   of the fitted band around points at u
    errors.slope(level), errors.line(there, level), errors.point(there, level)

For points spread evenly over the true band, the errors of the middle line in units of the fitted half-width have a
distribution that does not depend on the truth, only on where the points are. So its quantiles, drawn once, give exact
intervals of the slope, of the line at any place, and of one more point there.
"""

import math

import numpy as np

from analysis.fitting.intervals import interval
from analysis.fitting.results import Array, FitError, check_level

DRAWS = 4000
"""Bands that are drawn. With 1,000 an interval of 95% would be one of 93.6 to 96.4%, the same for all data at these x."""

TAIL = 5
"""Draws that must lie beyond an interval's end for it to mean anything."""

GOLDEN = (math.sqrt(5) - 1) / 2
ROUNDS = 40
"""Of golden section: the bracket shrinks to 4e-9 of its width."""


class SpreadErrors:
    """Of the narrowest band, middle + slope u give or take half, around points at u (n,) whose mean is 0."""

    def __init__(self, u: Array, middle: float, slope: float, half: float):
        self.middle, self.fitted, self.half = middle, slope, half
        rng = np.random.default_rng(0)
        noise = rng.uniform(-1.0, 1.0, (DRAWS, len(u)))
        slopes = _narrowest(u, noise)
        rest = noise - slopes[:, None] * u
        low, high = rest.min(axis=1), rest.max(axis=1)
        drawn = (high - low) / 2
        # Of middle and slope, and where one more point lies, each in units of the half-width that would be fitted.
        self._middles, self._slopes = (low + high) / 2 / drawn, slopes / drawn
        self._more = rng.uniform(-1.0, 1.0, DRAWS) / drawn

    def slope(self, level: float) -> tuple[float, float]:
        """Interval of the true slope."""
        return self._ends(self.fitted, self._slopes, level)

    def line(self, there: float, level: float) -> tuple[float, float]:
        """Interval of the true middle line at u = `there`."""
        return self._ends(self.middle + there * self.fitted, self._middles + there * self._slopes, level)

    def point(self, there: float, level: float) -> tuple[float, float]:
        """Interval of one more point there."""
        errors = self._middles + there * self._slopes - self._more
        return self._ends(self.middle + there * self.fitted, errors, level)

    def _ends(self, value: float, errors: Array, level: float) -> tuple[float, float]:
        below, above = interval(errors, level)
        return value - above * self.half, value - below * self.half


def check_drawn(level: float) -> None:
    """Refuse a level that the draws cannot show.

    Raises:
        FitError: it is no probability, or too close to 1.
    """
    check_level(level)
    highest = 1 - 2 * TAIL / DRAWS
    if level > highest:
        raise FitError(f"a level of {level:g}: {DRAWS} draws of a band show none above {highest:g}")


def _narrowest(u: Array, v: Array) -> Array:
    """Slopes (r,) of the narrowest bands around v (r, n): the width is convex in the slope, so golden section finds it."""

    columns = np.ascontiguousarray(v.T)  # the extremes of a few long rows are found faster than of many short ones

    def width(slopes: Array) -> Array:
        return np.asarray(np.ptp(columns - u[:, None] * slopes, axis=0))

    centre = v @ u / (u @ u)
    reach = 2 * width(centre) / np.ptp(u)  # further out the ends of the data alone are wider apart
    low, high = centre - reach, centre + reach
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = width(left), width(right)
    for _ in range(ROUNDS):
        rises = at_left < at_right
        low, high = np.where(rises, low, left), np.where(rises, right, high)
        new = np.where(rises, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        at_new = width(new)
        left, right = np.where(rises, new, right), np.where(rises, left, new)
        at_left, at_right = np.where(rises, at_new, at_right), np.where(rises, at_left, at_new)
    return np.asarray((low + high) / 2)

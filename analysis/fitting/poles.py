"""Two-branch curves whose poles are not known: y = a/(x - p) + b x + c, or with b/(q - x), p or q or both free.

    fit = fit_poles(x, y)                            # p free, rising branch b x
    fit = fit_poles(x, y, floor=6.0, ceiling=None)   # p = 6, q free
    fit.curve_fit.optimum, fit.intervals["optimum"], fit.floor, fit.status

For given poles the curve is linear (`branches.py`), so only the poles are searched for (`pole_search.py`): a grid, then
Levenberg and Marquardt's method from its local minima. Intervals are profiles: of the optimum, over all poles and curves
that have it.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.branches import FlooredHyperbola, TwoPoles
from analysis.fitting.curve import fit_curve
from analysis.fitting.edges import interval_ends
from analysis.fitting.pole_search import LocalOptimum, PoleSearch
from analysis.fitting.results import (
    LEVEL,
    NO_FIT,
    NO_MINIMUM,
    UNKNOWN,
    Array,
    CurveFit,
    FitError,
    FitStatus,
    Interval,
    check_level,
    check_points,
)

PASSES = 4
"""How often a profile may find a better optimum than the search before the last is believed."""


@dataclass(frozen=True, kw_only=True)
class PolesFit:
    """A two-branch curve with one or two fitted poles."""

    status: FitStatus
    """Of the curve; at a bound: a free pole lies at the end of its range (at the data, or too far to tell)."""
    floor: float
    """p."""
    ceiling: float
    """q; infinite where the rising branch is b x."""
    curve: FlooredHyperbola | TwoPoles | None
    """With these poles, bound to the data; None without a fit."""
    curve_fit: CurveFit
    """Of that curve; its own intervals take the poles for known."""
    dof: int
    """Points less coefficients less free poles."""
    intervals: dict[str, Interval]
    """Profiles of ``optimum`` and of each free pole (``floor``, ``ceiling``)."""

    @property
    def points(self) -> int:
        """n."""
        return self.curve_fit.points


def fit_poles(
    x: Array,
    y: Array,
    *,
    floor: float | None = None,
    ceiling: float | None = np.inf,
    tolerance: float = 1e-3,
    level: float = LEVEL,
) -> PolesFit:
    """Least squares over curve and free poles.

    Args:
        x: shape (n,).
        y: shape (n,).
        floor: p, below all x; None: free.
        ceiling: q, above all x; infinity: the rising branch is b x; None: free.
        tolerance: of the near-optimal band.
        level: of the intervals.

    Raises:
        FitError: a value is impossible, lengths differ, a given pole lies within the data, or no pole is free.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    check_points(x=x, y=y)
    check_level(level)
    search = PoleSearch(x, y, floor, ceiling)
    if not search.free:
        raise FitError("both poles are given: fit_curve with FlooredHyperbola or TwoPoles does that in closed form")
    different = len(np.unique(x))
    if different < 3 + search.free:
        start = search.curve(np.zeros(search.free))
        empty = fit_curve(start, y, tolerance=tolerance)
        return PolesFit(
            status=FitStatus.TOO_FEW_POINTS if len(x) < 3 + search.free else FitStatus.NOT_IDENTIFIABLE,
            floor=float("nan"),
            ceiling=float("nan"),
            curve=None,
            curve_fit=empty,
            dof=max(len(x) - 3 - search.free, 0),
            intervals=dict.fromkeys(("optimum", *search.names), NO_FIT),
        )
    found = search.least()
    for _ in range(PASSES):  # a profile looks harder than the first search: what it finds below is the fit
        curve = search.curve(found[0].places)
        curve_fit = fit_curve(curve, y, tolerance=tolerance)
        intervals, better = _intervals(search, found[0], curve_fit, level)
        if better is None:
            break
        found = search.least(near=better)
    status = curve_fit.status
    if status is FitStatus.CONVERGED and (np.abs(found[0].places) > 0.999 * search.reach).any():
        status = FitStatus.AT_BOUND
    elif status is FitStatus.CONVERGED and search.ambiguous(found):
        status = FitStatus.AMBIGUOUS
    return PolesFit(
        status=status,
        floor=curve.axis[0],
        ceiling=curve.axis[1],
        curve=curve,
        curve_fit=curve_fit,
        dof=len(x) - 3 - search.free,
        intervals=intervals,
    )


def _intervals(
    search: PoleSearch, best: LocalOptimum, curve_fit: CurveFit, level: float
) -> tuple[dict[str, Interval], Array | None]:
    """Profiles, and places that fit better than `best` if one came upon such."""
    made = dict.fromkeys(("optimum", *search.names), UNKNOWN)
    dof = len(search.x) - 3 - search.free
    if not dof or best.squares <= search.nothing:
        return made, None
    bound = best.squares * (1 + float(stdtrit(dof, (1 + level) / 2)) ** 2 / dof)
    lowest, near = best, best.places

    def given(low: float, high: float) -> Interval:
        return Interval(low=low, high=high, level=level, method="profile, F")

    def profile(held: tuple[int, float] | None, at: float | None) -> float:
        nonlocal lowest, near
        found = search.least(held=held, at=at, near=near, starts=1)[0]
        near = found.places if np.isfinite(found.squares) else near
        lowest = min(lowest, found, key=lambda one: one.squares)
        return found.squares - bound

    for index, name in enumerate(search.names):
        near = best.places
        start = float(best.places[index])
        ends = interval_ends(
            lambda s, index=index: profile((index, s), None),  # type: ignore[misc]
            start,
            0.1,
            (-search.reach, search.reach),
        )
        made[name] = given(*search.pole_ends(name, ends))
    made["optimum"] = NO_MINIMUM
    if np.isfinite(curve_fit.minimum):
        low, high = curve_fit.sampled
        limits = (low - (high - low), high + (high - low))
        if search.floor is not None:
            limits = (search.floor + 1e-6 * (high - low), limits[1])
        if search.ceiling is not None and np.isfinite(search.ceiling):
            limits = (limits[0], search.ceiling - 1e-6 * (high - low))
        near = best.places
        made["optimum"] = given(
            *interval_ends(lambda at: profile(None, at), curve_fit.optimum, 0.02 * (high - low), limits)
        )
    return made, (lowest.places if lowest.squares < (1 - 1e-6) * best.squares else None)

"""Two-branch curves whose poles are not known: y = a/(x - p) + b x + c, or with b/(q - x), p or q or both free.

    fit = fit_poles(x, y)                            # p free, rising branch b x
    fit = fit_poles(x, y, floor=6.0, ceiling=None)   # p = 6, q free
    fit.curve_fit.optimum, fit.intervals["optimum"], fit.floor, fit.status

For given poles the curve is linear (`branches.py`), so only the poles are searched for: a grid, then scipy from its best
point. Intervals are profiles: of the optimum, over all poles and curves that have it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import stdtrit

from analysis.fitting.branches import FlooredHyperbola, TwoPoles
from analysis.fitting.curve import fit_curve
from analysis.fitting.edges import has_rival, interval_ends
from analysis.fitting.results import (
    LEVEL,
    UNKNOWN,
    Array,
    CurveFit,
    FitError,
    FitStatus,
    Interval,
    check_above,
    check_level,
    check_points,
)

NEAREST, FURTHEST = 1e-3, 30.0
"""How far a free pole may lie from the data, in units of their range: further out its branch is a straight line."""

GRID = {1: 121, 2: 33}
"""Places that the search for free poles looks at first, a pole."""


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
    search = _Search(x, y, floor, ceiling)
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
            intervals=dict.fromkeys(("optimum", *search.names), UNKNOWN),
        )
    places, squares = search.least(search.squares)
    curve = search.curve(places)
    curve_fit = fit_curve(curve, y, tolerance=tolerance)
    dof = len(x) - 3 - search.free
    status = curve_fit.status
    if status is FitStatus.CONVERGED and (np.abs(places) > 0.999 * search.reach).any():
        status = FitStatus.AT_BOUND
    elif status is FitStatus.CONVERGED and search.free == 1 and has_rival(search.squares(search.grid(1))):
        status = FitStatus.AMBIGUOUS
    return PolesFit(
        status=status,
        floor=curve.axis[0],
        ceiling=curve.axis[1],
        curve=curve,
        curve_fit=curve_fit,
        dof=dof,
        intervals=_intervals(search, places, squares, curve_fit, dof, level),
    )


def _intervals(
    search: "_Search", places: Array, squares: float, curve_fit: CurveFit, dof: int, level: float
) -> dict[str, Interval]:
    made = dict.fromkeys(("optimum", *search.names), UNKNOWN)
    if not dof or squares <= 0:
        return made
    bound = squares * (1 + float(stdtrit(dof, (1 + level) / 2)) ** 2 / dof)

    def given(low: float, high: float) -> Interval:
        return Interval(low=low, high=high, level=level, method="profile, F")

    for index, name in enumerate(search.names):
        ends = interval_ends(
            lambda s, index=index: search.least(search.squares, held=(index, s))[1] - bound,  # type: ignore[misc]
            float(places[index]),
            0.1,
            (-search.reach, search.reach),
        )
        made[name] = given(*search.pole_ends(name, ends))
    if np.isfinite(curve_fit.minimum):
        low, high = curve_fit.sampled
        limits = (low - (high - low), high + (high - low))
        if search.floor is not None:
            limits = (search.floor + 1e-6 * (high - low), limits[1])
        if search.ceiling is not None and np.isfinite(search.ceiling):
            limits = (limits[0], search.ceiling - 1e-6 * (high - low))
        made["optimum"] = given(
            *interval_ends(
                lambda at: search.least(lambda s: search.tied(s, at))[1] - bound,
                curve_fit.optimum,
                0.02 * (high - low),
                limits,
            )
        )
    return made


class _Search:
    """Sums of squares over the places s of the free poles: ln of their distance from the data, in ranges of x."""

    def __init__(self, x: Array, y: Array, floor: float | None, ceiling: float | None):
        self.x, self.y, self.floor, self.ceiling = x, y, floor, ceiling
        self.low, self.high = float(x.min()), float(x.max())
        self.range = self.high - self.low or 1.0
        self.names = [name for name, pole in (("floor", floor), ("ceiling", ceiling)) if pole is None]
        self.free = len(self.names)
        self.middle = (np.log(NEAREST) + np.log(FURTHEST)) / 2  # s is counted from here
        self.reach = (np.log(FURTHEST) - np.log(NEAREST)) / 2
        if floor is not None:
            check_above("x", x, floor)
        if ceiling is not None and not ceiling > self.high:
            raise FitError(f"a ceiling of {ceiling:g} with x up to {self.high:g}: it must lie above all of them")

    def distance(self, place: float) -> float:
        return float(self.range * np.exp(place + self.middle))

    def poles(self, places: Array) -> tuple[float, float]:
        at = dict(zip(self.names, places, strict=True))
        floor = self.low - self.distance(at["floor"]) if self.floor is None else self.floor
        ceiling = self.high + self.distance(at["ceiling"]) if self.ceiling is None else self.ceiling
        return floor, ceiling

    def pole_ends(self, name: str, ends: tuple[float, float]) -> tuple[float, float]:
        """Ends of a pole from those of its place; a place without an end leaves the pole open on that side."""
        near, far = (self.distance(end) if np.isfinite(end) else None for end in ends)
        if name == "floor":
            return (-np.inf if far is None else self.low - far), (self.low if near is None else self.low - near)
        return (self.high if near is None else self.high + near), (np.inf if far is None else self.high + far)

    def curve(self, places: Array) -> FlooredHyperbola | TwoPoles:
        floor, ceiling = self.poles(places)
        if np.isinf(ceiling):
            return FlooredHyperbola(self.x, floor)
        return TwoPoles(self.x, floor, ceiling)

    def squares(self, places: Array) -> Array:
        """Least sums of squares (m,) of curves with a, b >= 0, for places (m, free)."""
        y = self.y - self.y.mean()
        falling, rising, _, _ = self._branches(places)
        lengths = [np.linalg.norm(part, axis=1) for part in (falling, rising)]
        along = [np.maximum(part @ y / size, 0.0) for part, size in zip((falling, rising), lengths, strict=True)]
        angle = (falling * rising).sum(axis=1) / (lengths[0] * lengths[1])
        first, second = falling @ y / lengths[0], rising @ y / lengths[1]
        apart = np.maximum(1 - angle**2, 1e-14)
        both = (first**2 - 2 * angle * first * second + second**2) / apart
        inside = (first > angle * second) & (second > angle * first)  # both coefficients are above 0
        return np.asarray(y @ y - np.where(inside, both, np.maximum(along[0], along[1]) ** 2))

    def tied(self, places: Array, at: float) -> Array:
        """The least sums of squares (m,) of curves with these poles and their minimum at `at`; infinite without one."""
        y = self.y - self.y.mean()
        falling, rising, floor, ceiling = self._branches(places)
        weight = (at - floor) ** 2
        if np.isfinite(ceiling).all():
            weight = weight / (ceiling - at) ** 2
        shape = weight[:, None] * falling + rising
        along = np.maximum(shape @ y, 0.0)
        squares = y @ y - along**2 / (shape**2).sum(axis=1)
        return np.asarray(np.where((floor < at) & (at < ceiling), squares, np.inf))

    def _branches(self, places: Array) -> tuple[Array, Array, Array, Array]:
        """Both branches (m, n), centred, and the poles (m,) and (m,)."""
        at = dict(zip(self.names, places.T, strict=True))
        size = len(places)
        floor = np.full(size, self.floor) if self.floor is not None else self.low - self._distances(at["floor"])
        ceiling = (
            np.full(size, self.ceiling) if self.ceiling is not None else self.high + self._distances(at["ceiling"])
        )
        falling = 1 / (self.x - floor[:, None])
        rising = 1 / (ceiling[:, None] - self.x) if np.isfinite(ceiling).all() else np.tile(self.x, (size, 1))
        centred = [part - part.mean(axis=1, keepdims=True) for part in (falling, rising)]
        return centred[0], centred[1], floor, ceiling

    def _distances(self, places: Array) -> Array:
        return np.asarray(self.range * np.exp(places + self.middle))

    def grid(self, free: int) -> Array:
        """Where the search looks first, shape (m, free)."""
        axis = np.linspace(-self.reach, self.reach, GRID[free])
        return np.stack(np.meshgrid(*[axis] * free, indexing="ij"), axis=-1).reshape(-1, free)

    def least(self, squares: Callable[[Array], Array], held: tuple[int, float] | None = None) -> tuple[Array, float]:
        """The places with the least sum of squares; ``held=(index, place)`` keeps one where it is."""
        loose = [index for index in range(self.free) if held is None or index != held[0]]

        def full(parts: Array) -> Array:
            places = np.empty((len(parts), self.free))
            places[:, loose] = parts
            if held is not None:
                places[:, held[0]] = held[1]
            return places

        if not loose:
            only = full(np.empty((1, 0)))
            return only[0], float(squares(only)[0])
        parts = self.grid(len(loose))
        values = squares(full(parts))
        best = int(np.argmin(values))
        step = 2 * self.reach / (GRID[len(loose)] - 1)
        bounds = [(max(c - step, -self.reach), min(c + step, self.reach)) for c in parts[best]]
        if len(loose) == 1:
            found = minimize_scalar(
                lambda place: float(squares(full(np.array([[place]])))[0]),
                bounds=bounds[0],
                method="bounded",
                options={"xatol": 1e-9},
            )
        else:
            found = minimize(
                lambda part: float(squares(full(part[None]))[0]),
                parts[best],
                method="Nelder-Mead",
                bounds=bounds,
                options={"xatol": 1e-7, "fatol": 1e-12 * max(float(values[best]), 1e-300), "maxiter": 300},
            )
        if found.fun <= values[best]:
            return full(np.atleast_1d(found.x)[None])[0], float(found.fun)
        return full(parts[[best]])[0], float(values[best])

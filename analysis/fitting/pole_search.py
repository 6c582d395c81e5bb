"""Where free poles of two-branch curves lie: least squares over their places, for `poles.py`.

    search = PoleSearch(x, y, floor=None, ceiling=np.inf)
    search.least()[0]                                 the best place, then other local optima
    search.least(held=(0, s)), search.least(at=9.0)   with a pole held, or with the curve's minimum at 9

A place s is the logarithm of a pole's distance from the data, in ranges of x, so that a grid over it is even where poles are.
For given poles the curve is linear (`branches.py`); of its coefficients only sums of squares are needed here.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import leastsq

from analysis.fitting.branches import FlooredHyperbola, TwoPoles
from analysis.fitting.edges import EQUAL, has_rival
from analysis.fitting.results import ROUNDING, Array, FitError, check_above

NEAREST, FURTHEST = 1e-3, 30.0
"""How far a free pole may lie from the data, in units of their range: further out its branch is a straight line."""

GRID = {1: 121, 2: 33}
"""Places that the search for free poles looks at first, a pole."""

APART = 0.1
"""Two optima have different poles when the distance of one from the data differs by more than this share."""


@dataclass(frozen=True, kw_only=True)
class LocalOptimum:
    """Where a search ended."""

    places: Array
    """Shape (free,)."""
    squares: float
    bent: bool
    """Whether both branches are there: without one its pole can be anywhere."""


class PoleSearch:
    """Sums of squares over the places s of the free poles: ln of their distance from the data, in ranges of x."""

    def __init__(self, x: Array, y: Array, floor: float | None, ceiling: float | None):
        self.x, self.y, self.floor, self.ceiling = x, y, floor, ceiling
        self.low, self.high = float(x.min()), float(x.max())
        self.range = self.high - self.low or 1.0
        self.names = [name for name, pole in (("floor", floor), ("ceiling", ceiling)) if pole is None]
        self.free = len(self.names)
        self.nothing = len(x) * (ROUNDING * float(np.abs(y).max())) ** 2
        self.middle = (np.log(NEAREST) + np.log(FURTHEST)) / 2  # s is counted from here
        self.reach = (np.log(FURTHEST) - np.log(NEAREST)) / 2
        if floor is not None:
            check_above("x", x, floor)
        if ceiling is not None and not ceiling > self.high:
            raise FitError(f"a ceiling of {ceiling:g} with x up to {self.high:g}: it must lie above all of them")

    def distance(self, place: float) -> float:
        """Of a pole from the data, in the unit of x."""
        return float(self.range * np.exp(place + self.middle))

    def poles(self, places: Array) -> tuple[float, float]:
        """p and q for the places (free,); a given pole is as given."""
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
        """The curve with these poles, bound to x."""
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

    def ambiguous(self, found: list[LocalOptimum]) -> bool:
        """Whether another optimum, with both branches and other poles, is as good as the first."""
        if self.free == 1:
            return has_rival(self.squares(self.grid(1)))
        return any(
            other.bent
            and other.squares <= (1 + EQUAL) * found[0].squares
            and float(np.abs(other.places - found[0].places).max()) > APART
            for other in found[1:]
        )

    def least(
        self,
        *,
        held: tuple[int, float] | None = None,
        at: float | None = None,
        near: Array | None = None,
        starts: int = 4,
    ) -> list[LocalOptimum]:
        """Local optima, the best first.

        The valley of two free poles is long, narrow and bent, so a cell of a grid says little of where its floor ends:
        Levenberg-Marquardt on the residuals goes along it.

        Args:
            held: index and value of a place that stays.
            at: where the curve has its minimum; None: anywhere.
            near: places to start from besides.
            starts: from how many local minima of the grid.
        """
        loose = [index for index in range(self.free) if held is None or index != held[0]]
        low, high = self._bounds(at)

        def full(parts: Array) -> Array:
            places = np.empty((len(parts), self.free))
            places[:, loose] = parts
            if held is not None:
                places[:, held[0]] = held[1]
            return places

        def made(part: Array) -> LocalOptimum:
            places = full(part[None])[0]
            residuals, bent = self.residuals(places, at)
            return LocalOptimum(places=places, squares=float(residuals @ residuals), bent=bent)

        if (held is not None and not low[held[0]] <= held[1] <= high[held[0]]) or (low >= high).any():
            return [LocalOptimum(places=np.full(self.free, np.nan), squares=np.inf, bent=False)]
        if not loose:
            return [made(np.empty(0))]
        grid = self.grid(len(loose))
        values = self.squares(full(grid)) if at is None else self.tied(full(grid), at)
        begin = list(grid[_local_minima(values.reshape((GRID[len(loose)],) * len(loose)), starts)])
        if near is not None:
            begin.append(near[loose])
        middle, half = (high + low)[loose] / 2, (high - low)[loose] / 2
        found = []
        for part in begin:
            # The sine keeps places within their bounds; its slope is 0 there, so a start at a bound would never leave.
            turned = np.arcsin(np.clip((part - middle) / half, -0.999, 0.999))
            solved = leastsq(
                lambda angle: self.residuals(full((middle + half * np.sin(angle))[None])[0], at)[0],
                turned, ftol=1e-13, xtol=1e-13, gtol=0.0, full_output=True,
            )[0]  # fmt: skip
            found.append(made(middle + half * np.sin(solved)))
        return sorted(found, key=lambda one: one.squares)

    def _bounds(self, at: float | None) -> tuple[Array, Array]:
        """Range of each place, (free,) and (free,): a pole must lie beyond the minimum at `at`."""
        low, high = np.full(self.free, -self.reach), np.full(self.free, self.reach)
        for index, name in enumerate(self.names):
            beyond = 0.0 if at is None else (self.low - at if name == "floor" else at - self.high) / self.range
            if beyond > 0:
                low[index] = max(low[index], np.log(beyond * (1 + 1e-9)) - self.middle)
        return low, high

    def residuals(self, places: Array, at: float | None) -> tuple[Array, bool]:
        """What the best curve with these poles (free,), and its minimum at `at`, leaves of y, and whether it is bent."""
        y = self.y - self.y.mean()
        falling, rising, floor, ceiling = self._branches(places[None])
        first, second = falling[0], rising[0]
        if at is not None:
            weight = float((at - floor[0]) ** 2)
            if np.isfinite(ceiling[0]):
                weight /= float((ceiling[0] - at) ** 2)
            shape = weight * first + second
            size = max(float(shape @ y) / float(shape @ shape), 0.0)
            return y - size * shape, size > 0
        first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
        angle, along = float(first @ second), (float(first @ y), float(second @ y))
        if along[0] > angle * along[1] and along[1] > angle * along[0]:
            left = y - along[0] * first
            upright = second - angle * first
            left = left - float(upright @ left) / float(upright @ upright) * upright
            return left - float(first @ left) * first, True  # once more: nearly parallel branches leave rounding
        one, size = (first, along[0]) if along[0] >= along[1] else (second, along[1])
        return y - max(size, 0.0) * one, False


def _local_minima(values: Array, count: int) -> Array:
    """Flat indices of the `count` lowest places of a grid that no neighbour is below."""
    padded = np.pad(values, 1, constant_values=np.inf)
    least = np.isfinite(values)
    for axis in range(values.ndim):
        for step in (-1, 1):
            least &= values <= np.roll(padded, step, axis)[(slice(1, -1),) * values.ndim]
    places = np.flatnonzero(least.ravel())
    return np.asarray(places[np.argsort(values.ravel()[places], kind="stable")[:count]])

"""Curves that fall on one branch and rise on another, each with a coefficient of at least 0.

    FlooredHyperbola(x, floor)     y = a / (x - floor) + b x + c
    TwoPoles(x, floor, ceiling)    y = a / (x - floor) + b / (ceiling - x) + c

Each may have one intercept c per group of points. The minimum depends on a / b alone, so its interval is Fieller's.
"""

import numpy as np

from analysis.fitting.intervals import fieller
from analysis.fitting.linear import LeastSquares
from analysis.fitting.results import ROUNDING, Array, FitError, check_above, check_points


class _TwoBranches:
    """y = a f(x) + b g(x) + c_g with a, b >= 0; f falls and g rises.

    The groups share a and b. Intercepts are eliminated by centring within groups, which leaves two coefficients; their
    signs are enforced exactly: where the free solution has a negative one, the better one-sided fit is taken.
    """

    axis: tuple[float, float]
    bends = slice(0, 2)

    def __init__(self, x: Array, columns: Array, group: Array | None):
        self.x = x
        labels = np.zeros_like(x) if group is None else np.asarray(group, dtype=float)
        check_points(x=x, group=labels)
        self.groups, self._group = np.unique(labels, return_inverse=True)
        self.names = ("a", "b", *(f"c{index}" for index in range(len(self.groups))))
        member = (self._group[:, None] == np.arange(len(self.groups))).astype(float)
        self._mean = (member / member.sum(axis=0)).T  # (groups, n): a group's mean
        self._share = member.mean(axis=0)
        self.strata = self._group.astype(float)
        self._columns = columns
        centred = columns - (self._mean @ columns)[self._group]
        self._both = LeastSquares(centred)
        self._single = [LeastSquares(centred[:, [index]]) for index in (0, 1)]
        self.dof = len(x) - len(self.names)
        self.identifiable = self._both.full_rank and self.dof >= 0
        self.design = np.concatenate([columns, member], axis=1)
        size = len(self.names)
        self.covariance = LeastSquares(self.design).covariance if self.identifiable else np.full((size, size), np.nan)

    def _place(self, ratio: Array) -> Array:
        """Abscissa of the minimum for a / b >= 0."""
        raise NotImplementedError

    def _ratio(self, x: Array) -> Array:
        """a / b of curves with their minimum at x: `_place` turned round."""
        raise NotImplementedError

    def _least(self, a: Array, b: Array) -> Array:
        """The two branches' sum at the minimum."""
        raise NotImplementedError

    def _branches(self, x: Array) -> Array:
        """f and g at x (m,), shape (m, 2)."""
        raise NotImplementedError

    def solve(self, y: Array) -> Array:
        """See `Curve.solve`; a and b are the non-negative least-squares solution."""
        y = np.asarray(y, dtype=float)
        centred = self._centred(y)
        slopes = self._both.solve(centred)
        bad = (slopes < 0).any(axis=-1)
        if bad.any():
            slopes[bad] = self._one_sided(centred[bad])
        return self._with_intercepts(slopes, y)

    def solve_free(self, y: Array) -> Array:
        """See `Curve.solve_free`."""
        y = np.asarray(y, dtype=float)
        return self._with_intercepts(self._both.solve(self._centred(y)), y)

    def _centred(self, y: Array) -> Array:
        """Less the group means; equal ordinates leave rounding, in which no fit should find a minimum."""
        centred = y - (y @ self._mean.T)[..., self._group]
        flat = np.abs(centred).max(axis=-1, keepdims=True) <= ROUNDING * np.abs(y).max(axis=-1, keepdims=True)
        return np.where(flat, 0.0, centred)

    def _with_intercepts(self, slopes: Array, y: Array) -> Array:
        return np.concatenate([slopes, y @ self._mean.T - slopes @ (self._mean @ self._columns).T], axis=-1)

    def _one_sided(self, centred: Array) -> Array:
        """The better of (a >= 0, b = 0) and (a = 0, b >= 0), shape (k, 2), for centred observations (k, n)."""
        candidates = np.zeros((2, len(centred), 2))
        for index, single in enumerate(self._single):
            candidates[index, :, index] = np.maximum(single.solve(centred)[:, 0], 0.0)
        sums = np.stack([self._both.residual_sum(centred, candidate) for candidate in candidates])
        return np.asarray(np.where((sums[0] <= sums[1])[:, None], candidates[0], candidates[1]))

    def values(self, coefficients: Array) -> Array:
        """See `Curve.values`."""
        return np.asarray(coefficients @ self.design.T)

    def profile(self, coefficients: Array, x: Array) -> Array:
        """See `Curve.profile`; with the mean intercept, each group weighing as many points as it has."""
        return np.asarray(self._branches(x) @ coefficients[:2] + coefficients[2:] @ self._share)

    def intercepts(self, coefficients: Array) -> Array:
        """Each point's own intercept less the mean one, shape (n,): subtract it to draw all groups on one curve."""
        return np.asarray(coefficients[2:][self._group] - coefficients[2:] @ self._share)

    def minimum(self, coefficients: Array) -> tuple[Array, Array]:
        """See `Curve.minimum`; an end of the axis where a or b is 0."""
        a, b = coefficients[..., 0], coefficients[..., 1]
        inside = (a > 0) & (b > 0)
        optimum = self._place(np.where(inside, a, 1.0) / np.where(inside, b, 1.0))
        optimum = np.where(inside, optimum, np.where(a > 0, self.axis[1], self.axis[0]))
        least = self._least(np.where(inside, a, 1.0), np.where(inside, b, 1.0)) + coefficients[..., 2:] @ self._share
        return optimum, np.where(inside, least, np.nan)

    def optimum_interval(self, free: Array, covariance: Array, quantile: float) -> tuple[float, float] | None:
        """See `Curve.optimum_interval`; ratios below 0 have no minimum and are cut off."""
        if (free[:2] < -quantile * np.sqrt(np.diag(covariance)[:2])).any():
            return None  # one branch bends the other way beyond doubt: a maximum, or no end to the rise or fall
        ranges = fieller(float(free[0]), float(free[1]), covariance[:2, :2], quantile)
        positive = [(max(low, 0.0), high) for low, high in ranges if high > 0]
        if not positive:
            return None
        low, high = positive[0][0], positive[-1][1]
        ends = self._place(np.array([low, min(high, 1e300)]))
        return (float(ends[0]) if low > 0 else -np.inf), (float(ends[1]) if np.isfinite(high) else np.inf)

    def direction(self, x: Array) -> Array:
        """See `Curve.direction`: a and b in the ratio that `_ratio` gives, adding up to 1."""
        ratio = self._ratio(x)
        return np.stack([ratio / (1 + ratio), 1 / (1 + ratio)], axis=-1)

    def _ratio_error(self, coefficients: Array, covariance: Array) -> Array:
        """Standard error of ln(a / b); NaN without a minimum."""
        a, b = coefficients[..., 0], coefficients[..., 1]
        inside = (a > 0) & (b > 0)
        slopes = np.stack([1 / np.where(inside, a, np.nan), -1 / np.where(inside, b, np.nan)], axis=-1)
        return np.asarray(np.sqrt(np.einsum("...i,...ij,...j->...", slopes, covariance[..., :2, :2], slopes)))

    def monotone(self, coefficients: Array) -> bool:
        """See `Curve.monotone`: with one branch a curve has no minimum, but falls or rises."""
        return bool((coefficients[:2] > 0).any())


class FlooredHyperbola(_TwoBranches):
    """y = a/(x - floor) + b x + c_g with a, b >= 0, one intercept per group."""

    def __init__(self, x: Array, floor: float, group: Array | None = None):
        """`x` has shape (n,); `group`, shape (n,), names each point's intercept (any numbers; None: one for all).

        Raises:
            FitError: a value is not finite, not above `floor`, or the lengths differ.
        """
        x = np.asarray(x, dtype=float)
        check_points(x=x)
        check_above("x", x, floor)
        self.axis = (floor, np.inf)
        super().__init__(x, self._branches(x), group)

    @property
    def floor(self) -> float:
        """Where the curve's pole is: no abscissa can be there or below."""
        return self.axis[0]

    def units(self, x: str, y: str) -> tuple[str, ...]:
        """See `Curve.units`."""
        return f"{y} {x}".strip(), f"{y or '1'}/{x}" if x else y, *[y] * len(self.groups)

    @property
    def constants(self) -> dict[str, float]:
        """The floor, and the group that each intercept belongs to."""
        return {"floor": self.floor} | {f"group{index}": float(label) for index, label in enumerate(self.groups)}

    def _branches(self, x: Array) -> Array:
        return np.stack([1.0 / (x - self.floor), x], axis=1)

    def _place(self, ratio: Array) -> Array:
        return np.asarray(self.floor + np.sqrt(ratio))

    def _ratio(self, x: Array) -> Array:
        return np.asarray((x - self.floor) ** 2)

    def _least(self, a: Array, b: Array) -> Array:
        return np.asarray(2 * np.sqrt(a * b) + b * self.floor)

    def band(self, coefficients: Array, tolerance: float) -> tuple[Array, Array]:
        """See `Curve.band`: with z = x - floor, b z^2 - (2 sqrt(ab) + tolerance |y_min|) z + a = 0."""
        a, b = coefficients[..., 0], coefficients[..., 1]
        _, least = self.minimum(coefficients)  # NaN without a minimum, and so is the band
        half_sum = np.sqrt(a * b) + tolerance * np.abs(least) / 2
        high = (half_sum + np.sqrt(half_sum**2 - a * b)) / np.where(b > 0, b, 1.0)
        product = a / np.where(b > 0, b, 1.0)  # of the two roots: no cancellation in the lower one
        return self.floor + product / high, self.floor + high

    def optimum_error(self, coefficients: Array, covariance: Array) -> Array:
        """See `Curve.optimum_error`: ln(optimum - floor) is half of ln(a / b)."""
        z = self.minimum(coefficients)[0] - self.floor
        return np.asarray(self._ratio_error(coefficients, covariance) / 2 * z)


class TwoPoles(_TwoBranches):
    """y = a/(x - floor) + b/(ceiling - x) + c_g with a, b >= 0, one intercept per group."""

    def __init__(self, x: Array, floor: float, ceiling: float, group: Array | None = None):
        """`x` has shape (n,); `group` as in `FlooredHyperbola`.

        Raises:
            FitError: a value is not finite, not between the poles, a pole is not finite, or the lengths differ.
        """
        x = np.asarray(x, dtype=float)
        check_points(x=x)
        check_above("x", x, floor)
        if not np.isfinite(ceiling):
            raise FitError(f"a ceiling of {ceiling:g}: it must be finite; without one take FlooredHyperbola")
        if x.max() >= ceiling:
            raise FitError(f"x holds {x.max():g}: every value must be below {ceiling:g}; leave such points out")
        self.axis = (floor, ceiling)
        super().__init__(x, self._branches(x), group)

    def units(self, x: str, y: str) -> tuple[str, ...]:
        """See `Curve.units`."""
        return f"{y} {x}".strip(), f"{y} {x}".strip(), *[y] * len(self.groups)

    @property
    def constants(self) -> dict[str, float]:
        """The poles, and the group that each intercept belongs to."""
        poles = {"floor": self.axis[0], "ceiling": self.axis[1]}
        return poles | {f"group{index}": float(label) for index, label in enumerate(self.groups)}

    def _branches(self, x: Array) -> Array:
        return np.stack([1.0 / (x - self.axis[0]), 1.0 / (self.axis[1] - x)], axis=1)

    def _place(self, ratio: Array) -> Array:
        """From a / (x - p)^2 = b / (q - x)^2."""
        root = np.sqrt(ratio)
        return np.asarray(self.axis[0] + (self.axis[1] - self.axis[0]) * root / (1 + root))

    def _ratio(self, x: Array) -> Array:
        return np.asarray(((x - self.axis[0]) / (self.axis[1] - x)) ** 2)

    def _least(self, a: Array, b: Array) -> Array:
        return np.asarray((np.sqrt(a) + np.sqrt(b)) ** 2 / (self.axis[1] - self.axis[0]))

    def band(self, coefficients: Array, tolerance: float) -> tuple[Array, Array]:
        """See `Curve.band`: with z = x - p, w = q - p and height k, k z^2 - (k w + a - b) z + a w = 0."""
        a, b = coefficients[..., 0], coefficients[..., 1]
        _, least = self.minimum(coefficients)  # NaN without a minimum, and so is the band
        width = self.axis[1] - self.axis[0]
        height = (np.sqrt(a) + np.sqrt(b)) ** 2 / width + tolerance * np.abs(least)
        half_sum = (height * width + a - b) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            root = np.sqrt(np.maximum(half_sum**2 - height * a * width, 0.0))
            high = (half_sum + root) / height
            return self.axis[0] + a * width / height / high, self.axis[0] + high

    def optimum_error(self, coefficients: Array, covariance: Array) -> Array:
        """See `Curve.optimum_error`: z = w r/(1 + r) with r = sqrt(a / b), so d ln z = d ln r / (1 + r)."""
        a, b = coefficients[..., 0], coefficients[..., 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            root = np.sqrt(a / b)
        z = self.minimum(coefficients)[0] - self.axis[0]
        return np.asarray(self._ratio_error(coefficients, covariance) / 2 / (1 + root) * z)

"""Two families of curves with one minimum, linear in their coefficients, so that a batch of fits is a matrix product.

    ParabolaInLog(x)            y = c0 + c1 u + c2 u^2,  u = ln(x / x0),  x0 the geometric mean of x
    FlooredHyperbola(x, floor)  y = a / (x - floor) + b x + c,  a, b >= 0, one c per group

    fit = fit_curve(ParabolaInLog(x), y);  fit.optimum, fit.band, fit.status

A curve object is bound to its abscissae; its methods take observations with any leading batch shape.
"""

from typing import Protocol

import numpy as np

from analysis.fitting.linear import LeastSquares
from analysis.fitting.results import Array, CurveFit, FitError, FitStatus, check_above, check_points


class Curve(Protocol):
    """A family of curves, bound to n abscissae."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the p coefficients."""

    x: Array
    """Shape (n,)."""
    axis: tuple[float, float]
    """The open interval that abscissae can lie in."""
    dof: int
    """n - p."""
    identifiable: bool
    """Whether the points determine every coefficient."""

    @property
    def constants(self) -> dict[str, float]:
        """What else the formula needs besides its coefficients, by name."""

    def solve(self, y: Array) -> Array:
        """Coefficients (..., p) for observations (..., n)."""

    def values(self, coefficients: Array) -> Array:
        """Fitted ordinates (..., n) at the curve's own abscissae, for coefficients (..., p)."""

    def profile(self, coefficients: Array, x: Array) -> Array:
        """Ordinates (m,) of one curve (p,) at any abscissae (m,)."""

    def minimum(self, coefficients: Array) -> tuple[Array, Array]:
        """Abscissa and ordinate of the minimum, each (...). Without one: an end of `axis`, and NaN."""

    def band(self, coefficients: Array, tolerance: float) -> tuple[Array, Array]:
        """Where the curve is at most ``tolerance * |minimum|`` above its minimum, each end (...); NaN without one."""


class ParabolaInLog:
    """y = c0 + c1 u + c2 u^2 with u = ln(x/x0); the IsoFLOP curve of Hoffmann et al. (2022), section 3.2."""

    names = ("c0", "c1", "c2")
    axis = (0.0, np.inf)

    def __init__(self, x: Array):
        """`x` has shape (n,).

        Raises:
            FitError: a value is not finite or not positive.
        """
        self.x = np.asarray(x, dtype=float)
        check_points(x=self.x)
        check_above("x", self.x, 0.0)
        self._centre = float(np.log(self.x).mean())  # near the data, the three columns are far from collinear
        u = np.log(self.x) - self._centre
        self._squares = LeastSquares(np.stack([np.ones_like(u), u, u**2], axis=1))
        self.dof = self._squares.dof
        self.identifiable = self._squares.full_rank

    @property
    def constants(self) -> dict[str, float]:
        """x0, in the unit of x."""
        return {"x0": float(np.exp(self._centre))}

    def solve(self, y: Array) -> Array:
        """See `Curve.solve`; c2 may come out negative: then there is no minimum."""
        return self._squares.solve(y)

    def values(self, coefficients: Array) -> Array:
        """See `Curve.values`."""
        return np.asarray(coefficients @ self._squares.design.T)

    def profile(self, coefficients: Array, x: Array) -> Array:
        """See `Curve.profile`."""
        u = np.log(x) - self._centre
        return np.asarray(coefficients[0] + coefficients[1] * u + coefficients[2] * u**2)

    def minimum(self, coefficients: Array) -> tuple[Array, Array]:
        """See `Curve.minimum`; a curve without one is put at the end of the axis that it falls towards at x0."""
        c0, c1, c2 = np.moveaxis(np.asarray(coefficients), -1, 0)
        convex = c2 > 0
        curvature = np.where(convex, c2, 1.0)
        with np.errstate(over="ignore"):
            inside = np.exp(self._centre - c1 / (2 * curvature))
        optimum = np.where(convex, inside, np.where(c1 < 0, np.inf, 0.0))
        return optimum, np.where(convex, c0 - c1**2 / (4 * curvature), np.nan)

    def band(self, coefficients: Array, tolerance: float) -> tuple[Array, Array]:
        """See `Curve.band`: c2 (u - u_min)^2 = tolerance |y_min|."""
        _, c1, c2 = np.moveaxis(np.asarray(coefficients), -1, 0)
        convex = c2 > 0
        curvature = np.where(convex, c2, 1.0)
        _, least = self.minimum(coefficients)
        half = np.sqrt(tolerance * np.abs(least) / curvature)
        middle = self._centre - c1 / (2 * curvature)
        with np.errstate(over="ignore"):
            return np.exp(middle - half), np.exp(middle + half)  # NaN through `least` where there is no minimum


class FlooredHyperbola:
    """y = a/(x - floor) + b x + c_g with a, b >= 0: the curve of the paper's section 5.3, with one intercept per group.

    The groups share a and b. Intercepts are eliminated by centring within groups, which leaves two coefficients; their
    signs are enforced exactly: where the free solution has a negative one, the better one-sided fit is taken.
    """

    def __init__(self, x: Array, floor: float, group: Array | None = None):
        """`x` has shape (n,); `group`, shape (n,), names each point's intercept (any numbers; None: one for all).

        Raises:
            FitError: a value is not finite, not above `floor`, or the lengths differ.
        """
        self.x = np.asarray(x, dtype=float)
        labels = np.zeros_like(self.x) if group is None else np.asarray(group, dtype=float)
        check_points(x=self.x, group=labels)
        check_above("x", self.x, floor)
        self.axis = (floor, np.inf)
        self.groups, self._group = np.unique(labels, return_inverse=True)
        self.names = ("a", "b", *(f"c{index}" for index in range(len(self.groups))))
        member = self._group[:, None] == np.arange(len(self.groups))
        self._mean = (member / member.sum(axis=0)).T  # (groups, n): a group's mean
        self._share = member.mean(axis=0)
        self._columns = np.stack([1.0 / (self.x - floor), self.x], axis=1)
        centred = self._columns - (self._mean @ self._columns)[self._group]
        self._both = LeastSquares(centred)
        self._single = [LeastSquares(centred[:, [index]]) for index in (0, 1)]
        self.dof = len(self.x) - len(self.names)
        self.identifiable = self._both.full_rank

    @property
    def floor(self) -> float:
        """Where the curve's pole is: no abscissa can be there or below."""
        return self.axis[0]

    @property
    def constants(self) -> dict[str, float]:
        """The floor, and the group that each intercept belongs to."""
        return {"floor": self.floor} | {f"group{index}": float(label) for index, label in enumerate(self.groups)}

    def solve(self, y: Array) -> Array:
        """See `Curve.solve`; a and b are the non-negative least-squares solution."""
        y = np.asarray(y, dtype=float)
        means = y @ self._mean.T
        centred = y - means[..., self._group]
        slopes = self._both.solve(centred)
        bad = (slopes < 0).any(axis=-1)
        if bad.any():
            slopes[bad] = self._one_sided(centred[bad])
        return np.concatenate([slopes, means - slopes @ (self._mean @ self._columns).T], axis=-1)

    def _one_sided(self, centred: Array) -> Array:
        """The better of (a >= 0, b = 0) and (a = 0, b >= 0), shape (k, 2), for centred observations (k, n)."""
        candidates = np.zeros((2, len(centred), 2))
        for index, single in enumerate(self._single):
            candidates[index, :, index] = np.maximum(single.solve(centred)[:, 0], 0.0)
        sums = np.stack([self._both.residual_sum(centred, candidate) for candidate in candidates])
        return np.asarray(np.where((sums[0] <= sums[1])[:, None], candidates[0], candidates[1]))

    def values(self, coefficients: Array) -> Array:
        """See `Curve.values`."""
        return np.asarray(coefficients[..., :2] @ self._columns.T + coefficients[..., 2:][..., self._group])

    def profile(self, coefficients: Array, x: Array) -> Array:
        """See `Curve.profile`; with the mean intercept, each group weighing as many points as it has."""
        a, b = coefficients[0], coefficients[1]
        return np.asarray(a / (x - self.floor) + b * x + coefficients[2:] @ self._share)

    def intercepts(self, coefficients: Array) -> Array:
        """Each point's own intercept less the mean one, shape (n,): subtract it to draw all groups on one curve."""
        return np.asarray(coefficients[2:][self._group] - coefficients[2:] @ self._share)

    def minimum(self, coefficients: Array) -> tuple[Array, Array]:
        """See `Curve.minimum`: floor + sqrt(a/b); the floor where a = 0, infinity where b = 0."""
        a, b = coefficients[..., 0], coefficients[..., 1]
        inside = (a > 0) & (b > 0)
        optimum = self.floor + np.sqrt(a / np.where(b > 0, b, 1.0))
        optimum = np.where(inside, optimum, np.where(a > 0, np.inf, self.floor))
        least = 2 * np.sqrt(a * b) + b * self.floor + coefficients[..., 2:] @ self._share
        return optimum, np.where(inside, least, np.nan)

    def band(self, coefficients: Array, tolerance: float) -> tuple[Array, Array]:
        """See `Curve.band`: with z = x - floor, b z^2 - (2 sqrt(ab) + tolerance |y_min|) z + a = 0."""
        a, b = coefficients[..., 0], coefficients[..., 1]
        _, least = self.minimum(coefficients)  # NaN without a minimum, and so is the band
        half_sum = np.sqrt(a * b) + tolerance * np.abs(least) / 2
        high = (half_sum + np.sqrt(half_sum**2 - a * b)) / np.where(b > 0, b, 1.0)
        product = a / np.where(b > 0, b, 1.0)  # of the two roots: no cancellation in the lower one
        return self.floor + product / high, self.floor + high


def fit_curve(curve: Curve, y: Array, *, tolerance: float = 1e-3) -> CurveFit:
    """Least squares of `curve` against `y`, shape (n,); `tolerance` is the band's relative height (0.001 in the paper).

    Raises:
        FitError: `y` is not finite or not as long as the curve's abscissae.
    """
    y = np.asarray(y, dtype=float)
    check_points(x=curve.x, y=y)
    if tolerance <= 0:
        raise FitError(f"a band of relative height {tolerance:g}: it must be above 0")
    sampled = (float(curve.x.min()), float(curve.x.max()))
    if curve.dof < 0 or not curve.identifiable:
        nothing = float("nan")
        return CurveFit(
            status=FitStatus.TOO_FEW_POINTS if curve.dof < 0 else FitStatus.NOT_IDENTIFIABLE,
            coefficients=np.full(len(curve.names), np.nan),
            optimum=nothing,
            minimum=nothing,
            band=(nothing, nothing),
            tolerance=tolerance,
            fitted=np.full_like(y, np.nan),
            residual_sd=nothing,
            dof=max(curve.dof, 0),
            sampled=sampled,
        )
    coefficients = curve.solve(y)
    fitted = curve.values(coefficients)
    optimum, minimum = (float(value) for value in curve.minimum(coefficients))
    low, high = curve.band(coefficients, tolerance)
    squares = float(((y - fitted) ** 2).sum())
    return CurveFit(
        status=_status(curve, coefficients, optimum, minimum, sampled),
        coefficients=coefficients,
        optimum=optimum,
        minimum=minimum,
        band=(float(low), float(high)),
        tolerance=tolerance,
        fitted=fitted,
        residual_sd=float(np.sqrt(squares / curve.dof)) if curve.dof else float("nan"),
        dof=curve.dof,
        sampled=sampled,
    )


def _status(
    curve: Curve, coefficients: Array, optimum: float, minimum: float, sampled: tuple[float, float]
) -> FitStatus:
    if np.isfinite(minimum):
        return FitStatus.CONVERGED if sampled[0] < optimum < sampled[1] else FitStatus.EDGE
    # Without a minimum: a hyperbola with one branch is monotone, its best point is an edge; a concave parabola is not.
    monotone = isinstance(curve, FlooredHyperbola) and bool((coefficients[:2] > 0).any())
    return FitStatus.EDGE if monotone else FitStatus.NO_MINIMUM

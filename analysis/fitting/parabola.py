"""Parabolas: y = c0 + c1 u + c2 u^2 with u = ln(x / x0) (`ParabolaInLog`) or u = x - x0 (`Parabola`), x0 a mean of x."""

import numpy as np

from analysis.fitting.intervals import fieller
from analysis.fitting.linear import LeastSquares
from analysis.fitting.results import ROUNDING, Array, check_above, check_points


class Parabola:
    """y = c0 + c1 u + c2 u^2 with u = x - x0."""

    names = ("c0", "c1", "c2")
    bends = slice(1, 3)
    axis = (-np.inf, np.inf)

    def __init__(self, x: Array):
        """`x` has shape (n,).

        Raises:
            FitError: a value is not finite, or not in `axis`.
        """
        self.x = np.asarray(x, dtype=float)
        check_points(x=self.x)
        if np.isfinite(self.axis[0]):
            check_above("x", self.x, self.axis[0])
        self._centre = float(self._to_u(self.x).mean())  # near the data, the three columns are far from collinear
        u = self._to_u(self.x) - self._centre
        self._squares = LeastSquares(np.stack([np.ones_like(u), u, u**2], axis=1))
        self.design = self._squares.design
        self._span = float(np.ptp(u))
        self.strata = np.zeros(len(u))
        self.dof = self._squares.dof
        self.identifiable = self._squares.full_rank
        self.covariance = self._squares.covariance if self.identifiable else np.full((3, 3), np.nan)

    def _to_u(self, x: Array) -> Array:
        return x

    def _from_u(self, u: Array) -> Array:
        return np.asarray(u)

    def units(self, x: str, y: str) -> tuple[str, ...]:
        """See `Curve.units`."""
        return y, _per(y, x), _per(y, x, "^2")

    @property
    def constants(self) -> dict[str, float]:
        """x0, in the unit of x."""
        return {"x0": float(self._from_u(np.asarray(self._centre)))}

    def solve(self, y: Array) -> Array:
        """See `Curve.solve`; c2 may come out negative: then there is no minimum."""
        return self._squares.solve(y)

    def solve_free(self, y: Array) -> Array:
        """See `Curve.solve_free`."""
        return self._squares.solve(y)

    def values(self, coefficients: Array) -> Array:
        """See `Curve.values`."""
        return np.asarray(coefficients @ self.design.T)

    def profile(self, coefficients: Array, x: Array) -> Array:
        """See `Curve.profile`."""
        u = self._to_u(x) - self._centre
        return np.asarray(coefficients[0] + coefficients[1] * u + coefficients[2] * u**2)

    def intercepts(self, coefficients: Array) -> Array:
        """See `Curve.intercepts`: there is one group."""
        return np.zeros((*coefficients.shape[:-1], len(self.x)))

    def minimum(self, coefficients: Array) -> tuple[Array, Array]:
        """See `Curve.minimum`; a curve without one is put at the end of the axis that it falls towards at x0."""
        c0, c1, c2 = np.moveaxis(np.asarray(coefficients), -1, 0)
        convex = c2 * self._span**2 > ROUNDING * np.abs(c0)  # equal ordinates leave a curvature of rounding
        curvature = np.where(convex, c2, 1.0)
        with np.errstate(over="ignore"):
            inside = self._from_u(self._centre - c1 / (2 * curvature))
        optimum = np.where(convex, inside, np.where(c1 < 0, self.axis[1], self.axis[0]))
        return optimum, np.where(convex, c0 - c1**2 / (4 * curvature), np.nan)

    def band(self, coefficients: Array, tolerance: float) -> tuple[Array, Array]:
        """See `Curve.band`: c2 (u - u_min)^2 = tolerance |y_min|."""
        _, c1, c2 = np.moveaxis(np.asarray(coefficients), -1, 0)
        convex = c2 > 0
        curvature = np.where(convex, c2, 1.0)
        _, least = self.minimum(coefficients)
        half = np.sqrt(tolerance * np.abs(least) / curvature)
        middle = self._centre - c1 / (2 * curvature)
        with np.errstate(over="ignore"):  # NaN through `least` where there is no minimum
            return self._from_u(middle - half), self._from_u(middle + half)

    def optimum_interval(self, free: Array, covariance: Array, quantile: float) -> tuple[float, float] | None:
        """See `Curve.optimum_interval`: the vertex is the ratio of -c1/2 and c2."""
        if free[2] < -quantile * np.sqrt(covariance[2, 2]):
            return None  # bent the other way: Fieller's interval would be that of the maximum
        halved = np.array([[0.0, -0.5, 0.0], [0.0, 0.0, 1.0]])
        ranges = fieller(-float(free[1]) / 2, float(free[2]), halved @ covariance @ halved.T, quantile)
        low, high = self._centre + ranges[0][0], self._centre + ranges[-1][1]
        with np.errstate(over="ignore"):
            ends = self._from_u(np.array([low, high]))
        return (float(ends[0]) if np.isfinite(low) else -np.inf), float(ends[1])

    def direction(self, x: Array) -> Array:
        """See `Curve.direction`: (u - u_x)^2 is -2 u_x u + u^2 and a constant."""
        u = self._to_u(x) - self._centre
        return np.stack([-2 * u, np.ones_like(u)], axis=-1)

    def optimum_error(self, coefficients: Array, covariance: Array) -> Array:
        """See `Curve.optimum_error`."""
        return self._vertex_error(coefficients, covariance)

    def _vertex_error(self, coefficients: Array, covariance: Array) -> Array:
        """Standard error of the vertex in u; NaN without a minimum."""
        _, c1, c2 = np.moveaxis(np.asarray(coefficients), -1, 0)
        curvature = np.where(c2 > 0, c2, np.nan)
        slopes = np.stack([np.zeros_like(c1), -1 / (2 * curvature), c1 / (2 * curvature**2)], axis=-1)
        return np.asarray(np.sqrt(np.einsum("...i,...ij,...j->...", slopes, covariance, slopes)))

    def monotone(self, coefficients: Array) -> bool:
        """See `Curve.monotone`: a parabola that is a straight line."""
        level, rise, bend = np.abs(coefficients) * np.array([1.0, self._span, self._span**2])
        return bool(rise > ROUNDING * level and bend <= ROUNDING * (level + rise))


def _per(y: str, x: str, power: str = "") -> str:
    return f"{y or '1'}/{x}{power}" if x else y


class ParabolaInLog(Parabola):
    """y = c0 + c1 u + c2 u^2 with u = ln(x/x0); the IsoFLOP curve of Hoffmann et al. (2022), section 3.2."""

    axis = (0.0, np.inf)

    def _to_u(self, x: Array) -> Array:
        return np.asarray(np.log(x))

    def _from_u(self, u: Array) -> Array:
        return np.asarray(np.exp(u))

    def optimum_error(self, coefficients: Array, covariance: Array) -> Array:
        """See `Curve.optimum_error`: u is the logarithm."""
        return np.asarray(self._vertex_error(coefficients, covariance) * self.minimum(coefficients)[0])

    def units(self, x: str, y: str) -> tuple[str, ...]:
        """See `Curve.units`."""
        del x  # a logarithm has no unit
        return y, y, y

"""Least squares for many right-hand sides against one design: factor once, then each batch is one matrix product."""

import numpy as np

from analysis.fitting.results import Array, FitError


class LeastSquares:
    """min over beta of sum_i w_i (y_i - X_i beta)^2, for one X and as many y as there are.

    Columns are scaled to unit length before the factorisation, so that the unit of a column changes neither the
    solution nor the judgement whether the columns are independent.
    """

    def __init__(self, design: Array, weights: Array | None = None):
        """`design` has shape (n, p); `weights`, if given, shape (n,) and values of at least 0.

        Raises:
            FitError: a weight is negative or not finite.
        """
        self.design = design
        points, coefficients = design.shape
        weights = None if weights is None else np.asarray(weights, dtype=float)
        if weights is not None and (not np.isfinite(weights).all() or weights.min() < 0):
            raise FitError("weights must be finite and not negative; leave points of unknown weight out")
        root = np.ones(points) if weights is None else np.sqrt(weights)
        weighted = design * root[:, None]
        scale = np.linalg.norm(weighted, axis=0)
        scale[scale == 0] = 1.0
        left, singular, right = np.linalg.svd(weighted / scale, full_matrices=False)
        self.rank = int((singular > 1e-9 * singular.max(initial=0.0)).sum())
        self.full_rank = self.rank == coefficients
        """Whether the points determine every coefficient."""
        self.dof = points - coefficients
        """Points less coefficients."""
        self._root = root
        if self.full_rank:
            inverse = (right.T / singular) @ left.T  # (p, n)
            self._solution = (inverse / scale[:, None] * root).T
            unscaled = right.T / singular / scale[:, None]
            self.covariance = unscaled @ unscaled.T
            """(X'WX)^-1, shape (p, p): times the variance of an observation of weight 1, the coefficients' covariance."""

    def solve(self, y: Array) -> Array:
        """Coefficients of shape (..., p) for `y` of shape (..., n).

        Raises:
            FitError: the design is not of full rank; ask `full_rank` first.
        """
        if not self.full_rank:
            raise FitError(f"the points determine {self.rank} of {self.design.shape[1]} coefficients: nothing to solve")
        return np.asarray(y @ self._solution)

    def residual_sum(self, y: Array, coefficients: Array) -> Array:
        """Weighted residual sums of squares, shape (...), of `coefficients` (..., p) against `y` (..., n)."""
        residuals = (y - coefficients @ self.design.T) * self._root
        return np.asarray((residuals**2).sum(axis=-1))

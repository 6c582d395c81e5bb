"""Power laws y = floor + k (x / x0)^e by least squares in logarithms, for one data set or a batch on the same x.

x0, the geometric mean of x, is where the data are: the value there is well determined, while the coefficient at x = 1
(often twenty decades away) has an interval that says nothing by itself.
"""

from dataclasses import dataclass

import numpy as np

from analysis.fitting.linear import LeastSquares
from analysis.fitting.results import Array, FitError, check_above, check_points


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """y = floor + at_reference (x / reference)^exponent; numbers, or arrays (r,) for a batch."""

    at_reference: Array
    """y - floor at x0, in the unit of y."""
    exponent: Array
    """e."""
    reference: float
    """x0, in the unit of x."""
    floor: float = 0.0
    """Known lower bound of y; not fitted."""

    @property
    def coefficient(self) -> Array:
        """k of y = floor + k x^e."""
        with np.errstate(over="ignore"):  # a resample of nearly flat optima may have any exponent
            return np.asarray(np.exp(np.log(self.at_reference) - self.exponent * np.log(self.reference)))

    def __call__(self, x: float) -> Array:
        """y at the abscissa `x`, one value for each law of the batch."""
        with np.errstate(over="ignore"):
            return np.asarray(self.floor + self.at_reference * (x / self.reference) ** self.exponent)


def fit_power_law(x: Array, y: Array, *, floor: float = 0.0, weights: Array | None = None) -> PowerLaw:
    """Least squares of ln(y - floor) on ln x.

    Args:
        x: shape (n,), positive.
        y: shape (n,) for one law, (r, n) for a batch; above `floor`.
        floor: known lower bound of y.
        weights: shape (n,), of the squared residuals in logarithms; None: all equal.

    Raises:
        FitError: a value is impossible, lengths differ, or fewer than two different x have weight.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    check_points(x=x)
    check_above("x", x, 0.0)
    if not y.size or y.shape[-1] != len(x):
        raise FitError(f"y of shape {y.shape} against {len(x)} x: give one y per x, and at least one law")
    check_points(y=y.ravel())
    check_above("y", y, floor)
    log_x = np.log(x)
    centre = float(log_x.mean())
    squares = LeastSquares(np.stack([np.ones_like(log_x), log_x - centre], axis=1), weights)
    if not squares.full_rank:
        raise FitError(f"a power law needs two different x, got {np.unique(x).tolist()}; add a budget")
    solved = squares.solve(np.log(y - floor))
    return PowerLaw(
        at_reference=np.exp(solved[..., 0]), exponent=solved[..., 1], reference=float(np.exp(centre)), floor=floor
    )

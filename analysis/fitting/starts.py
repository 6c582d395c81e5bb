"""Where fits of an additive power law start: for each point of a grid of exponents, the best coefficients.

Given the exponents, the model is linear, so only they need a grid: 100 projected starts do what published scripts ask of
4,500 starts over all five parameters, and none of them is absurd.
"""

import itertools

import numpy as np

from analysis.fitting.newton import Terms
from analysis.fitting.results import Array

EXPONENTS = {
    1: np.geomspace(0.02, 4.0, 24),
    2: np.geomspace(0.04, 2.0, 9),
    3: np.geomspace(0.06, 1.2, 5),
    4: np.array([0.1, 0.3, 0.8]),
}
"""Grid of one exponent, by the number of variables; more variables take the last one with two values."""

SWEEPS = 60
"""Of coordinate descent: a start needs two digits."""

SMALLEST = 1e-4
"""Least size of a term of a start, relative to the observations: at exactly nothing its logarithm would never return."""


def projected_starts(terms: Terms, y: Array, weights: Array | None = None) -> Array:
    """Starts of shape (starts, 1 + 2k) for observations `y` (n,): non-negative least squares of relative errors."""
    count = len(terms.log_x)
    grid = EXPONENTS.get(count, np.array([0.15, 0.6]))
    exponents = np.array(list(itertools.product(grid, repeat=count)))
    columns = np.ones((len(exponents), 1 + count, len(y)))
    np.exp(-exponents[:, :, None] * terms.log_x, out=columns[:, 1:])
    columns /= y
    weighted = columns if weights is None else columns * weights
    coefficients = non_negative(weighted @ columns.transpose(0, 2, 1), weighted.sum(axis=2))
    level = float(np.exp(np.log(y).mean()))
    logs = np.log(np.maximum(coefficients, SMALLEST * level))
    return np.concatenate([logs, exponents], axis=1)


def non_negative(normal: Array, right: Array, sweeps: int = SWEEPS) -> Array:
    """min x'Nx/2 - r'x over x >= 0 for a batch of N (b, p, p) and r (b, p), by coordinate descent, approximately."""
    solution = np.maximum(np.linalg.solve(normal + 1e-12 * _diagonal(normal), right[:, :, None])[:, :, 0], 0.0)
    for _ in range(sweeps):
        for index in range(right.shape[1]):
            rest = right[:, index] - np.einsum("bj,bj->b", normal[:, index], solution)
            solution[:, index] = np.maximum(solution[:, index] + rest / normal[:, index, index], 0.0)
    return solution


def _diagonal(matrices: Array) -> Array:
    return np.asarray(np.einsum("bi,ij->bij", np.einsum("bii->bi", matrices), np.eye(matrices.shape[1])))

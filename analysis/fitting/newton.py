"""Newton's method for many fits of one additive power law at once: exp(e) + sum_i exp(c_i) x_i^-a_i.

The batch is what makes a bootstrap fast: all resamples take a step together, as numpy arrays of shape (batch, points).
scipy has no batched optimiser; for single fits it is the check on this one (tests/analysis/fitting/test_additive.py).

A fit's parameters are (e, c_1 .. c_k, a_1 .. a_k), with c_i taken at the geometric mean of x_i, where the data are: there
c_i and a_i are far from collinear. The Hessian is exact; a negative curvature counts as positive, and a damping that
grows when a step fails and shrinks when it succeeds bounds the step (Levenberg, Marquardt).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.fitting.losses import Loss
from analysis.fitting.results import Array, Mask

CHUNK = 64
"""Fits whose derivatives are computed together: enough to hide Python, few enough to stay in the processor's cache."""

STEPS = 300
"""Newton steps at most."""

LONGEST = 3.0
"""Largest change of one parameter in one step."""

DECREASE = 1e-13
"""A fit has converged when the decrease that its quadratic model promises is below this share of its objective."""

VANISHED = -60.0
"""Smallest e and c_i, for y of about 1: a term this far below is nothing to a double, and going on would only drift."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The variables of n points: ln x_i less its mean."""

    log_x: Array
    """Shape (k, n)."""
    centre: Array
    """Shape (k,): the mean of each ln x_i."""

    @classmethod
    def of(cls, variables: Array) -> "Terms":
        """From the variables themselves, shape (k, n)."""
        log_x = np.log(variables)
        centre = log_x.mean(axis=1)
        return cls(log_x=np.ascontiguousarray(log_x - centre[:, None]), centre=centre)

    def at(self, variables: Array) -> "Terms":
        """Other points, shape (k, m), seen from this centre."""
        return Terms(log_x=np.log(variables) - self.centre[:, None], centre=self.centre)

    def log_terms(self, parameters: Array) -> Array:
        """Logarithm of each term, shape (batch, 1 + k, n), the constant first; `parameters` has shape (batch, 1 + 2k)."""
        count = len(self.log_x)
        logs = np.empty((len(parameters), 1 + count, self.log_x.shape[1]))
        logs[:, 0] = parameters[:, :1]
        np.multiply(parameters[:, 1 + count :, None], -self.log_x, out=logs[:, 1:])
        logs[:, 1:] += parameters[:, 1 : 1 + count, None]
        return logs

    def log_model(self, parameters: Array) -> Array:
        """ln of the modelled value, shape (batch, n)."""
        logs = self.log_terms(parameters)
        highest = logs.max(axis=1)
        return np.asarray(highest + np.log(np.exp(logs - highest[:, None]).sum(axis=1)))


@dataclass(frozen=True, kw_only=True)
class Solved:
    """Where each fit of a batch ended."""

    parameters: Array
    """Shape (batch, 1 + 2k)."""
    objective: Array
    """Shape (batch,)."""
    converged: Mask
    """Shape (batch,)."""
    steps: int
    """Of the slowest fit."""


def objective(terms: Terms, prepared: Array, loss: Loss, parameters: Array, weights: Array | None = None) -> Array:
    """Objective of each row of `parameters`, shape (batch,); `prepared` is ``loss.prepare(y)``, (n,) or (batch, n)."""
    values = [
        _weighted(loss.parts(_rows(prepared, part), terms.log_model(parameters[part]))[0], _rows(weights, part))
        for part in _chunks(len(parameters), CHUNK)
    ]
    return np.concatenate(values)


def derivatives(
    terms: Terms, prepared: Array, loss: Loss, parameters: Array, weights: Array | None = None
) -> tuple[Array, Array, Array]:
    """Objective (batch,), gradient (batch, p) and Hessian (batch, p, p)."""
    with np.errstate(over="ignore", invalid="ignore"):  # a step too far overflows, and is then no better
        parts = [
            _derivatives(terms, _rows(prepared, part), loss, parameters[part], _rows(weights, part))
            for part in _chunks(len(parameters), CHUNK)
        ]
    if len(parts) == 1:
        return parts[0]
    value, gradient, hessian = (np.concatenate(column) for column in zip(*parts, strict=True))
    return value, gradient, hessian


def _derivatives(
    terms: Terms, prepared: Array, loss: Loss, parameters: Array, weights: Array | None
) -> tuple[Array, Array, Array]:
    count = len(terms.log_x)
    logs = terms.log_terms(parameters)
    highest = logs.max(axis=1)
    logs -= highest[:, None]
    share = np.exp(logs, out=logs)
    total = share.sum(axis=1)
    share /= total[:, None]
    value, slope, curvature = loss.parts(prepared, highest + np.log(total))
    if weights is not None:
        value, slope, curvature = value * weights, slope * weights, curvature * weights
    jacobian = np.empty((len(parameters), 1 + 2 * count, terms.log_x.shape[1]))  # of ln model
    jacobian[:, : 1 + count] = share
    np.multiply(share[:, 1:], -terms.log_x, out=jacobian[:, 1 + count :])
    gradient = (jacobian @ slope[:, :, None])[:, :, 0]
    hessian = (jacobian * (curvature - slope)[:, None]) @ jacobian.transpose(0, 2, 1)
    # The second derivative of ln model is sum_j share_j phi_j phi_j' - J J'; phi_j has one or two entries, so that:
    here = np.arange(1 + count)
    hessian[:, here, here] += gradient[:, : 1 + count]
    c, a = np.arange(1, 1 + count), np.arange(1 + count, 1 + 2 * count)
    hessian[:, c, a] += gradient[:, a]
    hessian[:, a, c] += gradient[:, a]
    hessian[:, a, a] -= (np.multiply(jacobian[:, a], terms.log_x) @ slope[:, :, None])[:, :, 0]
    return value.sum(axis=1), gradient, hessian


def minimise(
    terms: Terms,
    prepared: Array,
    loss: Loss,
    start: Array,
    *,
    weights: Array | None = None,
    fixed: Mask | None = None,
    steps: int = STEPS,
    decrease: float = DECREASE,
) -> Solved:
    """Minimise from each row of `start` (batch, p).

    Args:
        terms: variables, shared by the batch.
        prepared: ``loss.prepare(y)``, of shape (n,) or (batch, n).
        loss: what is summed over points.
        start: where each fit starts.
        weights: how often each point counts, (batch, n); None: once. Their precisions are part of `loss`.
        fixed: (batch, p): parameters that stay as they start; None: all free.
        steps: at most.
        decrease: see `DECREASE`.
    """
    best = start.copy()
    lowest = np.minimum(_lowest(best.shape[1]), start)  # a scale at an x far from the data may start lower
    converged = np.zeros(len(start), dtype=bool)
    values, gradient, hessian = derivatives(terms, prepared, loss, best, weights)
    damping = np.full(len(start), 1e-3)
    active = np.arange(len(start))
    taken = 0
    while len(active) and taken < steps:
        taken += 1
        held = None if fixed is None else fixed[active]
        step, promised = _step(gradient[active], hessian[active], damping[active], held)
        done = promised <= decrease * np.abs(values[active])
        trial = np.maximum(best[active] + step, lowest[active])
        value, slope, curvature = derivatives(terms, _rows(prepared, active), loss, trial, _rows(weights, active))
        better = value < values[active]  # NaN is not
        winners = active[better]
        best[winners], values[winners] = trial[better], value[better]
        gradient[winners], hessian[winners] = slope[better], curvature[better]
        damping[winners] = np.maximum(damping[winners] / 8, 1e-12)
        losers = active[~better]
        damping[losers] *= 6
        # A step that fails although the damping is immense is one that rounding decides: nothing more to gain.
        done |= ~better & (damping[active] > 1e12)
        converged[active[done]] = True
        active = active[~done]
    return Solved(parameters=best, objective=values, converged=converged, steps=taken)


def _step(gradient: Array, hessian: Array, damping: Array, fixed: Mask | None) -> tuple[Array, Array]:
    """The damped step (batch, p), and how far the undamped one would lower the quadratic model (batch,)."""
    scale = np.sqrt(np.abs(np.einsum("bii->bi", hessian)))
    scale = np.where(scale > 1e-8 * scale.max(axis=1, keepdims=True), scale, 1e-8 * scale.max(axis=1, keepdims=True))
    scale[scale == 0] = 1.0
    scaled = hessian / (scale[:, :, None] * scale[:, None, :])
    slope = gradient / scale
    if fixed is not None:
        slope = np.where(fixed, 0.0, slope)
        scaled = np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, scaled)
        scaled += np.einsum("bi,ij->bij", fixed.astype(float), np.eye(fixed.shape[1]))
    curvature, axes = np.linalg.eigh(scaled)
    curvature = np.maximum(np.abs(curvature), 1e-10)
    along = np.einsum("bij,bi->bj", axes, slope)
    promised = (along**2 / curvature).sum(axis=1) / 2
    step = -np.einsum("bij,bj->bi", axes, along / (curvature + damping[:, None])) / scale
    longest = np.abs(step).max(axis=1, keepdims=True)
    return step * np.minimum(1.0, LONGEST / np.maximum(longest, 1e-300)), promised


def _lowest(width: int) -> Array:
    """The bounds of a parameter row: the logarithms of the terms have one, the exponents have none."""
    count = (width - 1) // 2
    return np.concatenate([np.full(1 + count, VANISHED), np.full(count, -np.inf)])


def _weighted(values: Array, weights: Array | None) -> Array:
    return np.asarray((values if weights is None else values * weights).sum(axis=1))


def _rows[T: (Array, Array | None, Mask | None)](values: T, part: "slice | NDArray[np.intp]") -> T:
    """The rows of a batched array; one shared by the batch (one-dimensional) and None stay."""
    return values if values is None or values.ndim == 1 else values[part]


def _chunks(length: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, length)) for first in range(0, length, size)]

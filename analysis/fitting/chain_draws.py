"""Repetitions of a chain: ln(optimum - floor) of every budget, of new noise, of runs drawn again, and without each run.

    kept = [(slice, its fit), ...]                             budgets whose curve has a minimum
    draw_noise(kept, noise, floor, resamples, rng)             Draw.NOISE, with standard errors
    draw_runs(kept, floor, resamples, rng)                     Draw.RUNS
    jackknife(kept, floor, log_optima)                         for BCa

Each is a batch; a repetition without a minimum above the floor is NaN.
"""

from collections.abc import Sequence

import numpy as np

from analysis.fitting.chain_fit import Slice
from analysis.fitting.curve import Curve
from analysis.fitting.resample import draw_counts
from analysis.fitting.results import Array, CurveFit, Noise

type Kept = Sequence[tuple[Slice, CurveFit]]
"""Budgets that have a minimum, and their fits."""


def draw_noise(
    kept: Kept, noise: Sequence[Noise], floor: float, resamples: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """ln(optimum - floor) and its standard error, each (resamples, m); NaN without a minimum."""
    optima, unit_errors, own = [], [], []
    scatter, dof = np.zeros(resamples), 0
    for (part, fit), of in zip(kept, noise, strict=True):
        repeated = fit.fitted + of.sd * rng.standard_normal((resamples, fit.points))
        coefficients = part.curve.solve(repeated)
        optimum = _inside(part.curve, coefficients, floor)
        optima.append(np.log(optimum - floor))
        unit_errors.append(part.curve.optimum_error(coefficients, part.curve.covariance) / (optimum - floor))
        own.append(None if part.noise is None else of.sd * np.sqrt(rng.chisquare(of.dof, resamples) / of.dof))
        if part.noise is None:
            scatter += ((repeated - part.curve.values(coefficients)) ** 2).sum(axis=1)
            dof += fit.dof
    pooled = np.sqrt(scatter / max(dof, 1))
    scales = np.stack([pooled if scale is None else scale for scale in own], axis=1)
    return np.stack(optima, axis=1), np.stack(unit_errors, axis=1) * scales


def draw_runs(kept: Kept, floor: float, resamples: int, rng: np.random.Generator) -> Array:
    """ln(optimum - floor) for runs drawn within each budget and group, shape (resamples, m)."""
    columns = []
    for part, fit in kept:
        counts = draw_counts(fit.points, resamples, rng, part.curve.strata)
        columns.append(_log_optima(part.curve, part.y, counts, floor))
    return np.stack(columns, axis=1)


def jackknife(kept: Kept, floor: float, log_optima: Array) -> Array:
    """Without each run in turn; runs without which its budget has no minimum are passed over."""
    rows = []
    for index, (part, fit) in enumerate(kept):
        without = _log_optima(part.curve, part.y, 1 - np.eye(fit.points), floor)
        row = np.tile(log_optima, (fit.points, 1))
        row[:, index] = without
        rows.append(row[np.isfinite(without)])
    return np.concatenate(rows)


def _log_optima(curve: Curve, y: Array, counts: Array, floor: float) -> Array:
    """ln(optimum - floor) for points counted as often as `counts` (r, n) says; NaN where these determine no minimum."""
    design = curve.design
    normal = np.einsum("rn,np,nq->rpq", counts, design, design, optimize=True)
    scale = np.sqrt(np.maximum(np.einsum("rpp->rp", normal), 1e-300))
    scaled = normal / (scale[:, :, None] * scale[:, None, :])
    possible = np.linalg.eigvalsh(scaled)[:, 0] > 1e-10
    coefficients = np.full((len(counts), design.shape[1]), np.nan)
    right = (counts * y) @ design / scale
    coefficients[possible] = np.linalg.solve(scaled[possible], right[possible][:, :, None])[:, :, 0] / scale[possible]
    return np.asarray(np.log(_inside(curve, coefficients, floor) - floor))


def _inside(curve: Curve, coefficients: Array, floor: float) -> Array:
    """The optimum where there is one above `floor`, else NaN."""
    optimum, least = curve.minimum(coefficients)
    return np.where(np.isfinite(least) & np.isfinite(optimum) & (optimum > floor), optimum, np.nan)

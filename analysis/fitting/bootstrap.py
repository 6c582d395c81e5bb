"""Error bars of a curve's minimum from simulated repetitions of the experiment, all of them fitted in one batch.

Each repetition draws its own noise variance from the distribution that the estimate allows, dof * sd^2 / chi^2(dof),
before it draws the noise. With the 2 or 3 degrees of freedom of a five-point curve this widens the intervals as
Student's t does; plain residual resampling covers the truth far less often than it claims there.
"""

import numpy as np

from analysis.fitting.curve import Curve
from analysis.fitting.results import Array, CurveFit, FitError, Noise, Resamples


def draw_noise(rng: np.random.Generator, noise: Noise, resamples: int, points: int) -> Array:
    """Noise of shape (resamples, points), whose standard deviation differs between resamples as `noise` is uncertain."""
    scale = noise.sd * np.sqrt(noise.dof / rng.chisquare(noise.dof, size=resamples))
    return np.asarray(scale[:, None] * rng.standard_normal((resamples, points)))


def resample_minimum(
    curve: Curve, fit: CurveFit, noise: Noise, *, resamples: int, rng: np.random.Generator
) -> Resamples:
    """Repeat the experiment `resamples` times around `fit` and fit each repetition as the data were fitted.

    Raises:
        FitError: `fit` has no coefficients.
    """
    if not np.isfinite(fit.coefficients).all():
        raise FitError(f"nothing to resample: the fit ended with {fit.status.value!r}")
    repeated = fit.fitted + draw_noise(rng, noise, resamples, len(fit.fitted))
    coefficients = curve.solve(repeated)
    optimum, minimum = curve.minimum(coefficients)
    inside = np.isfinite(minimum) & (optimum > fit.sampled[0]) & (optimum < fit.sampled[1])
    return Resamples(
        coefficients=coefficients,
        optimum=optimum,
        minimum=minimum,
        inside=float(inside.mean()),
        failed=int((~inside).sum()),
        noise=noise,
    )

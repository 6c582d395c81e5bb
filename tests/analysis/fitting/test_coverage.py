"""What 95% intervals claim is counted: on curves with known truth the optimum must lie inside about 95% of them."""

import numpy as np
import pytest

from analysis.fitting import (
    FitError,
    FitStatus,
    FlooredHyperbola,
    Noise,
    ParabolaInLog,
    fit_curve,
    interval,
    resample_minimum,
)
from analysis.fitting.bootstrap import draw_noise
from analysis.fitting.simulate import HyperbolaTruth, ParabolaTruth

SIZES = 1e8 * 2.0 ** np.arange(5)
DENSITIES = np.array([7.0, 8.0, 9.0, 11.0, 14.0, 17.0])


def hyperbola(x):
    return FlooredHyperbola(x, 6.0)


def rational(sd: float) -> HyperbolaTruth:
    return HyperbolaTruth(a=0.06, b=0.012, intercept=2.9, floor=6.0, sd=sd)


CASES = {
    "parabola, clear": (ParabolaTruth(optimum=3e8, minimum=3.0, curvature=0.05, sd=0.003), ParabolaInLog, SIZES),
    "parabola, noisy": (ParabolaTruth(optimum=3e8, minimum=3.0, curvature=0.05, sd=0.012), ParabolaInLog, SIZES),
    "hyperbola, clear": (rational(0.001), hyperbola, DENSITIES),
    "hyperbola, noisy": (rational(0.004), hyperbola, DENSITIES),
}


def coverage(case: str, repetitions: int, *, resamples: int = 800, plain: bool = False) -> float:
    """Share of intervals that hold the true optimum; `plain` takes the estimated sigma for the true one."""
    truth, make, x = CASES[case]
    rng = np.random.default_rng(11)
    curve = make(x)
    hits = 0
    for y in truth.observe(x, rng, repetitions):
        fit = fit_curve(curve, y)
        noise = Noise(sd=fit.residual_sd, dof=10**6 if plain else fit.dof, source="scatter")
        low, high = interval(resample_minimum(curve, fit, noise, resamples=resamples, rng=rng).optimum)
        hits += low <= truth.optimum <= high
    return hits / repetitions


@pytest.mark.parametrize("case", CASES)
def test_intervals_cover(case):
    assert 0.90 <= coverage(case, 300) <= 0.99


def test_without_the_uncertainty_of_sigma_they_would_not():
    assert coverage("parabola, clear", 300, plain=True) < 0.90


@pytest.mark.parametrize(("x", "make"), [(SIZES, ParabolaInLog), (DENSITIES, hyperbola)])
def test_flat_data_seldom_pass_for_a_resolved_minimum(x, make):
    """Noise alone has a minimum inside the range in 95% of its resamples in at most about 5% of cases."""
    rng, curve, resolved = np.random.default_rng(2), make(x), 0
    for y in 3 + 0.01 * rng.standard_normal((400, len(x))):
        fit = fit_curve(curve, y)
        noise = Noise(sd=fit.residual_sd, dof=fit.dof, source="scatter")
        sample = resample_minimum(curve, fit, noise, resamples=500, rng=rng)
        resolved += fit.status is FitStatus.CONVERGED and sample.inside >= 0.95
    assert resolved / 400 <= 0.07


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_intervals_cover_strictly(case):
    assert 0.92 <= coverage(case, 1000, resamples=2000) <= 0.97


def test_interval_keeps_infinities_and_refuses_nan():
    draws = np.concatenate([np.full(40, -np.inf), np.arange(920.0), np.full(40, np.inf)])
    assert interval(draws) == (-np.inf, np.inf)
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    with pytest.raises(FitError):
        interval(np.array([1.0, np.nan]))


def test_noise_needs_degrees_of_freedom():
    with pytest.raises(FitError):
        draw_noise(np.random.default_rng(0), Noise(sd=1.0, dof=0, source="none"), 10, 5)

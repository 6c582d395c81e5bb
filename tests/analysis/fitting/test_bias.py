"""Parabolas through IsoFLOP slices miss the optimum without any noise, by as much as docs/fitting.md says."""

import numpy as np
import pytest

from analysis.fitting import ParabolaInLog, convex_optimum, fit_curve
from analysis.fitting.simulate import SurfaceTruth, isoflop


def shift(truth: SurfaceTruth, off_centre: float, half_width: float) -> float:
    """ln of the parabola's optimum over the true one, for an even grid of that half-width about a centre that is off."""
    best = float(truth.optimum(1e20))
    params, tokens = isoflop(1e20, best * np.exp(off_centre), np.exp(half_width * np.linspace(-1, 1, 201)))
    return float(np.log(fit_curve(ParabolaInLog(params), truth(params, tokens)).optimum / best))


@pytest.mark.parametrize("alpha", [0.25, 0.35, 0.5])
@pytest.mark.parametrize("off_centre", [-0.3, 0.0, 0.3])
@pytest.mark.parametrize("half_width", [0.3, 0.6])
def test_shift_of_the_parabola(alpha, off_centre, half_width):
    """(beta - alpha) (s^2 / 2 - w^2 / 10), from the cubic term of the slice; exact in the limit of narrow grids."""
    truth = SurfaceTruth(params_exponent=alpha, tokens_exponent=0.36, params_scale=60.0, tokens_scale=2000.0)
    predicted = (0.36 - alpha) * (off_centre**2 / 2 - half_width**2 / 10)
    assert shift(truth, off_centre, half_width) == pytest.approx(
        predicted, abs=0.15 * 0.14 * (0.3**2 + half_width**2) / 2
    )


def test_symmetric_exponents_and_a_centred_grid_have_none():
    truth = SurfaceTruth(params_exponent=0.36, tokens_exponent=0.36)
    assert shift(truth, 0.0, 1.5) == pytest.approx(0, abs=1e-9)
    assert abs(shift(truth, 1.0, 1.5)) > 0.01


def test_a_convex_spline_misses_by_less():
    truth = SurfaceTruth(params_exponent=0.25, params_scale=60.0)
    best = float(truth.optimum(1e20))
    params, tokens = isoflop(1e20, 2 * best, np.geomspace(1 / 6, 6, 13))
    loss = truth(params, tokens)
    parabola = abs(np.log(fit_curve(ParabolaInLog(params), loss).optimum / best))
    spline = abs(np.log(convex_optimum(params, loss).optimum / best))
    assert spline < parabola / 5

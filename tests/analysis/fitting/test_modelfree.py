import numpy as np
import pytest

from analysis.fitting import FitError, FitStatus, Noise, akima_optimum, convex_optimum
from analysis.fitting.modelfree import _ConvexSpline
from analysis.fitting.simulate import SurfaceTruth, isoflop

TRUTH = SurfaceTruth()
SIZES, TOKENS = isoflop(1e20, float(TRUTH.optimum(1e20)), np.geomspace(0.2, 6, 11))
LOSS = TRUTH(SIZES, TOKENS)
BOTH = [akima_optimum, convex_optimum]


@pytest.mark.parametrize("find", BOTH)
def test_finds_the_minimum_of_a_curve_it_does_not_know(find):
    fit = find(SIZES, LOSS)
    assert fit.status is FitStatus.CONVERGED
    assert fit.optimum == pytest.approx(float(TRUTH.optimum(1e20)), rel=0.03)
    assert fit.minimum == pytest.approx(float(TRUTH(TRUTH.optimum(1e20), 1e20 / 6 / TRUTH.optimum(1e20))), rel=1e-4)
    assert np.isnan(fit.interval.low)


@pytest.mark.parametrize("find", BOTH)
def test_interval_holds_the_truth(find):
    y = LOSS + 0.002 * np.random.default_rng(0).standard_normal(11)
    fit = find(SIZES, y, noise=Noise(sd=0.002, dof=10, source="seeds"))
    assert float(TRUTH.optimum(1e20)) in fit.interval


@pytest.mark.parametrize("find", BOTH)
def test_knows_neither_order_nor_unit_and_averages_repeats(find):
    plain = find(SIZES, LOSS)
    order = np.random.default_rng(1).permutation(11)
    other = find(SIZES[order] * 1e-6, LOSS[order] / np.log(2))
    assert other.optimum * 1e6 == pytest.approx(plain.optimum, rel=1e-6)
    twice = find(np.tile(SIZES, 2), np.concatenate([LOSS + 0.01, LOSS - 0.01]))
    assert twice.optimum == pytest.approx(plain.optimum, rel=1e-6)


def test_the_spline_is_convex_whatever_the_data():
    rng = np.random.default_rng(2)
    u = np.sort(rng.uniform(0, 3, 14))
    spline = _ConvexSpline(u, np.ones(14))
    for _ in range(5):
        y = rng.standard_normal(14)
        slopes = np.diff(spline.fit(y[None])(u)[:, 0]) / np.diff(u)
        assert (np.diff(slopes) > -1e-7).all()


@pytest.mark.parametrize("find", BOTH)
def test_trouble(find):
    assert find(SIZES, SIZES / 1e9).status is FitStatus.EDGE
    assert find(SIZES[:2], LOSS[:2]).status is FitStatus.TOO_FEW_POINTS
    assert find(np.full(6, 2.0), np.ones(6)).status is FitStatus.NOT_IDENTIFIABLE
    for x, y in ((SIZES, np.r_[LOSS[:-1], np.nan]), (-SIZES, LOSS), (SIZES[:3], LOSS)):
        with pytest.raises(FitError):
            find(x, y)
    with pytest.raises(FitError, match="degrees of freedom"):
        find(SIZES, LOSS, noise=Noise(sd=0.1, dof=0, source="none"))

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitting import FitError, FitStatus, fit_band

X = np.geomspace(1e18, 1e21, 14)
Y = 0.01 * (X / 1e19) ** -0.3 * np.exp(np.random.default_rng(0).uniform(-0.3, 0.3, 14))


def width(slope, x=X, y=Y):
    return np.ptp(np.log(y) - slope * np.log(x))


def test_no_other_slope_gives_a_narrower_band():
    band = fit_band({"C": X}, Y)
    assert band.held == 1
    assert 2 * np.log(band.factor) == pytest.approx(width(band.exponents["C"]), rel=1e-9)
    assert min(width(slope) for slope in np.linspace(-1, 0.5, 3001)) >= 2 * np.log(band.factor) * (1 - 1e-9)
    assert np.abs(band.residuals).max() == pytest.approx(np.log(band.factor))
    assert band({"C": 1e24}) == pytest.approx(band.centre * (1e24 / band.references["C"]) ** band.exponents["C"])


def test_a_share_is_the_best_of_all_subsets():
    from itertools import combinations

    x, y = X[:8], Y[:8]
    band = fit_band({"C": x}, y, coverage=0.75)
    subsets = (list(kept) for kept in combinations(range(8), 6))
    best = min(np.log(fit_band({"C": x[kept]}, y[kept]).factor) for kept in subsets)
    assert band.held >= 0.75
    assert np.log(band.factor) == pytest.approx(best, rel=1e-9)


def test_two_variables():
    rng = np.random.default_rng(1)
    n, d = np.exp(rng.uniform(18, 23, 40)), np.exp(rng.uniform(20, 26, 40))
    band = fit_band({"N": n, "D": d}, 1.8 * n**-0.7 * d**0.3 * np.exp(rng.uniform(-0.1, 0.1, 40)))
    assert band.exponents == pytest.approx({"N": -0.7, "D": 0.3}, abs=0.03)
    assert band.held == 1
    with pytest.raises(FitError, match="only one"):
        fit_band({"N": n, "D": d}, n, coverage=0.9)


@given(scale=st.integers(-20, 5), order=st.permutations(range(14)))
@settings(max_examples=15, deadline=None)
def test_knows_neither_units_nor_order(scale, order):
    plain, order = fit_band({"C": X}, Y), list(order)
    other = fit_band({"C": X[order] * 10.0**scale}, Y[order] * 3)
    assert other.exponents["C"] == pytest.approx(plain.exponents["C"], rel=1e-7)
    assert other.factor == pytest.approx(plain.factor, rel=1e-7)


def test_trouble():
    assert fit_band({"C": X[:2]}, Y[:2]).status is FitStatus.TOO_FEW_POINTS
    assert fit_band({"C": np.full(5, 2.0)}, Y[:5]).status is FitStatus.NOT_IDENTIFIABLE
    assert fit_band({"C": X}, X**0.5).status is FitStatus.AT_BOUND
    for bad in (0.0, 1.1, float("nan")):
        with pytest.raises(FitError, match="coverage"):
            fit_band({"C": X}, Y, coverage=bad)
    with pytest.raises(FitError):
        fit_band({"C": X}, -Y)
    with pytest.raises(FitError):
        fit_band({}, Y)

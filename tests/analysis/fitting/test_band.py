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
    for name in ("y", "centre"):
        with pytest.raises(FitError, match="another name"):
            fit_band({name: X}, Y)
    with pytest.raises(FitError, match="shape"):
        fit_band({"C": X[:, None]}, Y)
    band = fit_band({"C": X}, Y)
    for places in ({"C": -1.0}, {"C": X}, {"D": 1.0}):
        with pytest.raises(FitError):
            band(places)
    assert np.isfinite(band({"C": 1e300}))


def test_a_band_that_two_points_span_alone_has_no_slope():
    free = fit_band({"c": [1, 1, 2]}, [1, 2, 1.5])
    assert free.status is FitStatus.NOT_IDENTIFIABLE
    assert free.factor == pytest.approx(np.sqrt(2))
    assert np.isnan(free.intervals["c"].low)
    square = fit_band({"c": [1, 1, 2, 2]}, [1, 2, 1, 2])
    assert square.status is FitStatus.CONVERGED  # four corners: only the level line is as narrow
    assert square.exponents["c"] == pytest.approx(0.0, abs=1e-9)
    n, d = np.array([1, 1, 2, 2, 3, 3.0]), np.array([1, 2, 1, 2, 1, 2.0])
    two = fit_band({"N": np.r_[n, 1], "D": np.r_[d, 1]}, np.r_[np.ones(6), 3.0])
    assert two.status is FitStatus.NOT_IDENTIFIABLE
    twins = fit_band({"c": [1, 2, 4, 1, 2, 4]}, [1, 2, 4, 8, 4, 2], coverage=0.5)  # either line has no width
    assert twins.status is not FitStatus.CONVERGED


def test_a_share_that_any_line_holds_is_no_law():
    x, y = X[:8], Y[:8]
    assert fit_band({"C": x}, y, coverage=0.1).status is FitStatus.TOO_FEW_POINTS
    assert fit_band({"C": x}, y, coverage=0.25).status is FitStatus.TOO_FEW_POINTS
    assert fit_band({"C": x}, y, coverage=0.3).status is FitStatus.CONVERGED


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_exact_data_have_no_width_in_any_unit(unit):
    band = fit_band({"C": X * unit}, 3 * X**0.5)
    assert band.status is FitStatus.AT_BOUND
    assert np.isnan(band.intervals["C"].low)
    assert band.exponents["C"] == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("noise", [1e-11, 1e-8, 1e-5, 1e-2])
def test_a_narrow_band_is_found_as_well_as_a_wide_one(noise):
    unit = np.random.default_rng(1).uniform(-1, 1, 14)
    band = fit_band({"C": X}, 3 * X**0.5 * np.exp(noise * unit))
    like = fit_band({"C": X}, np.exp(unit))
    assert band.status is FitStatus.CONVERGED
    assert np.log(band.factor) / noise == pytest.approx(np.log(like.factor), rel=0.01)
    assert (band.exponents["C"] - 0.5) / noise == pytest.approx(like.exponents["C"], abs=0.01)
    assert 0.5 in band.intervals["C"]

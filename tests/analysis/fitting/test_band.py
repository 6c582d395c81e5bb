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


def test_intervals_of_the_line_meet_those_of_its_coefficients():
    band = fit_band({"C": X}, Y)
    there = band.predict({"C": band.references["C"]})
    assert there.value == pytest.approx(band.centre)
    assert (there.law.low, there.law.high) == pytest.approx(
        (band.intervals["centre"].low, band.intervals["centre"].high)
    )
    far = 1e60
    slopes = np.log([band.predict({"C": far}).law.low, band.predict({"C": far}).law.high]) - np.log(band.centre)
    slopes /= np.log(far / band.references["C"])
    assert slopes == pytest.approx((band.intervals["C"].low, band.intervals["C"].high), abs=0.01)


def test_predictions_widen_outwards_and_with_the_level():
    band = fit_band({"C": X}, Y)
    inside, ahead = (band.predict({"C": at}) for at in (1e20, 1e24))
    wider = band.predict({"C": 1e24}, level=0.99)
    for of in ("law", "observation"):
        ratio = [np.log(getattr(one, of).high / getattr(one, of).low) for one in (inside, ahead, wider)]
        assert ratio[0] < ratio[1] < ratio[2]
    assert ahead.law.low < ahead.value < ahead.law.high
    assert inside.observation.high / inside.observation.low > inside.law.high / inside.law.low
    with pytest.raises(FitError, match="4000 draws"):
        band.predict({"C": 1e24}, level=0.9999)
    with pytest.raises(FitError, match="4000 draws"):
        fit_band({"C": X}, Y, level=0.9999)


def test_largest_value_is_predicted_without_it():
    twice = np.r_[X, X[-1]], np.r_[Y, Y[-1] * 1.1]
    held = fit_band({"C": twice[0]}, twice[1]).held_out
    without = fit_band({"C": X[:-1]}, Y[:-1])
    assert held.at == X[-1]
    assert held.predicted == pytest.approx(without({"C": X[-1]}))
    assert held.observed == pytest.approx(Y[-1] * np.sqrt(1.1))
    exact = fit_band({"C": X}, X**0.5).held_out  # no width, but a law all the same
    assert exact.relative_error == pytest.approx(0.0, abs=1e-9)
    assert fit_band({"C": X[:3]}, Y[:3]).held_out is None
    share = fit_band({"C": X}, Y, coverage=0.7).held_out
    assert share.predicted == pytest.approx(fit_band({"C": X[:-1]}, Y[:-1], coverage=0.7)({"C": X[-1]}))


def test_with_several_variables_the_caller_names_the_one_held_out():
    rng = np.random.default_rng(1)
    n, d = np.exp(rng.integers(1, 5, 40)), np.exp(rng.uniform(20, 26, 40))
    y = 1.8 * n**-0.7 * d**0.3 * np.exp(rng.uniform(-0.1, 0.1, 40))
    assert fit_band({"N": n, "D": d}, y).held_out is None
    band = fit_band({"N": n, "D": d}, y, held_out="N")
    largest = n == n.max()
    rest = fit_band({"N": n[~largest], "D": d[~largest]}, y[~largest])
    logs = [np.log(rest({"N": one, "D": other})) for one, other in zip(n[largest], d[largest], strict=True)]
    assert band.held_out.at == n.max()
    assert band.held_out.predicted == pytest.approx(np.exp(np.mean(logs)))
    with pytest.raises(FitError, match="no variable is called 'C'"):
        fit_band({"N": n, "D": d}, y, held_out="C")


def test_where_there_is_no_interval_the_reason_is_said():
    x = np.array([1.0, 1, 2, 2, 3, 3])
    reasons = {
        "the points determine no fit": fit_band({"C": X[:2]}, Y[:2]),
        "nothing measures the noise": fit_band({"C": X}, X**0.5),
        "other slopes give a band as narrow": fit_band({"C": [1, 1, 2]}, [1, 2, 1.5]),
        "share of the points": fit_band({"C": X}, Y, coverage=0.8),
        "several variables": fit_band({"N": x, "D": [1, 2, 1, 2, 1, 2]}, [1, 2.0, 3.1, 4, 4.5, 7]),
    }
    for reason, band in reasons.items():
        place = dict.fromkeys(band.exponents, 2.0)
        prediction = band.predict(place)
        for one in (*band.intervals.values(), prediction.law, prediction.observation):
            assert np.isnan(one.low)
            assert reason in one.method

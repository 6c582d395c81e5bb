import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitting import (
    FitError,
    FitStatus,
    fit_offset_power_law,
    fit_power_law,
    fit_product_law,
    solve_power_laws,
)

BUDGETS = np.array([1e18, 3e18, 1e19, 3e19])
MANY = np.geomspace(1e18, 1e21, 9)
NOISY = 3 * (MANY / 1e19) ** 0.5 * np.exp(0.1 * np.random.default_rng(0).normal(size=9))
OFFSET = 2 + (MANY / 1e19) ** -0.3 + 0.002 * np.random.default_rng(1).normal(size=9)


def test_recovers_the_papers_own_law_and_predicts_from_it():
    law = fit_power_law(BUDGETS, 0.04368 * BUDGETS**0.5437, units=("FLOPs", "tokens"))
    assert law.exponent == pytest.approx(0.5437, rel=1e-9)
    assert law.coefficient == pytest.approx(0.04368, rel=1e-7)
    assert law(1e22) == pytest.approx(0.04368 * 1e22**0.5437, rel=1e-9)
    assert law.coefficients["coefficient"].unit == "tokens FLOPs^-e"
    assert law.coefficients["at_reference"].unit == "tokens"


def test_floor_and_batch():
    exponents = np.array([[-0.2], [-0.1]])
    y = 6 + 3 * (BUDGETS / 1e18) ** exponents
    law = solve_power_laws(BUDGETS, y, floor=6.0)
    assert law.exponent == pytest.approx([-0.2, -0.1])
    assert law(1e20) == pytest.approx(6 + 3 * 100 ** exponents[:, 0])
    alone = fit_power_law(BUDGETS, y[0], floor=6.0)
    assert alone.predict(1e30).law.low > 6


def test_weight_zero_is_absence():
    y = 2 * BUDGETS**0.5
    y[3] *= 10
    law = fit_power_law(BUDGETS, y, weights=np.array([1.0, 1, 1, 0]))
    assert law.exponent == pytest.approx(0.5)
    assert law.dof == 1
    assert law.held_out.at == 1e19
    assert fit_power_law(BUDGETS, y).exponent > 0.6


@given(exponent=st.integers(-30, 5), order=st.permutations(range(9)))
@settings(max_examples=20, deadline=None)
def test_units_and_order_change_no_exponent(exponent, order):
    plain, order = fit_power_law(MANY, NOISY), list(order)
    scaled = fit_power_law(MANY[order] * 10.0**exponent, NOISY[order] * 7)
    assert scaled.exponent == pytest.approx(plain.exponent, rel=1e-8)
    assert scaled.intervals["exponent"].low == pytest.approx(plain.intervals["exponent"].low, rel=1e-8)
    assert scaled.held_out.relative_error == pytest.approx(plain.held_out.relative_error, rel=1e-6)
    level, other = fit_offset_power_law(MANY, OFFSET), fit_offset_power_law(MANY[order] * 10.0**exponent, OFFSET[order])
    assert other.exponent == pytest.approx(level.exponent, rel=1e-5)
    assert other.offset == pytest.approx(level.offset, rel=1e-5)


@given(repeats=st.lists(st.integers(1, 3), min_size=9, max_size=9))
@settings(max_examples=10, deadline=None)
def test_duplicates_are_weights(repeats):
    many, weights = np.repeat(np.arange(9), repeats), np.array(repeats, dtype=float)
    assert fit_power_law(MANY, NOISY, weights=weights).exponent == pytest.approx(
        fit_power_law(MANY[many], NOISY[many]).exponent, rel=1e-9
    )
    assert fit_offset_power_law(MANY, OFFSET, weights=weights).offset == pytest.approx(
        fit_offset_power_law(MANY[many], OFFSET[many]).offset, rel=1e-6
    )


def test_intervals_and_predictions_agree_with_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    weights = np.linspace(0.5, 2, 9)
    law = fit_power_law(MANY, NOISY, weights=weights)
    design = api.add_constant(np.log(MANY))
    theirs = api.WLS(np.log(NOISY), design, weights=weights).fit()
    low, high = theirs.conf_int()[1]
    assert (law.intervals["exponent"].low, law.intervals["exponent"].high) == pytest.approx((low, high))
    low, high = np.exp(theirs.conf_int()[0])
    assert (law.intervals["coefficient"].low, law.intervals["coefficient"].high) == pytest.approx((low, high), rel=1e-6)
    frame = theirs.get_prediction(np.array([[1.0, np.log(1e23)]])).summary_frame(alpha=0.05)
    ahead = law.predict(1e23)
    assert np.log([ahead.law.low, ahead.law.high]) == pytest.approx(
        frame[["mean_ci_lower", "mean_ci_upper"]].to_numpy()[0], rel=1e-9
    )
    assert np.log([ahead.observation.low, ahead.observation.high]) == pytest.approx(
        frame[["obs_ci_lower", "obs_ci_upper"]].to_numpy()[0], rel=1e-9
    )


def test_several_variables_agree_with_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(3)
    n, d = np.exp(rng.uniform(18, 23, 30)), np.exp(rng.uniform(20, 26, 30))
    y = 1.8 * n**-0.7 * d**0.3 * np.exp(0.2 * rng.normal(size=30))
    law = fit_product_law({"N": n, "D": d}, y)
    theirs = api.OLS(np.log(y), api.add_constant(np.log(np.stack([n, d], axis=1)))).fit()
    assert list(law.exponents.values()) == pytest.approx(theirs.params[1:])
    ends = [[law.intervals[name].low, law.intervals[name].high] for name in ("N", "D")]
    assert ends == pytest.approx(theirs.conf_int()[1:], rel=1e-8)
    frame = theirs.get_prediction(np.array([[1.0, np.log(1e11), np.log(1e12)]])).summary_frame(alpha=0.05)
    ahead = law.predict({"N": 1e11, "D": 1e12})
    assert np.log([ahead.observation.low, ahead.observation.high]) == pytest.approx(
        frame[["obs_ci_lower", "obs_ci_upper"]].to_numpy()[0], rel=1e-8
    )


def test_orthogonal_fit_minimises_orthogonal_distances():
    from scipy.optimize import minimize

    u = np.linspace(-2, 2, 9)
    rng = np.random.default_rng(5)
    x, y = np.exp(u + 0.3 * rng.normal(size=9)), np.exp(0.7 * u + 0.3 * rng.normal(size=9))
    log_x, log_y = np.log(x), np.log(y)

    def distances(line):
        return float(((log_y - line[0] - line[1] * log_x) ** 2).sum() / (1 + line[1] ** 2))

    best = minimize(distances, [0.0, 0.5], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14})
    law = fit_power_law(x, y, noise_ratio=1.0)
    assert law.exponent == pytest.approx(best.x[1], rel=1e-5)
    assert np.log(law.coefficient) == pytest.approx(best.x[0], abs=1e-5)
    turned = fit_power_law(y, x, noise_ratio=1.0)  # neither variable is the first
    assert turned.exponent == pytest.approx(1 / law.exponent, rel=1e-8)
    steep = fit_power_law(x, y, noise_ratio=1e9)
    assert steep.exponent == pytest.approx(fit_power_law(x, y).exponent, rel=1e-5)


def test_largest_budget_left_out():
    law = fit_power_law(MANY, NOISY)
    earlier = fit_power_law(MANY[:-1], NOISY[:-1])
    assert law.held_out.predicted == pytest.approx(earlier(MANY[-1]))
    assert law.held_out.observed == pytest.approx(NOISY[-1])
    assert fit_power_law(BUDGETS[:2], BUDGETS[:2]).held_out is None


def test_offset_recovers_the_truth_and_bounds_itself():
    fit = fit_offset_power_law(MANY, 1.7 + 1.2 * (MANY / 1e20) ** -0.15)
    assert (fit.offset, fit.exponent) == pytest.approx((1.7, -0.15), rel=1e-6)
    assert fit(1e24) == pytest.approx(1.7 + 1.2 * 1e4**-0.15, rel=1e-6)
    assert fit.held_out.relative_error == pytest.approx(0, abs=1e-6)
    rising = fit_offset_power_law(MANY, 5 + 0.3 * (MANY / 1e20) ** 0.4)
    assert (rising.offset, rising.exponent) == pytest.approx((5, 0.4), rel=1e-5)
    straight = fit_offset_power_law(
        MANY, 3 - 0.1 * np.log(MANY / 1e19) + 0.01 * np.random.default_rng(0).normal(size=9)
    )
    assert 0 in straight.intervals["exponent"]
    assert np.isinf([straight.intervals["offset"].low, straight.intervals["offset"].high]).any()
    assert 2 < straight.predict(1e22).law.low < 3 - 0.1 * np.log(1e3) < straight.predict(1e22).law.high


@pytest.mark.parametrize("noise", [0.0, 1e-15])
def test_an_offset_law_through_exact_data_claims_no_interval(noise):
    y = 1.7 + 1.2 * (MANY / 1e20) ** -0.15
    fit = fit_offset_power_law(MANY, y * (1 + noise * np.random.default_rng(0).normal(size=9)))
    ahead = fit.predict(1e24)
    assert np.isnan([ahead.law.low, ahead.observation.high, fit.intervals["offset"].low]).all()


@pytest.mark.parametrize("noise", [1e-11, 1e-9, 1e-7, 1e-5, 1e-3])
def test_offset_intervals_scale_with_the_noise_however_small(noise):
    """Near the truth the law is linear: what an interval is in units of the noise does not depend on the noise."""
    y, unit = 1.7 + 1.2 * (MANY / 1e20) ** -0.15, np.random.default_rng(3).normal(size=9)
    fit, like = (fit_offset_power_law(MANY, y + size * unit) for size in (noise, 1e-6))
    assert fit.residual_sd / noise == pytest.approx(like.residual_sd / 1e-6, rel=1e-2)
    for name, interval in fit.intervals.items():
        other = like.intervals[name]
        assert getattr(fit, name) in interval
        width, typical = (interval.high - interval.low) / noise, (other.high - other.low) / 1e-6
        assert width == pytest.approx(typical, rel=0.02 if noise < 1e-4 else 0.3), name
    ahead = fit.predict(1e24)
    assert ahead.observation.low < ahead.law.low < ahead.value < ahead.law.high < ahead.observation.high


def test_points_without_weight_change_no_law():
    x = np.r_[MANY, 1e27]
    y, weights = np.r_[OFFSET, 77.0], np.r_[np.linspace(1, 2, 9), 0.0]
    fit, absent = fit_offset_power_law(x, y, weights=weights), fit_offset_power_law(MANY, OFFSET, weights=weights[:9])
    assert (fit.offset, fit.exponent) == pytest.approx((absent.offset, absent.exponent), rel=1e-9)
    assert fit.held_out == absent.held_out
    assert fit.residual_sd == pytest.approx(absent.residual_sd, rel=1e-9)
    assert fit.predict(1e24).law.low == pytest.approx(absent.predict(1e24).law.low, rel=1e-8)
    assert len(fit.residuals) == 10


def test_the_largest_budget_of_a_product_law_is_predicted_without_it():
    rng = np.random.default_rng(3)
    n, d = np.exp(rng.uniform(18, 23, 30)), np.exp(rng.uniform(20, 26, 30))
    y, budgets = 1.8 * n**-0.7 * d**0.3 * np.exp(0.02 * rng.normal(size=30)), np.repeat([1e18, 1e19, 1e20], 10)
    held = fit_product_law({"N": n, "D": d}, y, budgets=budgets).held_out
    earlier = fit_product_law({"N": n[:20], "D": d[:20]}, y[:20])
    there = [earlier({"N": one, "D": two}) for one, two in zip(n[20:], d[20:], strict=True)]
    assert held.at == 1e20
    assert held.predicted == pytest.approx(np.exp(np.log(there).mean()))
    assert held.observed == pytest.approx(np.exp(np.log(y[20:]).mean()))
    assert abs(held.relative_error) < 0.05
    assert fit_product_law({"N": n, "D": d}, y, budgets=np.ones(30)).held_out is None
    assert fit_product_law({"N": n, "D": d}, y).held_out is None


def test_a_product_law_far_out_is_infinite():
    law = fit_product_law({"a": MANY}, NOISY)
    assert law({"a": 1e300}) == pytest.approx(law.at_reference * (1e300 / law.references["a"]) ** law.exponents["a"])
    steep = fit_product_law({"a": MANY}, MANY**8.0)
    assert steep({"a": 1e300}) == np.inf
    assert steep.coefficient == pytest.approx(1.0, rel=1e-6)


def test_soft_trouble_is_a_status():
    assert fit_offset_power_law(BUDGETS[:2], BUDGETS[:2]).status is FitStatus.TOO_FEW_POINTS
    assert fit_offset_power_law(np.repeat(BUDGETS[:2], 3), np.ones(6)).status is FitStatus.NOT_IDENTIFIABLE
    assert fit_offset_power_law(MANY, np.ones(9)).status is FitStatus.NOT_IDENTIFIABLE
    jump = fit_offset_power_law(MANY, np.r_[5.0, np.ones(8)])
    assert jump.status is FitStatus.AT_BOUND
    assert fit_product_law({"a": MANY, "b": 2 * MANY}, NOISY).status is FitStatus.NOT_IDENTIFIABLE
    assert fit_product_law({"a": MANY[:1]}, NOISY[:1]).status is FitStatus.TOO_FEW_POINTS
    two = fit_power_law(BUDGETS[:2], BUDGETS[:2])
    assert np.isnan(two.intervals["exponent"].low)
    assert np.isnan(two.predict(1e20).law.low)


@pytest.mark.parametrize(
    ("x", "y", "floor"),
    [
        ([1e18, 1e18], [1.0, 2.0], 0.0),
        ([1e18, 1e19], [1.0, -2.0], 0.0),
        ([1e18, 1e19], [5.0, 7.0], 6.0),
        ([0.0, 1e19], [5.0, 7.0], 0.0),
        ([1e18, 1e19], [5.0], 0.0),
        ([1e18, 1e19], [5.0, np.inf], 0.0),
        ([], [], 0.0),
    ],
)
def test_impossible_input_raises(x, y, floor):
    with pytest.raises(FitError):
        fit_power_law(np.array(x), np.array(y), floor=floor)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_power_law(BUDGETS, np.ones((2, 4))),
        lambda: fit_power_law(BUDGETS, BUDGETS, weights=np.ones(4), noise_ratio=1.0),
        lambda: fit_power_law(BUDGETS, BUDGETS, noise_ratio=0.0),
        lambda: fit_power_law(BUDGETS, BUDGETS, level=95.0),
        lambda: fit_power_law(BUDGETS, BUDGETS, weights=np.ones(3)),
        lambda: fit_offset_power_law(BUDGETS, BUDGETS, weights=-np.ones(4)),
        lambda: fit_offset_power_law(-BUDGETS, BUDGETS),
        lambda: fit_product_law({}, BUDGETS),
        lambda: fit_product_law({"a": BUDGETS}, -BUDGETS),
        lambda: fit_product_law({"y": BUDGETS}, BUDGETS),
        lambda: fit_product_law({"coefficient": BUDGETS}, BUDGETS),
        lambda: fit_product_law({"at_reference": BUDGETS}, BUDGETS),
        lambda: fit_product_law({"a": BUDGETS}, BUDGETS, budgets=np.ones(3)),
        lambda: fit_product_law({"a": BUDGETS}, BUDGETS)({"a": BUDGETS}),
        lambda: fit_product_law({"a": BUDGETS}, BUDGETS)({"b": 1.0}),
        lambda: fit_product_law({"a": BUDGETS}, BUDGETS).predict({"a": -1.0}),
        lambda: fit_product_law({"a": BUDGETS[:, None]}, BUDGETS),
        lambda: fit_power_law(BUDGETS, BUDGETS, floor=float("nan")),
        lambda: fit_power_law(BUDGETS, BUDGETS, floor=float("-inf")),
        lambda: solve_power_laws(BUDGETS, BUDGETS, floor=float("nan")),
        lambda: fit_power_law(BUDGETS, BUDGETS, weights=np.zeros(4)),
        lambda: fit_power_law(BUDGETS[:, None], BUDGETS),
        lambda: fit_power_law(BUDGETS, BUDGETS).predict(0.0),
        lambda: fit_power_law(BUDGETS, BUDGETS).predict("far"),
        lambda: fit_offset_power_law(MANY, OFFSET).predict(-1.0),
        lambda: fit_offset_power_law(MANY, OFFSET[:, None]),
    ],
)
def test_impossible_requests_raise(call):
    with pytest.raises(FitError):
        call()

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.fitting import FitError, Noise, bca_interval, interval, studentised_interval
from analysis.fitting.bootstrap import draw_noise
from analysis.fitting.edges import has_rival, interval_ends
from analysis.fitting.intervals import fieller


def test_interval_keeps_infinities_and_refuses_nan():
    draws = np.concatenate([np.full(40, -np.inf), np.arange(920.0), np.full(40, np.inf)])
    assert interval(draws) == (-np.inf, np.inf)
    assert interval(np.arange(1001.0)) == (25.0, 975.0)
    for bad in (np.array([1.0, np.nan]), np.array([])):
        with pytest.raises(FitError):
            interval(bad)
    with pytest.raises(FitError, match="between 0 and 1"):
        interval(np.arange(3.0), 95)


def test_bca_agrees_with_scipy():
    x = np.random.default_rng(0).exponential(size=25)
    theirs = stats.bootstrap((x,), np.mean, method="BCa", n_resamples=9999, rng=np.random.default_rng(1))
    jackknife = (x.sum() - x) / 24
    ours = bca_interval(float(x.mean()), theirs.bootstrap_distribution, jackknife)
    assert ours == pytest.approx(theirs.confidence_interval, rel=2e-3)
    plain = interval(theirs.bootstrap_distribution)
    assert ours[0] > plain[0]  # skewness moves both ends
    assert ours[1] > plain[1]


def test_bca_at_its_limits():
    assert bca_interval(100.0, np.arange(50.0), np.arange(5.0)) == interval(np.arange(50.0))
    with pytest.raises(FitError, match="jackknife"):
        bca_interval(1.0, np.arange(50.0), np.array([np.nan, 1.0]))


def test_studentised_is_t_for_a_normal_mean():
    rng = np.random.default_rng(2)
    x = rng.standard_normal(6)
    mean, error = x.mean(), x.std(ddof=1) / np.sqrt(6)
    repeated = mean + x.std(ddof=1) * rng.standard_normal((200_000, 6))
    ours = studentised_interval(mean, error, repeated.mean(axis=1), repeated.std(axis=1, ddof=1) / np.sqrt(6))
    half = stats.t.ppf(0.975, 5) * error
    assert ours == pytest.approx((mean - half, mean + half), abs=0.03 * half)
    with pytest.raises(FitError, match="standard error"):
        studentised_interval(1.0, 0.0, np.ones(3), np.ones(3))


@given(numerator=st.floats(-3, 3), denominator=st.floats(-3, 3), share=st.floats(-0.9, 0.9), quantile=st.floats(0.5, 3))
@settings(max_examples=60, deadline=None)
def test_fieller_holds_just_the_ratios_that_are_not_refuted(numerator, denominator, share, quantile):
    covariance = np.array([[0.3, share * np.sqrt(0.3 * 0.2)], [share * np.sqrt(0.3 * 0.2), 0.2]])
    ranges = fieller(numerator, denominator, covariance, quantile)
    for ratio in np.linspace(-20, 20, 101):
        weights = np.array([1.0, -ratio])
        t = abs(numerator - ratio * denominator) / np.sqrt(weights @ covariance @ weights)
        if abs(t - quantile) > 1e-6:
            assert any(low <= ratio <= high for low, high in ranges) == (t < quantile)


def test_ends_of_a_profile():
    assert interval_ends(lambda v: (v - 3) ** 2 - 4, 3.0, 0.1) == pytest.approx((1.0, 5.0))
    assert interval_ends(lambda v: -np.exp(min(-v, 700.0)) + 0.1, 0.0, 0.1) == (-np.inf, pytest.approx(np.log(10)))
    assert interval_ends(lambda v: (v - 3) ** 2 - 4, 3.0, 0.1, (2.0, 4.0)) == (-np.inf, np.inf)


def test_rivals_of_a_profile():
    assert not has_rival(np.array([3.0, 2.0, 1.0, 1.0, 2.0]))
    assert has_rival(np.array([1.0, 2.0, 3.0, 1.005, 2.0]))
    assert not has_rival(np.array([1.0, 2.0, 3.0, 1.02, 2.0]))


def test_noise_is_drawn_with_the_doubt_of_its_estimate():
    drawn = draw_noise(np.random.default_rng(0), Noise(sd=1.0, dof=5, source="seeds"), 40_000, 5)
    assert (drawn**2).mean() == pytest.approx(5 / 3, rel=0.05)  # the mean of dof / chi^2(dof)

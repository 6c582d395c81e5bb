import numpy as np
import pytest

from analysis.fitting import FitError, FitStatus, FlooredHyperbola, TwoPoles, fit_curve, fit_poles

X = np.array([7.0, 8.0, 9.0, 11.0, 14.0, 17.0, 21.0, 26.0])
RNG = np.random.default_rng(0)


def one(x):
    return 0.06 / (x - 6) + 0.012 * x + 2.9


def two(x):
    return 0.2 / (x - 6) + 0.4 / (30 - x) + 2


def test_free_poles_are_found():
    fit = fit_poles(X, one(X))
    assert fit.status is FitStatus.CONVERGED
    assert fit.floor == pytest.approx(6, abs=1e-4)
    assert fit.curve_fit.optimum == pytest.approx(6 + np.sqrt(5), rel=1e-5)
    ceiling = fit_poles(X, two(X), floor=6.0, ceiling=None)
    assert ceiling.ceiling == pytest.approx(30, abs=1e-4)
    both = fit_poles(X, two(X), ceiling=None)
    assert (both.floor, both.ceiling) == pytest.approx((6, 30), abs=0.05)
    assert isinstance(both.curve, TwoPoles)
    assert isinstance(fit.curve, FlooredHyperbola)


def test_no_pole_of_a_fine_grid_fits_better():
    y = one(X) + 0.002 * RNG.standard_normal(8)
    fit = fit_poles(X, y)
    best = fit.curve_fit.residual_sd
    for floor in np.linspace(-20, 6.99, 400):
        assert fit_curve(FlooredHyperbola(X, floor), y).residual_sd >= best * (1 - 1e-9)


def test_profiles_hold_the_truth_and_are_wider_than_with_known_poles():
    y = one(X) + 0.001 * RNG.standard_normal(8)
    fit = fit_poles(X, y)
    assert 6 + np.sqrt(5) in fit.intervals["optimum"]
    assert 6.0 in fit.intervals["floor"]
    known = fit_curve(FlooredHyperbola(X, 6.0), y).intervals["optimum"]
    assert fit.intervals["optimum"].high - fit.intervals["optimum"].low > known.high - known.low
    assert fit.dof == 4


def test_trouble_is_a_status():
    assert fit_poles(X[:3], one(X[:3])).status is FitStatus.TOO_FEW_POINTS
    assert fit_poles(np.repeat(X[:3], 2), one(np.repeat(X[:3], 2))).status is FitStatus.NOT_IDENTIFIABLE
    assert fit_poles(X, 3 + 0.1 * X).status is FitStatus.EDGE
    assert fit_poles(X, np.full(8, 3.0)).status is FitStatus.NO_MINIMUM
    cliff = fit_poles(X, np.r_[5.0, 3 + 0.02 * X[1:]])
    assert cliff.status in (FitStatus.AT_BOUND, FitStatus.EDGE)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_poles(X, one(X), floor=6.0),
        lambda: fit_poles(X, one(X), ceiling=20.0),
        lambda: fit_poles(X, one(X), floor=8.0, ceiling=None),
        lambda: fit_poles(X, np.full(8, np.nan)),
        lambda: fit_poles(X[:4], one(X)),
    ],
)
def test_impossible_input_raises(call):
    with pytest.raises(FitError):
        call()

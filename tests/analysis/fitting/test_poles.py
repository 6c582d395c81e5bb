import numpy as np
import pytest
from scipy.optimize import least_squares

from analysis.fitting import FitError, FitStatus, FlooredHyperbola, TwoPoles, fit_curve, fit_poles
from analysis.fitting.pole_search import FURTHEST, NEAREST, PoleSearch

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


LONG = np.array([7.0, 8.0, 9.0, 10.0, 12.0, 14.0, 17.0, 20.0, 25.0, 30.0])


def test_exact_data_of_two_free_poles_are_met_to_rounding():
    fit = fit_poles(LONG, 2 / (LONG - 6) + 3 / (35 - LONG) + 1, ceiling=None)
    assert fit.status is FitStatus.CONVERGED
    assert (fit.floor, fit.ceiling) == pytest.approx((6, 35), rel=1e-9)
    root = np.sqrt(2 / 3)
    assert fit.curve_fit.optimum == pytest.approx(6 + 29 * root / (1 + root), rel=1e-9)
    assert np.abs(fit.curve_fit.residuals).max() < 1e-13
    assert all(np.isnan(interval.low) for interval in fit.intervals.values())  # nothing but rounding measures the noise


def test_a_data_set_whose_profile_once_began_above_its_bound():
    x = [11.202, 14.267, 14.919, 18.746, 22.361, 24.21, 25.684, 26.796, 27.242, 28.291, 29.044, 29.883]
    y = [
        1.365966, 1.244134, 1.229253, 1.174042, 1.147783, 1.139325, 1.134233, 1.131198, 1.130156, 1.128071, 1.126874,
        1.125818,
    ]  # fmt: skip
    fit = fit_poles(np.array(x), np.array(y), ceiling=None)
    assert fit.curve_fit.residual_sd < 1.3e-6
    assert fit.curve_fit.optimum in fit.intervals["optimum"]


@pytest.mark.parametrize("seed", [0, pytest.param(slice(1, 26), marks=pytest.mark.slow)])
def test_no_start_of_scipy_leads_below_the_fit_of_two_poles(seed):
    """Bounded least squares of all five parameters, written out anew, from 16 pairs of poles."""
    for number in range(seed.start, seed.stop) if isinstance(seed, slice) else [seed]:
        rng = np.random.default_rng(number)
        x = np.sort(rng.uniform(6.5, 21, rng.integers(7, 15)))
        y = rng.uniform(0.5, 3) / (x - 6) + rng.uniform(0.5, 8) / (rng.uniform(22, 60) - x) + 1
        y = y + 10 ** rng.uniform(-4, -1.5) * rng.standard_normal(len(x))
        fit = fit_poles(x, y, ceiling=None)
        width = np.ptp(x)

        def residuals(v, x=x, y=y, width=width):
            p, q = x.min() - width * np.exp(v[0]), x.max() + width * np.exp(v[1])
            return np.exp(v[2]) * width / (x - p) + np.exp(v[3]) * width / (q - x) + v[4] - y

        ends = np.log([NEAREST, FURTHEST])
        bounds = ([ends[0]] * 2 + [-30] * 2 + [-np.inf], [ends[1]] * 2 + [30] * 2 + [np.inf])
        best = min(
            2 * least_squares(residuals, [near, far, -3.0, -3.0, y.mean()], bounds=bounds, x_scale="jac").cost
            for near in np.linspace(-5, 2, 4)
            for far in np.linspace(-5, 2, 4)
        )
        assert (fit.curve_fit.residuals**2).sum() <= best * (1 + 1e-6)


def test_flat_data_and_impossible_poles():
    flat = fit_poles(LONG, np.ones(10), ceiling=None)
    assert flat.status is FitStatus.NO_MINIMUM
    assert np.isnan(flat.intervals["optimum"].low)
    for poles in ({"floor": np.nan, "ceiling": None}, {"floor": -np.inf, "ceiling": None}, {"ceiling": np.nan}):
        with pytest.raises(FitError, match="must"):
            fit_poles(LONG, np.ones(10), **poles)


def test_two_poles_that_data_cannot_tell_are_ambiguous():
    """Random ordinates whose two best pairs of poles, at opposite ends of a range, differ by 0.2% in their squares."""
    rng = np.random.default_rng(85)
    x, y = np.sort(rng.uniform(0, 1, 7)), rng.standard_normal(7)
    search = PoleSearch(x, y, None, None)
    found = search.least()
    assert found[1].squares < 1.003 * found[0].squares
    assert search.ambiguous(found)
    clear = PoleSearch(LONG, 2 / (LONG - 6) + 3 / (35 - LONG) + 1, None, None)
    assert not clear.ambiguous(clear.least())

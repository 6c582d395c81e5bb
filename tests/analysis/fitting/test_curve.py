import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar, nnls
from scipy.special import stdtrit

from analysis.fitting import (
    FitError,
    FitStatus,
    FlooredHyperbola,
    Noise,
    Parabola,
    ParabolaInLog,
    TwoPoles,
    fit_curve,
)
from analysis.fitting.simulate import HyperbolaTruth, ParabolaTruth

SIZES = 1e8 * 2.0 ** np.arange(5)
DENSITIES = np.array([7.0, 8.0, 9.0, 11.0, 14.0, 17.0])
PARABOLA = ParabolaTruth(optimum=3.3e8, minimum=3.0, curvature=0.05, sd=0.0)
HYPERBOLA = HyperbolaTruth(a=0.06, b=0.012, intercept=2.9, floor=6.0, sd=0.0)


def test_parabola_recovers_truth_and_band_is_where_the_curve_says():
    fit = fit_curve(ParabolaInLog(SIZES), PARABOLA(SIZES), tolerance=1e-3)
    assert fit.status is FitStatus.CONVERGED
    assert fit.optimum == pytest.approx(3.3e8, rel=1e-9)
    assert fit.minimum == pytest.approx(3.0, rel=1e-12)
    assert PARABOLA(np.array(fit.band)) == pytest.approx([3.003, 3.003], rel=1e-9)


def test_hyperbola_recovers_truth_and_agrees_with_a_numerical_minimum():
    fit = fit_curve(FlooredHyperbola(DENSITIES, 6.0), HYPERBOLA(DENSITIES), tolerance=1e-3)
    assert fit.coefficients == pytest.approx([0.06, 0.012, 2.9], rel=1e-9)
    numerical = minimize_scalar(HYPERBOLA, bounds=(6.01, 20), method="bounded", options={"xatol": 1e-10})
    assert fit.optimum == pytest.approx(numerical.x, rel=1e-6)
    assert HYPERBOLA(np.array(fit.band)) == pytest.approx([1.001 * numerical.fun] * 2, rel=1e-9)


def test_two_poles_recover_truth_and_agree_with_a_numerical_minimum():
    def truth(x):
        return 0.2 / (x - 6) + 0.4 / (30 - x) + 2

    fit = fit_curve(TwoPoles(DENSITIES, 6.0, 30.0), truth(DENSITIES), tolerance=1e-3)
    assert fit.coefficients == pytest.approx([0.2, 0.4, 2.0], rel=1e-8)
    numerical = minimize_scalar(truth, bounds=(6.01, 29.9), method="bounded", options={"xatol": 1e-10})
    assert fit.optimum == pytest.approx(numerical.x, rel=1e-6)
    assert fit.minimum == pytest.approx(numerical.fun, rel=1e-9)
    assert truth(np.array(fit.band)) == pytest.approx([1.001 * numerical.fun] * 2, rel=1e-9)


def test_parabola_in_x_itself():
    x = np.array([-2.0, -1.0, 0.5, 1.0, 3.0])
    fit = fit_curve(Parabola(x), 1 + 0.3 * (x - 0.7) ** 2, tolerance=0.1)
    assert (fit.optimum, fit.minimum) == pytest.approx((0.7, 1.0))
    assert fit.band == pytest.approx((0.7 - np.sqrt(1 / 3), 0.7 + np.sqrt(1 / 3)))
    assert fit_curve(Parabola(x), 1 - 0.3 * (x - 0.7) ** 2).status is FitStatus.NO_MINIMUM
    assert fit_curve(Parabola(x), np.full(5, 3.0)).status is FitStatus.NO_MINIMUM


CURVES = {
    "log parabola": ParabolaInLog,
    "parabola": Parabola,
    "hyperbola": lambda x: FlooredHyperbola(x, 6.0),
    "two poles": lambda x: TwoPoles(x, 6.0, 30.0),
    "groups": lambda x: FlooredHyperbola(x, 6.0, np.arange(len(x)) % 2),
}


@pytest.mark.parametrize("name", CURVES)
def test_fieller_inverts_the_test_that_the_slope_is_zero(name):
    """At each end of the interval the slope of the free curve is just significant, whatever the curve's formula."""
    x = np.concatenate([DENSITIES, DENSITIES + 0.3])
    y = HYPERBOLA(x) + 0.002 * np.random.default_rng(7).standard_normal(12)
    curve = CURVES[name](x)
    fit = fit_curve(curve, y)
    free = curve.solve_free(y)
    covariance = curve.covariance * fit.residual_sd**2
    for end in (fit.intervals["optimum"].low, fit.intervals["optimum"].high):
        step = 1e-5 * end
        rows = [
            np.array([float(curve.profile(unit, np.array([at]))[0]) for unit in np.eye(len(free))])
            for at in (end - step, end + step)
        ]
        slope = (rows[1] - rows[0]) / (2 * step)
        t = abs(slope @ free) / np.sqrt(slope @ covariance @ slope)
        assert t == pytest.approx(stdtrit(curve.dof, 0.975), rel=1e-4)


@pytest.mark.parametrize("name", CURVES)
def test_first_order_error_of_the_optimum_is_the_spread_of_small_repetitions(name):
    x = np.concatenate([DENSITIES, DENSITIES + 0.3])
    curve = CURVES[name](x)
    fit = fit_curve(curve, HYPERBOLA(x))
    draws = curve.solve(fit.fitted + 1e-5 * np.random.default_rng(1).standard_normal((4000, 12)))
    error = curve.optimum_error(fit.coefficients, curve.covariance * 1e-10)
    assert float(error) == pytest.approx(curve.minimum(draws)[0].std(), rel=0.05)


def test_measured_noise_takes_the_place_of_the_scatter():
    y = HYPERBOLA(DENSITIES[[0, 2, 4]])
    curve = FlooredHyperbola(DENSITIES[[0, 2, 4]], 6.0)
    assert np.isnan(fit_curve(curve, y).intervals["optimum"].low)
    interval = fit_curve(curve, y, noise=Noise(sd=0.001, dof=8, source="seeds")).intervals["optimum"]
    assert interval.low < HYPERBOLA.optimum < interval.high


def test_an_optimum_that_noise_hides_is_open():
    y = HYPERBOLA(DENSITIES) + 0.2 * np.random.default_rng(0).standard_normal(6)
    interval = fit_curve(FlooredHyperbola(DENSITIES, 6.0), y).intervals["optimum"]
    assert np.isinf([interval.low, interval.high]).any()


def test_groups_share_the_shape_and_keep_their_own_intercepts():
    group = np.repeat([12.0, 16.0, 20.0], 6)
    x = np.tile(DENSITIES, 3) * np.linspace(0.98, 1.02, 18)
    curve = FlooredHyperbola(x, 6.0, group)
    fit = fit_curve(curve, HYPERBOLA(x) + 0.1 * group)
    assert fit.coefficients == pytest.approx([0.06, 0.012, 2.9 + 1.2, 2.9 + 1.6, 2.9 + 2.0], rel=1e-8)
    assert fit.dof == 18 - 5
    assert curve.intercepts(fit.coefficients) == pytest.approx(0.1 * (group - 16))


@pytest.mark.parametrize("seed", range(20))
def test_signs_agree_with_scipy_nnls(seed):
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(6)
    design = np.stack([1 / (DENSITIES - 6), DENSITIES, np.ones(6), -np.ones(6)], axis=1)  # the intercept is free
    expected, norm = nnls(design, y)
    curve = FlooredHyperbola(DENSITIES, 6.0)
    solved = curve.solve(y)
    assert solved[:2] == pytest.approx(expected[:2], abs=1e-8)
    assert np.linalg.norm(y - curve.values(solved)) == pytest.approx(norm, rel=1e-8)


def test_a_batch_equals_single_fits():
    y = HYPERBOLA(DENSITIES) + 0.05 * np.random.default_rng(3).standard_normal((50, 6))
    curve = FlooredHyperbola(DENSITIES, 6.0)
    assert curve.solve(y) == pytest.approx(np.array([curve.solve(row) for row in y]))


@given(exponent=st.integers(-12, 12), order=st.permutations(range(5)))
@settings(max_examples=25, deadline=None)
def test_parabola_knows_neither_units_nor_order(exponent, order):
    y = PARABOLA(SIZES) + 0.002 * np.random.default_rng(5).standard_normal(5)
    plain = fit_curve(ParabolaInLog(SIZES), y)
    order = list(order)
    other = fit_curve(ParabolaInLog(SIZES[order] * 10.0**exponent), y[order])
    assert other.optimum / 10.0**exponent == pytest.approx(plain.optimum, rel=1e-8)
    assert np.array(other.band) / 10.0**exponent == pytest.approx(np.array(plain.band), rel=1e-8)
    assert other.residual_sd == pytest.approx(plain.residual_sd, rel=1e-8)


@given(order=st.permutations(range(6)), shift=st.floats(-1, 1))
@settings(max_examples=25, deadline=None)
def test_hyperbola_knows_no_order_and_its_optimum_no_offset(order, shift):
    y = HYPERBOLA(DENSITIES) + 0.002 * np.random.default_rng(5).standard_normal(6)
    order = list(order)
    plain = fit_curve(FlooredHyperbola(DENSITIES, 6.0), y)
    other = fit_curve(FlooredHyperbola(DENSITIES[order], 6.0), y[order] + shift)
    assert other.optimum == pytest.approx(plain.optimum, rel=1e-8)


def test_trouble_is_a_status():
    falling, u = SIZES / 100, np.log(SIZES / 3e8)
    assert fit_curve(ParabolaInLog(falling), PARABOLA(falling)).status is FitStatus.EDGE
    assert fit_curve(ParabolaInLog(SIZES), 3 - 0.1 * u**2).status is FitStatus.NO_MINIMUM
    assert fit_curve(ParabolaInLog(SIZES[:2]), np.ones(2)).status is FitStatus.TOO_FEW_POINTS
    twice = np.repeat(SIZES[:2], 2)
    assert fit_curve(ParabolaInLog(twice), np.ones(4)).status is FitStatus.NOT_IDENTIFIABLE
    monotone = fit_curve(FlooredHyperbola(DENSITIES, 6.0), 0.1 * DENSITIES - 0.05 / (DENSITIES - 6))
    assert (monotone.status, monotone.optimum) == (FitStatus.EDGE, 6.0)
    assert np.isnan(monotone.minimum)
    assert np.isnan(monotone.band).all()
    concave = 2 - 1 / (DENSITIES - 6) - 0.01 * DENSITIES
    assert fit_curve(FlooredHyperbola(DENSITIES, 6.0), concave).status in (FitStatus.EDGE, FitStatus.NO_MINIMUM)
    beyond = HyperbolaTruth(a=0.06, b=1e-4, intercept=2.9, floor=6.0, sd=0.0)
    assert fit_curve(FlooredHyperbola(DENSITIES, 6.0), beyond(DENSITIES)).status is FitStatus.EDGE


@pytest.mark.parametrize(
    "call",
    [
        lambda: ParabolaInLog(np.array([1.0, 0.0, 2.0])),
        lambda: ParabolaInLog(np.array([1.0, np.nan, 2.0])),
        lambda: FlooredHyperbola(np.array([6.0, 7.0, 8.0]), 6.0),
        lambda: FlooredHyperbola(DENSITIES, 6.0, np.zeros(3)),
        lambda: fit_curve(ParabolaInLog(SIZES), np.array([1.0, 2.0])),
        lambda: fit_curve(ParabolaInLog(SIZES), np.array([1.0, 2.0, np.nan, 1.0, 1.0])),
        lambda: fit_curve(ParabolaInLog(SIZES), PARABOLA(SIZES), tolerance=0.0),
        lambda: TwoPoles(DENSITIES, 6.0, 17.0),
        lambda: TwoPoles(DENSITIES, 7.0, 30.0),
        lambda: Parabola(np.array([1.0, np.inf])),
    ],
)
def test_impossible_input_raises(call):
    with pytest.raises(FitError):
        call()


def test_coefficients_have_units():
    fit = fit_curve(FlooredHyperbola(DENSITIES, 6.0), HYPERBOLA(DENSITIES), units=("FLOPs", "nats"))
    assert {name: of.unit for name, of in fit.named.items()} == {
        "a": "nats FLOPs", "b": "nats/FLOPs", "c0": "nats", "optimum": "FLOPs", "minimum": "nats",
    }  # fmt: skip
    assert fit.named["optimum"].value == fit.optimum
    log = fit_curve(ParabolaInLog(SIZES), PARABOLA(SIZES), units=("FLOPs", "nats"))
    assert {of.unit for name, of in log.named.items() if name.startswith("c")} == {"nats"}
    plain = fit_curve(Parabola(SIZES), PARABOLA(SIZES), units=("FLOPs", "nats"))
    assert plain.named["c2"].unit == "nats/FLOPs^2"


@pytest.mark.parametrize(
    ("curve", "y"),
    [
        (Parabola(np.arange(7.0)), -((np.arange(7.0) - 3.1) ** 2)),
        (ParabolaInLog(SIZES), 3 - 0.1 * np.log(SIZES / 3e8) ** 2),
        (FlooredHyperbola(DENSITIES, 6.0), -HYPERBOLA(DENSITIES)),
        (TwoPoles(DENSITIES, 6.0, 30.0), -0.2 / (DENSITIES - 6) - 0.4 / (30 - DENSITIES)),
        (FlooredHyperbola(DENSITIES, 6.0), 0.1 * DENSITIES - 0.5 / (DENSITIES - 6)),
    ],
)
def test_a_clear_maximum_or_slope_has_no_interval_of_a_minimum(curve, y):
    fit = fit_curve(curve, y + 1e-3 * np.random.default_rng(0).standard_normal(len(y)))
    assert np.isnan(fit.intervals["optimum"].low)
    assert fit.intervals["optimum"].method == "none: the data refute a minimum"
    assert np.isnan(fit.intervals["minimum"].low)


@pytest.mark.parametrize("level", [3.3, 1 / 3, -1e9, 0.0])
@pytest.mark.parametrize("name", CURVES)
def test_equal_ordinates_have_no_minimum(name, level):
    fit = fit_curve(CURVES[name](DENSITIES), np.full(len(DENSITIES), level))
    assert fit.status is FitStatus.NO_MINIMUM


@given(optimum=st.floats(6.6, 29))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", CURVES)
def test_a_direction_has_its_minimum_where_it_says(name, optimum):
    curve = CURVES[name](DENSITIES)
    coefficients = np.zeros(len(curve.names))
    coefficients[curve.bends] = curve.direction(np.array(optimum))
    assert float(curve.minimum(coefficients)[0]) == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("pole", [np.nan, np.inf, -np.inf])
def test_a_pole_that_is_no_number_raises(pole):
    for make in (lambda: FlooredHyperbola(DENSITIES, pole), lambda: TwoPoles(DENSITIES, pole, 30.0)):
        with pytest.raises(FitError, match="must be"):
            make()
    with pytest.raises(FitError, match="must be"):
        TwoPoles(DENSITIES, 6.0, pole)


@pytest.mark.parametrize(("sd", "dof"), [(-1.0, 3), (np.nan, 3), (np.inf, 3), (1.0, 0), (1.0, np.nan)])
def test_a_noise_that_nothing_can_have_raises(sd, dof):
    with pytest.raises(FitError, match="degrees of freedom"):
        Noise(sd=sd, dof=dof, source="seeds")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from analysis.fitting import (
    FitError,
    FitStatus,
    LogHuber,
    Squares,
    fit_additive,
    fit_surface,
    leave_largest_out,
    profile_intervals,
)
from analysis.fitting.frame import centred
from analysis.fitting.newton import Terms, derivatives, objective
from analysis.fitting.newton import minimise as newton
from analysis.fitting.simulate import SurfaceTruth, grid, isoflop

TRUTH = SurfaceTruth(sd=0.003)
PARAMS, TOKENS = grid(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 3e11, 6), missing=0.2)
LOSS = TRUTH.observe(PARAMS, TOKENS, np.random.default_rng(1), 1)[0]
LOSSES = [LogHuber(delta=1e-3), LogHuber(delta=1.0), Squares()]
EXACT = [TRUTH.constant, TRUTH.params_scale, TRUTH.tokens_scale, TRUTH.params_exponent, TRUTH.tokens_exponent]


def both(params=PARAMS, tokens=TOKENS):
    return {"N": params, "D": tokens}


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("variables", [1, 2, 3])
def test_derivatives_agree_with_finite_differences(loss, variables):
    rng = np.random.default_rng(variables)
    x = np.exp(rng.normal(5, 1, (variables, 30)))
    terms = Terms.of(x)
    theta = np.concatenate([[0.5], rng.normal(0, 0.5, variables), rng.uniform(0.1, 0.6, variables)])
    y = np.exp(terms.log_model(theta[None])[0] + 0.05 * rng.standard_normal(30))
    weights = rng.uniform(0.5, 2.0, (1, 30))
    prepared = loss.prepare(y)
    _, gradient, hessian = derivatives(terms, prepared, loss, theta[None], weights)
    step = 1e-6 * np.eye(len(theta))
    ahead = derivatives(terms, prepared, loss, theta + step, np.tile(weights, (len(theta), 1)))
    behind = derivatives(terms, prepared, loss, theta - step, np.tile(weights, (len(theta), 1)))
    assert gradient[0] == pytest.approx((ahead[0] - behind[0]) / 2e-6, rel=1e-5, abs=1e-7)
    assert hessian[0] == pytest.approx((ahead[1] - behind[1]) / 2e-6, rel=1e-5, abs=1e-5)
    assert objective(terms, prepared, loss, theta[None], weights)[0] == pytest.approx(
        derivatives(terms, prepared, loss, theta[None], weights)[0][0]
    )


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_no_start_of_scipy_ends_lower(loss):
    fit = fit_additive(both(), LOSS, loss=loss)
    terms = Terms.of(np.stack([PARAMS, TOKENS]))
    prepared = loss.prepare(LOSS)

    def value(theta):
        total, slope, _ = derivatives(terms, prepared, loss, theta[None])
        return total[0], slope[0]

    rng = np.random.default_rng(3)
    lowest = np.inf
    for _ in range(40):
        start = np.array([0.6, -1.0, -1.0, *rng.uniform(0.1, 0.8, 2)]) + rng.normal(0, 0.2, 5)
        lowest = min(lowest, minimize(value, start, jac=True, method="BFGS").fun)
    assert fit.status is FitStatus.CONVERGED
    assert fit.objective <= lowest * (1 + 1e-9)


def test_exact_data_give_the_truth():
    fit = fit_additive(both(), TRUTH(PARAMS, TOKENS))
    assert fit.values == pytest.approx(EXACT, rel=1e-6)
    assert fit({"N": 1e11, "D": 1e12}) == pytest.approx(TRUTH(np.array(1e11), np.array(1e12)), rel=1e-8)
    assert np.isnan(fit.intervals["E"].low)  # no noise to judge by


def test_three_variables():
    rng = np.random.default_rng(4)
    width, depth, tokens = (np.exp(rng.uniform(*ends, 150)) for ends in ((5, 8), (1, 4), (20, 25)))
    y = 1.5 + 8 * width**-0.5 + 0.9 * depth**-0.6 + 900 * tokens**-0.35
    fit = fit_additive({"width": width, "depth": depth, "tokens": tokens}, y * np.exp(0.001 * rng.normal(size=150)))
    assert fit.status is FitStatus.CONVERGED
    assert list(fit.exponents.values()) == pytest.approx([0.5, 0.6, 0.35], abs=0.05)
    wide = profile_intervals(fit, 0.999)
    for name, true in zip(fit.names, [1.5, 8, 0.9, 900, 0.5, 0.6, 0.35], strict=True):
        assert true in wide[name]


def test_one_variable_and_units():
    x = np.geomspace(1e6, 1e10, 20)
    y = 2 + 50 * x**-0.3 + 0.001 * np.random.default_rng(0).normal(size=20)
    fit = fit_additive({"N": x}, y, loss=Squares(), units={"N": "params", "y": "nats"})
    assert fit.coefficients["A_N"].unit == "nats params^a"
    assert fit.coefficients["E"].unit == "nats"
    assert fit.coefficients["a_N"].unit == ""
    assert fit.points - len(fit.names) == fit.dof
    assert 0.3 in fit.coefficients["a_N"].interval
    assert y - fit.residuals == pytest.approx(fit.fitted)


@given(
    tokens=st.sampled_from([1e-9, 1.0, 1e3]),
    params=st.sampled_from([1e-6, 1.0]),
    bits=st.booleans(),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=12, deadline=None)
def test_units_and_row_order_change_nothing(tokens, params, bits, order):
    plain = fit_additive(both(), LOSS)
    rows = list(range(len(LOSS)))
    order.shuffle(rows)
    unit = 1 / np.log(2) if bits else 1.0
    other = fit_additive(both(PARAMS[rows] * params, TOKENS[rows] * tokens), LOSS[rows] * unit)
    assert other.objective == pytest.approx(plain.objective, rel=1e-9)
    assert other.exponents == pytest.approx(plain.exponents, rel=1e-5)
    assert other.constant == pytest.approx(plain.constant * unit, rel=1e-5)
    assert other.fitted / unit == pytest.approx(plain.fitted[rows], rel=1e-6)


@given(repeats=st.lists(st.integers(1, 3), min_size=len(LOSS), max_size=len(LOSS)))
@settings(max_examples=8, deadline=None)
def test_duplicates_are_weights_under_least_squares(repeats):
    repeats = np.array(repeats)
    weighted = fit_additive(both(), LOSS, weights=repeats.astype(float), loss=Squares())
    repeated = fit_additive(
        both(np.repeat(PARAMS, repeats), np.repeat(TOKENS, repeats)), np.repeat(LOSS, repeats), loss=Squares()
    )
    assert weighted.objective == pytest.approx(repeated.objective, rel=1e-9)
    assert weighted.exponents == pytest.approx(repeated.exponents, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_weights_are_precisions_up_to_a_factor(loss):
    weights = np.where(np.arange(len(LOSS)) % 2, 1.0, 0.04)
    weights[0] = 0
    fit = fit_additive(both(), LOSS, weights=weights, loss=loss)
    other = fit_additive(both(), LOSS, weights=1e7 * weights, loss=loss)
    assert other.exponents == pytest.approx(fit.exponents, rel=1e-6)
    assert other.intervals["E"].low == pytest.approx(fit.intervals["E"].low, rel=1e-6)
    absent = fit_additive(both(PARAMS[1:], TOKENS[1:]), LOSS[1:], weights=weights[1:], loss=loss)
    assert absent.values == pytest.approx(fit.values, rel=1e-6)
    equal = fit_additive(both(), LOSS, weights=np.full(len(LOSS), 9.0), loss=loss)
    assert equal.values == pytest.approx(fit_additive(both(), LOSS, loss=loss).values, rel=1e-6)


def test_the_loss_of_a_weighted_point_is_that_of_its_standardised_residual():
    weights = np.geomspace(0.1, 10, len(LOSS))
    fit = fit_additive(both(), LOSS, weights=weights, loss=LogHuber(delta=2e-3))
    size = np.abs(np.sqrt(weights / np.median(weights)) * np.log(LOSS / fit.fitted))
    huber = np.where(size <= 2e-3, size**2 / 2, 2e-3 * (size - 1e-3))
    assert fit.objective == pytest.approx(huber.sum(), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("unit", [1e-24, 1e30])
def test_units_of_y_change_nothing(loss, unit):
    plain, other = fit_additive(both(), LOSS, loss=loss), fit_additive(both(), LOSS * unit, loss=loss)
    assert other.status is plain.status
    assert other.values[:3] / unit == pytest.approx(plain.values[:3], rel=1e-5)
    assert other.values[3:] == pytest.approx(plain.values[3:], rel=1e-5)
    assert other.objective == pytest.approx(plain.objective * (unit**2 if isinstance(loss, Squares) else 1), rel=1e-8)
    for name, interval in other.intervals.items():
        factor = unit if name[0] in "EA" else 1.0
        assert interval.low / factor == pytest.approx(plain.intervals[name].low, rel=1e-4), name
        assert interval.high / factor == pytest.approx(plain.intervals[name].high, rel=1e-4), name


@pytest.mark.parametrize("unit", [1e-24, 1.0, 1e30])
def test_a_vanished_constant_is_0_in_every_unit(unit):
    y = 50 * PARAMS**-0.3 * np.exp(0.02 * np.random.default_rng(1).normal(size=len(PARAMS)))
    y *= (PARAMS / 1e9) ** (-0.05 * np.log(PARAMS / 1e9))  # bends down: no constant
    fit = fit_additive({"N": PARAMS}, y * unit)
    assert fit.status is FitStatus.AT_BOUND
    assert fit.constant == 0
    assert np.isneginf(fit.parameters[0])
    assert fit.intervals["E"].low == 0
    assert 0 < fit.intervals["E"].high < unit * y.min()


@pytest.mark.parametrize("delta", [1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_a_small_delta_is_the_sum_of_absolute_residuals(delta):
    fit = fit_additive(both(), LOSS, loss=LogHuber(delta=delta))
    assert fit.status in (FitStatus.CONVERGED, FitStatus.AMBIGUOUS)
    absolute = np.abs(fit.residuals)
    wider = fit_additive(both(), LOSS, loss=LogHuber(delta=3 * delta))
    assert absolute.sum() <= np.abs(wider.residuals).sum() * (1 + 1e-3)
    rng = np.random.default_rng(0)
    terms = fit.frame.terms
    moved = fit.frame.inward(fit.parameters) + 1e-4 * rng.standard_normal((300, 5))
    assert objective(terms, fit.frame.prepared, fit.loss, moved).min() >= fit.objective * (1 - 1e-7)


def test_a_fit_keeps_arrays_of_its_own():
    params, weights = PARAMS.copy(), np.ones(len(LOSS))
    fit = fit_additive({"N": params, "D": TOKENS}, LOSS, weights=weights)
    before = fit.fitted
    params[:] = 1.0
    weights[:] = 0.0
    assert (fit.fitted == before).all()
    assert fit.dof == len(LOSS) - 5


def test_one_outlier_moves_the_squares_and_not_the_robust_fit():
    loss = LOSS.copy()
    loss[7] *= 1.5
    surface, clean = fit_surface(PARAMS, TOKENS, loss), fit_surface(PARAMS, TOKENS, LOSS)
    assert surface.robust.constant == pytest.approx(clean.robust.constant, abs=0.02)
    assert abs(surface.squares.constant - clean.squares.constant) > 0.05
    assert surface.gap > 5 * clean.gap


def test_variable_projection_and_newton_agree():
    surface = fit_surface(PARAMS, TOKENS, LOSS, units=("params", "tokens", "nats"))
    assert surface.projected == pytest.approx(surface.squares.objective, rel=1e-9)
    assert surface.gap < 0.01
    assert surface.robust.coefficients["A_D"].unit == "nats tokens^a"


def test_the_largest_budget_is_predicted_without_it():
    budgets = np.repeat([1e18, 1e19, 1e20, 1e21], 7)
    pairs = [isoflop(c, float(TRUTH.optimum(c)), np.geomspace(0.2, 5, 7)) for c in (1e18, 1e19, 1e20, 1e21)]
    params, tokens = (np.concatenate(part) for part in zip(*pairs, strict=True))
    loss = TRUTH.observe(params, tokens, np.random.default_rng(2), 1)[0]
    surface = fit_surface(params, tokens, loss, budgets=budgets)
    assert surface.held_out.at == 1e21
    assert abs(surface.held_out.relative_error) < 0.02
    alone = leave_largest_out(surface.robust, np.ones(28))
    assert alone is None
    with pytest.raises(FitError, match="28 points"):
        leave_largest_out(surface.robust, budgets[:5])


def test_two_optima_that_fit_equally_well_are_pointed_out():
    """Half of the runs follow one law and half another: a robust fit may lie anywhere between, at the same price."""
    x = np.geomspace(1.0, 1e4, 24)
    y = np.concatenate([1 + 3 * x**-0.2, 1 + 3 * x**-0.9])
    fit = fit_additive({"x": np.tile(x, 2)}, y)
    assert fit.status is FitStatus.AMBIGUOUS
    assert fit.rivals
    terms = Terms.of(np.tile(x, 2)[None])
    values = objective(terms, np.log(y), fit.loss, centred(np.stack(fit.rivals), terms))
    assert (values <= 1.01 * fit.objective).all()
    assert (values >= fit.objective).all()
    assert all(abs(rival[2] / fit.parameters[2] - 1) > 0.1 or abs(np.exp(rival[0]) - fit.constant) > 0.1
               for rival in fit.rivals)  # fmt: skip
    assert fit_additive({"x": np.tile(x, 2)}, np.tile(y[:24], 2) + 1e-3).status is FitStatus.CONVERGED


def test_trouble_is_a_status():
    few = fit_additive(both(PARAMS[:4], TOKENS[:4]), LOSS[:4])
    assert few.status is FitStatus.TOO_FEW_POINTS
    assert np.isnan(few.values).all()
    same = fit_additive(both(np.full_like(PARAMS, 1e9)), LOSS)
    assert same.status is FitStatus.NOT_IDENTIFIABLE
    tied = fit_additive({"N": PARAMS, "twice N": 2 * PARAMS}, LOSS)
    assert tied.status is not FitStatus.CONVERGED  # one variable twice: how it is found out depends on the noise
    no_floor = fit_additive({"N": PARAMS}, 50 * PARAMS**-0.3)
    assert no_floor.status is FitStatus.AT_BOUND
    assert no_floor.constant < 1e-6


@pytest.mark.parametrize(
    "call",
    [
        lambda: fit_additive({}, LOSS),
        lambda: fit_additive({"y": PARAMS}, LOSS),
        lambda: fit_additive(both(PARAMS[:3]), LOSS),
        lambda: fit_additive(both(), np.r_[LOSS[:-1], np.nan]),
        lambda: fit_additive(both(), -LOSS),
        lambda: fit_additive(both(), LOSS, weights=np.zeros(len(LOSS))),
        lambda: fit_additive(both(), LOSS, weights=-np.ones(len(LOSS))),
        lambda: fit_additive(both(), LOSS, loss=LogHuber(delta=0.0)),
        lambda: LogHuber(delta=float("nan")),
        lambda: fit_additive(both(PARAMS[:, None]), LOSS),
        lambda: fit_additive(both(), LOSS[:, None]),
        lambda: fit_additive(both(), LOSS, weights=np.full(len(LOSS), np.nan)),
        lambda: fit_additive(both(), LOSS, starts=np.zeros((2, 4))),
        lambda: fit_additive(both(), LOSS, starts=np.full((1, 5), np.nan)),
        lambda: fit_additive(both(), LOSS)({"N": 1e9}),
        lambda: fit_surface(PARAMS, TOKENS, LOSS, weights=-np.ones(len(LOSS))),
    ],
)
def test_impossible_input_raises(call):
    with pytest.raises(FitError):
        call()


def test_fixed_parameters_stay():
    terms = Terms.of(np.stack([PARAMS, TOKENS]))
    loss = LogHuber(delta=1e-2)
    start = centred(np.log(np.array([[1.7, 400.0, 2000.0, np.e, np.e]])) * [1, 1, 1, 0.35, 0.37], terms)
    fixed = np.array([[False, False, False, True, False]])
    held = newton(terms, loss.prepare(LOSS), loss, start, fixed=fixed)
    assert held.converged.all()
    assert held.parameters[0, 3] == start[0, 3]
    assert held.objective[0] >= newton(terms, loss.prepare(LOSS), loss, start).objective[0]

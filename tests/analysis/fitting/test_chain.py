import numpy as np
import pytest
from scipy.optimize import minimize_scalar, nnls
from scipy.special import stdtrit

from analysis.fitting import (
    Draw,
    FitError,
    FitStatus,
    FlooredHyperbola,
    Method,
    Noise,
    ParabolaInLog,
    Slice,
    fit_chain,
    fit_power_law,
)
from analysis.fitting.simulate import HyperbolaTruth

BUDGETS = 10.0 ** np.arange(18, 24)
RATIOS = np.array([6.5, 7.0, 8.0, 9.0, 11.0, 14.0, 18.0])
EXPONENT = -0.07


def excess(budget):
    return 3.0 * (budget / 1e20) ** EXPONENT


def slices(sd, seed=0, noise=None, budgets=BUDGETS, group=None):
    rng = np.random.default_rng(seed)
    made = []
    for budget in budgets:
        truth = HyperbolaTruth(a=0.012 * excess(budget) ** 2, b=0.012, intercept=2.5, floor=6.0, sd=sd)
        curve = FlooredHyperbola(RATIOS, 6.0, group)
        made.append(Slice(at=budget, curve=curve, y=truth.observe(RATIOS, rng, 1)[0], noise=noise))
    return made


def test_exact_runs_give_the_law_and_the_edges_have_laws_too():
    chain = fit_chain(slices(0.0), floor=6.0, resamples=50)
    assert chain.law.exponent == pytest.approx(EXPONENT, rel=1e-6)
    assert chain.law(1e25) == pytest.approx(6 + excess(1e25), rel=1e-6)
    low, high = chain.edges
    assert low(1e20) < chain.law(1e20) < high(1e20)
    assert all(chain.used)
    assert chain.failed == 0


@pytest.mark.parametrize("draw", Draw)
@pytest.mark.parametrize("method", [Method.PERCENTILE, Method.BCA])
def test_intervals_hold_the_truth(draw, method):
    chain = fit_chain(slices(0.0005), floor=6.0, draw=draw)
    interval = chain.interval("exponent", method=method)
    assert EXPONENT in interval
    assert interval.method == method.value
    assert 6 + excess(1e24) in chain.predict(1e24, method=method)
    assert excess(chain.law.law.reference) in chain.interval("at_reference", method=method)


def test_profile_is_the_default_and_agrees_with_studentised_draws_where_noise_is_small():
    chain = fit_chain(slices(0.0002), floor=6.0, resamples=4000)
    runs = fit_chain(slices(0.0002), floor=6.0, draw=Draw.RUNS)
    for ask in (lambda fit, **how: fit.interval("exponent", **how), lambda fit, **how: fit.predict(1e24, **how)):
        profile = ask(chain)
        assert profile.method == "profile through the chain"
        assert ask(runs) == profile  # it needs no draws
        drawn = ask(chain, method=Method.STUDENTISED)
        assert drawn.method == "studentised"
        assert profile.high - profile.low == pytest.approx(drawn.high - drawn.low, rel=0.15)
    with pytest.raises(FitError, match="no standard errors"):
        runs.interval("exponent", method=Method.STUDENTISED)


def test_error_of_the_law_is_that_of_many_experiments():
    """The standard error behind the studentised interval, against the spread of laws of repeated experiments."""
    laws = [fit_chain(slices(0.001, seed), floor=6.0, resamples=2).law.exponent for seed in range(120)]
    chain = fit_chain(slices(0.001, noise=Noise(sd=0.001, dof=1000, source="known")), floor=6.0, resamples=4000)
    rows = chain._line()[0]
    assert np.sqrt(chain.errors**2 @ rows**2) == pytest.approx(np.std(laws), rel=0.25)
    assert (chain.draws @ rows).std() == pytest.approx(np.std(laws), rel=0.25)


def test_measured_noise_is_used_and_scatter_is_pooled():
    measured = fit_chain(slices(0.0005, noise=Noise(sd=0.05, dof=5, source="seeds")), floor=6.0)
    assert {of.source for of in measured.noise} == {"seeds"}
    pooled = fit_chain(slices(0.0005), floor=6.0)
    assert pooled.noise[0].dof == len(BUDGETS) * (len(RATIOS) - 3)
    assert pooled.noise[0].sd == pytest.approx(0.0005, rel=0.5)
    assert measured.failed > pooled.failed == 0
    assert measured.draws.shape[0] + measured.failed == 1000


def test_a_budget_without_a_minimum_is_left_out_and_said_so():
    made = slices(0.0005)
    made[2] = Slice(at=made[2].at, curve=made[2].curve, y=2.5 + 0.1 * RATIOS)
    chain = fit_chain(made, floor=6.0, resamples=100)
    assert chain.used == (True, True, False, True, True, True)
    assert len(chain.budgets) == 5
    assert chain.curves[2].status is FitStatus.EDGE


def test_groups_and_order_of_slices():
    group = np.arange(len(RATIOS)) % 2.0
    chain = fit_chain(slices(0.0002, group=group), floor=6.0, draw=Draw.RUNS, resamples=200)
    assert chain.failed < 200
    turned = fit_chain(slices(0.0005)[::-1], floor=6.0, resamples=50)
    assert turned.law.exponent == pytest.approx(fit_chain(slices(0.0005), floor=6.0, resamples=50).law.exponent)


def test_parabolas_of_a_size_law():
    rng = np.random.default_rng(3)
    made = []
    for budget in (1e18, 1e19, 1e20):
        best = 1e8 * (budget / 1e18) ** 0.5
        size = best * np.geomspace(0.3, 3, 7)
        y = 3 + 0.05 * np.log(size / best) ** 2 + 0.0005 * rng.standard_normal(7)
        made.append(Slice(at=budget, curve=ParabolaInLog(size), y=y))
    chain = fit_chain(made)
    assert 0.5 in chain.interval("exponent")
    optima = np.array([fit.optimum for fit in chain.curves])
    assert chain.law.exponent == pytest.approx(fit_power_law(np.array([1e18, 1e19, 1e20]), optima).exponent)
    assert chain.law.held_out.relative_error == pytest.approx(0, abs=0.2)


def test_trouble():
    one = fit_chain(slices(0.0005, budgets=BUDGETS[:1]), floor=6.0)
    assert one.status is FitStatus.TOO_FEW_POINTS
    with pytest.raises(FitError, match="no law"):
        one.predict(1e24)
    with pytest.raises(FitError, match="same budget"):
        fit_chain(slices(0.0005, budgets=np.array([1e18, 1e18])), floor=6.0)
    with pytest.raises(FitError, match="no coefficient"):
        fit_chain(slices(0.0005), floor=6.0, resamples=10).interval("slope")
    exact = [
        Slice(at=at, curve=FlooredHyperbola(RATIOS[[0, 2, 5]], 6.0), y=np.array([2.8, 2.6, 2.65])) for at in (1.0, 2.0)
    ]
    with pytest.raises(FitError, match="repeat a run"):
        fit_chain(exact, floor=6.0)


def test_a_law_without_a_curve_stands_beside_it():
    x = 6 + np.geomspace(0.5, 14, 15)
    made = []
    for budget in BUDGETS:
        truth = HyperbolaTruth(a=0.012 * excess(budget) ** 2, b=0.012, intercept=2.5, floor=6.0, sd=0.0)
        made.append(Slice(at=budget, curve=FlooredHyperbola(x, 6.0), y=truth(x)))
    chain = fit_chain(made, floor=6.0, resamples=10)
    assert chain.model_free.exponent == pytest.approx(chain.law.exponent, abs=0.02)


@pytest.mark.parametrize("sd", [0.001, 0.02])
def test_profile_agrees_with_least_squares_written_out(sd):
    """Curves with their minimum where a law puts it, by scipy's nnls: at an end of the interval the F test is just met."""
    rng = np.random.default_rng(1)
    budgets, made = 10.0 ** np.arange(18, 23), []
    for budget in budgets:
        x = 1e8 * (budget / 1e18) ** 0.5 * np.exp(np.linspace(-1.2, 1.2, 6))
        y = 2 + 0.05 * np.linspace(-1.2, 1.2, 6) ** 2 + sd * rng.standard_normal(6)
        made.append(Slice(at=budget, curve=ParabolaInLog(x), y=y))
    chain = fit_chain(made, resamples=1)
    assert all(chain.used)
    u = np.log(budgets / chain.law.law.reference)

    def squares(exponent, log_value):
        total = 0.0
        for part, at in zip(made, log_value + exponent * u, strict=True):
            design = np.stack([(np.log(part.curve.x) - at) ** 2, np.ones(6), -np.ones(6)], axis=1)
            total += nnls(design, part.y)[1] ** 2
        return total

    def least(cost):
        grid = np.linspace(-1, 1, 41)
        start = grid[int(np.argmin([cost(v) for v in grid]))]
        return minimize_scalar(cost, bounds=(start - 0.1, start + 0.1), method="bounded", options={"xatol": 1e-7}).fun

    middle = float(np.log(chain.joint.at_reference))
    lowest = squares(float(chain.joint.exponent), middle)
    variance = sum(fit.residual_sd**2 * fit.dof for fit in chain.curves) / 15
    allowed = float(stdtrit(15, 0.975)) ** 2 * variance
    ends = chain.interval("exponent")
    for end in (ends.low, ends.high):
        assert least(lambda v, end=end: squares(end, middle + v)) - lowest == pytest.approx(allowed, rel=5e-3)
    ahead, far = chain.predict(1e24), np.log(1e24 / chain.law.law.reference)
    for end in (ahead.low, ahead.high):
        cost = lambda v, end=end: squares(0.5 + v, np.log(end) - (0.5 + v) * far)  # noqa: E731
        assert least(cost) - lowest == pytest.approx(allowed, rel=5e-3)


def test_a_noisy_chain_says_that_its_resamples_fail():
    quiet = fit_chain(slices(0.0002), floor=6.0)
    loud = fit_chain(slices(0.0002, noise=Noise(sd=0.05, dof=5, source="seeds")), floor=6.0)
    assert (quiet.status, quiet.failed) == (FitStatus.CONVERGED, 0)
    assert loud.failed > 10
    assert loud.status is FitStatus.UNRESOLVED


def test_noise_that_hides_every_minimum_leaves_the_exponent_open():
    loud = fit_chain(slices(0.0005, noise=Noise(sd=0.5, dof=10, source="seeds")), floor=6.0)
    interval = loud.interval("exponent")
    assert (interval.low, interval.high) == (-np.inf, np.inf)


def test_a_law_and_its_joint_fit_are_one_without_noise():
    chain = fit_chain(slices(1e-6), floor=6.0, resamples=1)
    assert float(chain.joint.exponent) == pytest.approx(chain.law.exponent, abs=1e-5)
    assert chain.joint(1e24) == pytest.approx(chain.law(1e24), rel=1e-5)


def test_what_no_chain_can_mean_raises():
    part = slices(0.0005)[0]
    assert Slice(at=1.0, curve=part.curve, y=part.y.tolist()).y.shape == (7,)
    for at in (np.nan, 0.0, -1.0, np.inf):
        with pytest.raises(FitError, match="budget"):
            Slice(at=at, curve=part.curve, y=part.y)
    with pytest.raises(FitError, match="must be finite"):
        fit_chain(slices(0.0005), floor=np.nan)
    with pytest.raises(FitError, match="at least one"):
        fit_chain(slices(0.0005), floor=6.0, resamples=0)
    few = fit_chain(slices(0.0005), floor=6.0, resamples=1)
    with pytest.raises(FitError, match="at least 40"):
        few.interval("exponent", method=Method.PERCENTILE)
    with pytest.raises(FitError, match="budget"):
        few.predict(0.0)
    silent = [
        Slice(at=part.at, curve=part.curve, y=part.y, noise=Noise(sd=0.0, dof=1, source="none"))
        for part in slices(0.001)
    ]
    with pytest.raises(FitError, match="noise of 0"):
        fit_chain(silent[:1] + slices(0.001)[1:], floor=6.0)
    assert fit_chain(silent, floor=6.0).interval("exponent").method == "no noise"

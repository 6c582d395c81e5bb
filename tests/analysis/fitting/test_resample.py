import numpy as np
import pytest
from scipy.optimize import minimize

from analysis.fitting import FitError, LogHuber, Squares, bootstrap_additive, fit_additive
from analysis.fitting.newton import Terms, derivatives
from analysis.fitting.resample import draw_counts
from analysis.fitting.simulate import SurfaceTruth, grid
from tests.analysis.fitting.published import chinchilla

TRUTH = SurfaceTruth(sd=0.003)
PARAMS, TOKENS = grid(np.geomspace(5e7, 1e10, 7), np.geomspace(1e9, 3e11, 7))
LOSS = TRUTH.observe(PARAMS, TOKENS, np.random.default_rng(1), 1)[0]


def fitted(loss=None):
    return fit_additive({"N": PARAMS, "D": TOKENS}, LOSS, loss=loss)


def reference(fit, weights):
    """Objective where scipy's BFGS ends, from where the data ended."""
    variables = np.stack(list(fit.variables.values()))
    terms, prepared = Terms(log_x=np.log(variables), centre=np.zeros(len(variables))), fit.loss.prepare(fit.y)

    def value(theta):
        total, slope, _ = derivatives(terms, prepared, fit.loss, theta[None], weights[None])
        return total[0], slope[0]

    return minimize(value, fit.parameters, jac=True, method="BFGS", options={"gtol": 1e-9}).fun


@pytest.mark.parametrize("loss", [LogHuber(delta=1e-3), Squares()], ids=str)
def test_every_resample_is_fitted_as_well_as_by_scipy(loss):
    fit = fitted(loss)
    counts = draw_counts(fit.points, 40, np.random.default_rng(2))
    draws = bootstrap_additive(fit, counts=counts)
    assert draws.failed == 0
    for row, ours in zip(counts, draws.objective, strict=True):
        assert ours <= reference(fit, row) * (1 + 1e-9) + 1e-12


@pytest.mark.slow
def test_every_resample_of_the_published_data_is_fitted_as_well_as_by_scipy():
    points = chinchilla()
    fit = fit_additive({"N": points["N"], "D": points["D"]}, points["loss"])
    counts = draw_counts(fit.points, 1000, np.random.default_rng(2))
    draws = bootstrap_additive(fit, counts=counts)
    assert max(ours - reference(fit, row) for row, ours in zip(counts, draws.objective, strict=True)) < 1e-9


def test_intervals_and_predictions_hold_the_truth():
    draws = bootstrap_additive(fitted(), resamples=300)
    for bca in (False, True):
        found = draws.interval("a_N", bca=bca)
        assert found.low < TRUTH.params_exponent < found.high
        assert found.high - found.low < 0.1
    assert draws.interval("E", bca=True).method == "BCa"
    ahead = {"N": 1e11, "D": 3e12}
    at = float(TRUTH(np.array(1e11), np.array(3e12)))
    assert at in draws.predict(ahead, noise=False)
    wide, narrow = draws.predict(ahead), draws.predict(ahead, noise=False)
    assert wide.high - wide.low > narrow.high - narrow.low
    assert draws.standard_errors["a_N"] == pytest.approx(draws.values["a_N"].std())


def test_strata_keep_their_sizes():
    strata = np.repeat([1.0, 2.0, 3.0], [5, 7, 2])
    counts = draw_counts(14, 50, np.random.default_rng(0), strata)
    assert (counts[:, strata == 2].sum(axis=1) == 7).all()
    assert (counts.sum(axis=1) == 14).all()
    assert len(np.unique(counts, axis=0)) > 40
    with pytest.raises(FitError, match="3 strata"):
        draw_counts(14, 50, np.random.default_rng(0), strata[:3])


@pytest.mark.parametrize("loss", [LogHuber(delta=1e-2), Squares()], ids=str)
def test_the_jackknife_leaves_points_out_whatever_their_weight(loss):
    weights = np.geomspace(0.01, 100.0, len(LOSS))
    weights[5] = 0.0
    fit = fit_additive({"N": PARAMS, "D": TOKENS}, LOSS, weights=weights, loss=loss)
    found = bootstrap_additive(fit, resamples=5).jackknife["a_N"]
    assert found.shape == (len(LOSS) - 1,)
    for place in (0, 20, 47):
        index = place + (place >= 5)
        kept = np.arange(len(LOSS)) != index
        # the frame's median weight stays that of all points, so that delta means the same
        delta = 1e-2 * np.sqrt(np.median(weights[weights > 0]) / np.median(weights[kept & (weights > 0)]))
        alone = fit_additive(
            {"N": PARAMS[kept], "D": TOKENS[kept]},
            LOSS[kept],
            weights=weights[kept],
            loss=LogHuber(delta=delta) if isinstance(loss, LogHuber) else loss,
        )
        assert found[place] == pytest.approx(alone.exponents["N"], rel=1e-5)


def test_counts_of_a_weighted_robust_fit_multiply_the_loss():
    weights = np.geomspace(0.1, 10, len(LOSS))
    fit = fit_additive({"N": PARAMS, "D": TOKENS}, LOSS, weights=weights, loss=LogHuber(delta=1e-2))
    counts = np.ones((1, len(LOSS)))
    counts[0, 3:9] = [2, 3, 0, 0, 2, 1]
    repeats = counts[0].astype(int)
    draws = bootstrap_additive(fit, counts=counts)
    typical = np.median(weights) / np.median(np.repeat(weights, repeats))
    again = fit_additive(
        {"N": np.repeat(PARAMS, repeats), "D": np.repeat(TOKENS, repeats)},
        np.repeat(LOSS, repeats),
        weights=np.repeat(weights, repeats),
        loss=LogHuber(delta=1e-2 * np.sqrt(typical)),
    )
    assert draws.parameters[0] == pytest.approx(again.parameters, rel=1e-5)


def test_resamples_that_determine_nothing_fail():
    counts = np.ones((5, len(LOSS)))
    counts[0] = 0  # no points
    counts[1] = 0
    counts[1, [0, 9, 20, 40]] = 10  # four different ones, five parameters
    counts[2] = 0
    counts[2, :14] = 3  # two sizes
    draws = bootstrap_additive(fitted(), counts=counts)
    assert draws.failed == 3
    assert len(draws.parameters) == 2
    with pytest.raises(FitError, match="0 draws"):
        bootstrap_additive(fitted(), counts=counts[:3]).interval("E")


def test_impossible_requests_raise():
    draws = bootstrap_additive(fitted(), resamples=20)
    with pytest.raises(FitError, match="no parameter is called 'alpha'"):
        draws.interval("alpha")
    with pytest.raises(FitError, match="one column a point"):
        bootstrap_additive(fitted(), counts=np.ones((3, 2)))
    ones = np.ones((2, len(LOSS)))
    for bad in (np.nan * ones, -ones, [["a"] * len(LOSS)], np.ones((0, len(LOSS)))):
        with pytest.raises(FitError, match="counts"):
            bootstrap_additive(fitted(), counts=bad)
    assert bootstrap_additive(fitted(), counts=ones.tolist()).failed == 0
    with pytest.raises(FitError, match="0 resamples"):
        bootstrap_additive(fitted(), resamples=0)
    with pytest.raises(FitError, match="NaN"):
        bootstrap_additive(fitted(), resamples=5, strata=np.r_[np.nan, np.ones(len(LOSS) - 1)])
    for places in ({"N": 1e9}, {"N": 1e9, "D": 1e9, "C": 1}, {"N": 1e9, "D": 0.0}, {"N": np.ones(2), "D": 1.0}):
        with pytest.raises(FitError):
            draws.predict(places)
    few = fit_additive({"N": PARAMS[:3], "D": TOKENS[:3]}, LOSS[:3])
    with pytest.raises(FitError, match="nothing to resample"):
        bootstrap_additive(few)

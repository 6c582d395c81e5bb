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


def test_impossible_requests_raise():
    draws = bootstrap_additive(fitted(), resamples=20)
    with pytest.raises(FitError, match="no parameter is called 'alpha'"):
        draws.interval("alpha")
    with pytest.raises(FitError, match="one column a point"):
        bootstrap_additive(fitted(), counts=np.ones((3, 2)))
    few = fit_additive({"N": PARAMS[:3], "D": TOKENS[:3]}, LOSS[:3])
    with pytest.raises(FitError, match="nothing to resample"):
        bootstrap_additive(few)

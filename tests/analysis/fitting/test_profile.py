"""Profile intervals against iminuit's MINOS and lmfit's confidence intervals: other code, the same definition."""

import numpy as np
import pytest
from scipy.special import stdtrit

from analysis.fitting import Squares, fit_additive, fit_offset_power_law, profile_intervals
from analysis.fitting.results import FitError
from analysis.fitting.simulate import SurfaceTruth, grid

TRUTH = SurfaceTruth(sd=0.003)
PARAMS, TOKENS = grid(np.geomspace(5e7, 1e10, 5), np.geomspace(1e9, 3e11, 5))
LOSS = TRUTH.observe(PARAMS, TOKENS, np.random.default_rng(1), 1)[0]


def test_surface_against_minos():
    minuit = pytest.importorskip("iminuit")
    fit = fit_additive({"N": PARAMS, "D": TOKENS}, LOSS, loss=Squares())
    variance = 2 * fit.objective / fit.dof
    n, d = PARAMS / 1e9, TOKENS / 1e10  # MINUIT needs a well-scaled problem

    def squares(E, A, B, a, b):
        return float(((LOSS - E - A * n**-a - B * d**-b) ** 2).sum() / variance)

    start = fit.values[1] * 1e9 ** -fit.values[3], fit.values[2] * 1e10 ** -fit.values[4]
    solver = minuit.Minuit(squares, E=fit.constant, A=start[0], B=start[1], a=fit.values[3], b=fit.values[4])
    solver.errordef = float(stdtrit(fit.dof, 0.975)) ** 2
    solver.strategy = 2
    solver.migrad(ncall=20000)
    solver.minos("E", "a", "b")
    for ours, theirs in (("E", "E"), ("a_N", "a"), ("a_D", "b")):
        errors = solver.merrors[theirs]
        value = solver.values[theirs]
        assert fit.intervals[ours].low == pytest.approx(value + errors.lower, rel=2e-3)
        assert fit.intervals[ours].high == pytest.approx(value + errors.upper, rel=2e-3)


def test_offset_law_against_lmfit():
    lmfit = pytest.importorskip("lmfit")
    x = np.geomspace(1e18, 1e22, 12)
    y = 1.7 + 1.2 * (x / 1e20) ** -0.15 + 0.005 * np.random.default_rng(2).normal(size=12)
    fit = fit_offset_power_law(x, y)
    u = np.log(x / fit.reference)
    parameters = lmfit.create_params(e=fit.offset, a=fit.at_reference, b=fit.exponent)
    model = lmfit.Minimizer(lambda p: p["e"] + p["a"] * np.exp(p["b"] * u) - y, parameters)
    result = model.minimize()
    assert fit.residual_sd**2 * fit.dof == pytest.approx(result.chisqr, rel=1e-8)
    theirs = lmfit.conf_interval(model, result, sigmas=[0.95])
    for ours, name in (("offset", "e"), ("at_reference", "a"), ("exponent", "b")):
        low, high = theirs[name][0][1], theirs[name][2][1]
        assert fit.intervals[ours].low == pytest.approx(low, rel=2e-3)
        assert fit.intervals[ours].high == pytest.approx(high, rel=2e-3)


def test_level_widens_and_is_checked():
    fit = fit_additive({"N": PARAMS, "D": TOKENS}, LOSS)
    narrow, wide = profile_intervals(fit, 0.5)["E"], profile_intervals(fit, 0.99)["E"]
    assert wide.low < narrow.low < fit.constant < narrow.high < wide.high
    with pytest.raises(FitError, match="level"):
        profile_intervals(fit, 1.0)


def test_data_without_a_floor_leave_it_open_below():
    x = np.geomspace(1e6, 1e9, 12)
    y = 50 * x**-0.3 * np.exp(0.02 * np.random.default_rng(0).normal(size=12))
    interval = fit_additive({"N": x}, y, loss=Squares()).intervals["E"]
    assert interval.low == 0 or np.isneginf(interval.low)
    assert interval.high > 0

"""Repetitions of an experiment, as this module draws them, against the intervals that the fits themselves state."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.design.redraw import RunNoise, redraw
from analysis.laws import FitOptions, fit_laws
from tests.analysis.programme import programme


@pytest.fixture(scope="module")
def laws():
    return fit_laws(programme("holistic", ("classical", "1", "2"))[0], FitOptions(resamples=200), variants=False)


@pytest.mark.parametrize("law_id", ["classical", "m_over_na", "n_over_na", "hidden_size"])
def test_the_optimum_scatters_as_wide_as_its_interval_says(laws, law_id):
    noise, compared = RunNoise(4000), 0
    for budget in laws.law(law_id).per_budget:
        if not budget.resolved:
            continue
        fitted, drawn = redraw(budget, noise)
        own = budget.optimum
        assert fitted.optimum[0] == pytest.approx(own.value, rel=1e-6)
        if own.high / own.low > 1.3:  # so open that the interval is no longer that of a straight line
            continue
        low, high = np.quantile(drawn.optimum, (0.025, 0.975))
        assert high - low == pytest.approx(own.high - own.low, rel=0.2)
        assert abs(low - own.low) < 0.1 * (own.high - own.low)
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize("law_id", ["classical", "m_over_na", "n_over_na", "hidden_size"])
def test_the_rise_is_the_curves_own(laws, law_id):
    """Least loss + rise g(x, optimum) is the curve, at any x."""
    shapes = {
        "classical": lambda x, best, _: np.log(x / best) ** 2,
        "m_over_na": lambda x, best, _: (x - best) ** 2 / (x - 6),
        "n_over_na": lambda x, best, k: (x - best) ** 2 / ((x - 1) * (k["ceiling"] - x)),
        "hidden_size": lambda x, best, _: (x / best - 1) ** 2,
    }
    budget = next(one for one in laws.law(law_id).per_budget if one.resolved)
    fitted, _ = redraw(budget, RunNoise(10))
    best, curve = fitted.optimum[0], budget.curve
    for x in (best * 0.93, best * 1.1):
        height = fitted.rise[0] * shapes[law_id](x, best, curve.constants)
        assert float(curve(x) - curve(best)) == pytest.approx(height, rel=1e-6)


def test_laws_of_the_same_runs_err_together_and_others_do_not(laws):
    noise = RunNoise(4000)
    (first, *others) = (one for one in laws.law("m_over_na").per_budget if one.resolved)
    drawn, again, other = (redraw(one, noise)[1].optimum for one in (first, first, others[0]))
    assert np.corrcoef(drawn, again)[0, 1] > 0.9  # the size of the noise is drawn anew
    assert abs(np.corrcoef(drawn, other)[0, 1]) < 0.06


def test_a_record_without_its_runs_is_not_redrawn(laws):
    budget = next(one for one in laws.law("hidden_size").per_budget if one.resolved)
    assert redraw(replace(budget, noise=None), RunNoise(10))[1] is None
    bare = replace(budget, points=replace(budget.points, x=(), loss=()))
    assert redraw(bare, RunNoise(10))[1] is None


def test_every_repetition_has_a_minimum_however_flat_the_curve(laws):
    budget = next(one for one in laws.law("hidden_size").per_budget if one.resolved)
    loud = replace(budget, noise=replace(budget.noise, sd=30 * budget.noise.sd))
    drawn = redraw(loud, RunNoise(500))[1]
    assert np.isfinite(drawn.optimum).all()
    assert (drawn.rise > 0).all()

"""Lines that may bend: exact ones stay so, straight ones have least squares' variance, truths of the prior are held."""

import numpy as np
import pytest

from analysis.design.drift import LEAST_DRIFT, Allowance, predictions

BUDGETS = np.log([1e18, 3e18, 1e19, 3e19, 1e20, 3e20])
NOTHING = Allowance(bias=0.0, common=0.0, drift=0.0)
DRAWS = 2000


def test_a_straight_line_without_noise_is_continued_exactly():
    values = 3 - 0.2 * BUDGETS
    drawn = np.tile(values, (DRAWS, 1))
    for compute in (1e17, 5e19, 1e24):
        found = predictions(np.log(compute), BUDGETS, values, drawn, NOTHING, np.random.default_rng(0))
        assert found == pytest.approx(np.full(DRAWS, 3 - 0.2 * np.log(compute)), abs=1e-4)


def test_without_allowance_the_spread_is_that_of_least_squares():
    random = np.random.default_rng(1)
    values = 3 - 0.2 * BUDGETS
    drawn = values + 0.1 * random.standard_normal((20_000, len(values)))
    at = np.log(1e22)
    found = predictions(at, BUDGETS, values, drawn, NOTHING, random)
    way = BUDGETS - BUDGETS.mean()
    assert found.std() == pytest.approx(0.1 * np.sqrt(1 / 6 + (at - BUDGETS.mean()) ** 2 / (way @ way)), rel=0.03)


def test_doubt_grows_beyond_the_budgets_and_with_what_is_allowed():
    values = 3 - 0.2 * BUDGETS + np.array([0.1, -0.05, 0.02, -0.1, 0.08, -0.03])
    drawn = values + 0.02 * np.random.default_rng(2).standard_normal((DRAWS, len(values)))

    def spread(compute, allowance):
        return predictions(np.log(compute), BUDGETS, values, drawn, allowance, np.random.default_rng(3)).std()

    some = Allowance(bias=0.1, common=0.1, drift=0.05)
    assert spread(1e19, some) < spread(1e21, some) < spread(1e22, some) < spread(1e24, some)
    for more in (Allowance(bias=0.3, common=0.1, drift=0.05), Allowance(bias=0.1, common=0.4, drift=0.05),
                 Allowance(bias=0.1, common=0.1, drift=0.2)):  # fmt: skip
        assert spread(1e22, some) < spread(1e22, more)


def test_values_that_bend_are_followed_rather_than_the_line_through_all():
    values = 0.02 * (BUDGETS - BUDGETS[0]) ** 2
    drawn = values + 1e-3 * np.random.default_rng(4).standard_normal((DRAWS, len(values)))
    allowance = Allowance(bias=0.05, common=0.0, drift=0.05)
    at = np.log(1e21)
    found = predictions(at, BUDGETS, values, drawn, allowance, np.random.default_rng(5))
    line = np.polyval(np.polyfit(BUDGETS, values, 1), at)
    true = 0.02 * (at - BUDGETS[0]) ** 2
    assert abs(np.median(found) - true) < abs(line - true) / 2
    assert np.quantile(found, 0.025) < true < np.quantile(found, 0.975)


@pytest.mark.parametrize("compute", [1e19, 1e21, 1e23])
def test_truths_drawn_from_the_allowance_are_held_by_95_of_100_intervals(compute):
    """Wandering slopes and biased budgets simulated step by step: not by the covariance that `predictions` is made of."""
    random, allowance, noise, held = np.random.default_rng(6), Allowance(bias=0.1, common=0.1, drift=0.05), 0.03, 0
    at, trials = np.log(compute), 400
    u = np.linspace(BUDGETS[0], np.log(1e23), 400)
    step = u[1] - u[0]
    for _ in range(trials):
        bias = allowance.bias * abs(random.standard_normal())
        drift = allowance.drift * next(one for one in np.abs(random.standard_normal(100)) if one >= LEAST_DRIFT)
        slopes = random.normal() + np.cumsum(drift * np.sqrt(step) * random.standard_normal(len(u)))
        path = random.normal() + np.cumsum(slopes * step)
        seen = np.interp(BUDGETS, u, path) + allowance.common * random.normal()
        values = seen + bias * random.standard_normal(6) + noise * random.standard_normal(6)
        drawn = values + noise * random.standard_normal((500, 6))
        low, high = np.quantile(predictions(at, BUDGETS, values, drawn, allowance, random), (0.025, 0.975))
        held += low <= np.interp(at, u, path) <= high
    assert 0.925 <= held / trials <= 0.985

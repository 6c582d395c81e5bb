import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fitting import FitError, fit_power_law, solve_power_laws

BUDGETS = np.array([1e18, 3e18, 1e19, 3e19])


def test_recovers_the_papers_own_law_and_predicts_from_it():
    law = fit_power_law(BUDGETS, 0.04368 * BUDGETS**0.5437)
    assert float(law.exponent) == pytest.approx(0.5437, rel=1e-9)
    assert float(law.coefficient) == pytest.approx(0.04368, rel=1e-7)
    assert float(law(1e22)) == pytest.approx(0.04368 * 1e22**0.5437, rel=1e-9)


def test_floor_and_batch():
    exponents = np.array([[-0.2], [-0.1]])
    y = 6 + 3 * (BUDGETS / 1e18) ** exponents
    law = solve_power_laws(BUDGETS, y, floor=6.0)
    assert law.exponent == pytest.approx([-0.2, -0.1])
    assert law(1e20) == pytest.approx(6 + 3 * 100 ** exponents[:, 0])


def test_weight_zero_is_absence():
    y = 2 * BUDGETS**0.5
    y[3] *= 10
    assert float(fit_power_law(BUDGETS, y, weights=np.array([1.0, 1, 1, 0])).exponent) == pytest.approx(0.5)
    assert float(fit_power_law(BUDGETS, y).exponent) > 0.6


@given(exponent=st.integers(-30, 5))
@settings(max_examples=20, deadline=None)
def test_units_change_no_exponent(exponent):
    y = BUDGETS**0.5 * np.array([1.0, 1.1, 0.9, 1.05])
    scaled = fit_power_law(BUDGETS * 10.0**exponent, y)
    assert float(scaled.exponent) == pytest.approx(float(fit_power_law(BUDGETS, y).exponent), rel=1e-8)


@pytest.mark.parametrize(
    ("x", "y", "floor"),
    [
        ([1e18, 1e18], [1.0, 2.0], 0.0),
        ([1e18, 1e19], [1.0, -2.0], 0.0),
        ([1e18, 1e19], [5.0, 7.0], 6.0),
        ([0.0, 1e19], [5.0, 7.0], 0.0),
        ([1e18, 1e19], [5.0], 0.0),
        ([1e18, 1e19], [5.0, np.inf], 0.0),
    ],
)
def test_impossible_input_raises(x, y, floor):
    with pytest.raises(FitError):
        fit_power_law(np.array(x), np.array(y), floor=floor)

"""What deviations cost, against curves that are known exactly."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.design.excess import LossModel
from analysis.design.optimum import LAW, Quantity
from harness.architecture import Backbone
from tests.analysis.design.known import BOUND, DENSITY, EXPANSION, STIFFNESS, WIDTH, M, known_laws

PAPER = Backbone(num_query_heads=8, num_kv_heads=4, head_dim=64)
OPTIMA = {"flops_per_token": M, "m_over_na": DENSITY, "n_over_na": EXPANSION, "hidden_size": WIDTH}


def model(compute, spread=0.0, laws=None):
    optima = {
        name: Quantity(
            value=law(compute), low=law(compute) * (1 - spread), high=law(compute) * (1 + spread), origin=LAW, basis=""
        )
        for name, law in OPTIMA.items()
    }
    return LossModel(laws or known_laws(), PAPER, compute, optima)


def truth(name, compute, x):
    best, k = OPTIMA[name](compute), STIFFNESS[name](compute)
    if name == "flops_per_token":
        return k * math.log(x / best) ** 2
    if name == "m_over_na":
        return k * (x - best) ** 2 / (x - 6)
    if name == "n_over_na":
        return k * (x - best) ** 2 / ((x - 1) * (BOUND - x))
    return k * (x / best - 1) ** 2


@given(st.sampled_from(sorted(OPTIMA)), st.floats(17, 24), st.floats(0.92, 1.3))
def test_the_curves_shape_and_their_law_of_c_are_recovered(name, exponent, factor):
    compute = 10.0**exponent
    x = OPTIMA[name](compute) * factor
    found = model(compute).penalties[name](x)
    if (name == "m_over_na" and x <= 6) or (name == "n_over_na" and x >= BOUND):
        assert math.isinf(found.value)
        return
    assert found.value == pytest.approx(truth(name, compute, x), rel=1e-5, abs=1e-12)
    assert found.low <= found.value * (1 + 1e-6) + 1e-15
    assert found.high >= found.value * (1 - 1e-6) - 1e-15


def test_an_uncertain_optimum_makes_the_cost_uncertain():
    near = model(1e21, spread=0.05).penalties["hidden_size"]
    best = WIDTH(1e21)
    inside, outside = near(best * 1.02), near(best * 1.2)
    assert inside.low == 0 < inside.value < inside.high
    assert 0 < outside.low < outside.value < outside.high
    assert outside.high == pytest.approx(STIFFNESS["hidden_size"](1e21) * (1.2 / 0.95 - 1) ** 2, rel=1e-4)


def test_what_has_no_curve_is_named_and_not_priced():
    partial = model(1e21, laws=known_laws(without=("n_over_na",)))
    assert partial.missing == ["n_over_na"]
    assert partial({name: law(1e21) * 1.1 for name, law in OPTIMA.items()}).value == pytest.approx(
        sum(truth(name, 1e21, law(1e21) * 1.1) for name, law in OPTIMA.items() if name != "n_over_na"), rel=1e-4
    )

"""What deviations cost, against curves that are known exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.design.draws import DRAWS, Chains
from analysis.design.excess import Excess, LossModel, Priced
from analysis.design.optimum import LAW, Quantity, with_draws
from harness.accounting import count
from harness.architecture import Architecture, Backbone
from tests.analysis.design.known import BOUND, DENSITY, EXACTLY, EXPANSION, STIFFNESS, WIDTH, M, known_laws

PAPER = Backbone(num_query_heads=8, num_kv_heads=4, head_dim=64)
OPTIMA = {"flops_per_token": M, "m_over_na": DENSITY, "n_over_na": EXPANSION, "hidden_size": WIDTH}
CHAINS = Chains(known_laws(), EXACTLY)


def optima_at(compute, spread):
    way = np.random.default_rng(0).standard_normal((len(OPTIMA), DRAWS))
    return {
        name: with_draws(Quantity(value=law(compute), origin=LAW, basis=""), law(compute) * (1 + spread * one))
        for (name, law), one in zip(OPTIMA.items(), way, strict=True)
    }


def model(compute, spread=0.0, chains=CHAINS, width_holds_at=None):
    return LossModel(chains, PAPER, compute, optima_at(compute, spread), width_holds_at)


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
    assert found.value == pytest.approx(truth(name, compute, x), rel=1e-4, abs=1e-12)
    assert found.low == pytest.approx(found.value, rel=1e-3, abs=1e-12)
    assert found.high == pytest.approx(found.value, rel=1e-3, abs=1e-12)


def test_an_uncertain_optimum_makes_the_cost_uncertain():
    near = model(1e21, spread=0.05).penalties["hidden_size"]
    best = WIDTH(1e21)
    at, outside = near(best), near(best * 1.3)
    k = STIFFNESS["hidden_size"](1e21)
    assert 0 <= at.low < 1e-3 * k < at.value < at.high
    assert at.high == pytest.approx(
        k * (1.96 * 0.05) ** 2, rel=0.3
    )  # 95% of the square of a normal number lie below 1.96^2
    assert 0 < outside.low < truth("hidden_size", 1e21, best * 1.3) < outside.high


def test_the_interval_is_the_shortest_of_95():
    draws = np.random.default_rng(1).exponential(size=20_000)
    found = Excess.of(draws, known=True)
    assert found.low < 0.01
    assert found.high == pytest.approx(math.log(20), rel=0.05)
    assert found.value == pytest.approx(math.log(2), rel=0.05)
    assert math.isnan(Excess.of(draws, known=False).high)


def test_what_both_share_cancels_in_a_difference():
    here = model(1e21, spread=0.1)
    values = {name: law(1e21) for name, law in OPTIMA.items() if name != "hidden_size"}
    same = here(values, values)
    assert (same.low, same.value, same.high) == pytest.approx((0, 0, 0), abs=1e-15)
    moved = values | {"flops_per_token": values["flops_per_token"] * 1.5}
    alone = truth("flops_per_token", 1e21, moved["flops_per_token"])
    assert here(moved, values).value == pytest.approx(alone, rel=0.05)
    assert here(moved, values).high - here(moved, values).low < here(moved).high - here(moved).low


def test_what_has_no_curve_is_named_and_not_priced():
    partial = model(1e21, chains=Chains(known_laws(without=("n_over_na",)), EXACTLY))
    assert partial.missing == ["n_over_na"]
    assert partial({name: law(1e21) * 1.1 for name, law in OPTIMA.items()}).value == pytest.approx(
        sum(truth(name, 1e21, OPTIMA[name](1e21) * 1.1) for name in ("flops_per_token", "m_over_na")), rel=1e-3
    )


def test_the_best_d_may_move_with_the_feasible_widths_or_not():
    """The law's d, in an architecture of other feasible widths than its runs had: to pay nothing, all of the way, or between."""
    architecture = Architecture(
        hidden_size=2048, num_dense_layers=4, num_moe_layers=16, ffn_hidden_size=6144, moe_ffn_hidden_size=768
    )
    counts = count(PAPER, architecture)
    built = Priced(backbone=PAPER, counts=counts, hidden_size=2048)
    here = {"flops_per_token": counts.flops_per_token, "m_over_na": counts.m_over_na}
    quantities = {
        name: Quantity(value=float(value), origin=LAW, basis="")
        for name, value in (here | {"n_over_na": counts.n_over_na}).items()
    }
    optima = {"hidden_size": with_draws(Quantity(value=2048.0, origin=LAW, basis=""), np.full(DRAWS, 2048.0))}
    same = LossModel(CHAINS, PAPER, 1e21, optima, quantities)
    assert same.of(built).high == pytest.approx(0, abs=1e-12)
    assert LossModel(CHAINS, PAPER, 1e21, optima).of(built).high == pytest.approx(0, abs=1e-12)
    denser = quantities | {"n_over_na": Quantity(value=counts.n_over_na * 0.95, origin=LAW, basis="")}
    other = LossModel(CHAINS, PAPER, 1e21, optima, denser)
    moved = float(same.least_width[0] / other.least_width[0])
    found = other.of(built)
    assert moved < 0.99
    assert found.low == pytest.approx(0, abs=1e-12)
    assert found.high == pytest.approx(STIFFNESS["hidden_size"](1e21) * (1 / moved - 1) ** 2, rel=1e-3)

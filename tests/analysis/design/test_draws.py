"""Joint draws: within every quantity's bounds, alike on every backbone, and the law's own where nothing is allowed for."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analysis.design.draws import COMPONENTS, DRAWS, Chains, from_interval
from analysis.design.optimum import GIVEN, LAW, Quantity, derived, with_draws
from harness.architecture import Backbone
from tests.analysis.design.known import BOUND, DENSITY, EXACTLY, STIFFNESS, WIDTH, M, known_laws

PAPER = Backbone(num_query_heads=8, num_kv_heads=4, head_dim=64)
FEW = replace(PAPER, num_experts=64, top_k=4)


@pytest.mark.parametrize("compute", [1e17, 3e19, 1e24, 1e28])
def test_draws_stay_where_architectures_are(compute):
    chains = Chains(known_laws())
    for name in COMPONENTS:
        drawn = chains.at(name, compute, PAPER)
        assert drawn.optimum.shape == drawn.stiffness.shape == (DRAWS,)
        assert (drawn.stiffness > 0).all()
    assert (chains.at("m_over_na", compute, PAPER).optimum > 6).all()
    expansion = chains.at("n_over_na", compute, PAPER).optimum
    assert ((expansion > 1) & (expansion < BOUND)).all()


def test_another_backbone_has_the_same_share_of_the_way_to_its_bound():
    chains = Chains(known_laws())
    here, there = (chains.at("n_over_na", 1e21, one).optimum for one in (PAPER, FEW))
    assert (there - 1) / (FEW.max_n_over_na - 1) == pytest.approx((here - 1) / (BOUND - 1))


def test_without_an_allowance_exact_laws_are_continued_exactly():
    chains = Chains(known_laws(), EXACTLY)
    for name, law in {"flops_per_token": M, "m_over_na": DENSITY, "hidden_size": WIDTH}.items():
        drawn = chains.at(name, 1e22, PAPER)
        assert np.median(drawn.optimum) == pytest.approx(law(1e22), rel=1e-4)
        assert np.median(drawn.stiffness) == pytest.approx(STIFFNESS[name](1e22), rel=1e-4)


def test_the_same_laws_give_the_same_draws_in_any_order():
    first, second = Chains(known_laws()), Chains(known_laws())
    second.at("hidden_size", 1e21, PAPER)
    assert (first.at("m_over_na", 1e21, PAPER).optimum == second.at("m_over_na", 1e21, PAPER).optimum).all()


def test_one_budget_is_no_law():
    laws = known_laws()
    alone = replace(laws, laws=tuple(replace(one, per_budget=one.per_budget[:1]) for one in laws.laws))
    chains = Chains(alone)
    assert chains.at("m_over_na", 1e21, PAPER) is None
    assert chains.stiffness("m_over_na") == pytest.approx(STIFFNESS["m_over_na"](1e18))
    assert Chains(replace(laws, laws=())).stiffness("m_over_na") is None


def test_an_interval_without_curves_is_drawn_to_its_ends():
    drawn = from_interval("m_over_na", 7.2, 7.0, 7.8, BOUND)
    assert np.quantile(drawn, (0.025, 0.5, 0.975)) == pytest.approx((7.0, 7.2, 7.8), rel=0.01)
    assert drawn.min() > 6


def test_what_follows_from_others_is_computed_draw_by_draw():
    random = np.random.default_rng(0)
    draws = np.exp(0.1 * random.standard_normal(DRAWS))
    one = with_draws(Quantity(value=1.0, origin=LAW, basis=""), draws)
    assert derived(lambda a, b: a / b, {"a": one, "b": one}, "").low == pytest.approx(
        1.0
    )  # they err together: it cancels
    both = derived(lambda a, b: a * b, {"a": one, "b": one}, "")
    assert math.log(both.high) == pytest.approx(2 * math.log(one.high))
    assert both.without == ()


def test_parts_without_an_interval_are_named_and_given_ones_are_not():
    one = with_draws(Quantity(value=2.0, origin=LAW, basis=""), np.linspace(1.9, 2.1, DRAWS))
    silent = Quantity(value=3.0, origin=LAW, basis="")
    given = Quantity(value=5.0, origin=GIVEN, basis="")
    found = derived(lambda a, b, c: a * b * c, {"A": one, "B": silent, "C": given}, "")
    assert found.without == ("B",)
    assert (found.low, found.high) == pytest.approx((30 * 0.9525, 30 * 1.0475))
    nothing = derived(lambda b, c: b * c, {"B": silent, "C": given}, "")
    assert not nothing.known
    assert nothing.without == ()

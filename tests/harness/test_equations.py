import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.accounting import active_params, attention_params, idle_params, score_flops
from harness.architecture import Backbone
from harness.equations import QUANTITIES, Targets, num_layers, quantity_at, solve, width_bounds, width_for
from harness.errors import ConfigError, InfeasibleError
from tests.harness.problems import backbones, problems

somewhere = st.floats(0.02, 0.98)
quantities = st.sampled_from(sorted(QUANTITIES))


def recount(backbone, width, solution):
    """M, N_a, N of an unrounded solution."""
    l_dense, l_moe, expert = solution.num_dense_layers, solution.num_moe_layers, solution.moe_ffn_hidden_size
    ffn = backbone.active_experts * expert if backbone.ffn_aligned else backbone.ffn_ratio * width
    active = active_params(backbone, width, l_dense, l_moe, ffn, expert)
    total = active + idle_params(backbone, width, l_moe, expert)
    return [6 * active + score_flops(backbone, l_dense + l_moe), active, total]


def asked(targets):
    return [targets.flops_per_token, targets.active_params, targets.total_params]


@given(problems(), somewhere, quantities)
def test_each_free_quantity_determines_the_architecture_and_recounting_gives_back_the_targets(problem, where, quantity):
    backbone, targets = problem
    lower, upper = width_bounds(backbone, targets)
    width = lower + where * (upper - lower)
    value = quantity_at(backbone, targets, quantity, width)
    found = width_for(backbone, targets, quantity, value)
    assert found == pytest.approx(width, rel=1e-7)  # of the width; the targets come out to 1e-9 all the same
    solution = solve(backbone, targets, found)
    assert solution.num_moe_layers > 0
    np.testing.assert_allclose(recount(backbone, found, solution), asked(targets), rtol=1e-9)
    assert quantity_at(backbone, targets, quantity, found) == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(problems(), somewhere)
def test_shares_of_the_unrounded_solution_sum_to_one_and_give_equation_4(problem, where):
    backbone, targets = problem
    lower, upper = width_bounds(backbone, targets)
    d = lower + where * (upper - lower)
    solution = solve(backbone, targets, d)
    flops = targets.flops_per_token
    ffn = backbone.active_experts * solution.moe_ffn_hidden_size if backbone.ffn_aligned else backbone.ffn_ratio * d
    r_a = (6 * attention_params(backbone, d) + score_flops(backbone, 1)) * solution.num_layers / flops
    r_d = 18 * d * ffn * solution.num_dense_layers / flops
    r_m = 18 * d * solution.moe_ffn_hidden_size * backbone.active_experts * solution.num_moe_layers / flops
    assert r_a + r_d + r_m == pytest.approx(1, abs=1e-9)
    s, heads = backbone.seq_length, 1 + backbone.num_kv_heads / backbone.num_query_heads
    assert flops / 6 * (1 - r_a * s / (s + 2 * d * heads)) == pytest.approx(targets.active_params, rel=1e-9)


@given(problems(), st.floats(0.05, 0.9))
def test_monotonicities_that_the_algebra_implies(problem, where):
    """At fixed targets and growing d: L stays, and the experts' (K + s) d_m / d and the share of dense layers fall."""
    backbone, targets = problem
    lower, upper = width_bounds(backbone, targets)
    narrow = lower + where * (upper - lower)
    wide = narrow + 0.05 * (upper - narrow)
    assert solve(backbone, targets, wide).num_layers == solve(backbone, targets, narrow).num_layers
    for quantity, sign in {"width_ratio": -1, "granularity": 1, "dense_share": -1}.items():
        values = [quantity_at(backbone, targets, quantity, d) for d in (narrow, wide)]
        assert sign * (values[1] - values[0]) >= -1e-9 * abs(values[0]), quantity


@given(problems(), st.floats(1.01, 1.5))
def test_more_flops_at_the_same_parameters_are_more_layers(problem, factor):
    backbone, targets = problem
    more = Targets(
        flops_per_token=factor * targets.flops_per_token,
        active_params=targets.active_params,
        total_params=targets.total_params,
    )
    assert num_layers(backbone, more) > num_layers(backbone, targets)
    assert width_bounds(backbone, more)[1] < width_bounds(backbone, targets)[1]


@given(problems())
def test_at_the_bounds_one_kind_of_layer_vanishes(problem):
    backbone, targets = problem
    lower, upper = width_bounds(backbone, targets)
    layers = num_layers(backbone, targets)
    assert solve(backbone, targets, upper).num_dense_layers == pytest.approx(0, abs=1e-6 * layers)
    if not backbone.ffn_aligned:
        assert solve(backbone, targets, lower).num_moe_layers == pytest.approx(0, abs=1e-6 * layers)


@given(problems(), quantities, st.floats(1e-6, 1e6))
def test_a_value_out_of_reach_ends_in_the_typed_error_with_its_bound(problem, quantity, value):
    """And the bound in the message is the bound: a value inside it has a solution."""
    backbone, targets = problem

    def answer():
        try:
            return width_for(backbone, targets, quantity, value), None
        except InfeasibleError as refused:
            return None, refused

    width, error = answer()
    lower, upper = width_bounds(backbone, targets)
    if error is None:
        np.testing.assert_allclose(recount(backbone, width, solve(backbone, targets, width)), asked(targets), rtol=1e-9)
        return
    bound = re.search(r"at least (\S+) with|at most (\S+) with|below (\S+) \(|up to (\S+) \(", str(error))
    assert bound, str(error)
    if quantity == "hidden_size":
        assert not lower < value <= upper
        return
    limit, more = float(next(group for group in bound.groups() if group)), quantity == "width_ratio"
    assert value <= limit * 1.001 if more else value >= limit * 0.999
    assert lower < width_for(backbone, targets, quantity, limit * (1.001 if more else 0.999)) <= upper


@given(backbones(), st.floats(1e5, 1e11), st.floats(-3, 40), st.floats(-3, 200))
def test_targets_outside_equation_5_always_name_the_violated_bound(backbone, flops, density, expansion):
    inside = density > 6 and 1 < expansion < backbone.max_n_over_na
    if inside:
        targets = Targets.from_ratios(backbone, flops_per_token=flops, m_over_na=density, n_over_na=expansion)
        lower, upper = width_bounds(backbone, targets)
        assert 0 <= lower < upper
        return
    with pytest.raises(InfeasibleError) as caught:
        Targets.from_ratios(backbone, flops_per_token=flops, m_over_na=density, n_over_na=expansion)
    if density <= 6:
        assert "always above 6" in str(caught.value)
    else:
        assert f"{backbone.max_n_over_na:.4g}" in str(caught.value)


@pytest.mark.parametrize(
    ("ratios", "bound"),
    [({"m_over_na": 6.0, "n_over_na": 20}, "above 6"), ({"m_over_na": 9, "n_over_na": 33}, "289/9"),
     ({"m_over_na": 9, "n_over_na": 1}, "289/9"), ({"m_over_na": float("nan"), "n_over_na": 9}, "above 6"),
     ({"m_over_na": float("inf"), "n_over_na": 9}, "above 6"), ({"m_over_na": 9, "n_over_na": float("nan")}, "289/9")],
)  # fmt: skip
def test_ratios_outside_their_bounds_name_the_bound(ratios, bound):
    backbone = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64)
    with pytest.raises(InfeasibleError, match=bound):
        Targets.from_ratios(backbone, flops_per_token=1e9, **ratios)
    with pytest.raises(InfeasibleError, match="M="):
        Targets.from_ratios(backbone, flops_per_token=float("nan"), m_over_na=9, n_over_na=20)


def test_a_backbone_whose_experts_are_all_active_has_no_expansion_to_choose():
    backbone = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64, num_experts=8, top_k=8)
    with pytest.raises(InfeasibleError, match="9/9 = 1"):
        Targets.from_ratios(backbone, flops_per_token=1e9, m_over_na=9, n_over_na=1.5)


def test_an_unknown_quantity_is_refused_with_the_nearest():
    backbone = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64)
    targets = Targets.from_ratios(backbone, flops_per_token=1e9, m_over_na=9, n_over_na=20)
    with pytest.raises(ConfigError, match="did you mean 'width_ratio'"):
        width_for(backbone, targets, "with_ratio", 3)

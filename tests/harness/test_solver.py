import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.accounting import active_params, count, idle_params, score_flops
from harness.architecture import Backbone
from harness.cli import compose
from harness.errors import InfeasibleError
from harness.settings import Settings
from harness.solver import (
    Rules,
    Targets,
    feasible_widths,
    proxy_width,
    rounded,
    solve,
    width_at_ratio,
    width_bounds,
    worst_deviation,
)

PUBLISHED = list(csv.DictReader((Path(__file__).parent / "published_architectures.csv").open()))
BY_SCALE = {scale.compute: scale for scale in Settings(compose("sweep")).scales}
SETTINGS = Settings(compose("sweep"))


def published_case(row):
    scale = BY_SCALE[float(row["compute"])]
    # tables 5 to 14 were built from the inferred M, 15 to 21 from Table 2's
    flops = scale.grid_flops_per_token if int(row["table"]) <= 14 else scale.flops_per_token
    backbone = SETTINGS.backbone(scale)
    targets = Targets.from_ratios(
        backbone, flops_per_token=flops, m_over_na=float(row["m_over_na"]), n_over_na=float(row["n_over_na"])
    )
    return backbone, targets


@pytest.mark.parametrize("table", sorted({int(row["table"]) for row in PUBLISHED}))
def test_published_architectures_come_out_exactly(table):
    rows = [row for row in PUBLISHED if int(row["table"]) == table]
    assert len(rows) >= 9
    for row in rows:
        backbone, targets = published_case(row)
        width = int(row["hidden_size"])
        if row["section"] in ("5.2", "5.3"):  # elsewhere the widths are given
            assert proxy_width(backbone, targets, Rules()) == width
        architecture = rounded(backbone, targets, width, Rules())
        assert architecture.num_dense_layers == int(row["num_dense_layers"])
        assert architecture.num_moe_layers == int(row["num_moe_layers"])
        if row["moe_ffn_hidden_size"]:
            assert architecture.moe_ffn_hidden_size == int(row["moe_ffn_hidden_size"])


@st.composite
def problems(draw):
    kv = draw(st.sampled_from([1, 2, 4, 8]))
    experts = draw(st.integers(4, 300))
    backbone = Backbone(
        num_query_heads=2 * kv,
        num_kv_heads=kv,
        head_dim=draw(st.sampled_from([8, 64, 128])),
        seq_length=draw(st.sampled_from([64, 1024, 8192])),
        num_experts=experts,
        top_k=draw(st.integers(1, experts // 2)),
        ffn_ratio=draw(st.floats(1, 5)),
        ffn_aligned=draw(st.booleans()),
    )
    targets = Targets.from_ratios(
        backbone,
        flops_per_token=10 ** draw(st.floats(5, 11)),
        m_over_na=draw(st.floats(6.1, 20)),
        n_over_na=1 + draw(st.floats(0.05, 0.95)) * (backbone.max_n_over_na - 1),
    )
    return backbone, targets


def recount(backbone, width, solution):
    """M, N_a, N of an unrounded solution."""
    l_dense, l_moe, expert = solution.num_dense_layers, solution.num_moe_layers, solution.moe_ffn_hidden_size
    ffn = backbone.active_experts * expert if backbone.ffn_aligned else backbone.ffn_ratio * width
    active = active_params(backbone, width, l_dense, l_moe, ffn, expert)
    total = active + idle_params(backbone, width, l_moe, expert)
    return [6 * active + score_flops(backbone, l_dense + l_moe), active, total]


@given(problems(), st.floats(0.02, 0.98))
def test_recounting_the_unrounded_solution_gives_back_the_targets(problem, where):
    backbone, targets = problem
    lower, upper = width_bounds(backbone, targets)
    width = lower + where * (upper - lower)
    solution = solve(backbone, targets, width)
    assert solution.num_dense_layers >= 0
    assert solution.num_moe_layers > 0
    asked = [targets.flops_per_token, targets.active_params, targets.total_params]
    np.testing.assert_allclose(recount(backbone, width, solution), asked, rtol=1e-9)


@given(problems(), st.floats(0.02, 0.98))
def test_the_width_ratio_determines_the_width(problem, where):
    backbone, targets = problem
    if backbone.ffn_aligned:
        with pytest.raises(InfeasibleError, match="ffn_aligned"):
            width_at_ratio(backbone, targets, 3.0)
        return
    lower, upper = width_bounds(backbone, targets)
    width = lower + where * (upper - lower)
    ratio = backbone.active_experts * float(solve(backbone, targets, width).moe_ffn_hidden_size) / width
    assert width_at_ratio(backbone, targets, ratio) == pytest.approx(width, rel=1e-9)
    with pytest.raises(InfeasibleError, match="too small"):
        width_at_ratio(backbone, targets, ratio * (width / upper) ** 3 / 1e6)


def test_a_ratio_must_be_positive():
    backbone, targets = published_case(PUBLISHED[0])
    with pytest.raises(InfeasibleError, match="must be positive"):
        width_at_ratio(backbone, targets, 0)


@given(problems(), st.floats(0.02, 0.9))
def test_wider_models_have_fewer_dense_layers_or_narrower_experts(problem, where):
    """At fixed targets L is fixed: with d_d = gamma d fewer and fewer layers can be dense as d grows."""
    backbone, targets = problem
    lower, upper = width_bounds(backbone, targets)
    width = lower + where * (upper - lower)
    narrow, wide = (solve(backbone, targets, d) for d in (width, width + 0.05 * (upper - width)))
    assert wide.num_layers == narrow.num_layers
    if backbone.ffn_aligned:
        assert wide.moe_ffn_hidden_size < narrow.moe_ffn_hidden_size
    assert wide.num_dense_layers <= narrow.num_dense_layers


@given(problems(), st.sampled_from([1, 2, 8, 64]), st.floats(0.01, 0.3))
def test_feasible_widths_are_those_of_the_definition(problem, step, tolerance):
    backbone, targets = problem
    rules = Rules(hidden_size_step=step, moe_ffn_hidden_size_step=step, tolerance=tolerance)
    lower, upper = width_bounds(backbone, targets)
    assume((upper - lower) / step < 300)
    found = set(feasible_widths(backbone, targets, rules).tolist())
    for width in range(step, int(upper) + 3 * step, step):
        solution = solve(backbone, targets, width)
        good = False
        if solution.num_dense_layers >= 0 and solution.num_moe_layers > 0:
            counts = count(backbone, rounded(backbone, targets, width, rules))
            worst = max(
                abs(counts.flops_per_token / targets.flops_per_token - 1),
                abs(counts.active_params / targets.active_params - 1),
                abs(counts.total_params / targets.total_params - 1),
            )
            good = worst <= tolerance
            architecture = rounded(backbone, targets, width, rules)
            reported = worst_deviation(
                backbone, targets, width, architecture.num_dense_layers, architecture.num_moe_layers,
                architecture.moe_ffn_hidden_size,
            )  # fmt: skip
            assert reported == pytest.approx(worst, abs=1e-12)
        assert (width in found) == good


@given(problems())
def test_the_proxy_is_the_lower_median_or_a_typed_error(problem):
    backbone, targets = problem
    widths = feasible_widths(backbone, targets, Rules())
    if len(widths):
        proxy = proxy_width(backbone, targets, Rules())
        assert (widths < proxy).sum() == (len(widths) - 1) // 2
    else:
        with pytest.raises(InfeasibleError, match="no width is feasible"):
            proxy_width(backbone, targets, Rules())


@pytest.mark.parametrize(
    ("ratios", "bound"),
    [({"m_over_na": 6.0, "n_over_na": 20}, "above 6"), ({"m_over_na": 9, "n_over_na": 33}, "289/9"),
     ({"m_over_na": 9, "n_over_na": 1}, "289/9"), ({"m_over_na": float("nan"), "n_over_na": 9}, "above 6")],
)  # fmt: skip
def test_ratios_outside_their_bounds_name_the_bound(ratios, bound):
    backbone = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64)
    with pytest.raises(InfeasibleError, match=bound):
        Targets.from_ratios(backbone, flops_per_token=1e9, **ratios)


def test_a_width_without_moe_layers_is_refused_with_the_ones_that_have_them():
    backbone = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64)
    targets = Targets.from_ratios(backbone, flops_per_token=0.2672e9, m_over_na=9, n_over_na=22)
    with pytest.raises(InfeasibleError, match=r"widths between \d+"):
        rounded(backbone, targets, 8, Rules())

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.accounting import count
from harness.architecture import Backbone
from harness.cli import compose
from harness.errors import ConfigError, InfeasibleError
from harness.settings import Settings
from harness.solver import (
    PROXIES,
    Rules,
    Targets,
    check_tolerance,
    deviations,
    feasible_widths,
    feasible_widths_of,
    proxy_width,
    rounded,
    solve,
    thinned,
    width_bounds,
)
from tests.harness.problems import problems
from tests.harness.problems import rules as any_rules

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


@given(problems(), any_rules())
def test_feasible_widths_are_those_of_the_definition_and_reported_deviations_are_true(problem, rules):
    backbone, targets = problem
    lower, upper = width_bounds(backbone, targets)
    step = rules.hidden_size_step
    assume((upper - lower) / step < 100)
    found = set(feasible_widths(backbone, targets, rules).tolist())
    for width in range(step, int(upper) + 3 * step, step):
        solution = solve(backbone, targets, width)
        good = False
        if solution.num_dense_layers >= 0 and solution.num_moe_layers > 0:
            architecture = rounded(backbone, targets, width, rules)
            counts = count(backbone, architecture)
            true = [
                counts.flops_per_token / targets.flops_per_token - 1,
                counts.active_params / targets.active_params - 1,
                counts.total_params / targets.total_params - 1,
            ]
            reported = deviations(
                backbone, targets, width, architecture.num_dense_layers, architecture.num_moe_layers,
                architecture.moe_ffn_hidden_size,
            )  # fmt: skip
            np.testing.assert_allclose(reported, true, atol=1e-12)
            good = all(abs(off) <= most for off, most in zip(true, rules.tolerances, strict=True))
            if good:
                check_tolerance(backbone, targets, architecture, rules)
            else:
                with pytest.raises(InfeasibleError, match=f"hidden_size={width} rounds to"):
                    check_tolerance(backbone, targets, architecture, rules)
        assert (width in found) == good


@given(st.lists(problems(), min_size=1, max_size=4), st.integers(1, 5))
def test_many_points_at_once_are_each_point_alone(drawn, repeats):
    """Also where they do not fit into one chunk of memory."""
    import harness.solver

    backbone = drawn[0][0]
    targets = [t for b, t in drawn if b == backbone] * repeats
    alone = [feasible_widths(backbone, t, Rules()).tolist() for t in targets]
    chunk, harness.solver.CHUNK = harness.solver.CHUNK, 50
    try:
        widths, ends = feasible_widths_of(backbone, Targets.stack(targets), Rules())
    finally:
        harness.solver.CHUNK = chunk
    assert [widths[a:b].tolist() for a, b in itertools.pairwise(ends)] == alone


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


def test_every_choice_of_a_proxy_is_what_its_name_says():
    backbone, targets = published_case(PUBLISHED[0])
    widths = feasible_widths(backbone, targets, Rules()).tolist()
    chosen = {proxy: proxy_width(backbone, targets, Rules(proxy=proxy)) for proxy in PROXIES}
    middle = (widths[0] + widths[-1]) / 2
    assert chosen == {
        "lower_median": sorted(widths)[(len(widths) - 1) // 2],
        "upper_median": sorted(widths)[len(widths) // 2],
        "nearest_to_middle": min(widths, key=lambda width: abs(width - middle)),
        "smallest": min(widths),
        "largest": max(widths),
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"proxy": "median"}, "choose one of lower_median"), ({"tolerance": 0.0}, "above 0"),
     ({"total_params_tolerance": -1.0}, "total_params_tolerance"), ({"hidden_size_step": 0}, "at least 1"),
     ({"min_dense_layers": -1}, "at least 0")],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Rules(**changes)


@given(st.lists(st.integers(1, 10**6), min_size=1, unique=True), st.integers(1, 300))
def test_a_thinned_list_is_a_sorted_part_with_both_ends(widths, most):
    widths = sorted(widths)
    part = thinned(widths, most)
    assert len(part) == min(most, len(widths)) == len(set(part))
    assert set(part) <= set(widths)
    if most > 1:
        assert part == sorted(part)
        assert (part[0], part[-1]) == (widths[0], widths[-1])
    ranks = [widths.index(width) for width in part]
    assert max(np.diff(ranks), default=1) - min(np.diff(ranks), default=1) <= 1


def test_a_width_without_moe_layers_is_refused_with_the_ones_that_have_them():
    backbone = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64)
    targets = Targets.from_ratios(backbone, flops_per_token=0.2672e9, m_over_na=9, n_over_na=22)
    with pytest.raises(InfeasibleError, match=r"widths between \d+"):
        rounded(backbone, targets, 8, Rules())

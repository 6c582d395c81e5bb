"""Budgets that are not in Table 4, and backbones that the paper never tried."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import compose
from harness.errors import ConfigError, InfeasibleError
from harness.scales import scale_between
from harness.settings import Settings
from harness.sweep import columns, plan

SETTINGS = Settings(compose("sweep"))


def between(compute):
    return scale_between(SETTINGS.scales, SETTINGS.between, compute, seq_length=8192)


@pytest.mark.parametrize("scale", SETTINGS.scales, ids=lambda scale: scale.label)
def test_the_rule_gives_back_the_tables_own_budgets(scale):
    """Tables 2 and 4 to their printed digits; batches to one step of 16."""
    ruled = between(scale.compute)
    assert ruled.flops_per_token == pytest.approx(scale.flops_per_token, rel=2e-4)
    assert ruled.tokens == pytest.approx(scale.tokens, rel=2e-4)
    assert ruled.learning_rate == pytest.approx(scale.learning_rate, rel=0.004)
    assert abs(ruled.global_batch_size - scale.global_batch_size) <= 16
    assert (ruled.num_query_heads, ruled.num_kv_heads, ruled.head_dim) == (
        scale.num_query_heads,
        scale.num_kv_heads,
        scale.head_dim,
    )
    assert ruled.extrapolated


@given(st.floats(15, 27))
def test_every_budget_has_heads_and_a_batch_that_can_be_used(exponent):
    compute = 10**exponent
    scale = between(compute)
    assert scale.flops_per_token * scale.tokens == pytest.approx(compute, rel=2e-3)
    assert 4 <= scale.num_query_heads <= 128
    assert math.log2(scale.num_query_heads).is_integer()
    assert scale.num_query_heads == 2 * scale.num_kv_heads
    assert scale.head_dim in (64, 128)
    assert scale.global_batch_size % 16 == 0
    assert scale.global_batch_size >= 16


def test_a_budget_between_the_table_s_is_planned_and_marked():
    sweep = plan(compose("sweep", ["phase=1", "scale=[1e19,7e19]", "m_over_na=9", "n_over_na=22"]))
    rows = [columns(row) for row in sweep.rows]
    assert sweep.name == "phase1-1e19-7e19"
    assert [row["marks"] for row in rows] == ["inferred", "extrapolated"]
    assert rows[1]["learning_rate"] == pytest.approx(6.07e-4, rel=0.01)
    assert rows[1]["target_flops_per_token"] == pytest.approx(0.04368 * 7e19**0.5437)
    assert rows[1]["tokens"] == pytest.approx(22.8929 * 7e19**0.4563, rel=1e-3)


@pytest.mark.parametrize("value", ["-1e18", "0", ".inf", ".nan", "true"])
def test_a_budget_that_is_none_is_refused(value):
    with pytest.raises(ConfigError, match="scale="):
        plan(compose("sweep", ["phase=1", f"scale={value}"]))


def test_a_table_of_one_budget_gives_no_law():
    with pytest.raises(ConfigError, match="at least two budgets"):
        scale_between(SETTINGS.scales[:1], SETTINGS.between, 1e21, seq_length=8192)


CASES = {
    "more experts": (["backbone.num_experts=512", "backbone.top_k=16", "n_over_na=25"], {"num_experts": 512}),
    "no shared expert": (["backbone.num_shared_experts=0", "n_over_na=25"], {}),
    "two shared experts": (["backbone.num_shared_experts=2", "n_over_na=20"], {}),
    "shorter sequences": (["backbone.seq_length=4096", "m_over_na=7.5"], {"seq_length": 4096}),
    "gqa of 8": (["backbone.num_query_heads=16", "backbone.gqa_ratio=8"], {"num_query_heads": 16, "num_kv_heads": 2}),
    "multi-head attention": (["backbone.gqa_ratio=1"], {"num_query_heads": 8, "num_kv_heads": 8}),
    "heads alone keep the ratio": (["backbone.num_query_heads=16"], {"num_query_heads": 16, "num_kv_heads": 8}),
    "wider heads": (["backbone.head_dim=96"], {"head_dim": 96}),
    "wider dense layers": (["backbone.ffn_ratio=4.5"], {}),
    "aligned dense layers": (["backbone.ffn_aligned=true"], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("phase", ["1", "2", "ratio"])
def test_backbones_that_the_paper_never_tried(case, phase):
    words, expected = CASES[case]
    ratios = [f"{name}=[{value}]" for name, value in {"m_over_na": 9, "n_over_na": 18}.items()
              if not any(word.startswith(name) for word in words)]  # fmt: skip
    widths = ["num_widths=5"] if phase == "2" else []
    base = ["scale=1e19", "infeasible=skip", *words, *ratios, *widths]
    rows = [columns(row) for row in plan(compose("sweep", [f"phase={phase}", *base])).rows]
    for row in rows:
        assert {name: row[name] for name in expected} == expected
        assert max(abs(row[f"{n}_deviation"]) for n in ("flops_per_token", "active_params", "total_params")) <= 0.1
        if case == "wider dense layers":
            assert row["ffn_hidden_size"] == math.floor(4.5 * row["hidden_size"] + 0.5)
        if case == "aligned dense layers":
            assert row["ffn_hidden_size"] == 9 * row["moe_ffn_hidden_size"]


def test_the_bound_of_the_expansion_ratio_follows_the_experts():
    with pytest.raises(InfeasibleError, match=r"528/32 = 16\.5"):
        plan(compose("sweep", ["phase=1", "scale=1e19", "n_over_na=20", "backbone.num_experts=512",
                               "backbone.top_k=16", "backbone.num_shared_experts=16"]))  # fmt: skip


def test_a_gqa_ratio_that_does_not_divide_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"num_query_heads=8 is not a multiple of gqa_ratio=3.*gqa_ratio=[24]"):
        plan(compose("sweep", ["phase=1", "scale=1e19", "backbone.gqa_ratio=3"]))


def test_steps_tolerance_and_proxy_come_from_the_configuration():
    base = ["phase=1", "scale=1e19", "m_over_na=9", "n_over_na=20"]
    published = columns(plan(compose("sweep", base)).rows[0])
    aligned = columns(
        plan(compose("sweep", [*base, "rules.hidden_size_step=128", "rules.moe_ffn_hidden_size_step=64"])).rows[0]
    )
    assert aligned["hidden_size"] % 128 == 0
    assert aligned["moe_ffn_hidden_size"] % 64 == 0
    widest = columns(plan(compose("sweep", [*base, "rules.proxy=largest"])).rows[0])
    assert widest["hidden_size"] > published["hidden_size"]
    strict = columns(plan(compose("sweep", [*base, "rules.tolerance=0.02"])).rows[0])
    assert max(abs(strict[f"{n}_deviation"]) for n in ("flops_per_token", "active_params", "total_params")) <= 0.02
    one = columns(plan(compose("sweep", [*base, "rules.flops_per_token_tolerance=0.02"])).rows[0])
    assert abs(one["flops_per_token_deviation"]) <= 0.02


def test_tokens_are_fixed_or_spend_the_budget():
    base = ["phase=1", "scale=1e19"]
    fixed = [columns(row) for row in plan(compose("sweep", base)).rows]
    spent = [columns(row) for row in plan(compose("sweep", [*base, "training.tokens=compute"])).rows]
    batch = 128 * 8192
    assert {row["tokens"] for row in fixed} == {round(10.7004e9 / batch) * batch}
    for row in spent:
        assert row["compute"] == 1e19
        assert abs(row["realised_compute"] / 1e19 - 1) < 1e-4  # half a batch of 10,000
    assert max(abs(row["realised_compute"] / 1e19 - 1) for row in fixed) > 0.1  # the M of phase 1, rounded

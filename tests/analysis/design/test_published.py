"""laws/published.json against the numbers that the paper prints."""

import pytest

from analysis.design.published import (
    BATCH_SEQUENCES,
    BUDGETS,
    FLOPS_PER_TOKEN,
    LEARNING_RATE,
    M_OVER_NA,
    N_OVER_NA,
    PATH,
    TOKENS,
    published,
)
from analysis.laws.file import read_laws, write_laws
from harness.cli import compose
from harness.laws import Laws
from harness.plan import plan
from harness.settings import Settings


def test_the_file_is_what_the_code_builds(tmp_path):
    write_laws(tmp_path / "published.json", published())
    assert (tmp_path / "published.json").read_bytes() == PATH.read_bytes()


def test_the_stated_law_gives_table_2():
    classical = read_laws(PATH).law("classical")
    for compute, flops, tokens in zip(BUDGETS, FLOPS_PER_TOKEN, TOKENS, strict=True):
        assert classical.relation("flops_per_token")(compute) == pytest.approx(flops, rel=2e-3)
        assert classical.relation("tokens")(compute) == pytest.approx(tokens, rel=2e-3)
        assert flops * tokens == pytest.approx(compute, rel=1e-3)


def test_the_numbers_are_those_that_the_studies_state():
    """The optima of the backbone's configuration, which reproduce the published architecture lists row by row."""
    settings = Settings(compose("sweep", ["phase=2"]))
    stated = settings.study("optima")["m_over_na"]
    assert {float(compute): value for compute, value in stated.items()} == dict(zip(BUDGETS, M_OVER_NA, strict=True))
    for scale, rate, batch in zip(settings.scales, LEARNING_RATE, BATCH_SEQUENCES, strict=True):
        assert (scale.learning_rate, scale.global_batch_size) == (rate, batch)


def test_every_law_names_its_source_and_what_is_only_in_figures_is_absent():
    laws = read_laws(PATH)
    assert all("2603.21862" in law.source for law in laws.laws)
    assert set(laws.missing) == {"hidden_size", "width_ratio"}
    assert all(budget.curve is None for law in laws.laws for budget in law.per_budget)
    assert all("ours" in relation.method for law_id in ("m_over_na", "learning_rate", "batch_size")
               for relation in laws.law(law_id).relations)  # fmt: skip


def test_the_line_through_the_optima_stays_above_6_and_the_plain_one_is_known_not_to():
    law = read_laws(PATH).law("m_over_na")
    assert law.relation("m_over_na_minus_6")(1e22) == pytest.approx(7.26, abs=0.01)  # the notes on the paper
    assert law.relation("m_over_na_minus_6")(1e24) == pytest.approx(6.66, abs=0.01)
    assert law.relation("m_over_na")(1e24) == pytest.approx(5.3, abs=0.05)
    assert any("8.86×10²²" in flag for flag in law.flags)


def test_the_harness_plans_with_it():
    laws = Laws.read(PATH)
    assert laws.value("m_over_na", "m_over_na", 1e20) == 8.349
    assert laws.value("n_over_na", "n_over_na", 3e20) == N_OVER_NA[-1]
    assert laws.value("batch_size", "batch_size", 1e22) == pytest.approx(
        5.98e6, rel=0.01
    )  # no number of its own there: the law
    (row,) = plan(compose("sweep", ["phase=2", "scale=1e22", "n_over_na=22", "num_widths=1", f"laws={PATH}"])).rows
    assert row.point.experiment.counts.m_over_na == pytest.approx(7.26, rel=0.02)
    assert row.point.experiment.training.global_batch_size == 736

"""Every law on the paper's whole programme, losses from known truths."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.covered import compare, counts, without_noise
from analysis.fitting import FitError
from analysis.laws import FitOptions, LawsFile, document, fit_laws
from analysis.laws.correction import slope_of
from analysis.rehearsal import EXPECTED, warned
from tests.analysis.programme import programme

FEW = FitOptions(resamples=200)


@pytest.fixture(scope="module")
def holistic() -> tuple[pd.DataFrame, LawsFile]:
    table, _, _ = programme()
    return table, fit_laws(table, FEW)


def test_every_law_is_fitted_and_says_so(holistic):
    _, laws = holistic
    assert [law.id for law in laws.laws] == [
        "classical", "rank", "n_over_na", "m_over_na", "hidden_size", "width_ratio", "learning_rate", "batch_size",
    ]  # fmt: skip
    assert laws.missing == {}
    assert all(law.fitted and law.simulated for law in laws.laws)
    assert laws.simulated
    assert len(laws.data_hash) == 64


def test_intervals_hold_what_the_runs_give_without_noise(holistic):
    table, laws = holistic
    _, experiments, truth = programme()
    clean = fit_laws(without_noise(table, experiments, truth), FEW)
    budgets = sorted(table.loc[table["study"] == "grid", "compute"].unique())
    rows = compare(laws, clean, truth, [float(budget) for budget in budgets], FEW)
    held, judged = counts(rows)["covers_clean"]
    assert judged > 50
    assert held >= 0.93 * judged
    truths = {(row.law, row.name.split()[0]) for row in rows if row.truth is not None}
    for one in ("classical tokens", "m_over_na m_over_na_minus_6_low", "batch_size batch_tokens", "n_over_na n_over_na_low",
                "n_over_na flatness_1e+20", "hidden_size band_widens"):  # fmt: skip
        assert tuple(one.split()) in truths


def test_the_laws_are_near_the_truth(holistic):
    _, laws = holistic
    excess = laws.law("m_over_na").relation("m_over_na_minus_6")
    assert excess(1e20) == pytest.approx(8.349, abs=0.2)  # section 6
    assert laws.law("hidden_size").relation("hidden_size").exponent.value == pytest.approx(0.224, abs=0.03)
    rate = laws.law("learning_rate").relation("learning_rate")
    assert rate(1e19) == pytest.approx(8.28e-4, rel=0.06)  # Table 4
    assert laws.law("batch_size").relation("batch_tokens")(1e19) == pytest.approx(128 * 8192, rel=0.2)
    for compute, optimum in ((1e18, 19.23), (1e19, 20.69), (3e20, 22.07)):  # F.4
        assert laws.law("n_over_na").budget(compute).optimum.value == pytest.approx(optimum, abs=1.3)


def test_statements_say_what_the_paper_says(holistic):
    _, laws = holistic
    assert laws.law("m_over_na").statement("band_widens").holds
    assert laws.law("rank").statement("spearman").holds
    assert 0 < laws.law("n_over_na").statement("flatness_1e+20").estimate.value < 1  # within 1% from 18 to 25
    assert "from 18 to 25" in laws.law("n_over_na").statement("flatness_1e+20").text
    assert laws.law("width_ratio").statement("spread_1e+20").estimate.value < 0.65


def test_the_rank_study_takes_the_median_proxy_or_its_neighbour(holistic):
    table, laws = holistic
    law = laws.law("rank")
    assert len(law.pairs) == 10
    off = sorted((pair.m_over_na, pair.n_over_na) for pair in law.pairs if pair.width_error)
    assert off == [(7.0, 8.0), (9.0, 24.0), (15.0, 16.0)]  # the tables lack 1632, 648 and 456
    losses = table.set_index("run_id")["final_validation_loss"]
    for pair in law.pairs:
        assert pair.proxy_loss == pytest.approx(losses[pair.proxy_run])
        assert pair.least_loss <= pair.proxy_loss


@pytest.mark.parametrize(
    ("truth", "studies"), [("outside", ("classical", "refine")), ("not_rank_preserving", ("rank",))]
)
def test_hostile_truths_are_warned_of(truth, studies, holistic):
    fitted = fit_laws(programme(truth, studies)[0], FEW)
    for law_id in EXPECTED[truth]:
        assert warned(fitted, law_id)
        assert not warned(holistic[1], law_id)


def test_correction_takes_out_what_missed_targets_put_in(holistic):
    """Runs of the width study spent 9% less to 11% more than their budget; moved to it, they scatter less about the curve."""
    table, laws = holistic
    moved = fit_laws(table[table["study"].isin(["classical", "width"])], FEW, correct=True)
    assert moved.corrected
    before, after = (one.law("hidden_size").per_budget for one in (laws, moved))
    assert sum(budget.residual_sd for budget in after) < 0.75 * sum(budget.residual_sd for budget in before)
    variant = next(one for one in laws.law("hidden_size").variants if one.id == "corrected")
    for one, other in zip(variant.relations, moved.law("hidden_size").relations, strict=True):
        assert one.exponent.value == pytest.approx(other.exponent.value, rel=1e-9)  # the same correction


def test_the_slope_is_that_of_the_truth(holistic):
    _, laws = holistic
    _, _, truth = programme()
    compute = np.array([1e18, 1e19, 1e20])
    true = [(truth.least_loss(c * 1.001) - truth.least_loss(c)) / math.log(1.001) for c in compute]
    assert slope_of(laws.laws).of(compute) == pytest.approx(true, rel=0.25)


def test_real_flops_are_those_of_megatron(holistic):
    table, laws = holistic
    variant = next(one for one in laws.law("classical").variants if one.id == "real_flops")
    nominal = [compute for compute, _ in variant.optima]
    assert nominal[-4:] == pytest.approx([1e19, 3e19, 1e20, 3e20])
    rows = table[(table["study"] == "classical") & (table["compute"] == 3e20)]
    ratio = (rows["megatron_flops_per_token"] / rows["flops_per_token"]).median()
    assert variant.relations[0].compute[-1] == pytest.approx(3e20 * ratio)


def test_a_missing_study_is_named_and_the_others_fitted(holistic):
    table, _ = holistic
    laws = fit_laws(table[~table["study"].isin(["classical", "width"])], FEW)
    assert laws.missing["classical"] == "no run of study classical: plan it (python -m harness.sweep phase=classical)"
    assert "width" in laws.missing["hidden_size"]
    assert laws.law("m_over_na").fitted
    assert laws.law("m_over_na").variants  # the slope then comes from the minima of M/N_a


def test_one_budget_only_has_no_law_of_compute(holistic):
    table, _ = holistic
    laws = fit_laws(table[table["compute"] == 1e18], FEW)
    for law in laws.laws:
        if law.id != "rank":
            assert not law.relations, law.id
            assert any("needs two" in flag for flag in law.flags), law.id


def test_an_empty_table_is_refused():
    with pytest.raises(FitError, match="no runs"):
        fit_laws(programme()[0].iloc[:0], FEW)


def test_simulated_and_real_runs_are_not_fitted_together(holistic):
    table, _ = holistic
    rows = table[table["study"] == "classical"].copy()
    rows["simulated"] = [index % 2 == 0 for index in range(len(rows))]
    with pytest.raises(FitError, match="21 of 42 runs are simulated"):
        fit_laws(rows, FEW)


def test_nan_and_negative_losses_are_left_out_with_the_value(holistic):
    table, _ = holistic
    rows = table[table["study"] == "classical"].copy()
    first, second = rows.index[:2]
    rows.loc[first, "final_validation_loss"] = math.nan
    rows.loc[second, "final_validation_loss"] = -1.0
    law = fit_laws(rows, FEW).law("classical")
    reasons = {one.run_id: one.reason for one in law.points_left_out if not one.usable}
    assert reasons == {
        rows.loc[first, "run_id"]: "final_validation_loss is nan",
        rows.loc[second, "run_id"]: "final_validation_loss is -1.0",
    }


def test_the_same_runs_give_the_same_file():
    table, _, _ = programme("holistic", ("classical",))
    order = ["study", "compute", "flops_per_token", "n_over_na", "run_id"]
    first, again = (fit_laws(one.sort_values(order), FEW) for one in (table, table.sample(frac=1, random_state=3)))
    assert document(first) == document(again)
    changed = table.assign(final_validation_loss=table["final_validation_loss"] + 1e-6)
    assert fit_laws(changed, FEW).data_hash != first.data_hash

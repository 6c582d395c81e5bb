"""The words of the console and of the report, to the letter, on laws made by hand."""

import dataclasses
from pathlib import Path

import pytest

from analysis.console import show
from analysis.laws import Estimate, LawsFile
from analysis.summary import (
    five_sentences,
    flag_sentences,
    intervals_sentence,
    law_sentences,
    left_out_runs,
    noise_sentences,
    relation_sentence,
    unused_studies,
)
from tests.analysis.laws_by_hand import BUDGETS, laws_of, relation, rows


@pytest.fixture(scope="module")
def table():
    return rows()


@pytest.fixture(scope="module")
def laws(table):
    return laws_of(table)


def test_five_sentences_of_a_simulated_programme(table, laws):
    assert five_sentences(table, laws) == [
        "115 runs of the studies classical, grid, hyperparameters, rank, ratio and width at 3 budgets from 10¹⁸ FLOPs to "
        "10²⁰ FLOPs were collected; 1 cannot be used.",
        "Nothing was trained: the losses are simulated, and stand for runs of 1.71×10¹² tokens and 3.89×10²¹ FLOPs together.",
        "The compute-optimal size M goes as C^0.540 (0.520 to 0.560) and the tokens D as C^0.460 (0.440 to 0.480), with "
        "M = 9.4×10⁸ FLOPs per token at 10¹⁹ FLOPs.",
        "The loss is least at 10²⁰ FLOPs for M/N_a = 9.87 (9.376 to 10.36) and N/N_a = 20 (19 to 21) and d = 800 (760 to open).",
        "In doubt: 1 of 12 minima are not resolved; the laws and their budgets carry 1 warning, told with each.",
    ]


def test_what_was_measured_is_said_to_have_been_spent(table, laws):
    measured = table.assign(simulated=False)
    assert five_sentences(measured, laws)[1] == (
        "They took 1.71×10¹² tokens and 3.89×10²¹ FLOPs (5.45×10²¹ FLOPs with the output layer)."
    )


def test_one_budget_of_one_study(laws):
    few = rows(BUDGETS[:1])
    few = few[few["study"] == "grid"]
    found = five_sentences(few, laws_of(few))
    assert found[0] == "16 runs of the study grid at 10¹⁸ FLOPs were collected; all can be used."
    assert found[2] == "There is no law of the compute-optimal size: no run of study classical: plan it."
    assert found[3] == "The loss is least at 10¹⁸ FLOPs for N/N_a = 20 (19 to 21)."
    assert found[4] == (
        "In doubt: 1 of 2 minima are not resolved; of the paper's 8 laws classical, rank, hidden_size, width_ratio, "
        "learning_rate, batch_size could not be fitted; the laws and their budgets carry 1 warning, told with each."
    )


def test_nothing_resolved_is_said(table):
    nothing = LawsFile(laws=(), missing={"classical": "none of the 5 runs can be used"}, noise={})
    found = five_sentences(table, nothing)
    assert found[2] == "There is no law of the compute-optimal size: none of the 5 runs can be used."
    assert found[3] == "No optimum of M/N_a, N/N_a or d is resolved at any budget."
    assert found[4].startswith(
        "In doubt: no minimum was looked for; of the paper's 8 laws classical could not be fitted;"
    )


def test_sentences_of_a_law(laws):
    assert law_sentences(laws.law("classical")) == [
        "M_opt goes as C^0.540 (0.520 to 0.560) and is 9.4×10⁸ (8.55×10⁸ to 1.03×10⁹) FLOPs per token at 10¹⁹ FLOPs.",
        "D_opt goes as C^0.460 (0.440 to 0.480) and is 1.06×10¹⁰ (9.64×10⁹ to 1.17×10¹⁰) tokens at 10¹⁹ FLOPs.",
        "Without the largest budget (10²⁰ FLOPs) the law of M_opt misses it by +5.0%.",
    ]
    m_over_na = law_sentences(laws.law("m_over_na"))
    assert m_over_na[0] == "(M/N_a)_opt − 6 goes as C^-0.150 (-0.170 to -0.130) and is 3 (2.73 to 3.3) at 10¹⁹ FLOPs."
    assert m_over_na[-1] == "At 10¹⁸ FLOPs the minimum is at the edge: the loss falls over the whole range."
    assert flag_sentences(laws.law("m_over_na")) == ["The form is in doubt."]


def test_open_and_unknown_ends():
    open_ended = relation("x", "x", 2.0, 0.1)
    open_ended = dataclasses.replace(open_ended, exponent=Estimate(value=0.1, low=-float("inf"), high=0.2))
    assert "C^0.100 (open to 0.200)" in relation_sentence(open_ended)
    unknown = dataclasses.replace(open_ended, exponent=Estimate(value=0.1), at_reference=Estimate(value=2.0))
    assert relation_sentence(unknown) == "x goes as C^0.100 and is 2 at 10¹⁹ FLOPs."


def test_noise_and_intervals(laws):
    assert noise_sentences(laws) == [
        "Study classical: standard deviation between seeds 10⁻³ nats per token, from 6 runs of 2 configurations "
        "(4 degrees of freedom)."
    ]
    assert "No configuration was repeated" in noise_sentences(dataclasses.replace(laws, noise={}))[0]
    assert intervals_sentence(laws).endswith("repeated 400 times.")


def test_left_out_runs_have_one_reason_each(table, laws):
    unusable, sound = ([one for one in left_out_runs(table, laws) if one.usable is kind] for kind in (False, True))
    assert [(one.run_id, one.reason) for one in unusable] == [(table["run_id"][0], "diverged: loss is NaN at step 12")]
    assert sound == []
    assert unused_studies(table.assign(study="mine")) == ["mine"]


def test_the_console_says_all_of_it(table, laws, capsys):
    show(
        table,
        laws,
        [Path("r/laws.json"), *(Path(f"r/figures/{name}.png") for name in "abcdefgh"), Path("r/report.html")],
    )
    text = " ".join(capsys.readouterr().out.split())
    assert "SIMULATED DATA" in text
    assert "Pearson's correlation is 1." in text
    assert "The form is in doubt." in text
    assert "1 row of 115 left out" in text
    assert "at the edge" in text
    assert text.endswith("r/laws.json r/figures (8 files) r/report.html")

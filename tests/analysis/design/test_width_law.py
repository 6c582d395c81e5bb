"""Where the law of d holds, and what a design says that is not there."""

from dataclasses import replace

import pytest

from analysis.design.recommend import Fixed
from analysis.design.result import design, settings_of
from analysis.design.width_law import width_law
from analysis.laws import FitOptions, fit_laws
from analysis.laws.file import read_laws, write_laws
from harness.architecture import Backbone
from harness.cli import compose
from tests.analysis.design.known import BUDGETS, EXPANSION, known_laws
from tests.analysis.programme import programme

PAPER = Backbone(num_query_heads=8, num_kv_heads=4, head_dim=64)


def settings(*words):
    return settings_of(compose("design", ["compute=1e22", *words]))


def held_at(n_over_na, m_over_na=None):
    """The known laws, the runs of d held at those ratios."""
    laws, held = known_laws(), {"target_n_over_na": n_over_na}
    if m_over_na is not None:
        held["target_m_over_na"] = m_over_na
    law = laws.law("hidden_size")
    told = replace(law, per_budget=tuple(replace(one, held=held) for one in law.per_budget))
    return replace(laws, laws=tuple(told if one is law else one for one in laws.laws))


def notes(laws, compute, **options):
    return [note for note in design(settings(), laws, "known", compute, **options).notes if "law of d holds at" in note]


def test_a_fit_records_what_the_runs_of_phase_2_share(tmp_path):
    laws = fit_laws(programme("holistic", ("1", "2"))[0], FitOptions(resamples=50), variants=False)
    write_laws(tmp_path / "laws.json", laws)
    read = read_laws(tmp_path / "laws.json")
    stated = settings().study("optima")
    for budget in read.law("hidden_size").per_budget:
        assert budget.held["target_n_over_na"] == pytest.approx(22, abs=0.02)
        assert budget.held["target_m_over_na"] in list(stated["m_over_na"].values())
        assert budget.held["target_flops_per_token"] > 1e8
    for budget in read.law("m_over_na").per_budget:  # the grid varies both
        assert budget.held.keys() <= {"target_flops_per_token"}


def test_a_design_elsewhere_says_by_how_much_it_is_elsewhere():
    here = EXPANSION(1e21)
    assert notes(held_at(here), 1e21) == []
    (told,) = notes(held_at(18.0), 1e21)
    assert f"at N/N_a = 18, here it is {here:.4g} ({here / 18 - 1:+.1%})" in told
    assert "settings" not in told
    (own,) = notes(held_at(here), 1e21, fixed=Fixed(n_over_na=here * 0.9))
    assert "(-10.0%)" in own


def test_a_measured_budget_holds_at_its_own_ratios():
    (told,) = notes(held_at(EXPANSION(BUDGETS[1]), m_over_na=12.0), BUDGETS[1])
    assert "M/N_a = 12" in told


def test_older_files_fall_back_on_the_settings_and_say_so():
    (told,) = notes(known_laws(), 1e21, fixed=Fixed(n_over_na=19))
    assert (
        "at N/N_a = 22 (by the settings of phase 2: laws.json does not say, refit it), here it is 19 (-13.6%)" in told
    )


def test_without_a_law_of_d_there_is_nothing_to_say():
    assert width_law(settings(), known_laws(without=("hidden_size",)), 1e21, PAPER, {}) is None


def test_the_predicted_loss_allows_for_d_to_follow_the_feasible_widths():
    near, far = (design(settings(), held_at(value), "known", 1e21).excess for value in (EXPANSION(1e21), 12.0))
    assert far.high > near.high

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.collect import collect
from analysis.laws import FitOptions, Law, fit_laws
from analysis.laws.records import LeftOutRun
from analysis.laws.rows import near_minimum
from analysis.noise import seed_noise
from tests.analysis.builder import EXCESS_EXPONENT, M_EXPONENT, Root, m_opt, m_over_na_opt

FEW = FitOptions(resamples=400, seed=0)


def laws_of(root: Root, window: float | None = FEW.window) -> dict[str, Law]:
    laws = fit_laws(collect(root.write("s").path, ["s"]), replace(FEW, window=window))
    return {law.id: law for law in laws.laws}


def test_classical_law_recovers_the_truth(root):
    law = laws_of(root.classical(sd=1e-5))["classical"]
    assert [budget.status for budget in law.per_budget] == ["resolved"] * 4
    size, tokens = law.relations
    assert size.exponent.value == pytest.approx(M_EXPONENT, abs=1e-3)
    assert tokens.exponent.value == pytest.approx(1 - M_EXPONENT, abs=1e-3)
    assert size.coefficient.value == pytest.approx(0.7, rel=0.03)
    assert size.predict(1e12).value == pytest.approx(m_opt(1e12), rel=3e-3)
    assert size.predict(1e12).extrapolated
    assert not size.predict(1e11).extrapolated
    assert abs(size.held_out.relative_error) < 3e-3


def test_m_over_na_law_recovers_the_truth_and_keeps_the_bound(root):
    law = laws_of(root.grid(sd=1e-5))["m_over_na"]
    excess, plain = law.relation("m_over_na_minus_6"), law.relation("m_over_na")
    assert excess.exponent.value == pytest.approx(EXCESS_EXPONENT, abs=2e-3)
    assert excess.predict(1e13).value == pytest.approx(m_over_na_opt(1e13), abs=0.02)
    assert excess.predict(1e24).value > 6
    assert plain.predict(1e24).value < 6
    assert any("passes the bound 6" in flag for flag in law.flags)
    for budget in law.per_budget:
        assert budget.band[0] < m_over_na_opt(budget.compute) < budget.band[1]


def test_noisy_intervals_hold_the_truth(root):
    laws = laws_of(root.classical(sd=0.004, seeds=3).grid(sd=0.002))
    exponent = laws["classical"].relations[0].exponent
    assert M_EXPONENT in exponent
    assert 0.001 < exponent.high - exponent.low < 0.3
    assert EXCESS_EXPONENT in laws["m_over_na"].relations[0].exponent


@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-9, 1.0, 1e3]))
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_laws_know_neither_row_order_nor_the_unit_of_m(tmp_path_factory, seed, scale):
    root = Root(tmp_path_factory.mktemp("order")).classical(budgets=(1e11, 2e11, 4e11), seeds=2)
    table = collect(root.write("s").path, ["s"])
    plain = fit_laws(table, FEW).laws[0]
    changed = table.sample(frac=1, random_state=seed).assign(flops_per_token=table.flops_per_token * scale)
    changed = changed.sort_values(["study", "compute", "flops_per_token", "run_id"])
    other = fit_laws(changed, FEW).laws[0]
    for one, two in zip(plain.per_budget, other.per_budget, strict=True):
        for end in ("value", "low", "high"):
            assert getattr(two.optimum, end) / scale == pytest.approx(getattr(one.optimum, end), rel=1e-6)
    assert other.relations[0].exponent.value == pytest.approx(plain.relations[0].exponent.value, rel=1e-6)


def test_minimum_outside_the_range_is_at_the_edge_and_no_law_uses_it(root):
    root.classical(budgets=(1e11, 2e11), sd=0.001).classical(budgets=(4e11,), off=8, sd=0.001)
    law = laws_of(root)["classical"]
    assert [budget.status for budget in law.per_budget] == ["resolved", "resolved", "at the edge"]
    assert law.relations[0].compute == (1e11, 2e11)
    assert "M_opt: two points: exponent has no residual" in law.flags
    assert law.relations[0].held_out is None


def test_monotone_loss_over_m_over_na_is_at_the_edge(root):
    root.grid(budgets=(1e11, 2e11), densities=(11.0, 12.0, 13.0, 14.0, 16.0))
    law = laws_of(root)["m_over_na"]
    assert {budget.status for budget in law.per_budget} == {"at the edge"}
    assert not law.fitted
    assert any("0 of 2 budgets have a resolved minimum" in flag for flag in law.flags)


def test_noise_larger_than_the_curve_is_not_resolved(root):
    budgets = tuple(1e11 * 2.0 ** np.arange(6))
    law = laws_of(root.classical(budgets=budgets, sd=0.2, seeds=4, curvature=0.01))["classical"]
    # The rule is a one-sided test at 5%: of six budgets without a visible minimum one may pass by chance.
    assert sum(budget.resolved for budget in law.per_budget) <= 1
    assert not law.fitted


def test_concave_and_too_few_are_not_resolved(root):
    root.classical(budgets=(1e11,), curvature=-0.06).classical(budgets=(2e11,), points=2)
    concave, few = laws_of(root)["classical"].per_budget
    assert (concave.status, concave.why) == ("not resolved", "the best curve has no minimum")
    assert few.status == "not resolved"
    assert "too few" in few.why


def test_as_many_points_as_coefficients_and_no_seeds_has_no_noise(root):
    (budget,) = laws_of(root.classical(budgets=(1e11,), points=3))["classical"].per_budget
    assert budget.status == "not resolved"
    assert budget.noise is None
    assert "nothing measures the noise" in budget.why


def test_seed_noise_is_pooled_within_groups(root):
    for m, losses in ((1e5, (3.0, 3.2)), (2e5, (2.0, 2.1, 2.2)), (4e5, (1.0,))):
        for seed, loss in enumerate(losses):
            root.add(study="classical", compute=1e11, m=m, loss=loss, seed=seed)
    noise = seed_noise(collect(root.write("s").path, ["s"]))["classical"]
    assert noise.dof == 3
    assert noise.sd == pytest.approx(math.sqrt((0.02 + 0.02) / 3))
    assert (noise.groups, noise.runs) == (2, 5)


def test_the_larger_noise_is_drawn_and_named(root):
    root.classical(budgets=(1e11, 2e11), sd=1e-5)
    for seed, loss in enumerate((3.0, 3.1, 3.2)):  # wide repeats in another study
        root.add(study="grid", compute=1e11, m=1e6, loss=loss, seed=seed)
    budget = laws_of(root)["classical"].per_budget[0]
    assert budget.noise.source == "repeated seeds (other studies)"
    assert budget.noise.sd == pytest.approx(0.1)


def test_a_curve_that_misses_its_runs_says_so(root):
    root.classical(budgets=(1e11,), sd=1e-3, seeds=5, points=7)
    ids = [row["run_id"] for row in root.rows]
    root.result(ids[0], final_validation_loss=4.0)
    (budget,) = laws_of(root, window=None)["classical"].per_budget
    assert any("is in doubt" in flag for flag in budget.flags)


def test_scatter_of_optima_beyond_their_intervals_is_flagged(root, monkeypatch):
    monkeypatch.setattr("tests.analysis.builder.m_opt", lambda c: 0.7 * c**0.55 * (1.5 if c == 1e11 else 1.0))
    law = laws_of(root.classical(sd=0.001, budgets=(5e10, 1e11, 2e11, 4e11)))["classical"]
    assert any("further from the power law" in flag for flag in law.flags)


def test_points_at_or_below_the_floor_are_left_out_of_that_law(root):
    root.grid(budgets=(1e11,))
    root.rows[0]["m_over_na"] = 5.9
    law = laws_of(root)["m_over_na"]
    assert law.points_left_out == (LeftOutRun(run_id=root.rows[0]["run_id"], reason="m_over_na is 5.9, not above 6"),)


def test_the_window_holds_what_is_near_the_least_loss():
    x = np.array([1, 2, 4, 8, 16, 32, 8.0])
    y = np.array([9, 5, 3, 1, 2, 6, 1.2])
    assert near_minimum(x, y, 2.5).tolist() == [
        False,
        True,
        True,
        True,
        True,
        True,
        True,
    ]  # four sizes at least, and ties
    assert near_minimum(x, y, 1.5).tolist() == near_minimum(x, y, 2.5).tolist()
    assert near_minimum(x, y, 8.5).all()
    assert near_minimum(x, y, None).all()
    assert near_minimum(x, -x, 3).tolist() == [False, False, True, True, True, True, True]  # the best is at the end


def test_an_asymmetric_curve_needs_the_window_and_names_what_it_leaves_out(root):
    """Steep where capacity runs out, flat where steps do: a parabola through all of it misses the minimum."""
    root.classical(budgets=(1e11, 4e11), sd=1e-3, points=9)
    for row in root.rows:
        u = np.log(row["flops_per_token"] / m_opt(row["compute"]))
        bent = 2.0 + 0.05 * (np.exp(-1.6 * u) + 1.6 * u) - 0.012 * max(u, 0) ** 3
        root.result(row["run_id"], final_validation_loss=float(bent))
    law, whole = laws_of(root)["classical"], laws_of(root, window=None)["classical"]
    for near, all_sizes in zip(law.per_budget, whole.per_budget, strict=True):
        assert abs(np.log(near.optimum.value / m_opt(near.compute))) < abs(
            np.log(max(all_sizes.optimum.value, 1e-9) / m_opt(near.compute))
        )
        assert len(near.points) + len(near.outside) == len(all_sizes.points)
    outside = [one for one in law.points_left_out if one.usable]
    assert outside
    assert {one.run_id for one in outside}.isdisjoint(law.points_used)
    assert all("outside the window" in one.reason for one in outside)


def test_slices_that_differ_by_rounding_are_one(root):
    root.grid(budgets=(1e11,))
    slices = {row["target_n_over_na"] for row in root.rows}
    for row in root.rows[::2]:
        row["target_n_over_na"] = float(np.nextafter(row["target_n_over_na"], 100))
    (budget,) = laws_of(root)["m_over_na"].per_budget
    assert len(budget.curve.intercepts) == len(slices)

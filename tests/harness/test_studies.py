"""Each study of the paper as the harness plans it, held against the published lists."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from harness.cli import compose
from harness.errors import ConfigError, InfeasibleError
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, quantity_at
from harness.studies import STUDIES
from harness.sweep import columns, plan

HERE = Path(__file__).parent
ARCHITECTURES = list(csv.DictReader((HERE / "published_architectures.csv").open()))
WIDTHS = list(csv.DictReader((HERE / "published_widths.csv").open()))

COUNTS = {"rank": 144, "grid": 216, "refine": 49, "width": 258, "ratio": 30, "classical": 30}
BUDGETS = ("1e18", "3e18", "1e19", "3e19", "1e20", "3e20")


@pytest.fixture(scope="module")
def planned() -> dict[str, list[dict]]:
    """The rows of every study of the paper, at all the budgets that it states."""
    return {study: [columns(row) for row in plan(compose("sweep", [f"phase={study}"])).rows] for study in COUNTS}


def study_of(table: int) -> str:
    return "rank" if table <= 8 else "grid" if table <= 14 else "refine" if table == 15 else "width"


def key(row) -> tuple:
    return (
        float(row["compute"]),
        float(row["target_m_over_na"]),
        float(row["target_n_over_na"]),
        int(row["hidden_size"]),
    )


def published_key(row) -> tuple:
    return float(row["compute"]), float(row["m_over_na"]), float(row["n_over_na"]), int(row["hidden_size"])


def test_the_lists_have_the_published_lengths(planned):
    assert {study: len(rows) for study, rows in planned.items()} == COUNTS
    assert sum(COUNTS[study] for study in ("rank", "grid", "refine", "width")) == 667
    per_budget = Counter(f"{row['compute']:.0e}".replace("+", "") for row in planned["width"])
    assert [per_budget[budget] for budget in BUDGETS] == [54, 40, 40, 43, 42, 39]
    per_budget = Counter(f"{row['compute']:.0e}".replace("+", "") for row in planned["refine"])
    assert [per_budget[budget] for budget in BUDGETS] == [10, 8, 8, 7, 8, 8]


def test_every_published_architecture_is_planned_once_and_as_published(planned):
    for row in ARCHITECTURES:
        candidates = [r for r in planned[study_of(int(row["table"]))] if key(r) == published_key(row)]
        assert len(candidates) == 1, row
        assert candidates[0]["num_dense_layers"] == int(row["num_dense_layers"])
        assert candidates[0]["num_moe_layers"] == int(row["num_moe_layers"])
        if row["moe_ffn_hidden_size"]:
            assert candidates[0]["moe_ffn_hidden_size"] == int(row["moe_ffn_hidden_size"])


@pytest.mark.parametrize("study", ["rank", "width"])
def test_the_planned_widths_are_exactly_the_published_ones(planned, study):
    published = [published_key(row) for row in WIDTHS if study_of(int(row["table"])) == study]
    assert sorted(key(row) for row in planned[study]) == sorted(published)


def test_the_one_row_where_the_paper_differs_from_its_own_rule_stays_as_the_rule_gives_it(planned):
    (row,) = [row for row in planned["width"] if row["compute"] == 3e18 and row["hidden_size"] == 600]
    assert row["moe_ffn_hidden_size"] == 424  # table 17 prints 416


def test_every_row_tells_its_deviations_and_none_is_beyond_the_tolerance(planned):
    for row in (row for rows in planned.values() for row in rows):
        for name in ("flops_per_token", "active_params", "total_params"):
            assert row[f"{name}_deviation"] == pytest.approx(row[name] / row[f"target_{name}"] - 1, abs=1e-12)
            assert abs(row[f"{name}_deviation"]) <= 0.10
        assert row["realised_compute"] == row["flops_per_token"] * row["tokens"]


def test_what_the_tables_were_built_from(planned):
    """Phase 1 and the rank study: the inferred M, and marked so; the others: Table 2's."""
    table2 = {1e18: 0.2672e9, 3e18: 0.4856e9, 1e19: 0.9345e9, 3e19: 1.6983e9, 1e20: 3.2681e9, 3e20: 5.9390e9}
    inferred = {1e18: 0.25479e9, 3e18: 0.5338e9, 1e19: 0.879131e9, 3e19: 1.8385e9, 1e20: 2.960572e9, 3e20: 6.2116e9}
    for study, rows in planned.items():
        if study != "classical":
            wanted = inferred if study in ("rank", "grid") else table2
            assert {row["target_flops_per_token"] == wanted[row["compute"]] for row in rows} == {True}
        assert {row["marks"] for row in rows} == {"inferred" if study in ("rank", "grid") else ""}


def test_deviations_from_table_2_reach_19_percent(planned):
    """Notes, section 7: after rounding, single rows of phase 1 are up to 19% off the M that the text states."""
    table2 = {scale.compute: scale.flops_per_token for scale in Settings(compose("sweep")).scales}
    worst = max(abs(row["flops_per_token"] / table2[row["compute"]] - 1) for row in planned["grid"])
    assert 0.18 < worst < 0.20


def test_the_width_ratio_study_solves_for_d(planned):
    """Appendix E: the asked ratios, realised within what the rounding of d_m and L allows."""
    rows = planned["ratio"]
    assert Counter(row["free_target"] for row in rows) == {3: 6, 3.5: 6, 4: 6, 4.5: 6, 5: 6}
    for row in rows:
        assert row["free_quantity"] == "width_ratio"
        assert row["width_ratio"] == 9 * row["moe_ffn_hidden_size"] / row["hidden_size"]
        assert abs(row["width_ratio"] / row["free_target"] - 1) < 0.04
    by_ratio = [row["hidden_size"] for row in rows if row["compute"] == 1e19]
    assert by_ratio == sorted(by_ratio, reverse=True)  # wider experts, narrower model


@pytest.mark.parametrize(("phase", "quantity"), [("dense_share", "dense_share"), ("granularity", "granularity")])
def test_any_other_quantity_fills_the_last_degree_of_freedom(phase, quantity):
    for row in plan(compose("sweep", [f"phase={phase}"])).rows:
        experiment, targets = row.point.experiment, row.point.targets
        step = 8
        near = [
            quantity_at(experiment.backbone, targets, quantity, experiment.architecture.hidden_size + off)
            for off in (-step / 2, step / 2)
        ]
        assert min(near) - 1e-9 <= row.point.request.value <= max(near) + 1e-9
        realised = columns(row)[quantity]
        assert realised == pytest.approx(row.point.request.value, rel=0.5)  # few layers: integers are coarse


def test_an_optimum_of_ones_own_gets_a_thinned_list_of_feasible_widths():
    sweep = plan(compose("sweep", ["phase=2", "scale=1e19", "m_over_na=8.5", "n_over_na=20", "num_widths=12"]))
    settings = Settings(compose("sweep"))
    scale = settings.choose_scales(1e19)[0]
    backbone = settings.backbone(scale)
    targets = Targets.from_ratios(backbone, flops_per_token=scale.flops_per_token, m_over_na=8.5, n_over_na=20)
    feasible = feasible_widths(backbone, targets, settings.rules).tolist()
    widths = [row.point.experiment.architecture.hidden_size for row in sweep.rows]
    assert len(widths) == 12
    assert (widths[0], widths[-1]) == (feasible[0], feasible[-1])
    assert set(widths) <= set(feasible)


def laws_file(path, **laws):
    document = {"schema": 1, "laws": [{"id": name, **law} for name, law in laws.items()]}
    path.write_text(json.dumps(document))
    return f"laws={path}"


POWER = {
    "m_over_na_minus_6_at_reference": {"value": 3.0},
    "m_over_na_minus_6_exponent": {"value": -0.1},
}


def test_the_optimum_comes_from_fitted_laws(tmp_path):
    given = laws_file(
        tmp_path / "laws.json",
        m_over_na={
            "coefficients": POWER,
            "reference_compute": 1e19,
            "per_budget": [
                {"compute": 1e19, "status": "resolved", "optimum": 9.5},
                {"compute": 3e19, "status": "not resolved", "optimum": 20.0},
            ],
        },
    )
    rows = plan(compose("sweep", ["phase=2", "scale=[1e19,3e19,1e21]", "n_over_na=22", "num_widths=3", given])).rows
    asked = {row.point.compute: row.point.request.m_over_na for row in rows}
    # the budget's own optimum where it is resolved, the law elsewhere, outside the table too
    assert asked == {1e19: 9.5, 3e19: pytest.approx(6 + 3 * 3**-0.1), 1e21: pytest.approx(6 + 3 * 100**-0.1)}
    assert {row.point.compute: row.point.marks for row in rows}[1e21] == ("extrapolated",)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("{", "torn or no JSON"), ("{}", "no list 'laws'"),
     ('{"schema": 99, "laws": []}', "schema 99")],
)  # fmt: skip
def test_a_laws_file_that_is_none_is_refused(tmp_path, content, message):
    path = tmp_path / "laws.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        plan(compose("sweep", ["phase=2", "scale=1e19", f"laws={path}"]))


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"per_budget": 5}, "not of the form"),
        ({"per_budget": [5]}, "not of the form"),
        ({"per_budget": [{"compute": "x"}]}, "not of the form"),
        ({"coefficients": [1], "reference_compute": 1e19}, "not of the form"),
        ({"coefficients": {"m_over_na_exponent": 3, "m_over_na_at_reference": 3}, "reference_compute": 1e19}, "not of the form"),
        ({"coefficients": POWER, "reference_compute": -1e19}, "not of the form|gives m_over_na"),
        ({"coefficients": POWER | {"m_over_na_minus_6_exponent": {"value": 1e6}}, "reference_compute": 1e19}, "not of the form"),
        ({"coefficients": POWER | {"m_over_na_minus_6_at_reference": {"value": -9}}, "reference_compute": 1e19},
         "gives m_over_na"),
    ],
)  # fmt: skip
def test_a_law_that_is_damaged_is_refused_with_its_file(tmp_path, law, message):
    given = laws_file(tmp_path / "laws.json", m_over_na=law)
    with pytest.raises(ConfigError, match=rf"laws.json: the law m_over_na .*({message})|the law m_over_na ({message})"):
        plan(compose("sweep", ["phase=2", "scale=7e19", "n_over_na=22", "num_widths=2", given]))


def test_a_solved_width_that_rounds_out_of_its_interval_is_refused():
    """Rule 3 holds for every quantity: d = 2400 would leave an unrounded L_d just below 0."""
    words = ["phase=dense_share", "scale=3e20", "values=[0]", "rules.min_dense_layers=0", "rules.tolerance=0.9"]
    with pytest.raises(InfeasibleError, match="dense_share=0: hidden_size=2400: widths above"):
        plan(compose("sweep", words))


def test_hyperparameters_are_varied_at_every_optimum_that_is_given():
    rows = plan(compose("sweep", ["phase=hyperparameters", "scale=1e19", "m_over_na=[9,10]"])).rows
    assert Counter(row.point.request.m_over_na for row in rows) == {9: 25, 10: 25}


def test_laws_without_the_one_that_is_needed_say_what_they_have(tmp_path):
    given = laws_file(tmp_path / "laws.json", classical={})
    with pytest.raises(ConfigError, match=r"no optimal m_over_na is stated for budget 1e21: .*has classical"):
        plan(compose("sweep", ["phase=ratio", "scale=1e21", given]))
    low = {"m_over_na_at_reference": {"value": 9.0}, "m_over_na_exponent": {"value": -0.05}}
    given = laws_file(tmp_path / "low.json", m_over_na={"coefficients": low, "reference_compute": 1e19})
    with pytest.raises(ConfigError, match=r"reads 5\.\d+ at 1e24, where no architecture is"):
        plan(compose("sweep", ["phase=ratio", "scale=1e24", given]))


def test_learning_rate_and_batch_are_varied_around_the_budgets_own():
    rows = plan(compose("sweep", ["phase=hyperparameters", "scale=1e19"])).rows
    assert len(rows) == 25
    rates = {row.point.experiment.training.learning_rate for row in rows}
    batches = {row.point.experiment.training.global_batch_size for row in rows}
    assert {rate / 8.28e-4 for rate in rates} == {0.5, 0.7071, 1, 1.4142, 2}
    assert batches == {64, 88, 128, 184, 256}
    assert len({row.point.experiment.architecture for row in rows}) == 1
    for row in rows:  # the same tokens, to half a batch
        training = row.point.experiment.training
        assert abs(row.point.experiment.tokens - 10.7004e9) <= training.global_batch_size * 8192 / 2
    middle = [row for row in rows if row.point.request.learning_rate_factor == 1
              and row.point.experiment.training.global_batch_size == 128]  # fmt: skip
    phase2 = {row.run_id for row in plan(compose("sweep", ["phase=2", "scale=1e19"])).rows}
    assert middle[0].run_id in phase2  # the centre is a run of phase 2, and is trained once


@pytest.mark.parametrize("study", [study.name for study in STUDIES])
@pytest.mark.parametrize("backbone", ["demo", "demo-long"])
def test_every_study_can_be_planned_on_the_tiny_backbones(study, backbone):
    sweep = plan(compose("sweep", [f"phase={study}", f"backbone={backbone}"]))
    assert sweep.rows
    assert {row.point.experiment.training.precision for row in sweep.rows} == {"fp32"}


def test_infeasible_points_are_refused_or_skipped_and_told():
    words = ["phase=1", "scale=1e18", "m_over_na=[7,17]", "n_over_na=[22,31.9]"]
    with pytest.raises(InfeasibleError, match=r"no width is feasible.*(?s:.*)1 of 4 points.*infeasible=skip"):
        plan(compose("sweep", words))
    sweep = plan(compose("sweep", [*words, "infeasible=skip"]))
    assert [(point.request.m_over_na, point.request.n_over_na) for point in sweep.skipped] == [(17, 31.9)]
    assert len(sweep.rows) == 3
    with pytest.raises(InfeasibleError, match="289/9"):  # nothing is left: the reason, not an empty sweep
        plan(compose("sweep", ["phase=1", "scale=1e18", "n_over_na=40", "infeasible=skip"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["phase=2", "values=[500]"], "500 is not a multiple of 8.*496 or 504 would be"),
        (["phase=2", "values=[]"], "at least one"),
        (["phase=2", "num_widths=0"], "num_widths=0: a whole number"),
        (["phase=ratio", "num_widths=3"], r"num_widths=3 means nothing to the study ratio: it has values"),
        (["phase=rank", "m_over_na=7"], "means nothing to the study rank"),
        (["phase=classical", "values=[3]"], "means nothing to the study classical"),
        (["phase=refine", "scale=2e19"], "states no n_over_na for budget 2e19"),
        (["phase=2", "scale=2e19"], "no optimal m_over_na is stated for budget 2e19"),
        (["phase=ratio", "values=[0.01]"], "is at least .* where all .* layers are MoE"),
        (["phase=dense_share", "values=[1]"], "must be below 1"),
        (["phase=granularity", "values=[-1]"], "must be positive"),
        (["phase=2", "infeasible=ignore"], "it must be refuse or skip"),
        (["phase=hyperparameters", "studies.hyperparameters.batch_factors=[0]"], "each must be above 0"),
        (["phase=1", "studies.grid.repeat_at=9"], "repeat_at=9: all, or lists"),
        (["phase=2", "values=[nan]"], "nan is not finite"),
        (["phase=2", "values=[7]"], "7 is not a multiple of 8.*: 8 would be"),
        (["phase=hyperparameters", "studies.hyperparameters.batch_factors=[inf]"], "inf is not finite"),
        (["phase=hyperparameters", "studies.hyperparameters.batch_factors=[1e300]"], "10000 at most"),
        (["phase=1", "m_over_na=[6.0000001]"], "would have to be tried"),
        (["phase=1", "m_over_na=[inf]"], "inf is not finite"),
        (["phase=dense_share", "values=[-1]"], "must be at least 0"),
        (["phase=ratio", "values=[1]"], "width_ratio=1: hidden_size=768 rounds to"),
        (["phase=1", "limit=5"], "limit=5: a mapping is wanted"),
        (["phase=1", "rules=5"], "rules=5: a mapping is wanted"),
        (["phase=1", "scales=5"], "scales=5: a list of budgets is wanted"),
        (["phase=1", "scales=[1]"], "scales=1: a mapping is wanted"),
        (["phase=1", "scale=1e300"], "between 1e.06 and 1e.32"),
        (["phase=1", "rules.hidden_size_step=1000000000000000000000"], "at most 65536"),
        (["phase=1", "rules.min_dense_layers=99999999999999999999"], "at most 10000"),
        (["phase=1", "rules.tolerance=1e300"], "at most 1"),
        (["phase=1", "backbone.seq_length=10000000000000"], "seq_length is 1e.13: it must be at most"),
        (["phase=1", "backbone.ffn_ratio=1e300"], "at most 10000"),
        (["phase=1", "studies.grid.marks=5"], "studies.grid is not of the form"),
        (["phase=rank", "studies.rank.configurations=5"], "studies.rank is not of the form"),
        (["phase=rank", "studies.rank.configurations=[{m_over_na: 7}]"], "no 'n_over_na'"),
        (["phase=rank", "scale=3e18", "studies.rank.num_widths=0"], "num_widths=0: a whole number"),
        (["phase=classical", "studies.classical.shapes=5"], "studies.classical is not of the form"),
        (["phase=classical", "studies.classical.n_over_na=abc"], "n_over_na"),
    ],
)
def test_what_a_study_cannot_use_is_refused(words, message):
    scale = [] if any(word.startswith("scale") for word in words) else ["scale=1e18"]
    with pytest.raises((ConfigError, InfeasibleError), match=message):
        plan(compose("sweep", [*words, *scale]))

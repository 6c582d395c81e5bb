import json

import pandas as pd
import pytest

from analysis.collect import choose_sweeps, collect, write_losses
from harness.errors import HarnessError


def reasons(table: pd.DataFrame) -> dict[str, str]:
    out = table[table.left_out.notna()]
    return dict(zip(out.run_id, out.left_out, strict=True))


def test_every_kind_of_unusable_run_is_left_out_with_its_reason(root):
    root.classical(budgets=(1e11, 2e11), points=6)
    ids = [row["run_id"] for row in root.rows]
    runs = root.path / "runs"
    root.status(ids[0], "failed", "CUDA out of memory")
    root.status(ids[1], "diverged", "loss is NaN at step 7")
    root.status(ids[2], "running")
    root.result(ids[3], final_validation_loss=float("nan"))
    root.result(ids[4], tokens=512)
    (runs / ids[5] / "result.json").write_text('{"final_validation_lo')
    (runs / ids[6] / "result.json").unlink()
    (runs / ids[7] / "status.json").write_text('{"state": "do')
    for path in (runs / ids[8]).iterdir():
        path.unlink()
    (runs / ids[8]).rmdir()
    root.result(ids[9], final_validation_loss=None)
    root.write("s")
    table = collect(root.path, ["s"])
    planned = {row["run_id"]: row["tokens"] for row in root.rows}
    assert reasons(table) == {
        ids[0]: "failed: CUDA out of memory",
        ids[1]: "diverged: loss is NaN at step 7",
        ids[2]: "running",
        ids[3]: "the final validation loss is nan",
        ids[4]: f"ended early: 512 of {planned[ids[4]]:,} tokens",
        ids[5]: "result.json is torn",
        ids[6]: "result.json is missing",
        ids[7]: "status.json is torn",
        ids[8]: "not run yet",
        ids[9]: "no final validation loss",
    }
    assert len(table) == 12


def test_one_run_in_two_sweeps_is_one_row_and_in_two_studies_two(root):
    root.classical(budgets=(1e11,)).write("a").write("b")
    root.write("c", [{**root.rows[0], "study": "grid"}])
    table = collect(root.path, ["a", "b", "c"])
    assert len(table) == 6
    assert table.left_out.isna().all()
    assert set(table.sweep) == {"a, b", "c"}


def test_a_repeat_that_plans_other_numbers_is_left_out(root):
    root.classical(budgets=(1e11,)).write("a")
    root.write("b", [{**root.rows[0], "tokens": 512}])
    table = collect(root.path, ["a", "b"])
    (reason,) = reasons(table).values()
    assert reason.startswith("duplicate of run id")
    assert "512" in reason


def test_run_ids_that_look_like_numbers_stay_text(root):
    root.classical(budgets=(1e11,))
    root.rows[0]["run_id"] = "123456789e12"
    table = collect(root.write("a").path, ["a"])
    assert "123456789e12" in set(table.run_id)


def test_tables_survive_writing(root):
    table = collect(root.classical(budgets=(1e11,)).write("a").path, ["a"])
    parquet, csv = write_losses(table, root.path)
    for written in (pd.read_parquet(parquet), pd.read_csv(csv)):
        assert written.final_validation_loss.tolist() == pytest.approx(table.final_validation_loss.tolist())
    assert not list(root.path.glob(".*.tmp"))


def test_sweeps_are_chosen_by_name_list_commas_or_all(root):
    root.classical(budgets=(1e11,)).write("alpha").write("beta")
    assert choose_sweeps(root.path, "alpha") == ["alpha"]
    assert choose_sweeps(root.path, "beta,alpha") == ["alpha", "beta"]
    assert choose_sweeps(root.path, ["beta"]) == ["beta"]
    assert choose_sweeps(root.path, "all") == ["alpha", "beta"]
    with pytest.raises(HarnessError, match="did you mean 'alpha'"):
        choose_sweeps(root.path, "alhpa")
    with pytest.raises(HarnessError, match="alpha, beta"):
        choose_sweeps(root.path, None)
    with pytest.raises(HarnessError, match="holds no sweep"):
        choose_sweeps(root.path / "elsewhere", "all")


def test_a_sweep_without_columns_or_rows_is_refused(root):
    root.classical(budgets=(1e11,))
    frame = pd.DataFrame(root.rows)
    root.write("a", frame.drop(columns="tokens").to_dict("records"))
    with pytest.raises(HarnessError, match="lacks the columns tokens"):
        collect(root.path, ["a"])
    (root.path / "sweeps" / "b.csv").write_text("")
    with pytest.raises(HarnessError, match="not a table"):
        collect(root.path, ["b"])
    root.write("c", [{**root.rows[0], "flops_per_token": -1}])
    with pytest.raises(HarnessError, match="must be a positive number"):
        collect(root.path, ["c"])


def test_runs_of_another_recipe_are_told_apart(root):
    root.classical(budgets=(1e11,))
    for number, row in enumerate(root.rows):
        experiment = {
            "schema": 1,
            "architecture": {"hidden_size": number},
            "training": {"seed": number, "init_std": 0.02 if number else 0.08},
        }
        (root.path / "runs" / row["run_id"] / "experiment.json").write_text(json.dumps(experiment))
    table = collect(root.write("a").path, ["a"])
    assert table.recipe.nunique() == 2
    assert table.recipe.value_counts().max() == 4

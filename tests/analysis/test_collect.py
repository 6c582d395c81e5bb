import json
import os

import pandas as pd
import pytest

import analysis.collect as collect_module
from analysis.cache import Cache
from analysis.collect import CACHE, LeftOutError, choose_sweeps, collect, write_losses
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


def experiment(root, run_id: str, data: dict | None, **training) -> None:
    value = {"schema": 1, "architecture": {}, "training": training, "data": data}
    (root.path / "runs" / run_id / "experiment.json").write_text(json.dumps(value))


def test_tokens_and_flops_may_be_one_percent_off_the_plan_and_no_more(root):
    root.classical(budgets=(1e11,), points=6)
    ids = [row["run_id"] for row in root.rows]
    planned = {row["run_id"]: row["tokens"] for row in root.rows}
    spent = {row["run_id"]: row["flops_per_token"] * row["tokens"] for row in root.rows}
    for row in root.rows:
        row["megatron_flops_per_token"] = 1.3 * row["flops_per_token"]
    root.result(ids[0], tokens=round(0.992 * planned[ids[0]]))
    root.result(ids[1], tokens=round(1.012 * planned[ids[1]]))
    root.result(ids[2], realised_compute=1.009 * spent[ids[2]])
    root.result(ids[3], realised_compute=0.98 * spent[ids[3]])
    root.result(ids[4], megatron_flops=1.3 * 1.05 * spent[ids[4]])
    out = reasons(collect(root.write("s").path, ["s"]))
    assert set(out) == {ids[1], ids[3], ids[4]}
    assert out[ids[1]].startswith("trained on")
    assert out[ids[3]].startswith("FLOPs (M D) differ from the plan")
    assert out[ids[3]].endswith("-2.0%")
    assert out[ids[4]].startswith("Megatron's FLOPs differ from the plan")
    assert out[ids[4]].endswith("+5.0%")


def test_runs_on_other_data_than_the_most_are_left_out(root):
    root.classical(budgets=(1e11,), points=5)
    ids = [row["run_id"] for row in root.rows]
    for index, run_id in enumerate(ids):
        experiment(root, run_id, {"digest": "aaaa" if index else "bbbb"})
    root.status(ids[1], "failed")
    assert reasons(collect(root.write("s").path, ["s"])) == {
        ids[0]: "trained on data bbbb, most others (3) on aaaa",
        ids[1]: "failed",
    }
    experiment(root, ids[2], {"digest": "bbbb"})
    table = collect(root.path, ["s"])
    assert set(table.data.dropna()) == {"aaaa", "bbbb"}
    assert table.left_out.notna().all()  # two and two: no run says which was meant
    assert "none of them that of most runs" in reasons(table)[ids[0]]


def test_simulated_runs_have_no_data_to_differ_in(root):
    root.classical(budgets=(1e11,), simulated=True)
    for index, row in enumerate(root.rows):
        experiment(root, row["run_id"], {"digest": f"{index % 2}"})
    assert collect(root.write("s").path, ["s"]).left_out.isna().all()


def test_strict_makes_a_run_that_cannot_be_used_an_error(root):
    root.classical(budgets=(1e11, 2e11)).write("s")
    assert len(collect(root.path, ["s"], strict=True)) == 10
    for row in root.rows[:7]:
        root.status(row["run_id"], "failed", "CUDA out of memory")
    with pytest.raises(LeftOutError, match="7 of 10 rows cannot be used") as caught:
        collect(root.path, ["s"], strict=True)
    assert len(caught.value.rows) == 7
    assert "failed: CUDA out of memory" in str(caught.value)
    assert "... and 2 more" in str(caught.value)


@pytest.fixture
def changed_runs(monkeypatch):
    """A function: how many things a collection of a root's sweep reads anew."""
    caches = []
    monkeypatch.setattr(collect_module, "Cache", lambda path: caches.append(Cache(path)) or caches[-1])

    def count(root) -> int:
        collect(root.path, ["s"])
        return caches[-1].fresh

    return count


def test_a_second_collection_reads_only_what_changed(root, changed_runs):
    root.classical(budgets=(1e11, 2e11), points=5).write("s")
    assert changed_runs(root) == 10
    assert changed_runs(root) == 0
    first, second, third = (row["run_id"] for row in root.rows[:3])
    root.status(first, "diverged", "loss is NaN at step 7")
    root.result(second, final_validation_loss=2.5)
    experiment(root, third, None, init_std=0.5)
    assert changed_runs(root) == 3
    table = collect(root.path, ["s"]).set_index("run_id")
    assert table.loc[first, "left_out"] == "diverged: loss is NaN at step 7"
    assert table.loc[second, "final_validation_loss"] == 2.5
    assert table.loc[third, "recipe"] is not None
    for path in (root.path / "runs" / first).iterdir():
        path.unlink()
    (root.path / "runs" / first).rmdir()
    assert collect(root.path, ["s"]).set_index("run_id").loc[first, "left_out"] == "not run yet"


def test_a_change_that_keeps_time_and_size_is_seen_where_the_file_was_replaced(root):
    root.classical(budgets=(1e11,), points=5).write("s")
    path = root.path / "runs" / root.rows[0]["run_id"] / "result.json"
    collect(root.path, ["s"])
    before, text = path.stat(), path.read_text()
    loss = json.loads(text)["final_validation_loss"]
    other = f"{loss:.17g}"[:-1] + ("1" if f"{loss:.17g}"[-1] != "1" else "2")
    new = path.with_suffix(".tmp")
    new.write_text(text.replace(json.dumps(loss), other[: len(json.dumps(loss))].ljust(len(json.dumps(loss)), "3")))
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert new.stat().st_size == before.st_size
    new.replace(path)
    wanted = json.loads(path.read_text())["final_validation_loss"]
    assert wanted != loss
    assert wanted in set(collect(root.path, ["s"]).final_validation_loss)


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"schema": 99, "facts": {}}', '{"schema": 1, "facts": []}', '{"schema": 1, "facts": {"run x": 3}}'],
)
def test_a_torn_cache_is_none(root, content):
    root.classical(budgets=(1e11,)).write("s")
    expected = collect(root.path, ["s"])
    cached = collect(root.path, ["s"])
    pd.testing.assert_frame_equal(expected, cached)
    (root.path / CACHE).write_text(content)
    pd.testing.assert_frame_equal(expected, collect(root.path, ["s"]))
    (root.path / CACHE).unlink()
    pd.testing.assert_frame_equal(expected, collect(root.path, ["s"]))


def test_what_did_not_change_is_not_opened_again(root):
    """(How long 10,000 runs take is measured by benchmarks/collect.py.)"""
    root.classical(budgets=(1e11,), points=5).write("s")
    collect(root.path, ["s"])
    for row in root.rows:
        for path in (root.path / "runs" / row["run_id"]).glob("*.json"):
            before = path.stat()
            path.write_bytes(b"!" * before.st_size)  # in place, its time put back: only reading would show it
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert collect(root.path, ["s"]).left_out.isna().all()

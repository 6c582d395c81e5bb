import csv
import json
import re
import sys
import time

import pytest
from omegaconf import OmegaConf

from harness.cli import compose
from harness.errors import ConfigError, DataError
from harness.scales import budget_label
from harness.sweep import plan, show, to_do, write
from tests.conftest import REPOSITORY, command

FIRST_COLUMNS = (
    "run_id study compute flops_per_token tokens active_params total_params m_over_na n_over_na hidden_size num_layers "
    "num_dense_layers num_moe_layers ffn_hidden_size moe_ffn_hidden_size num_query_heads num_kv_heads head_dim num_experts "
    "top_k seq_length learning_rate global_batch_size train_iters embedding_params megatron_params "
    "megatron_flops_per_token gpus est_gpu_hours target_flops_per_token target_active_params target_total_params "
    "target_m_over_na target_n_over_na realised_compute r_attention r_dense r_moe granularity seed trunk marks"
).split()


def rows_of(root, name):
    with (root / "sweeps" / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_command_of_the_paper_writes_the_published_architectures(tmp_path):
    done = command("-m", "harness.sweep", "phase=1", "scale=1e19", f"root={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path, "phase1-1e19")
    assert list(rows[0])[: len(FIRST_COLUMNS)] == FIRST_COLUMNS
    published = list(csv.DictReader((REPOSITORY / "tests/harness/published_architectures.csv").open()))
    wanted = [row for row in published if row["table"] == "11"]
    assert len(rows) == len(wanted) == 36
    assert {row["marks"] for row in rows} == {"inferred"}
    for row in rows:
        density, expansion = round(float(row["target_m_over_na"])), round(float(row["target_n_over_na"]))
        match = next(w for w in wanted if (float(w["m_over_na"]), float(w["n_over_na"])) == (density, expansion))
        for column in ("hidden_size", "num_dense_layers", "num_moe_layers", "moe_ffn_hidden_size"):
            assert row[column] == match[column]
    experiments = (tmp_path / "sweeps/phase1-1e19.jsonl").read_text().splitlines()
    assert len(experiments) == 36
    assert json.loads(experiments[0])["training"]["train_iters"] == 10205
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweeps"]  # no outputs/ or logs of Hydra's


def test_all_216_points(tmp_path):
    sweep = plan(compose("sweep", ["phase=1"]))
    assert len(sweep.rows) == len({row.run_id for row in sweep.rows}) == 216
    assert sweep.name == "phase1-all"
    assert max(abs(row.point.experiment.counts.flops_per_token / row.point.targets.flops_per_token - 1)
               for row in sweep.rows) <= 0.10  # fmt: skip


def test_planning_imports_no_torch_and_is_quick(tmp_path):
    code = (
        "import sys, time; start = time.process_time()\n"
        "from harness.cli import compose; from harness.sweep import plan, write; from harness.bill import print_plan\n"
        f"sweep = plan(compose('sweep', ['phase=1', 'root={tmp_path}'])); print_plan(sweep.rows, sweep.cluster); write(sweep)\n"
        "assert not {'torch', 'megatron', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "print('CPU', time.process_time() - start)\n"
    )
    done = command("-c", code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.rsplit("CPU", 1)[1]) < 10  # the budget of 2 s is measured in benchmarks/


def test_show_prints_a_command_and_writes_nothing(tmp_path):
    done = command("-m", "harness.sweep", "phase=1", "scale=1e19", "show=1", f"root={tmp_path / 'none'}")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "none").exists()
    golden = (REPOSITORY / "tests/harness/golden_command_1e19.txt").read_text()
    assert re.sub(r"/\S*/none/runs", "<root>/runs", done.stdout) == golden


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["phase=17"], "phase=17: no such study; choose one of 1, 2, classical, rank, grid"),
        ([], "phase is not set"),
        (["phase=classicl"], "did you mean 'classical'"),
        (["phase=1", "scale=abc"], "scale=abc: .*1e18, 3e18"),
        (["phase=refine", "scale=7e19"], "states no n_over_na for budget 7e19"),
        (["phase=1", "scale=[]"], "at least one"),
        (["phase=1", "m_over_na=[5]"], "m_over_na=5: .*above 6"),
        (["phase=1", "n_over_na=33"], "n_over_na=33: .*289/9"),
        (["phase=1", "m_over_na=[a]"], "a number or a list of numbers"),
        (["phase=1", "+foo=1"], r"\+foo=1: there is no such option to add"),
        (["phase=1", "~seed"], "~seed: options cannot be taken away"),
        (["phase=1", "--foo"], "--foo: no such flag"),
        (["phse=1"], "unknown option 'phse'; did you mean 'phase'"),
        (["phase=1", "training.warmup_shar=0"], "did you mean 'training.warmup_share'"),
        (["phase=1", "backbone=dmo"], "backbone=dmo: no such choice; there are .*did you mean 'demo'"),
        (["phase=1", "backbone.num_experts=many"], "backbone.num_experts='many': a value of type int"),
        (["phase=1", "training.validation_sequences=7"], "validation_sequences=7|no power of two"),
        (["phase=1", "training.tokens=lots"], "training.tokens=lots: it must be fixed"),
        (["phase=1", "seeds=0"], "seeds=0"),
        (["phase=1", "scale=1e19", "show=37"], "show=37: .*experiments 1 to 36"),
        (["phase=1", "rules.tolerance=0.0001"], "no width is feasible"),
        (["phase=1", "scale=inf"], "scale=inf: a budget in FLOPs must be finite"),
        (["phase=1", "rules=null"], "rules=null"),
        (["phase=1", "seed=abc"], "seed=abc: a whole number"),
        (["phase=1", "seed=-5"], "seed=-5: a whole number"),
        (["phase=1", "seeds=true"], "seeds=True"),
        (["phase=1", "seeds=1000000000"], "seeds=1000000000: .*1000"),
        (["phase=1", "scales=[]"], "no budget"),
        (["phase=1", "data.path=5"], "data.path=5: a path"),
        (["phase=1", "name=../x"], "name=../x: "),
        (["phase=1", "name=all"], "not 'all'"),
        (["phase=1", "extend=maybe"], "extend=maybe: true or false"),
        (["phase=1", "show=true"], "show=True"),
        (["phase=1", "training.decay_share=nan"], "training.decay_share=nan: a number between 0 and 1"),
        (["phase=1", "training.decay_share=-0.1"], "training.decay_share=-0.1: a number between 0 and 1"),
        (["phase=1", "training.warmup_share=abc"], "training.warmup_share=abc"),
        (["phase=1", "training.aux_loss_coeff=nan"], "aux_loss_coeff=nan: a finite number"),
        (["phase=1", "training.decay_style=foo"], "decay_style=foo: choose one of exponential"),
        (["phase=1", "training.load_balancing=aux_los"], "did you mean 'aux_loss'"),
        (["phase=1", "training.adam_beta1=2"], "adam_beta1=2.0: it must be at least 0 and below 1"),
        (["phase=1", "training.validation_sequences=0"], "validation_sequences=0: it must be at least 1"),
        (["phase=1", "training.learning_rate_times_width=-1"], "learning_rate_times_width=-1: a number"),
        (["phase=1", "training.min_learning_rate_share=2"], "min_learning_rate_share=2"),
        (["phase=1", "training.epochs=inf"], "epochs=inf: a finite number"),
        (["phase=1", "cluster.mfu=7"], "cluster.mfu=7"),
        (["phase=1", "cluster.peak_flops=0"], "cluster.peak_flops=0"),
        (["phase=1", "rules.hidden_size_step=0"], "rules.hidden_size_step=0"),
        (["phase=1", "backbone.ffn_ratio=0"], "backbone.ffn_ratio is 0.0: it must be above 0"),
        (["phase=1", "backbone.num_shared_experts=-1"], "num_shared_experts is -1"),
        (["phase=classical", "studies.classical.sizes=[0]"], "sizes: 0 is not above 0"),
        (["phase=classical", "studies.classical.sizes=[abc]"], r"sizes=\['abc'\]: a number or a list"),
        (["phase=classical", "m_over_na=[9]"], r"m_over_na=\[9\] means nothing to the study classical"),
        (["phase=1", "m_over_na=[6.01]"], "M/N_a=6.01, N/N_a=12"),
        (["phase=1", "launch=local", "launch.slots=0"], "launch.slots=0"),
        (["phase=1", "launch=local", "launch.workers=1"], "valid options of launch: .*launch.slots"),
        (["phase=1", "launch=local"], "no dataset is named"),
        (["phase=1", "backbone=null"], "takes the name of one of its files"),
        (["phase=classical", "studies.classical.sizes=null"], "at least one number"),
        (["phase=classical", "training.tokens=foo"], "training.tokens=foo: it must be fixed"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, words, message):
    from io import StringIO
    from unittest.mock import patch

    from harness import cli, sweep

    error = StringIO()
    argv = ["sweep", *words, f"root={tmp_path / 'none'}"]
    with patch.object(sys, "argv", argv), patch.object(sys, "stderr", error), pytest.raises(SystemExit) as left:
        cli.run("sweep", sweep.main)
    assert left.value.code == 2
    assert re.search(message, error.getvalue()), error.getvalue()
    assert "Traceback" not in error.getvalue()
    assert not (tmp_path / "none").exists()


def config(tmp_path, *more):
    return compose("sweep", ["phase=1", "scale=1e18", f"root={tmp_path}", *more])


def test_planning_again_changes_nothing_and_other_settings_are_refused(tmp_path):
    write(plan(config(tmp_path)))
    before = {path.name: path.read_bytes() for path in (tmp_path / "sweeps").iterdir()}
    write(plan(config(tmp_path)))
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "sweeps").iterdir()}
    with pytest.raises(
        ConfigError, match=r"weight_decay: 0.1 -> 0.2.*remove its files"
    ):  # without data it cannot have run
        write(plan(config(tmp_path, "training.weight_decay=0.2")))
    data = f"data.path={manifest_in(tmp_path)}"
    with pytest.raises(ConfigError, match=r"n_over_na"):  # part of it, on the data that there is now
        write(plan(config(tmp_path, data, "n_over_na=[22]")))
    ids = write(plan(config(tmp_path, data)))  # all of it: takes the place of the plan without data
    assert [row["run_id"] for row in rows_of(tmp_path, "phase1-1e18")] == ids
    assert not set(ids) & {row.run_id for row in plan(config(tmp_path)).rows}
    with pytest.raises(ConfigError, match=r"training.weight_decay: 0.1 -> 0.2"):
        write(plan(config(tmp_path, data, "training.weight_decay=0.2")))


DATA = {
    "name": "d", "digest": "0", "tokenizer": "byte", "vocab_size": 152064,
    "train_tokens": 10**11, "validation_tokens": 10**9,
}  # fmt: skip


def manifest_in(path, name="dataset", **changes):
    """A directory that says it holds a dataset, for plans that nobody trains."""
    (path / name).mkdir()
    (path / name / "manifest.json").write_text(json.dumps({"schema": 1, "data": DATA | changes, "bytes": {}}))
    return path / name


def test_a_sweep_grows_with_extend(tmp_path):
    dataset = manifest_in(tmp_path)
    few = config(tmp_path, f"data.path={dataset}", "m_over_na=[9]")
    first = write(plan(few))
    with pytest.raises(ConfigError, match="extend=true"):
        write(plan(config(tmp_path, f"data.path={dataset}", "m_over_na=[9, 11]")))
    both = write(plan(config(tmp_path, f"data.path={dataset}", "m_over_na=[9, 11]", "extend=true")))
    assert both[: len(first)] == first
    assert len(both) == 12
    assert write(plan(few)) == both  # all of it is there already
    other = manifest_in(tmp_path, "other", digest="1")
    with pytest.raises(ConfigError, match=r"planned on dataset d \(0\)"):
        write(plan(config(tmp_path, f"data.path={other}", "m_over_na=[8]", "extend=true")))
    assert [row["run_id"] for row in rows_of(tmp_path, "phase1-1e18")] == both


def test_a_corpus_that_is_too_small_is_refused_with_both_numbers(tmp_path):
    dataset = manifest_in(tmp_path, train_tokens=10**9)
    with pytest.raises(DataError, match=r"3,741,843,457 tokens.*1,000,000,000"):
        plan(config(tmp_path, f"data.path={dataset}"))
    assert plan(config(tmp_path, f"data.path={dataset}", "training.epochs=4")).rows


def test_the_demo_spans_what_it_must():
    rows = plan(compose("sweep", ["phase=classical", "backbone=demo"])).rows
    for budget in {row.point.compute for row in rows}:
        sizes = {row.point.experiment.counts.flops_per_token for row in rows if row.point.compute == budget}
        assert len(sizes) >= 5
        assert max(sizes) / min(sizes) > 14.4  # a factor of 16 asked for, 10% lost to rounding
    grid = plan(compose("sweep", ["phase=1", "backbone=demo"])).rows
    assert len(rows) + len(grid) >= 24
    assert len({row.point.experiment.training.seed for row in grid}) == 3


def test_budget_labels():
    assert [budget_label(value) for value in (1e18, 3e20, 2.5e19, 5e10)] == ["1e18", "3e20", "2.5e19", "5e10"]


def test_show_of_the_demo_is_for_a_cpu():
    text = show(plan(compose("sweep", ["phase=1", "backbone=demo"])), 1)
    assert text.startswith("OMP_NUM_THREADS=1 python -m harness.megatron.pretrain")
    assert time.strftime("%Y-%m-%d") not in text


@pytest.mark.parametrize("harm", ["torn .jsonl", "no .jsonl", "no .yaml", "short .csv", "empty .yaml"])
def test_part_of_a_sweep_does_not_pass_for_the_whole(tmp_path, harm):
    from harness.sweepfile import load_sweep

    write(plan(config(tmp_path)))
    file = next((tmp_path / "sweeps").glob(f"*{harm.split()[1]}"))
    if harm.startswith("no"):
        file.unlink()
    else:
        text = file.read_text()
        file.write_text("" if harm.startswith("empty") else text[: 2 * len(text) // 3])
    for use in (lambda: load_sweep(tmp_path, "phase1-1e18"), lambda: write(plan(config(tmp_path)))):
        with pytest.raises(ConfigError, match=r"is damaged \(.*restore its files"):
            use()


GROWTH = {
    "a budget": ["scale=[1e18,3e18]"],
    "a budget that is not in the table": ["scale=[1e18,2e18]"],
    "a ratio": ["scale=1e18", "m_over_na=[7,8,9,10,11,14,17]"],
    "seeds": ["scale=1e18", "seeds=3"],
    "a whole set with another seed": ["scale=1e18", "seed=2"],
}


@pytest.mark.parametrize(
    "what", [what if what == "seeds" else pytest.param(what, marks=pytest.mark.slow) for what in GROWTH]
)
def test_a_sweep_grows_and_keeps_every_run(tmp_path, what):
    base = [f"root={tmp_path}", "phase=1", "name=mine"]
    write(plan(compose("sweep", [*base, "scale=1e18"])))
    before, lines = rows_of(tmp_path, "mine"), (tmp_path / "sweeps/mine.jsonl").read_text()
    with pytest.raises(ConfigError, match=r"planned with other settings.*extend=true"):
        write(plan(compose("sweep", [*base, *GROWTH[what]])))
    assert rows_of(tmp_path, "mine") == before  # the refusal wrote nothing
    write(plan(compose("sweep", [*base, *GROWTH[what], "extend=true"])))
    after = rows_of(tmp_path, "mine")
    added = {"a budget": 36, "a budget that is not in the table": 36, "a ratio": 6, "seeds": 2}
    assert after[: len(before)] == before
    assert len(after) == len(before) + added.get(what, 36)
    assert (tmp_path / "sweeps/mine.jsonl").read_text().startswith(lines)
    for words in (
        ["scale=1e18"],
        [*GROWTH[what], "extend=true"],
        GROWTH[what],
    ):  # as it was, and as it grew: nothing changes
        write(plan(compose("sweep", [*base, *words])))
        assert rows_of(tmp_path, "mine") == after
    with pytest.raises(
        ConfigError, match=r"m_over_na: None -> 7|m_over_na: .* -> 7"
    ):  # part of it, with settings of its own
        write(plan(compose("sweep", [*base, "scale=1e18", "m_over_na=7"])))
    with pytest.raises(ConfigError, match="is of phase=1, not refine"):
        write(plan(compose("sweep", [f"root={tmp_path}", "phase=refine", "name=mine", "extend=true"])))
    written = OmegaConf.load(tmp_path / "sweeps/mine.yaml")
    assert written.scale == 1e18  # what it was first planned with
    assert written.m_over_na is None
    assert len(written.extensions) == 1  # and what was added
    everything = sum(each.gpu_hours for each in to_do(plan(compose("sweep", [*base, "scale=1e18"]))))
    assert everything > 1.01 * sum(row.estimate.gpu_hours for row in plan(compose("sweep", [*base, "scale=1e18"])).rows)


def test_a_sweep_of_an_older_version_grows_with_its_columns(tmp_path):
    base = [f"root={tmp_path}", "phase=1", "name=mine"]
    write(plan(compose("sweep", [*base, "scale=1e18"])))
    path = tmp_path / "sweeps/mine.csv"
    old = [{key: row[key] for key in FIRST_COLUMNS} for row in rows_of(tmp_path, "mine")]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, FIRST_COLUMNS)
        writer.writeheader()
        writer.writerows(old)
    write(plan(compose("sweep", [*base, "scale=[1e18,3e18]", "extend=true"])))
    rows = rows_of(tmp_path, "mine")
    assert list(rows[0])[: len(FIRST_COLUMNS)] == FIRST_COLUMNS
    assert [{key: row[key] for key in FIRST_COLUMNS} for row in rows[:36]] == old
    assert rows[0]["width_ratio"] == ""
    assert float(rows[-1]["width_ratio"]) > 0


def test_a_long_table_is_printed_by_its_ends(tmp_path, capsys):
    from harness.bill import print_plan

    ratios = ",".join(str(6.5 + i / 4) for i in range(40))
    sweep = plan(compose("sweep", ["phase=1", f"m_over_na=[{ratios}]", "n_over_na=[18,22]", "infeasible=skip"]))
    print_plan(sweep.rows, sweep.cluster)
    printed = capsys.readouterr().out
    assert len(sweep.rows) > 400
    assert f"(the first and the last 20 of {len(sweep.rows)} runs" in printed
    assert sweep.rows[19].run_id in printed
    assert sweep.rows[20].run_id not in printed
    assert sweep.rows[-20].run_id in printed

"""Foreign runs: real files of each kind, written here by the programs that write them, or by a real training (logs/tiny.log)."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.cache import Cache
from analysis.collecting import table_of
from analysis.sources import megatron_model
from analysis.sources.console import read_logs
from analysis.sources.csv_table import Mapping, read_csv
from analysis.sources.record import Record, argument
from analysis.sources.table import Reading, rows_of
from analysis.sources.wandb_log import TornLog, read_records
from analysis.sources.wandb_offline import read_offline
from analysis.sources.wandb_online import read_online
from harness.cli import compose
from harness.errors import ConfigError, HarnessError
from tests.conftest import REPOSITORY, command

LOG = Path(__file__).parent / "logs" / "tiny.log"
"""Console log of a real training of `tests.conftest.tiny_experiment` (megatron-core 0.19.2, --log-interval 3); arguments that
nothing reads, INFO lines and lines of more than 900 characters are cut, and its directory is called /data."""

REFERENCE = REPOSITORY.parent / "shared" / "reference" / "losses"


def table(root: Path, *options: str) -> pd.DataFrame:
    return table_of(compose("collect", [f"root={root}", *options]), root)


def arguments(**changes) -> dict:
    values = {
        "hidden_size": 16, "ffn_hidden_size": 48, "moe_ffn_hidden_size": 16, "num_layers": 2, "moe_layer_freq": [0, 1],
        "num_attention_heads": 2, "num_query_groups": 1, "group_query_attention": True, "kv_channels": 8, "num_experts": 4,
        "moe_router_topk": 2, "moe_shared_expert_intermediate_size": 16, "seq_length": 32, "vocab_size": 257,
        "make_vocab_size_divisible_by": 8, "qk_layernorm": True, "swiglu": True, "train_iters": 12, "global_batch_size": 4,
        "lr": 0.01, "seed": 1, "train_data_path": ["/data/train"],
    }  # fmt: skip
    return values | changes


def record(
    run_id: str = "a", *, last: float = 3.0, steps: int = 12, validation: dict | None = None, **changes
) -> Record:
    training = {step: last + 0.1 * (steps - step) for step in range(1, steps + 1)}
    if not math.isfinite(last):
        training = dict.fromkeys(range(1, steps), 4.0) | {steps: last}
    return Record(
        run_id=run_id,
        place=f"/there/{run_id}",
        arguments=arguments(**changes),
        training=training,
        validation={steps: last + 0.05} if validation is None else validation,
    )


def reasons(records: list[Record], **reading) -> dict[str, str | None]:
    return {row["run_id"]: row["left_out"] for row in rows_of(records, Reading(**reading), "s")}


# console logs


def test_a_real_log_gives_the_model_the_losses_and_the_spending(tmp_path):
    found = table(tmp_path, "source=console", f"path={LOG}")
    (row,) = found.to_dict("records")
    from tests.conftest import tiny_experiment

    counts = tiny_experiment(None).counts  # the log's model, counted from our own description of it
    for name in (
        "flops_per_token",
        "active_params",
        "total_params",
        "embedding_params",
        "megatron_params",
        "m_over_na",
    ):
        assert row[name] == getattr(counts, name), name
    assert (row["tokens"], row["trained_tokens"], row["train_iters"]) == (12 * 4 * 32, 12 * 4 * 32, 12)
    assert row["realised_compute"] == counts.flops_per_token * 12 * 4 * 32
    assert row["megatron_flops"] == counts.megatron_flops_per_token * 12 * 4 * 32
    text = LOG.read_text()
    assert f"lm loss value: {row['final_validation_loss']:.6E} |" in text
    logged = [float(line.split("lm loss: ")[1].split(" |")[0]) for line in text.splitlines() if " lm loss: " in line]
    assert len(logged) == 5
    assert row["final_training_loss"] == pytest.approx(sum(logged[1:]) / 4)  # the last ten steps: all but the first
    assert (row["learning_rate"], row["seed"], row["state"], row["left_out"]) == (0.01, 1, "done", None)
    assert row["simulated"] is False


def test_attempts_of_one_run_in_several_logs_are_merged_and_other_text_is_passed_over(tmp_path):
    lines = LOG.read_text().splitlines(keepends=True)
    cut = next(index for index, line in enumerate(lines) if "iteration        6/" in line)
    head = next(index for index, line in enumerate(lines) if "end of arguments" in line) + 1
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "1.log").write_text(
        "".join(lines[: cut + 1]) + " [2026-11-25 20:26] iteration        7/      12 | consu"
    )
    (tmp_path / "logs" / "2.log").write_text("".join([*lines[:head], *lines[cut + 1 :]]))
    (tmp_path / "logs" / "notes.txt").write_text("not a log\n")
    (found,) = read_logs(tmp_path / "logs", Cache(tmp_path / "c"))
    (whole,) = read_logs(LOG, Cache(tmp_path / "d"))
    assert found.training == whole.training
    assert found.validation == whole.validation
    with pytest.raises(HarnessError, match="no log of a Megatron training"):
        read_logs(tmp_path / "logs" / "notes.txt", Cache(tmp_path / "c"))


def test_printed_arguments_are_read_as_values():
    values = ["16", "0.01", "True", "None", "[0, 1]", "adam", "['/data/train']", "1e-08"]
    assert [argument(value) for value in values] == [16, 0.01, True, None, [0, 1], "adam", ["/data/train"], 1e-8]


# TensorBoard


def write_events(directory: Path, values: dict, losses: dict[int, float], validation: dict[int, float]) -> None:
    """As Megatron does: arguments as text, losses as scalars."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(directory)) as writer:
        for name, value in values.items():
            writer.add_text(name, str(value))
        for step, loss in losses.items():
            writer.add_scalar("lm loss", loss, step)
        for step, loss in validation.items():
            writer.add_scalar("lm loss validation", loss, step)


def test_event_files_are_runs_by_directory_and_resumed_steps_count_once(tmp_path):
    pytest.importorskip("tensorboard")
    write_events(tmp_path / "tb" / "one", arguments(), {step: 5.0 - step / 10 for step in range(1, 9)}, {})
    write_events(tmp_path / "tb" / "one", arguments(), {step: 4.0 - step / 10 for step in range(7, 13)}, {12: 3.25})
    write_events(tmp_path / "tb" / "two", arguments(seed=2), dict.fromkeys(range(1, 6), 4.0), {})
    found = table(tmp_path, "source=tensorboard", f"path={tmp_path / 'tb'}", "study=ratio").set_index("run_id")
    assert found.loc["one", "left_out"] is None or pd.isna(found.loc["one", "left_out"])
    assert found.loc["one", "final_validation_loss"] == 3.25
    expected = [5.0 - step / 10 for step in range(3, 7)] + [4.0 - step / 10 for step in range(7, 13)]
    assert found.loc["one", "final_training_loss"] == pytest.approx(sum(expected) / 10, rel=1e-6)
    assert found.loc["two", "left_out"] == "ended early: 640 of 1,536 tokens"
    assert set(found.study) == {"ratio"}
    (tmp_path / "none").mkdir()
    with pytest.raises(HarnessError, match="no TensorBoard event file"):
        table(tmp_path, "source=tensorboard", f"path={tmp_path / 'none'}")


# W&B


WRITE_WANDB = """
import json, sys, wandb
spec = json.loads(sys.argv[1])
run = wandb.init(dir=spec["dir"], project=spec["project"], group=spec["group"], id=spec["id"], config=spec["config"],
                 mode="offline", settings=wandb.Settings(console="off", x_disable_stats=True, silent=True))
for step, values in spec["rows"]:
    wandb.log(values, step=step)
run.finish()
"""


def write_wandb(directory: Path, run_id: str, rows: list, *, group: str = "g", **changes) -> None:
    """A real offline run, in a process of its own, logged as Megatron does."""
    directory.mkdir(parents=True, exist_ok=True)
    spec = {
        "dir": str(directory),
        "project": "laws",
        "group": group,
        "id": run_id,
        "config": arguments(**changes),
        "rows": rows,
    }
    environment = os.environ | {"WANDB_MODE": "offline"}
    subprocess.run(
        [sys.executable, "-c", WRITE_WANDB, json.dumps(spec)],
        check=True,
        capture_output=True,
        env=environment,
        timeout=120,
    )


@pytest.fixture(scope="module")
def wandb_runs(tmp_path_factory) -> Path:
    """Run ``abc`` of group g in two attempts, its text long enough for several blocks, and run ``other`` of group h."""
    pytest.importorskip("wandb")
    directory = tmp_path_factory.mktemp("wandb")
    note = "x" * 70_000
    write_wandb(directory, "abc", [(step, {"lm loss": 5.0 - step / 10}) for step in range(1, 9)], save=note)
    rows = [(step, {"lm loss": 4.0 - step / 10}) for step in range(7, 13)] + [(12, {"lm loss validation": 3.25})]
    write_wandb(directory, "abc", rows, save=note)
    write_wandb(directory, "other", [(1, {"lm loss": float("nan")})], group="h", seed=3)
    return directory


def test_offline_runs_are_read_without_a_server_and_attempts_merged(wandb_runs, tmp_path):
    found = table(tmp_path, "source=wandb_offline", f"path={wandb_runs}", "wandb.group=g")
    (row,) = found.to_dict("records")
    assert (row["run_id"], row["final_validation_loss"], row["left_out"]) == ("abc", 3.25, None)
    expected = [5.0 - step / 10 for step in range(3, 7)] + [4.0 - step / 10 for step in range(7, 13)]
    assert row["final_training_loss"] == pytest.approx(sum(expected) / 10)
    assert row["active_params"] == megatron_count()
    everything = table(tmp_path, "source=wandb_offline", f"path={wandb_runs}").set_index("run_id")
    assert everything.loc["other", "left_out"] == "diverged: lm loss is nan at step 1"
    with pytest.raises(HarnessError, match="no run of project laws, group x; there are laws/g, laws/h"):
        table(tmp_path, "source=wandb_offline", f"path={wandb_runs}", "wandb.group=x", "wandb.project=laws")


def megatron_count() -> int:
    from harness.accounting import count

    return count(*megatron_model.model(arguments())).active_params


def test_a_torn_or_damaged_wandb_log_is_used_up_to_there(wandb_runs, tmp_path):
    (file,) = (file for file in wandb_runs.rglob("*other.wandb"))
    content = file.read_bytes()
    whole = sum(1 for _ in read_records(file))
    copy = tmp_path / "run-other.wandb"
    copy.write_bytes(content[:-3])
    with pytest.raises(TornLog):
        list(read_records(copy))
    (torn,) = read_offline(tmp_path, Cache(tmp_path / "c"))
    assert torn.trouble == "its W&B log is torn"
    damaged = bytearray(content)
    damaged[len(content) // 2] ^= 0xFF
    copy.write_bytes(bytes(damaged))
    read = []
    with pytest.raises(TornLog):
        read.extend(read_records(copy))
    assert len(read) < whole
    copy.write_bytes(b"hello, world")
    with pytest.raises(HarnessError, match="no transaction log"):
        read_offline(tmp_path, Cache(tmp_path / "c"))


class StandIn:
    """The part of `wandb.Api` that is used; there is no server here to ask."""

    def __init__(self, runs):
        self.all, self.asked = runs, None

    def runs(self, path, filters):
        self.asked = (path, filters)
        return self.all


class StandInRun:
    def __init__(self, run_id: str, state: str, rows: list[dict]):
        self.id, self.state, self.rows = run_id, state, rows
        self.config, self.url = arguments(), f"https://example.test/{run_id}"

    def scan_history(self, keys):
        return [row for row in self.rows if all(key in row for key in keys)]


def test_online_runs_become_the_same_records():
    pytest.importorskip("wandb")
    rows = [{"_step": step, "lm loss": 4.0 - step / 10} for step in range(1, 13)] + [
        {"_step": 12, "lm loss validation": "NaN"}
    ]
    api = StandIn([StandInRun("r1", "finished", rows), StandInRun("r2", "running", rows[:3])])
    first, second = read_online("laws", "g", entity="me", api=api)
    assert api.asked == ("me/laws", {"group": "g"})
    assert first.training == {step: 4.0 - step / 10 for step in range(1, 13)}
    assert math.isnan(first.validation[12])
    assert (first.place, second.trouble) == ("https://example.test/r1", "running")
    with pytest.raises(HarnessError, match="no run"):
        read_online("laws", "g", api=StandIn([]))


# what is left out


def test_every_kind_of_foreign_run_that_cannot_be_used_is_left_out():
    some = [
        record("a0"),
        record("a1", seed=2, last=math.nan),
        record("a2", seed=3, steps=11),
        record("a3", seed=4, steps=14),
        record("a4", seed=5, validation={}),
        record("a5", seed=6, validation={6: 3.5}),
        record("a6"),
        record("a7", seed=7, num_experts=None),
        record("a8", seed=8, swiglu=False),
        record("a9", seed=9, moe_layer_freq=[1]),
    ]
    found = reasons(some)
    assert found["a0"] is None
    assert found["a1"] == "diverged: lm loss is nan at step 12"
    assert found["a2"] == "ended early: 1,408 of 1,536 tokens"
    assert found["a3"] == "tokens differ from the plan: 1,792 of 1,536 planned, +16.7%"
    assert found["a4"] == "no validation loss was recorded (loss=training takes that of the training)"
    assert found["a5"] == "its last validation is of step 6 of 12 (loss=training takes that of the training)"
    assert found["a6"] == "duplicate of a0: all arguments of Megatron are the same"
    assert found["a7"].startswith("a dense model")
    assert found["a8"] == "swiglu is False: only SwiGLU feed-forward layers are counted"
    assert found["a9"].startswith("moe_layer_freq is [1] for 2 layers")
    assert reasons([record("a4", validation={})], loss="training") == {"a4": None}


def test_budgets_are_the_nearest_of_those_stated():
    (row,) = rows_of([record()], Reading(budgets=(6e7, 1e9)), "s")
    assert (row["compute"], row["left_out"]) == (6e7, None)
    (far,) = rows_of([record()], Reading(budgets=(1e9,)), "s")
    assert "further than 25% from every budget" in far["left_out"]
    (own,) = rows_of([record()], Reading(), "s")
    assert own["compute"] == 6.6e7
    with pytest.raises(ConfigError, match="budgets in FLOPs"):
        Reading(budgets=(-1.0,))


def test_every_so_many_layers_is_a_moe_layer():
    assert megatron_model.layers(1, 3) == [1, 1, 1]
    assert megatron_model.layers(2, 5) == [1, 0, 1, 0, 1]


# CSV


def test_a_csv_by_a_mapping_with_factors_and_bits(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("name,params,D,nll,kind\nx,1e6,20,3.0,a\ny,2e6,10,,a\nx,1e6,20,3.0,a\nz,2e6,10,3.1,b\n")
    options = ["columns.run_id=name", "columns.flops_per_token=params", "factors.flops_per_token=6", "columns.tokens=D",
               "factors.tokens=1e6", "columns.final_validation_loss=nll", "loss_unit=bits", "where={kind: a}", "study=classical",
               "columns.m_over_na=6"]  # fmt: skip
    found = table(tmp_path / "root", "source=csv", f"path={path}", *options).set_index("run_id", drop=False)
    first = found[found.left_out.isna()]
    assert first.run_id.tolist() == ["x"]
    (row,) = first.to_dict("records")
    assert (row["flops_per_token"], row["tokens"], row["compute"]) == (6e6, 2e7, 1.2e14)
    assert row["final_validation_loss"] == pytest.approx(3.0 * math.log(2))
    assert found.loc["y", "left_out"] == "final_validation_loss is '': a number above 0 is wanted"
    assert "duplicate of row 1: run id x" in set(found.left_out)
    assert "z" not in found.index


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"columns": {"tokens": "DD"}}, r"columns.tokens=DD: no such column; did you mean 'D'"),
        ({"columns": {"tokns": "D"}}, "did you mean 'tokens'"),
        ({"columns": {"tokens": "D"}}, "has no column flops_per_token, final_validation_loss"),
        ({"factors": {"tokens": -1}}, "a number above 0"),
        ({"loss_unit": "nat"}, "did you mean 'nats'"),
        (
            {"where": {"D": 3}, "columns": {"tokens": "D", "flops_per_token": 1, "final_validation_loss": 2}},
            "no row with D=3",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(tmp_path, mapping, message):
    (tmp_path / "t.csv").write_text("D,x\n1,2\n")
    with pytest.raises(HarnessError, match=message):
        read_csv(tmp_path / "t.csv", Mapping(**mapping), Reading())


def test_published_losses_are_read_from_their_csv(tmp_path):
    path = REFERENCE / "porian_isoflop.csv"
    if not path.exists():
        pytest.skip(f"no {path.name} in shared/reference/losses")
    theirs = pd.read_csv(path)
    theirs = theirs[(theirs.dataset == "rw") & (theirs.hparams == "tuned")]
    options = ["columns.flops_per_token=N", "factors.flops_per_token=6", "columns.tokens=D", "columns.compute=C",
               "columns.final_validation_loss=loss", "columns.m_over_na=6", "where={dataset: rw, hparams: tuned}"]  # fmt: skip
    found = table(tmp_path, "source=csv", f"path={path}", *options)
    assert len(found) == len(theirs)
    assert sorted(found.final_validation_loss) == pytest.approx(sorted(theirs.loss))
    assert set(found.compute) == set(theirs.C)


# the command


def test_the_command_writes_the_table_and_its_exit_code_says_whether_all_can_be_used(tmp_path):
    done = command("-m", "analysis.collect", "source=console", f"path={LOG}", f"root={tmp_path}")
    assert (done.returncode, "1 rows, 1 can be used" in done.stdout) == (0, True), done.stderr
    assert len(pd.read_parquet(tmp_path / "losses.parquet")) == 1
    log = tmp_path / "cut" / "a.log"
    log.parent.mkdir()
    log.write_text("".join(line for line in LOG.read_text().splitlines(keepends=True) if "12/" not in line))
    words = ["-m", "analysis.collect", "source=console", f"path={log}", f"root={tmp_path / 'cut'}"]
    done = command(*words)
    assert done.returncode == 1
    assert "left out: a.log: ended early: 1,152 of 1,536 tokens" in done.stdout
    (tmp_path / "cut" / "losses.csv").unlink()
    done = command(*words, "strict=true")
    assert done.returncode == 2
    assert "strict=true: 1 of 1 rows cannot be used" in done.stderr
    assert not (tmp_path / "cut" / "losses.csv").exists()


def test_options_that_cannot_be_used_are_refused(tmp_path):
    for options, message in (
        (["source=consol"], "did you mean 'console'"),
        (["source=console"], "path="),
        (["source=console", "path=/nowhere/at/all"], "does not exist"),
        (["source=console", f"path={LOG}", "loss=test"], "loss=test"),
        (["source=console", f"path={LOG}", "budgets=[x]"], "a list of budgets"),
        (["source=wandb"], "wandb.project"),
        (["strict=maybe"], "strict=maybe"),
    ):
        with pytest.raises(HarnessError, match=message):
            table(tmp_path, *options)


def test_simulated_foreign_losses_bear_the_mark(tmp_path):
    found = table(tmp_path, "source=console", f"path={LOG}", "simulated=true")
    assert found.simulated.all()
    assert set(found.marks) == {"simulated"}

"""The real wandb, offline: all attempts of a run are one W&B run, with metrics, in the run's directory."""

import json
import struct

import pytest
from wandb.proto import wandb_internal_pb2

from harness.megatron.argv import command, megatron_argv, readable_name
from harness.megatron.options import JobOptions, LoggingOptions, Wandb
from harness.resources import layout
from harness.settings import named_cluster
from tests import conftest

LOGGED = JobOptions(logging=LoggingOptions(tensorboard=True, wandb=Wandb(mode="offline", project="laws")), sweep="two")


def records(file) -> list[wandb_internal_pb2.Record]:
    """The records of a .wandb file: after 7 bytes, LevelDB's log format (blocks of 32 KiB; whole, first, middle, last)."""
    content, position, parts, found = file.read_bytes(), 7, b"", []
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack("<HB", content[position + 4 : position + 7])
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


@pytest.mark.slow
def test_two_attempts_are_one_wandb_run(trainer, dataset, monkeypatch):
    experiment = conftest.tiny_experiment(dataset[1])
    run = trainer.prepare(experiment)
    run_layout = layout(experiment, named_cluster("cpu"))
    assert "WANDB_MODE=offline WANDB_RUN_GROUP=two" in command(experiment, run_layout, trainer.paths(run), LOGGED)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_RUN_GROUP", "two")
    flags = megatron_argv(experiment, run_layout, trainer.paths(run), LOGGED)
    words = ["-m", "harness.megatron.pretrain", "--run-dir", str(run.path), *LOGGED.program.flags(), *flags]
    assert conftest.command(*words, "--exit-interval", "5").returncode == 75
    done = conftest.command(*words)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [(attempt.first_step, attempt.last_step) for attempt in run.status().attempts] == [(0, 5), (5, 12)]

    files = sorted((run.path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert {file.name for file in files} == {f"run-{run.run_id}.wandb"}
    losses = {}
    for file in files:
        content = records(file)
        (header,) = [record.run for record in content if record.WhichOneof("record_type") == "run"][:1]
        assert (header.run_id, header.project, header.run_group) == (run.run_id, "laws", "two")
        assert header.display_name == readable_name(experiment)
        for record in content:
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "lm loss" in items:
                losses[int(items["_step"])] = json.loads(items["lm loss"])
    assert losses == {row["step"]: row["lm_loss"] for row in run.metrics()}
    assert list((run.path / "tensorboard").glob("events.out.tfevents.*"))


def test_without_wandb_nothing_of_it_is_written(trained):
    _, run, _ = trained
    assert not (run.path / "wandb").exists()
    assert not (run.path / "tensorboard").exists()

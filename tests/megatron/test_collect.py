"""One real training, collected from its console log, its event files, its offline W&B run and its run directory: all agree."""

import math

import pandas as pd
import pytest

from analysis.collecting import table_of
from harness.cli import compose
from harness.megatron.argv import megatron_argv
from harness.megatron.options import JobOptions, LoggingOptions, Wandb
from harness.resources import layout
from harness.settings import named_cluster
from tests import conftest
from tests.megatron.forked import python

LOGGED = JobOptions(logging=LoggingOptions(tensorboard=True, wandb=Wandb(mode="offline", project="laws")))


@pytest.fixture(scope="module")
def logged(tmp_path_factory, dataset):
    """(run directory, console log) of a training with all of Megatron's loggers."""
    from tests.megatron.conftest import Trainer

    root = tmp_path_factory.mktemp("logged")
    trainer = Trainer(root, dataset[0])
    experiment = conftest.tiny_experiment(dataset[1])
    run = trainer.prepare(experiment)
    flags = megatron_argv(experiment, layout(experiment, named_cluster("cpu")), trainer.paths(run), LOGGED)
    words = ["--run-dir", str(run.path), *LOGGED.program.flags(), *flags, "--log-interval", "1"]
    environment = {"WANDB_MODE": "offline", "WANDB_RUN_GROUP": "tiny"}
    done = python("-m", "harness.megatron.pretrain", *words, environment=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    log = root / "console.log"
    log.write_text(done.stdout)
    return run, log


@pytest.mark.parametrize("source", ["console", "tensorboard", "wandb_offline"])
def test_a_real_training_reads_the_same_from_every_source(logged, source, tmp_path):
    run, log = logged
    paths = {"console": log, "tensorboard": run.path / "tensorboard", "wandb_offline": run.path / "wandb"}
    table: pd.DataFrame = table_of(compose("collect", [f"source={source}", f"path={paths[source]}"]), tmp_path)
    (row,) = table.to_dict("records")
    result, experiment = run.result(), run.experiment()
    assert row["left_out"] is None
    printed = source == "console"  # with seven digits
    for name in ("final_validation_loss", "final_training_loss"):
        assert row[name] == pytest.approx(result[name], rel=1e-6 if printed else 1e-12), name
    assert row["trained_tokens"] == row["tokens"] == result["tokens"]
    assert row["realised_compute"] == result["realised_compute"]
    assert row["megatron_flops"] == result["megatron_flops"]
    for name in ("active_params", "total_params", "megatron_params", "m_over_na", "n_over_na", "r_moe"):
        assert row[name] == getattr(experiment.counts, name), name
    assert row["learning_rate"] == experiment.training.learning_rate
    assert math.isnan(row["mfu"])
    if source == "wandb_offline":
        assert row["run_id"] == run.run_id

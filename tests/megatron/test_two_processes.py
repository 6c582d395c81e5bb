"""Two data-parallel processes (torchrun, gloo) train the same run as one: one writer, the same losses."""

import os
import subprocess

import pytest

from tests.conftest import REPOSITORY, tiny_experiment
from tests.megatron.conftest import PYTHON

MICRO = [
    "--micro-batch-size",
    "2",
    "--eval-micro-batch-size",
    "16",
    "--eval-global-batch-size",
    "32",
    "--eval-iters",
    "2",
]
"""Two micro-batches, also for one rank: the balancing loss is of each micro-batch."""


def train_on_two_ranks(trainer, run):
    words = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    words += ["harness.megatron.pretrain", "--run-dir", str(run.path), *trainer.flags(run)]
    words += ["--checkpoint-minutes", "1e-6"]  # the ranks agree on when to save
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([*words, *MICRO], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.mark.slow
def test_two_ranks_train_the_run_of_one(trainer, dataset):
    whole = trainer.prepare(tiny_experiment(dataset[1]), name="one-rank")
    assert trainer.train(whole, *MICRO).returncode == 0
    run = trainer.prepare(tiny_experiment(dataset[1]), name="two-ranks")
    done = train_on_two_ranks(trainer, run)
    assert len(run.status().attempts) == 1
    assert done.stdout.count("saving checkpoint") == 12
    assert [row["step"] for row in run.metrics()] == list(range(1, 13))
    ours, theirs = ([row["lm_loss"] for row in r.metrics()] for r in (run, whole))
    assert ours == pytest.approx(theirs, rel=1e-6)  # bit-equal where it was tried; sums may come in another order
    assert run.result()["final_validation_loss"] == pytest.approx(whole.result()["final_validation_loss"], rel=1e-6)
    assert run.result()["tokens"] == whole.result()["tokens"]


@pytest.mark.slow
def test_two_ranks_train_a_trunk_and_a_branch(trainer, dataset):
    trunk = trainer.prepare(
        tiny_experiment(dataset[1], train_iters=10, decay_iters=0, dataset_iters=12, branch_points="8 10")
    )
    whole = tiny_experiment(dataset[1], dataset_iters=12)
    branch = trainer.prepare(tiny_experiment(dataset[1], dataset_iters=12, trunk=trunk.run_id))
    assert train_on_two_ranks(trainer, trunk).stdout.count("saving checkpoint") == 10
    assert sorted(path.name for path in trunk.checkpoints.glob("iter_*")) == ["iter_0000008", "iter_0000010"]
    train_on_two_ranks(trainer, branch)
    alone = trainer.prepare(whole)
    assert trainer.train(alone, *MICRO).returncode == 0
    ours, theirs = ([row["lm_loss"] for row in run.metrics()] for run in (branch, alone))
    assert [row["step"] for row in branch.metrics()] == [9, 10, 11, 12]
    assert ours == pytest.approx(theirs[8:], rel=1e-6)
    assert branch.result()["final_validation_loss"] == pytest.approx(alone.result()["final_validation_loss"], rel=1e-6)

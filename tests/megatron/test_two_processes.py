"""Two data-parallel processes (torchrun, gloo) train the same run as one: one writer, the same losses."""

import os
import subprocess

import pytest

from tests.conftest import REPOSITORY, tiny_experiment
from tests.megatron.conftest import PYTHON


def test_two_ranks_train_the_run_of_one(trainer, dataset):
    micro = ["--micro-batch-size", "2", "--eval-micro-batch-size", "16"]
    micro += ["--eval-global-batch-size", "32", "--eval-iters", "2"]  # the balancing loss is of each micro-batch
    whole = trainer.prepare(tiny_experiment(dataset[1]), name="one-rank")
    assert trainer.train(whole, *micro).returncode == 0
    run = trainer.prepare(tiny_experiment(dataset[1]), name="two-ranks")
    words = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    words += ["harness.megatron.pretrain", "--run-dir", str(run.path), *trainer.flags(run)]
    words += ["--checkpoint-minutes", "1e-6"]  # the ranks agree on when to save
    words += micro
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(run.status().attempts) == 1
    assert done.stdout.count("saving checkpoint") == 12
    assert [row["step"] for row in run.metrics()] == list(range(1, 13))
    ours, theirs = ([row["lm_loss"] for row in r.metrics()] for r in (run, whole))
    assert ours == pytest.approx(theirs, rel=1e-6)  # bit-equal where it was tried; sums may come in another order
    assert run.result()["final_validation_loss"] == pytest.approx(whole.result()["final_validation_loss"], rel=1e-6)
    assert run.result()["tokens"] == whole.result()["tokens"]

"""Branches of a trunk against the same runs trained alone, with real Megatron: equal to every digit that is recorded."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from harness.errors import RunError
from harness.experiment import Experiment
from harness.megatron.branching import branching, can_start
from harness.megatron.options import Program
from tests.conftest import tiny_experiment
from tests.megatron.conftest import PYTHON, Trainer
from tests.megatron.test_checkpoints import ENVIRONMENT, steps_saved
from tests.megatron.test_pretrain import losses

LONGEST = 20

LENGTHS = {"short": (12, 4), "twin": (10, 2), "long": (LONGEST, 6)}
"""Steps and those of the decay: the first two leave the trunk at step 8, the last one at step 14."""


def trunk_of(data, **changes) -> Experiment:
    values = {"train_iters": 14, "decay_iters": 0, "dataset_iters": LONGEST, "branch_points": "8 14"}
    return tiny_experiment(data, **(values | changes))


def alone(data, name, **changes) -> Experiment:
    steps, decay = LENGTHS[name]
    return tiny_experiment(data, train_iters=steps, decay_iters=decay, dataset_iters=LONGEST, **changes)


def branch_of(trunk: Experiment, experiment: Experiment) -> Experiment:
    return replace(experiment, training=replace(experiment.training, trunk=trunk.run_id))


def rates(run):
    return [(row["step"], row["learning_rate"]) for row in run.metrics()]


@pytest.fixture(scope="module")
def trained_trunk(tmp_path_factory, dataset):
    """(trainer, run) of a trunk that was trained to its end. Not to be changed by tests."""
    trainer = Trainer(tmp_path_factory.mktemp("trunk"), dataset[0])
    run = trainer.prepare(trunk_of(dataset[1]))
    done = trainer.train(run, program=["--keep-checkpoints", "none", "--checkpoint-minutes", "1e-6"])
    assert done.returncode == 0, done.stderr[-3000:]
    return trainer, run


@pytest.fixture(scope="module")
def long_alone(trained_trunk, dataset):
    trainer, _ = trained_trunk
    run = trainer.prepare(alone(dataset[1], "long"))
    done = trainer.train(run)
    assert done.returncode == 0, done.stderr[-3000:]
    return run


def equal_runs(branch, whole, branch_point):
    """Losses, gradients and learning rates of every step, and the results."""
    assert losses(branch) == losses(whole)[branch_point:]
    assert rates(branch) == rates(whole)[branch_point:]
    for key in ("final_validation_loss", "final_training_loss", "first_training_loss", "tokens", "steps", "spikes",
                "megatron_flops", "realised_compute"):  # fmt: skip
        assert branch.result()[key] == whole.result()[key], key


def test_a_trunk_keeps_its_learning_rate_and_its_branch_points_only(trained_trunk, long_alone):
    _, trunk = trained_trunk
    assert steps_saved(trunk) == [8, 14]  # saved after every step, and pruned
    assert losses(trunk) == losses(long_alone)[:14]
    assert {rate for step, rate in rates(trunk) if step > 2} == {0.01}
    assert trunk.status().state == "done"
    assert trunk.result()["trunk"] is None


@pytest.mark.parametrize("name", LENGTHS)
def test_a_branch_is_the_run_trained_alone(trained_trunk, long_alone, dataset, name):
    trainer, trunk = trained_trunk
    steps, decay = LENGTHS[name]
    whole = long_alone
    if name != "long":
        whole = trainer.prepare(alone(dataset[1], name))
        assert trainer.train(whole).returncode == 0
    branch = trainer.prepare(branch_of(trunk.experiment(), alone(dataset[1], name)))
    done = trainer.train(branch)
    assert done.returncode == 0, done.stderr[-3000:]
    equal_runs(branch, whole, steps - decay)
    assert branch.run_id not in (whole.run_id, trunk.run_id)
    result = branch.result()
    assert (result["trunk"], result["first_step"], result["steps_trained"]) == (trunk.run_id, steps - decay, decay)
    assert result["megatron_flops_spent"] == pytest.approx(result["megatron_flops"] * decay / steps)
    assert branch.status().attempts[-1].first_step == steps - decay
    assert steps_saved(trunk) == [8, 14]

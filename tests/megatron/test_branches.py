"""Branches of a trunk against the same runs trained alone, with real Megatron: equal to every digit that is recorded."""

import shutil
import signal
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.slow
def test_a_trunk_keeps_its_learning_rate_and_its_branch_points_only(trained_trunk, long_alone):
    _, trunk = trained_trunk
    assert steps_saved(trunk) == [8, 14]  # saved after every step, and pruned
    assert losses(trunk) == losses(long_alone)[:14]
    assert len({rate for step, rate in rates(trunk) if step > 2}) == 1
    assert rates(trunk)[-1][1] == pytest.approx(0.01)
    assert trunk.status().state == "done"
    assert trunk.result()["trunk"] is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["short", pytest.param("twin", marks=pytest.mark.slow), "long"])
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


KILLED_AFTER = """
import os, signal, sys
from harness.megatron import environment
environment.preload()
from harness.megatron import metrics
finish = metrics.MetricsWriter._finish_row
def die(self):
    finish(self)
    if self.rows and self.rows[-1]["step"] == {step}:
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
metrics.MetricsWriter._finish_row = die
from harness.megatron.pretrain import main
sys.exit(main())
"""


def train_until_killed(trainer, run, step, *program):
    words = [PYTHON, "-c", KILLED_AFTER.format(step=step), "--run-dir", str(run.path), *program, *trainer.flags(run)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]


@pytest.mark.slow
def test_a_trunk_and_a_branch_that_are_killed_go_on_to_the_same_numbers(tmp_path, dataset, long_alone):
    trainer = Trainer(tmp_path, dataset[0])
    trunk = trainer.prepare(trunk_of(dataset[1]))
    train_until_killed(trainer, trunk, 11)
    assert steps_saved(trunk) == [8]
    branch = trainer.prepare(branch_of(trunk.experiment(), alone(dataset[1], "long")))
    assert not can_start(branch, branch.experiment())  # the trunk has not come to step 14
    refused = trainer.train(branch)
    assert refused.returncode == 4
    assert "this branch goes on from step 14 of trunk" in refused.stderr
    assert branch.status().attempts == ()
    assert trainer.train(trunk, program=["--keep-checkpoints", "none"]).returncode == 0
    assert [attempt.first_step for attempt in trunk.status().attempts] == [0, 8]
    assert steps_saved(trunk) == [8, 14]
    assert can_start(branch, branch.experiment())
    train_until_killed(trainer, branch, 16)  # before it saved: it begins at the trunk once more
    train_until_killed(trainer, branch, 18, "--checkpoint-minutes", "1e-6")
    shutil.rmtree(trunk.checkpoints)  # it has a checkpoint of its own now
    assert can_start(branch, branch.experiment())
    assert trainer.train(branch).returncode == 0
    assert branch.status().attempts[-1].first_step == 18
    equal_runs(branch, long_alone, 14)


@pytest.mark.slow
def test_a_branch_of_another_seed_needs_the_trunk_of_that_seed(trained_trunk, dataset):
    trainer, trunk = trained_trunk
    other = trunk_of(dataset[1], seed=2)
    branch = trainer.prepare(branch_of(other, alone(dataset[1], "short", seed=2)))
    directory = branch.path.parent / other.run_id
    shutil.copytree(trunk.path, directory)  # the wrong trunk in its place
    done = trainer.train(branch)
    assert done.returncode == 4
    assert f"goes on from trunk {other.run_id}, but" in done.stderr
    assert f"is a checkpoint of experiment {trunk.run_id}" in done.stderr
    shutil.rmtree(directory)
    run = trainer.prepare(other)
    assert trainer.train(run).returncode == 0
    assert trainer.train(branch).returncode == 0
    whole = trainer.prepare(alone(dataset[1], "short", seed=2))
    assert trainer.train(whole).returncode == 0
    equal_runs(branch, whole, 8)


def test_a_torn_branch_point_is_no_branch_point(trained_trunk, dataset, tmp_path):
    _, trunk = trained_trunk
    shutil.copytree(trunk.path, tmp_path / "runs" / trunk.run_id)
    elsewhere = Trainer(tmp_path, dataset[0])
    branch = elsewhere.prepare(branch_of(trunk.experiment(), alone(dataset[1], "short")))
    (tmp_path / "runs" / trunk.run_id / "checkpoints/iter_0000008/run.json").unlink()  # written when it is whole
    assert not can_start(branch, branch.experiment())
    assert elsewhere.train(branch).returncode == 4


@pytest.mark.slow
def test_the_program_s_own_flags_say_the_same_to_a_run_by_hand(trained_trunk, dataset, tmp_path):
    trainer, trunk = trained_trunk
    experiment = branch_of(trunk.experiment(), alone(dataset[1], "twin"))
    branch = trainer.prepare(experiment, name="twin-by-hand")
    words = [f"--dataset-iters {LONGEST}", f"--trunk {trunk.path}", "--branch-point 8"]
    text = (branch.path / "command.txt").read_text()
    assert all(word in text for word in words)
    (branch.path / "experiment.json").unlink()
    done = trainer.train_by_hand(branch, experiment, " ".join(words).split())
    assert done.returncode == 0, done.stderr[-3000:]
    planned = trainer.prepare(experiment)
    assert trainer.train(planned).returncode == 0  # if it is done already, nothing happens
    assert losses(planned) == losses(branch)
    assert [row["step"] for row in branch.metrics()] == [9, 10]
    assert planned.result()["final_validation_loss"] == branch.result()["final_validation_loss"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (Program(dataset_iters=21), "dataset_iters=20, but the command says --dataset-iters 21"),
        (Program(branch_point=9, trunk="/nowhere"), "branch_point=8, but the command says --branch-point 9"),
        (Program(branch_points="8"), r"kept_steps=\(\), but the command says --branch-points"),
        (Program(branch_points="8;9"), "steps separated by commas"),
        (Program(trunk="/nowhere"), "belong together"),
        (Program(dataset_iters=-1), "none is negative"),
    ],
)
def test_flags_that_contradict_the_experiment_are_refused(trainer, dataset, program, message):
    branch = trainer.prepare(branch_of(trunk_of(dataset[1]), alone(dataset[1], "short")))
    with pytest.raises(RunError, match=message):
        branching(branch, program)


def rates_by_megatron(training, steps):
    """Megatron's learning rate of each step, by its own scheduler as it is built from the flags."""
    from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler

    from harness.megatron.argv import _training
    from harness.megatron.flags import group_flags

    flags, batch = group_flags(_training(training)), training.global_batch_size
    scheduler = OptimizerParamScheduler(
        SimpleNamespace(param_groups=[{}]), 0.0, training.learning_rate, training.min_learning_rate,
        int(flags["--lr-warmup-iters"][0]) * batch, int(flags["--lr-decay-iters"][0]) * batch, "WSD", 0.1, 0.1,
        training.train_iters * batch, "constant", wsd_decay_steps=int(flags["--lr-wsd-decay-iters"][0]) * batch,
        lr_wsd_decay_style=training.decay_style,
    )  # fmt: skip
    rates = []
    for _ in range(steps):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.step(batch)
    return rates


@given(
    st.integers(0, 30), st.integers(1, 60), st.lists(st.integers(1, 60), min_size=2, max_size=5),
    st.sampled_from(["exponential", "linear", "cosine", "minus_sqrt"]), st.floats(0, 1),
)  # fmt: skip
def test_every_schedule_of_a_trunk_and_a_branch_is_that_of_the_run_alone(warmup, stable, decays, style, floor):
    """To the last bit, for branches at rising steps from the end of the warm-up on."""
    runs = [
        tiny_experiment(
            None, train_iters=warmup + stable * number + decay, warmup_iters=warmup, decay_iters=decay,
            min_learning_rate=0.01 * floor, decay_style=style,
        ).training
        for number, decay in enumerate(decays, start=1)
    ]  # fmt: skip
    points = [run.stable_iters for run in runs]
    trunk = replace(
        runs[-1], train_iters=points[-1], decay_iters=0, branch_points=" ".join(map(str, points)),
        dataset_iters=max(run.train_iters for run in runs),
    )  # fmt: skip
    common = rates_by_megatron(trunk, points[-1])
    for run in runs:
        branch = replace(run, trunk="0123456789ab", dataset_iters=trunk.dataset_iters)
        own = rates_by_megatron(branch, branch.train_iters)[branch.first_iters :]
        assert common[: branch.first_iters] + own == rates_by_megatron(run, run.train_iters)

"""Checkpoints at intervals of wall time, torn and refused ones, and a full disk; with real Megatron and real faults."""

import json
import os
import resource
import shutil
import signal
import subprocess

import pytest

from tests.conftest import REPOSITORY, tiny_experiment
from tests.megatron.conftest import PYTHON, copy_of
from tests.megatron.test_pretrain import losses

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}

KILLED_WHILE_SAVING_STEP_10 = """
import os, signal, sys, torch
from harness.megatron import environment
environment.preload()
real = torch.save
def save(value, file, *args, **kwargs):
    if "iter_0000010" in str(file):
        real(value, file, *args, **kwargs)
        os.truncate(file, os.path.getsize(file) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    return real(value, file, *args, **kwargs)
torch.save = save
from harness.megatron.pretrain import main
sys.exit(main())
"""


def steps_saved(run) -> list[int]:
    return sorted(int(path.name.removeprefix("iter_")) for path in run.checkpoints.glob("iter_*"))


def stopped_at_5(trainer, whole, name):
    run = trainer.prepare(whole.experiment(), name=name)
    assert trainer.train(run, "--exit-interval", "5").returncode == 75
    assert steps_saved(run) == [5]
    return run


@pytest.mark.slow
def test_checkpoints_are_saved_by_wall_time_and_only_the_last_is_kept(trained):
    trainer, whole, _ = trained
    run = trainer.prepare(whole.experiment(), name="often")
    done = trainer.train(run, program=["--checkpoint-minutes", "1e-6"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("saving checkpoint") == 12  # after every step: the last one at the end, once
    assert steps_saved(run) == [12]
    assert losses(run) == losses(whole)
    everything = trainer.prepare(whole.experiment(), name="all")
    done = trainer.train(everything, program=["--checkpoint-minutes", "1e-6", "--keep-checkpoints", "all"])
    assert done.returncode == 0, done.stderr[-2000:]
    assert steps_saved(everything) == list(range(1, 13))


@pytest.mark.slow
def test_killed_in_the_middle_of_a_save_the_earlier_checkpoint_carries_on(trained):
    trainer, whole, _ = trained
    run = stopped_at_5(trainer, whole, "killed-saving")
    words = [PYTHON, "-c", KILLED_WHILE_SAVING_STEP_10, "--run-dir", str(run.path), *trainer.flags(run)]
    done = subprocess.run([*words, "--exit-interval", "10"], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert steps_saved(run) == [5, 10]  # the torn one, and the one before, untouched
    resumed = trainer.train(run)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert run.status().attempts[-1].first_step == 5
    assert losses(run) == losses(whole)
    assert run.result()["final_validation_loss"] == whole.result()["final_validation_loss"]


@pytest.mark.slow
def test_a_full_disk_while_saving_fails_clearly_and_leaves_the_earlier_checkpoint(trained):
    """No file of the process may grow beyond 40 kB: a checkpoint is larger, everything else a run writes is smaller."""
    trainer, whole, _ = trained
    run = stopped_at_5(trainer, whole, "full-disk")
    assert sum(path.stat().st_size for path in (run.checkpoints / "iter_0000005").rglob("*.pt")) > 80_000
    words = [PYTHON, "-m", "harness.megatron.pretrain", "--run-dir", str(run.path), *trainer.flags(run)]
    done = subprocess.run(
        [*words, "--exit-interval", "10"], env=ENVIRONMENT, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
    )  # fmt: skip
    attempt = run.status().attempts[-1]
    assert (done.returncode, run.status().state, attempt.end) == (1, "failed", "crash"), done.stderr[-2000:]
    assert attempt.message.startswith(f"saving the checkpoint of step 10 to {run.checkpoints} failed")
    assert "that of step 5 is intact. Make room" in attempt.message
    assert steps_saved(run) == [5]
    assert trainer.train(run).returncode == 0
    assert run.status().attempts[-1].first_step == 5
    assert losses(run) == losses(whole)


@pytest.mark.slow
def test_an_emptied_tracker_is_mended_from_the_record(trained):
    trainer, whole, _ = trained
    run = stopped_at_5(trainer, whole, "emptied")
    (run.checkpoints / "latest_checkpointed_iteration.txt").write_text("")  # as a full disk leaves it
    assert trainer.train(run).returncode == 0
    assert run.status().attempts[-1].first_step == 5
    assert losses(run) == losses(whole)


@pytest.mark.parametrize("whole_directory", [True, False])
def test_a_checkpoint_of_another_experiment_is_refused(trained, dataset, whole_directory):
    trainer, whole, _ = trained
    run = trainer.prepare(tiny_experiment(dataset[1], seed=2), name=f"other-{whole_directory}")
    shutil.copytree(whole.checkpoints, run.checkpoints)
    if not whole_directory:
        (run.checkpoints / "record.json").unlink()
    done = trainer.train(run)
    assert done.returncode == 4
    message = f"holds a checkpoint of experiment {whole.experiment().run_id}, and this run is {run.experiment().run_id}"
    assert message in done.stderr
    assert run.status().attempts == ()
    assert steps_saved(run) == [12]


@pytest.mark.slow
def test_a_run_stopped_in_its_last_evaluation_does_not_write_over_its_last_checkpoint(trained, tmp_path):
    trainer, whole, _ = trained
    run = copy_of(whole, tmp_path / "evaluate")
    (run.path / "result.json").unlink()
    (weights,) = (run.checkpoints / "iter_0000012").rglob("*.pt")
    before = weights.stat().st_mtime_ns
    assert trainer.train(run).returncode == 0
    assert weights.stat().st_mtime_ns == before
    record = json.loads((run.checkpoints / "record.json").read_text())
    assert record == {"run_id": whole.experiment().run_id, "step": 12}

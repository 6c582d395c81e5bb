"""Real Megatron trainings of a few steps: metrics, results, resume, and how an attempt ends."""

import json
import math
import os
import re
import shlex
import signal
import subprocess
import time

import pytest

from harness.lease import Lease
from tests.conftest import REPOSITORY, tiny_experiment
from tests.megatron.conftest import PYTHON, copy_of

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}


def losses(run):
    return [(row["step"], row["lm_loss"], row["grad_norm"]) for row in run.metrics()]


def test_a_run_leaves_what_the_contract_says(trained):
    _, run, done = trained
    assert done.returncode == 0, done.stderr[-2000:]
    experiment, result = run.experiment(), run.result()
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(1, 13))
    columns = {"lm_loss", "load_balancing_loss", "grad_norm", "learning_rate", "tokens", "tokens_per_s", "seconds"}
    assert columns <= set(rows[0])
    assert rows[-1]["tokens"] == experiment.tokens == result["tokens"]
    assert rows[0]["lm_loss"] == pytest.approx(math.log(264), rel=0.1)  # a uniform guess, more or less
    assert rows[-1]["lm_loss"] < rows[0]["lm_loss"]
    assert max(row["tokens_per_s"] for row in rows[1:]) < 20 * min(row["tokens_per_s"] for row in rows[1:])
    # WSD: up over 2 steps, flat, down over the last 4
    rates = [row["learning_rate"] for row in rows]
    assert rates[1:8] == pytest.approx([0.01] * 7)
    assert rates[-1] < rates[-2] < rates[-3] < 0.01
    assert result["realised_compute"] == experiment.tokens * experiment.counts.flops_per_token
    assert result["megatron_flops"] == experiment.tokens * experiment.counts.megatron_flops_per_token
    assert result["versions"]["megatron-core"].startswith("0.19.")
    assert result["simulated"] is False
    attempt = run.status().attempts[-1]
    assert (run.status().state, attempt.end, attempt.exit_code, attempt.last_step) == ("done", "done", 0, 12)
    assert not (run.path / "lease.json").exists()


def test_two_evaluations_of_the_same_weights_give_the_same_number(trained, tmp_path):
    trainer, run, _ = trained
    again = copy_of(run, tmp_path / "again")
    (again.path / "result.json").unlink()
    done = trainer.train(again)
    assert done.returncode == 0, done.stderr[-2000:]
    assert again.status().attempts[-1].first_step == 12  # nothing was left to train: only the evaluation ran
    assert losses(again) == losses(run)
    assert again.result()["final_validation_loss"] == run.result()["final_validation_loss"]


@pytest.mark.slow
def test_runs_of_other_seeds_are_judged_on_the_same_validation_tokens(trainer, dataset):
    """With a learning rate of (nearly) nothing and one initialisation the validation loss depends on its tokens alone."""
    seen = []
    for seed in (1, 2):
        run = trainer.prepare(tiny_experiment(dataset[1], train_iters=6, seed=seed))
        probe = (
            "import sys, harness.megatron.task as task\n"
            "real = task.get_batch\n"
            "def spy(iterator, vp_stage=None):\n"
            "    batch = real(iterator, vp_stage)\n"
            "    import torch\n"
            "    if not torch.is_grad_enabled(): print('SEEN', hash(tuple(batch['tokens'].flatten().tolist())))\n"
            "    return batch\n"
            "task.get_batch = spy\n"
            "from harness.megatron.pretrain import main; sys.exit(main())\n"
        )
        words = [PYTHON, "-c", "from harness.megatron import environment; environment.preload()\n" + probe]
        done = subprocess.run(
            [*words, "--run-dir", str(run.path), *trainer.flags(run)], env=ENVIRONMENT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        seen.append(re.findall(r"SEEN (\S+)", done.stdout))
    assert seen[0]
    assert seen[0] == seen[1]


def test_stopping_and_resuming_gives_the_losses_of_never_stopping(trained, tmp_path):
    trainer, whole, _ = trained
    run = trainer.prepare(whole.experiment(), name="stopped")
    done = trainer.train(run, "--exit-interval", "5")
    assert (run.status().state, run.status().attempts[-1].end) == ("queued", "signal"), done.stderr[-2000:]
    assert done.returncode == 75
    assert run.result() is None
    assert trainer.train(run).returncode == 0
    attempts = run.status().attempts
    assert [(attempt.first_step, attempt.last_step) for attempt in attempts] == [(0, 5), (5, 12)]
    assert losses(run) == losses(whole)
    for key in ("final_validation_loss", "final_training_loss"):
        assert run.result()[key] == whole.result()[key]


def test_a_signal_saves_a_checkpoint_and_the_run_goes_on_later(trainer, dataset):
    run = trainer.prepare(tiny_experiment(dataset[1], train_iters=400))
    command = [PYTHON, "-m", "harness.megatron.pretrain", "--run-dir", str(run.path), *trainer.flags(run)]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not run.metrics() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=120)
    attempt = run.status().attempts[-1]
    assert (process.returncode, run.status().state, attempt.end) == (75, "queued", "signal"), error[-2000:]
    assert 0 < attempt.last_step < 400
    saved = int((run.checkpoints / "latest_checkpointed_iteration.txt").read_text())
    assert saved == attempt.last_step


def test_a_nan_is_diverged_and_not_a_crash(trainer, dataset):
    run = trainer.prepare(tiny_experiment(dataset[1], learning_rate=1e30, min_learning_rate=1e29))
    done = trainer.train(run)
    attempt = run.status().attempts[-1]
    assert (done.returncode, run.status().state, attempt.end) == (3, "diverged", "diverged")
    assert "nan" in attempt.message.lower() or "inf" in attempt.message.lower()
    assert run.result() is None


def test_a_loss_that_rises_is_diverged(trainer, dataset):
    run = trainer.prepare(tiny_experiment(dataset[1], learning_rate=3.0, min_learning_rate=3.0, warmup_iters=0))
    done = trainer.train(run)
    assert (done.returncode, run.status().state) == (3, "diverged"), run.result()
    assert "rose from" in run.status().attempts[-1].message


def test_a_crash_is_a_crash(trained, tmp_path):
    trainer, run, _ = trained
    other = copy_of(run, tmp_path / "crash")
    (weights,) = (other.checkpoints / "iter_0000012").rglob("*.pt")
    weights.write_bytes(weights.read_bytes()[:1000])
    done = trainer.train(other)
    attempt = other.status().attempts[-1]
    assert (done.returncode, other.status().state, attempt.end) == (1, "failed", "crash")
    assert attempt.message


def test_the_rerun_state_machine_is_told_apart(trainer, dataset):
    run = trainer.prepare(tiny_experiment(dataset[1]))
    done = trainer.train(
        run, "--rerun-mode", "validate_results", "--error-injection-rate", "8", "--error-injection-type",
        "transient_error",
    )  # fmt: skip
    attempt = run.status().attempts[-1]
    assert (run.status().state, attempt.end, done.returncode) == ("failed", "rerun", attempt.exit_code)
    assert attempt.exit_code in (16, 17)


@pytest.mark.slow
def test_the_pasted_command_trains_the_same_run(trained, tmp_path):
    trainer, whole, _ = trained
    run = trainer.prepare(whole.experiment(), name="pasted")
    text = (run.path / "command.txt").read_text().replace(" python ", f" {shlex.quote(PYTHON)} ")
    done = subprocess.run(["bash", "-c", text], env=ENVIRONMENT, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(run) == losses(whole)
    assert not run.checkpoints.exists()  # done, and nobody asked to keep it
    once_more = subprocess.run(["bash", "-c", text], env=ENVIRONMENT, capture_output=True, text=True, cwd=tmp_path)
    assert once_more.returncode == 0
    assert "is done: final validation loss" in once_more.stdout


def test_the_command_under_another_run_dir_leaves_the_first_alone(trained, tmp_path):
    _, whole, _ = trained
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*")}
    text = (whole.path / "command.txt").read_text().replace(" python ", f" {shlex.quote(PYTHON)} ")
    text = text.replace(f"--run-dir {whole.path}", f"--run-dir {tmp_path / 'elsewhere'}")
    done = subprocess.run(["bash", "-c", text], env=ENVIRONMENT, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert before == {path: path.stat().st_mtime_ns for path in whole.path.rglob("*")}
    result = json.loads((tmp_path / "elsewhere" / "result.json").read_text())
    assert result["final_validation_loss"] == whole.result()["final_validation_loss"]


def test_other_data_is_refused(trained):
    trainer, run, _ = trained
    swapped = trainer.train(run, "--train-data-path", str(trainer.dataset / "validation"))
    assert swapped.returncode == 4
    assert "--train-data-path" in swapped.stderr
    fewer = trainer.train(run, "--eval-iters", "1", "--eval-global-batch-size", "32")
    assert fewer.returncode == 4
    assert "judged on 64 validation sequences, but the command evaluates 32" in fewer.stderr


def test_flags_of_another_experiment_are_refused(trained):
    trainer, run, _ = trained
    before = run.status()
    done = trainer.train(run, "--lr", "0.5")
    assert done.returncode == 4
    assert "--lr 0.01, but the command says --lr 0.5" in done.stderr
    assert run.status() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--moe-z-loss-coeff", "1e-3"], "--moe-z-loss-coeff may change the loss, and is no part of the experiment"),
        (["--make-vocab-size-divisible-by", "128"], "a vocabulary of 264 rows, but the command pads to 384"),
        (["--spec", "somewhere", "else"], "--spec may change the loss"),
    ],
)
def test_flags_that_the_experiment_does_not_have_are_refused(trained, flags, message):
    trainer, run, _ = trained
    done = trainer.train(run, *flags)
    assert done.returncode == 4
    assert message in done.stderr


@pytest.mark.slow
def test_extra_flags_of_the_experiment_reach_megatron(trained, dataset):
    trainer, whole, _ = trained
    run = trainer.prepare(tiny_experiment(dataset[1], train_iters=6, extra_flags="--moe-input-jitter-eps 0.3"))
    done = trainer.train(run)
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(run)[0] != losses(whole)[0]


def test_a_second_copy_is_kept_out(trainer, dataset):
    run = trainer.prepare(tiny_experiment(dataset[1]))
    with Lease(run.path):
        done = trainer.train(run)
    assert done.returncode == 4
    assert f"process {os.getpid()}" in done.stderr
    assert run.status().attempts == ()


def test_a_command_for_gpus_says_what_to_do_without_one(trainer, dataset):
    run = trainer.prepare(tiny_experiment(dataset[1]))
    done = trainer.train(run, "--distributed-backend", "nccl")
    assert done.returncode == 4
    assert "cluster=cpu" in done.stderr


def test_metrics_are_not_lost_with_a_torn_line(trained, tmp_path):
    trainer, run, _ = trained
    other = copy_of(run, tmp_path / "torn")
    with other.metrics_path.open("a") as file:
        file.write('{"step": 13, "lm_l')
    assert trainer.train(other).returncode == 0
    assert losses(other) == losses(run)
    assert json.loads((other.path / "result.json").read_text())["steps"] == 12

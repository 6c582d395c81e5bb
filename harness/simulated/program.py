"""The stand-in for the training program: the files of a trained run, from a formula.

    python -m harness.simulated --run-dir DIR --truth '{"form": "power_law", ...}' [--seconds 5] [--failure-rate 0.1]

It takes the lease, records attempts, answers signals and exits as `harness.megatron.pretrain` does: 0 done; 75 told to stop
(SIGTERM, SIGUSR1, Ctrl-C; the step is saved, and the same command goes on from there); 3 diverged; 4 the directory belongs to a
real run, another truth or another process; 2 wrong options; 1 a simulated failure. On the way the training loss falls from the
logarithm of the vocabulary (or from a nat above the final loss) to the final loss; the final loss is `Truth.final_loss`.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import shlex
import shutil
import signal
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunError
from harness.files import open_to_append, read_json, write_json
from harness.lease import Lease
from harness.megatron.branching import COMPLETE, RECORD, Branching, branching, checkpoint_path
from harness.megatron.environment import is_writer
from harness.megatron.options import KEEP, Program
from harness.megatron.pretrain import DIVERGED, REFUSED, STOP_SIGNALS, STOPPED
from harness.rundir import RunDirectory, slurm_job
from harness.simulated.marker import MARKER, is_simulated, refuse_other, write_mark
from harness.simulated.options import PROGRAM, Simulation
from harness.simulated.truth import read_truth

ROWS = 20
"""Lines of metrics.jsonl that a run writes."""

PAUSE_SECONDS = 0.02
"""Longest wait before a signal is answered."""

VERSIONS = {"python": platform.python_version()}
with contextlib.suppress(PackageNotFoundError):  # here, as a launcher's server imports this once for all its runs
    VERSIONS["moe-scaling-harness"] = version("moe-scaling-harness")


class SimulatedFailure(Exception):
    """A crash that the failure rate asked for."""


class SimulatedDivergence(Exception):
    """A loss that is no number any more, as the divergence rate asked for."""


def main(argv: list[str] | None = None) -> int:
    """Simulate the run that `argv` (default: the command line) describes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {PROGRAM}", description="Simulate one run: nothing is trained.", allow_abbrev=False
    )
    parser.add_argument("--run-dir", type=Path, required=True, help="directory of the run, with its experiment.json")
    parser.add_argument(
        "--truth", type=json.loads, required=True, help="form and constants of the loss formula, as JSON"
    )
    parser.add_argument("--failure-rate", type=float, default=0.0, help="share of attempts that crash")
    parser.add_argument("--divergence-rate", type=float, default=0.0, help="share of runs that diverge")
    parser.add_argument("--seconds", type=float, default=0.0, help="wall time of a whole run")
    parser.add_argument("--keep-checkpoints", choices=KEEP, default="none", help="which stay when the run is done")
    parser.add_argument("--checkpoint-minutes", type=float, default=0.0, help="wall time between saves; 0: none")
    own = parser.parse_args(argv)
    try:
        simulation = Simulation(
            truth=read_truth(own.truth),
            failure_rate=own.failure_rate,
            divergence_rate=own.divergence_rate,
            seconds=own.seconds,
        )
    except HarnessError as error:
        parser.error(str(error))  # leaves with 2
    run = RunDirectory.at(own.run_dir.absolute())
    words = simulation.words(run.path, keep_checkpoints=own.keep_checkpoints, checkpoint_minutes=own.checkpoint_minutes)
    try:
        return simulate(
            run, simulation, keep=own.keep_checkpoints, minutes=own.checkpoint_minutes, command=shlex.join(words)
        )
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED


def simulate(run: RunDirectory, simulation: Simulation, *, keep: str, minutes: float, command: str) -> int:
    """Simulate `run`, recording the attempt; returns the exit code. Of several ranks only the last one writes.

    Raises:
        RunError: the directory is a real run's, of another truth, or another process is writing it.
    """
    refuse_other(run, simulation.truth)
    shared = branching(run, Program())
    if shared.trunk is not None and shared.trunk.path.exists() and not is_simulated(shared.trunk):
        raise RunError(f"the trunk {shared.trunk.path} of this simulated branch is not simulated (no {MARKER})")
    result = run.result()
    if result is not None and run.status().state == "done":
        print(f"SIMULATED run {run.run_id} is done: final validation loss {result['final_validation_loss']}")
        return 0
    simulated = _Simulated(run, simulation, shared, keep=keep, minutes=minutes)
    if not is_writer():
        return simulated.run(attempt=len(run.status().attempts) + 1, lease=None)
    job_id = slurm_job(os.environ)
    with Lease(run.path, patient=job_id is not None) as lease:
        write_mark(run, simulation.truth)
        if shared.trunk is not None and not simulated.resumes:
            shared.checkpoint()
        attempt = run.begin_attempt(command=command, job_id=job_id, first_step=simulated.first)
        print(f"SIMULATED run {run.run_id}, attempt {attempt.number}: nothing is trained", flush=True)
        return simulated.run(attempt=attempt.number, lease=lease)


class _Simulated:
    """One attempt of one rank."""

    def __init__(self, run: RunDirectory, simulation: Simulation, shared: Branching, *, keep: str, minutes: float):
        self.run_directory, self.experiment = run, run.experiment()
        self.simulation, self.shared = simulation, shared
        self.keep, self.minutes = keep, minutes
        training = self.experiment.training
        record = read_json(run.checkpoints / RECORD)
        self.resumes = isinstance(record, dict)
        self.first: int = record["step"] if isinstance(record, dict) else training.first_iters
        """Step that it goes on from."""
        self.step = self.first
        self.loss = simulation.truth.final_loss(self.experiment)
        self.first_loss = max(math.log(self.experiment.backbone.vocab_size), self.loss + 1)
        self.lease: Lease | None = None
        self.stopped_by = 0
        """The signal that asked for it."""
        self._saved_at = self._started = time.monotonic()
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)

    def run(self, attempt: int, lease: Lease | None) -> int:
        """Make the steps and record how it ended; a rank without the lease writes nothing."""
        self.lease = lease
        message: str | None = None
        try:
            finished = self._steps(self.simulation.failing_step(self.experiment, attempt, self.first))
            if finished:
                end, code = "done", 0
                self._write_result()
            else:
                end, code = "limit" if self.stopped_by == signal.SIGUSR1 else "signal", STOPPED
                message = "told to stop; a later start goes on from the last checkpoint"
                self._save()
        except SimulatedDivergence as error:
            end, code, message = "diverged", DIVERGED, str(error)
        except SimulatedFailure as error:
            end, code, message = "crash", 1, str(error)
        except KeyboardInterrupt:
            end, code, message = "signal", 130, "stopped at once; steps since the last checkpoint are lost"
        except RunError as error:
            end, code, message = "crash", 1, str(error)
        if message:
            print(f"SIMULATED run {self.run_directory.run_id}: {message}", file=sys.stderr, flush=True)
        if lease is not None and lease.held():
            self.run_directory.end_attempt(
                end=end, first_step=self.first, last_step=self.step, exit_code=code, message=message
            )
            if code == 0 and self.keep == "none" and not self.shared.kept_steps:
                shutil.rmtree(self.run_directory.checkpoints, ignore_errors=True)
        return code

    def _steps(self, failing: int | None) -> bool:
        """Go through the steps, writing some of them down; False where it was told to stop before the last."""
        diverging = self.simulation.diverging_step(self.experiment)
        kept = self.shared.kept_steps
        events = {step for step in (failing, diverging) if step is not None and step > self.first}
        written = self._written_steps()
        with self._metrics() as file:
            for step in sorted(written | events | {step for step in kept if step > self.first}):
                if not self._reach(step):
                    return False
                if step == failing:
                    raise SimulatedFailure(f"simulated failure at step {step} (train.failure_rate)")
                self._write_row(file, step, math.nan if step == diverging else self._training_loss(step))
                if step == diverging:
                    raise SimulatedDivergence(f"simulated divergence at step {step} (train.divergence_rate)")
                if step in kept:
                    self._save()
        if self.keep != "none":
            self._save()
        return True

    def _written_steps(self) -> set[int]:
        """The first and the last step of the run, and some between them, beyond the one that it goes on from."""
        training = self.experiment.training
        begin, count = training.first_iters + 1, min(ROWS, training.own_iters)
        gap = (training.own_iters - 1) / max(1, count - 1)
        return {step for k in range(count) if (step := begin + round(k * gap)) > self.first}

    def _reach(self, step: int) -> bool:
        """Wait until the run is at `step`, saving by wall time; False where it was told to stop on the way."""
        a_step = self.simulation.seconds / self.experiment.training.own_iters
        due = self._started + (step - self.first) * a_step
        while not self.stopped_by and (left := due - time.monotonic()) > 0:
            time.sleep(min(left, PAUSE_SECONDS))
            self.step = min(step, self.first + int((time.monotonic() - self._started) / a_step))
            if self.minutes and time.monotonic() - self._saved_at >= 60 * self.minutes:
                self._save()
        if not self.stopped_by:
            self.step = step
        return not self.stopped_by

    def _training_loss(self, step: int) -> float:
        left = 1 - (step - 1) / max(1, self.experiment.training.train_iters - 1)
        return self.loss + (self.first_loss - self.loss) * left**6

    def _metrics(self) -> Any:
        """metrics.jsonl, open for appending."""
        if self.lease is None:
            return contextlib.nullcontext()
        return open_to_append(self.run_directory.metrics_path, buffering=1)

    def _write_row(self, file: Any, step: int, loss: float) -> None:
        """A line with Megatron's columns; what nothing was computed for is null."""
        if self.lease is None:
            return
        self.lease.check()
        training = self.experiment.training
        a_step = self.simulation.seconds / training.own_iters
        row = {
            "step": step,
            "seconds": a_step,
            "lm_loss": loss if math.isfinite(loss) else None,
            "load_balancing_loss": None,
            "grad_norm": None,
            "learning_rate": None,
            "tokens": step * self.experiment.batch_tokens,
            "tokens_per_s": self.experiment.batch_tokens / a_step if a_step else None,
        }
        file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        """A checkpoint is the number of its step."""
        self._saved_at = time.monotonic()
        if self.lease is None:
            return
        self.lease.check(now=True)
        run, kept = self.run_directory, self.shared.kept_steps
        record = {"run_id": self.experiment.run_id, "step": self.step, "simulated": True}
        path = checkpoint_path(run, self.step)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / COMPLETE, record)
        write_json(run.checkpoints / RECORD, record)
        for other in run.checkpoints.glob("iter_*"):
            if self.keep != "all" and other != path and int(other.name.removeprefix("iter_")) not in kept:
                shutil.rmtree(other, ignore_errors=True)

    def _write_result(self) -> None:
        """result.json with the keys of a trained run (`harness.megatron.result`)."""
        if self.lease is None:
            return
        self.lease.check(now=True)
        experiment, training = self.experiment, self.experiment.training
        flops = experiment.counts.megatron_flops_per_token * experiment.tokens
        a_step = self.simulation.seconds / training.own_iters
        result = {
            "schema": 1,
            "run_id": self.run_directory.run_id,
            "final_validation_loss": self.loss,
            "final_training_loss": self.loss,
            "first_training_loss": self._training_loss(1),
            "spikes": [],
            "steps": training.train_iters,
            "tokens": experiment.tokens,
            "realised_compute": experiment.counts.flops_per_token * experiment.tokens,
            "megatron_flops": flops,
            "trunk": self.shared.trunk.run_id if self.shared.trunk else None,
            "first_step": training.first_iters,
            "steps_trained": training.own_iters,
            "megatron_flops_spent": flops * training.own_iters / training.train_iters,
            "wall_seconds": self.run_directory.status().wall_seconds(),
            "tokens_per_second": experiment.batch_tokens / a_step if a_step else None,
            "device": "simulated",
            "gpus": 0,
            "precision": training.precision,
            "recompute": "none",
            "tflops_per_gpu": None,
            "mfu": None,
            "peak_memory_bytes": None,
            "versions": VERSIONS,
            "simulated": True,
        }
        write_json(self.run_directory.path / "result.json", result)

    def _stop(self, number: int, _frame: Any) -> None:
        if self.stopped_by and number == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C does not wait
        self.stopped_by = number

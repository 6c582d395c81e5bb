"""What a job of Slurm runs, on its nodes (the batch files of `launch.slurm` call it):

    srun python -m launch.task train TABLE INDEX     the runs with this number in the task table
    srun python -m launch.task again TABLE INDEX     exit code 0: another start may get further; 10, 11: none of the runs does

A run's command is the one in its ``command.txt``: what can be read there is what is executed. With one srun task a GPU, Slurm's
variables take the place of torchrun (which would kill its children 30 s after a signal, before a large checkpoint is saved).
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunError
from harness.files import read_json, read_text
from harness.lease import HEARTBEAT_SECONDS, beats
from harness.megatron.branching import RECORD
from harness.megatron.pretrain import DIVERGED, REFUSED, STOPPED
from harness.rundir import Attempt, RunDirectory, slurm_job
from launch.logs import last_line
from launch.tasks import Task, read_table

NO, DONE = 10, 11
"""Exit codes of `again`: no; no, as all runs are done. Any other that is not 0 says that the question could not be asked."""

FRUITLESS = 2
"""So many attempts in a row that left no newer checkpoint than they began from are the last; so are as many starts of which the
program recorded none as an attempt."""

SIGN_OF_LIFE_SECONDS = 2.5 * HEARTBEAT_SECONDS
"""Longest wait for a sign of another process that holds a run."""

STARTS = "starts.txt"
"""In a run's directory: a line for each start, with its job and the number of attempts before it."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A training program with its arguments, as ``command.txt`` has it, without what starts its ranks."""

    module: str
    words: tuple[str, ...]
    environment: dict[str, str]

    @property
    def argv(self) -> list[str]:
        """For this Python."""
        return [sys.executable, "-m", self.module, *self.words]


def read_command(run: RunDirectory) -> Program:
    """The program of a run.

    Raises:
        RunError: its command.txt is missing, or holds no program of ours.
    """
    path = run.path / "command.txt"
    words = shlex.split((read_text(path) or "").replace("\\\n", " "), comments=True)
    for place in range(len(words) - 1):
        if words[place] == "-m" and words[place + 1].startswith("harness."):
            variables = [word.partition("=") for word in words[:place]]
            names = [(name, value) for name, equals, value in variables if equals and name.isidentifier()]
            return Program(module=words[place + 1], words=tuple(words[place + 2 :]), environment=dict(names))
    raise RunError(f"{path} is missing, or holds no training program: submit the sweep again (launch.slurm writes it)")


def rendezvous(variables: Mapping[str, str]) -> dict[str, str]:
    """What torch.distributed wants to know of this task, from Slurm's variables of its step; nothing for a task alone.

    MASTER_ADDR and MASTER_PORT come from the batch file.
    """
    if int(variables.get("SLURM_STEP_NUM_TASKS", variables.get("SLURM_NTASKS", "1"))) == 1:
        return {}
    return {
        "RANK": variables["SLURM_PROCID"],
        "LOCAL_RANK": variables["SLURM_LOCALID"],
        "WORLD_SIZE": variables.get("SLURM_STEP_NUM_TASKS", variables["SLURM_NTASKS"]),
        "LOCAL_WORLD_SIZE": variables["SLURM_NTASKS_PER_NODE"],
    }


def main(words: Sequence[str]) -> int:
    """`train` or `again`, a table and a number."""
    action, table, index = words
    tasks = [task for task in read_table(Path(table)) if task.index == int(index)]
    if not tasks:
        raise RunError(f"{table} has no run with number {index}")
    runs = [RunDirectory.at(Path(task.directory)) for task in tasks]
    if action == "again":
        wanted = [run for run in runs if _again(run)]
        return 0 if wanted else DONE if all(run.status().state == "done" for run in runs) else NO
    if len(tasks) == 1:
        if int(os.environ.get("SLURM_PROCID", "0")) == 0:
            _note_start(runs[0])
        program = read_command(runs[0])
        os.environ.update(program.environment | rendezvous(os.environ))
        os.execv(sys.executable, program.argv)
    return _Pack(tasks).train()


def _again(run: RunDirectory) -> bool:
    """Whether another start of `run` may get further; where it will not, its status says so."""
    status, job = run.status(), slurm_job(os.environ)
    if status.state in ("done", "diverged"):
        print(f"run {run.run_id}: {status.state}")
        return False
    if beats(run.path, SIGN_OF_LIFE_SECONDS):
        holder = read_json(run.path / "lease.json") or {}
        print(
            f"run {run.run_id}: process {holder.get('pid')} on {holder.get('host')} (attempt {holder.get('attempt')}) writes it: "
            "this second copy stops"
        )
        return False
    reached = (read_json(run.checkpoints / RECORD) or {}).get("step", 0)
    of_this_job = [attempt for attempt in status.attempts if attempt.job_id == job]
    fruitless = fruitless_attempts(of_this_job, reached)
    silent = _silent_starts(run, job, len(status.attempts))
    if max(fruitless, silent) < FRUITLESS:
        print(f"run {run.run_id}: goes on from step {reached}")
        return True
    if silent >= FRUITLESS:
        said = last_line(run.logs / f"slurm-{job}.log")
        message = f"{silent} starts in a row ended before they trained: {said or 'without a word'}"
        run.begin_attempt(command="", job_id=job, first_step=reached)
        run.end_attempt(end="crash", exit_code=None, message=message)
    else:
        message = f"{fruitless} attempts in a row left no checkpoint beyond step {reached}: not started again"
        last = status.attempts[-1]
        if last.end in (None, "signal", "limit"):
            run.end_attempt(
                end="killed",
                last_step=max(last.first_step, last.last_step),
                exit_code=last.exit_code,
                message=f"{last.message or 'vanished'} ({message})",
            )
    print(f"run {run.run_id}: {message}")
    return False


def _note_start(run: RunDirectory) -> None:
    with (run.path / STARTS).open("a", encoding="utf-8") as file:
        file.write(f"{slurm_job(os.environ)} {len(run.status().attempts)}\n")


def _silent_starts(run: RunDirectory, job: str | None, attempts: int) -> int:
    """How many of the last starts by `job` ended without an attempt; `attempts`: how many there are now."""
    count = 0
    for line in reversed((read_text(run.path / STARTS) or "").splitlines()):
        words = line.split()
        if len(words) != 2 or words[0] != str(job) or words[1] != str(attempts):
            break
        count += 1
    return count


def fruitless_attempts(attempts: Sequence[Attempt], reached: int) -> int:
    """How many of the last attempts left no newer checkpoint than they began from; `reached`: step of the newest now.

    Those that were told to stop (preemption) do not count: they were not given the time.
    """
    count = 0
    for attempt in reversed(attempts):
        if reached > attempt.first_step:
            break
        count, reached = count + (attempt.end != "signal"), attempt.first_step
    return count


class _Pack:
    """Runs that share a node, each with a GPU (or a core) of its own; one that fails leaves the others alone."""

    def __init__(self, tasks: Sequence[Task]):
        self.tasks = tasks
        self.children: list[subprocess.Popen[bytes]] = []
        self.told = 0
        """The signal to stop that came."""

    def train(self) -> int:
        """Train all that are not done; the exit code that tells the batch file most."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._stop)
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        devices = visible or ([str(place) for place in range(len(self.tasks))] if self.tasks[0].gpus else [])
        restarted = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        refused = []
        for place, task in enumerate(self.tasks):
            run = RunDirectory.at(Path(task.directory))
            if self.told or run.status().state in ("done", "diverged"):
                continue
            if restarted and not _again(run):  # it was given up: the job started again for another one
                continue
            try:
                self._start(run, devices[place % len(devices)] if devices else None)
            except (HarnessError, OSError) as error:  # the others go on
                print(f"run {run.run_id}: {error}", file=sys.stderr, flush=True)
                refused.append(REFUSED)
        codes = [child.wait() for child in self.children]
        return exit_code_of([*codes, *refused], stopped=bool(self.told))

    def _start(self, run: RunDirectory, device: str | None) -> None:
        program = read_command(run)
        environment = os.environ | program.environment | ({"CUDA_VISIBLE_DEVICES": device} if device else {})
        log = run.logs / f"slurm-{slurm_job(os.environ)}.log"
        print(f"run {run.run_id}: log {log}", flush=True)
        _note_start(run)
        with log.open("ab") as file:
            self.children.append(subprocess.Popen(program.argv, env=environment, stdout=file, stderr=file))
        if self.told:  # the signal came between
            self.children[-1].send_signal(self.told)

    def _stop(self, number: int, *_: Any) -> None:
        self.told = number
        for child in self.children:
            child.send_signal(number)


def exit_code_of(codes: Sequence[int], *, stopped: bool) -> int:
    """One exit code for a pack: stopped, else the first that another start may mend, else the first that is not 0."""
    if stopped or STOPPED in codes:
        return STOPPED
    wrong = [abs(code) for code in codes if code]
    return next((code for code in wrong if code not in (DIVERGED, REFUSED)), wrong[0] if wrong else 0)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(REFUSED)

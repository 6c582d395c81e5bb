"""What a job of Slurm runs, on its nodes (the batch files of `launch.slurm` call it):

    srun python -m launch.task train TABLE INDEX     the runs with this number in the task table
    srun python -m launch.task again TABLE INDEX     exit code 0: another start may get further; 1: none of the runs needs one

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
from harness.lease import is_alive
from harness.rundir import Attempt, RunDirectory, slurm_job
from launch.tasks import Task, read_table

STOPPED, DIVERGED, REFUSED = 75, 3, 4
"""Exit codes of the training program (`harness.megatron.pretrain`)."""

FRUITLESS = 2
"""So many attempts in a row that left no newer checkpoint than they began from are the last."""


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
    if action == "again":
        return 0 if [task for task in tasks if _again(RunDirectory.at(Path(task.directory)))] else 1
    if len(tasks) == 1:
        program = read_command(RunDirectory.at(Path(tasks[0].directory)))
        os.environ.update(program.environment | rendezvous(os.environ))
        os.execv(sys.executable, program.argv)
    return _Pack(tasks).train()


def _again(run: RunDirectory) -> bool:
    """Whether another start of `run` may get further; where it will not, its status says so."""
    status = run.status()
    if status.state in ("done", "diverged"):
        print(f"run {run.run_id}: {status.state}")
        return False
    if is_alive(run.path):  # a copy that Slurm lost sight of: the next start finds out whether it lives on
        print(f"run {run.run_id}: another process holds it")
        return True
    reached = (read_json(run.checkpoints / "record.json") or {}).get("step", 0)
    of_this_job = [attempt for attempt in status.attempts if attempt.job_id == slurm_job(os.environ)]
    fruitless = fruitless_attempts(of_this_job, reached)
    if fruitless < FRUITLESS:
        print(f"run {run.run_id}: goes on from step {reached}")
        return True
    message = f"{fruitless} attempts in a row left no checkpoint beyond step {reached}: not started again"
    print(f"run {run.run_id}: {message}")
    last = status.attempts[-1]
    if last.end in (None, "signal", "limit"):
        run.end_attempt(
            end="killed",
            last_step=max(last.first_step, last.last_step),
            exit_code=last.exit_code,
            message=f"{last.message or 'vanished'} ({message})",
        )
    return False


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
        self.stopping = False

    def train(self) -> int:
        """Train all that are not done; the exit code that tells the batch file most."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._stop)
        devices = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        for place, task in enumerate(self.tasks):
            run = RunDirectory.at(Path(task.directory))
            if self.stopping or run.status().state in ("done", "diverged"):
                continue
            self._start(run, devices[place % len(devices)] if devices else None)
        codes = [child.wait() for child in self.children]
        return exit_code_of(codes, stopped=self.stopping)

    def _start(self, run: RunDirectory, device: str | None) -> None:
        program = read_command(run)
        environment = os.environ | program.environment | ({"CUDA_VISIBLE_DEVICES": device} if device else {})
        log = run.logs / f"slurm-{slurm_job(os.environ)}.log"
        print(f"run {run.run_id}: log {log}", flush=True)
        with log.open("ab") as file:
            self.children.append(subprocess.Popen(program.argv, env=environment, stdout=file, stderr=file))
        if self.stopping:  # the signal came between
            self.children[-1].terminate()

    def _stop(self, *_: Any) -> None:
        self.stopping = True
        for child in self.children:
            child.terminate()


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

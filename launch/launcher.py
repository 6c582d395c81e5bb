"""What a launcher is, and in which state a run is by what its directory and the launchers' queues say.

Another cluster system is one more file with a class that has what `Launcher` has, and a
``configs/launch/<name>.yaml`` that names it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.rundir import RunDirectory
from harness.sweepfile import WrittenSweep


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A run as a launcher sees it in its queue now; a run that it does not see has no job."""

    job: str
    """As the system's own commands name it: ``1234_5`` of Slurm, a process id of this machine."""
    running: bool
    """False: waiting."""
    reason: str = ""
    """Why it waits, in the system's words."""


class Launcher(Protocol):
    """Where runs are trained."""

    allocates: bool
    """Whether a run holds machines that others wait for, so that simulated runs need consent as others do."""

    def submit(self, sweep: WrittenSweep, run_ids: Sequence[str]) -> int:
        """See to it that these runs of `sweep` are trained, each once; returns the exit code for the command line."""

    def poll(self, root: Path) -> Mapping[str, Seen]:
        """The runs under `root` that wait or run now, by run id."""

    def cancel(self, root: Path, run_ids: Sequence[str]) -> list[str]:
        """Stop these runs (they save a checkpoint first); what was done, one sentence a job."""


def state_of(run: RunDirectory, seen: Mapping[str, Seen]) -> str:
    """done, diverged, failed, running, lost (says that it runs, and neither has a job nor lives), waiting, or queued (no job)."""
    return judge(
        run.status().state, seen.get(run.run_id), has_result=lambda: run.result() is not None, lives=run.lease_is_alive
    )


def judge(state: str, seen: Seen | None, *, has_result: Callable[[], bool], lives: Callable[[], bool]) -> str:
    """`state_of`, from what status.json says; the two questions are asked only where the answer depends on them."""
    if state == "done" and has_result():
        return state
    if seen is not None:
        return "running" if seen.running else "waiting"
    if state == "running":
        return "running" if lives() else "lost"
    return state if state in ("diverged", "failed") else "queued"

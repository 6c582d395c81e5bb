"""What a launcher is, and which runs of a sweep it takes.

Another cluster system is one more file with a class that has what `Launcher` has, and a
``configs/launch/<name>.yaml`` that names it.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from harness.errors import ConfigError, nearest
from harness.rundir import RunDirectory
from harness.sweepfile import WrittenSweep

RETRY = ("failed", "diverged", "lost")
"""States that ``retry=`` names."""


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


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The runs of a sweep, by what a launch does with them; each list in the sweep's order."""

    take: tuple[str, ...]
    done: tuple[str, ...]
    active: tuple[str, ...]
    """Waiting or running already."""
    left: Mapping[str, tuple[str, ...]]
    """By state: those that only ``retry=`` takes."""


def read_retry(value: Any) -> tuple[str, ...]:
    """``retry=failed`` or ``retry=[failed,lost]`` of the command line; null: none.

    Raises:
        ConfigError: a state that cannot be retried.
    """
    words = () if value is None else (value,) if isinstance(value, str) else tuple(value)
    for word in words:
        if word not in RETRY:
            raise ConfigError(f"retry={word}: choose of {', '.join(RETRY)}{nearest(word, RETRY)}")
    return words


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


def part_of(sweep: WrittenSweep, run_ids: Iterable[str]) -> WrittenSweep:
    """`sweep` with these of its runs only."""
    wanted = set(run_ids)
    return replace(sweep, experiments=tuple(one for one in sweep.experiments if one.run_id in wanted))


def select(root: Path, run_ids: Iterable[str], seen: Mapping[str, Seen], retry: Sequence[str] = ()) -> Selection:
    """What a launch takes: all that is not done, waiting, running or diverged; with `retry`, only runs in those states."""
    states = {run_id: state_of(RunDirectory(root, run_id), seen) for run_id in run_ids}
    wanted = tuple(retry) or ("queued", "failed", "lost")

    def of(*chosen: str) -> tuple[str, ...]:
        return tuple(run_id for run_id, state in states.items() if state in chosen)

    return Selection(
        take=of(*wanted),
        done=of("done"),
        active=of("waiting", "running"),
        left={state: ids for state in ("queued", *RETRY) if state not in wanted and (ids := of(state))},
    )


def begin_anew(run: RunDirectory) -> None:
    """Let a diverged run begin at its beginning: it is queued again, its checkpoints are put aside."""
    aside = run.path / "checkpoints-diverged"
    if run.checkpoints.exists():
        shutil.rmtree(aside, ignore_errors=True)
        run.checkpoints.rename(aside)
    run.write_status(replace(run.status(), state="queued"))

"""All launchers together: where a run may have a job, whoever gave it one."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from launch import localqueue, placed
from launch.launcher import Seen

QUEUES = (localqueue, placed)
"""What each kind of launcher has: `poll` and `cancel`. The launchers themselves, which start slowly, are not needed."""


@dataclass(frozen=True, kw_only=True)
class Polled:
    """The answers of all launchers."""

    seen: dict[str, Seen]
    """By run id."""
    unknown: tuple[str, ...]
    """What the launchers said that could not tell (Slurm does not answer): a run without a job may have one there."""


def poll_all(root: Path) -> Polled:
    """What waits and runs under `root`, by every launcher."""
    seen: dict[str, Seen] = {}
    unknown = []
    for queue in QUEUES:
        try:
            seen |= queue.poll(root)
        except HarnessError as error:
            unknown.append(str(error))
    return Polled(seen=seen, unknown=tuple(unknown))


def cancel_all(root: Path, run_ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """Let every launcher stop what it has of `run_ids`: what was done, and what could not be, in sentences."""
    ids = list(run_ids)
    done, troubles = [], []
    for queue in QUEUES:
        try:
            done += queue.cancel(root, ids)
        except HarnessError as error:
            troubles.append(str(error))
    return done, troubles

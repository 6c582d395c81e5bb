"""Which runs of a sweep a launch takes, and which it leaves as they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, nearest
from harness.rundir import RunDirectory
from harness.sweepfile import WrittenSweep
from launch.launcher import Seen, state_of

RETRY = ("failed", "diverged", "lost")
"""States that ``retry=`` names."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The runs of a sweep, by what a launch does with them; each list in the sweep's order."""

    take: tuple[str, ...]
    done: tuple[str, ...]
    active: tuple[str, ...]
    """Waiting or running already."""
    left: Mapping[str, tuple[str, ...]]
    """By state: those that only ``retry=`` takes."""

    def left_alone(self) -> list[str]:
        """In sentences, the runs that this launch leaves as they are, and how to take those that can be."""
        lines = []
        for state, ids in self.left.items():
            how = "" if state == "queued" else f" (retry={state} takes them)"
            lines.append(f"{len(ids)} {state}, left as they are{how}: {some_of(ids)}")
        if self.active:
            lines.append(f"{len(self.active)} wait or run already, and are left alone: {some_of(self.active)}")
        return lines


def some_of(run_ids: Sequence[str], most: int = 5) -> str:
    """The first of a list of runs, for a person."""
    return ", ".join(run_ids[:most]) + (" ..." if len(run_ids) > most else "")


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

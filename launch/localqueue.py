"""What local launches wait for and run, in files under the root, so that other processes can see it and take runs out of it.

<root>/launches/<host>-<process>/lease.json    while the launch lives
                                 queue.json    run ids that wait, and those that run with their process ids
                                 cancel.json   run ids that someone wants stopped
"""

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.files import read_json, write_json
from harness.lease import Lease, is_alive
from launch.launcher import Seen

WRITE_SECONDS = 0.5
"""The queue is written this often at most."""


class LocalQueue:
    """The files of the launch that this process is."""

    def __init__(self, root: Path):
        """Nothing is written before `open`."""
        self.directory = root / "launches" / f"{socket.gethostname()}-{os.getpid()}"
        self._lease = Lease(self.directory)
        self._written: tuple[Any, ...] | None = None
        self._written_at = 0.0

    def open(self) -> None:
        """Make the directory; those that dead launches left go."""
        for other in self.directory.parent.glob("*-*"):
            if (other / "lease.json").exists() and not is_alive(other):
                shutil.rmtree(other, ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lease.__enter__()

    def close(self) -> None:
        """The launch is over."""
        self._lease.__exit__()
        shutil.rmtree(self.directory, ignore_errors=True)

    def write(self, waiting: Sequence[str], running: Mapping[str, int]) -> None:
        """Show what waits, and what runs by its process id, unless that was just done."""
        state = (tuple(waiting), tuple(running.items()))
        if state == self._written or (self._written and time.monotonic() - self._written_at < WRITE_SECONDS):
            return
        self._written, self._written_at = state, time.monotonic()
        value = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "waiting": list(waiting),
            "running": dict(running),
        }
        with contextlib.suppress(OSError):  # a full disk: others see an older state
            write_json(self.directory / "queue.json", value)

    def cancelled(self) -> set[str]:
        """Run ids that someone wants stopped."""
        return _requests(self.directory)


@dataclass(frozen=True, kw_only=True)
class LiveQueue:
    """The queue of a launch that lives, here or on another machine of the filesystem."""

    directory: Path
    host: str
    pid: int
    waiting: tuple[str, ...] = ()
    running: Mapping[str, int] = field(default_factory=dict)

    def cancel(self, run_ids: Iterable[str]) -> list[str]:
        """Ask the launch to stop those of `run_ids` that it has; their ids."""
        wanted = set(run_ids)
        mine = [run_id for run_id in (*self.running, *self.waiting) if run_id in wanted]
        if mine:
            write_json(self.directory / "cancel.json", sorted({*_requests(self.directory), *mine}))
        return mine


def live_queues(root: Path) -> list[LiveQueue]:
    """The launches under `root` that live."""
    found = []
    for directory in sorted((root / "launches").glob("*-*")):
        value = read_json(directory / "queue.json")
        if isinstance(value, dict) and is_alive(directory):
            found.append(
                LiveQueue(
                    directory=directory,
                    host=value["host"],
                    pid=value["pid"],
                    waiting=tuple(value["waiting"]),
                    running=value["running"],
                )
            )
    return found


def poll(root: Path) -> dict[str, Seen]:
    """The runs that local launches under `root` have, by run id, on whatever machine of the filesystem they work."""
    seen: dict[str, Seen] = {}
    for queue in live_queues(root):
        where = f"waits in launch.local, process {queue.pid} on {queue.host}"
        seen |= {run_id: Seen(job=str(queue.pid), running=False, reason=where) for run_id in queue.waiting}
        seen |= {run_id: Seen(job=str(pid), running=True) for run_id, pid in queue.running.items()}
    return seen


def cancel(root: Path, run_ids: Sequence[str]) -> list[str]:
    """Ask the local launches that have these runs to stop them; what was asked, one sentence a launch."""
    said = []
    for queue in live_queues(root):
        if ids := queue.cancel(run_ids):
            said.append(f"launch.local, process {queue.pid} on {queue.host}, stops {', '.join(ids)}")
    return said


def _requests(directory: Path) -> set[str]:
    value = read_json(directory / "cancel.json")
    return set(value) if isinstance(value, list) else set()

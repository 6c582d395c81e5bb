"""What was handed to Slurm: one line before and one after each sbatch, so that a submitter that dies loses and repeats nothing.

    <root>/slurm/journal.jsonl          the lines
                 0001-phase1-1e19/      one submission: batch files, task tables, logs

A submission begins with ``{"event": "submitting", "fingerprint": ...}`` and ends with ``submitted`` (and the job's number),
``refused`` (Slurm did not take it) or, found by a later start, ``absent``. The fingerprint is in the job's comment: a start that
finds ``submitting`` without an end asks the queue for it.
"""

import json
import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import open_to_append, read_json_lines
from launch.tasks import Task, read_table

MARK = "moe-scaling"
"""A job's comment is this, a colon, and its fingerprint."""

GRACE_SECONDS = 10.0
"""A job that sbatch asked for shows in the queue within this time after sbatch has ended."""

OTHER_HOST_SECONDS = 75.0
"""How long an sbatch on another machine, which cannot be looked for, may still be at work (`launch.queue.SECONDS` and some)."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One sbatch."""

    fingerprint: str
    table: str
    """Its task table, relative to the journal's directory."""
    at: float
    """Seconds since 1970."""
    host: str
    end: str | None = None
    """submitted, refused, absent; None: not known."""
    job: str | None = None


class Journal:
    """The journal under a root."""

    def __init__(self, root: Path):
        """`root` holds ``runs/``."""
        self.directory = root / "slurm"
        self.path = self.directory / "journal.jsonl"

    def entries(self) -> list[Entry]:
        """All that was tried, in order; torn lines count as not written."""
        found: dict[str, dict[str, Any]] = {}
        for line in read_json_lines(self.path):
            if not isinstance(line, dict) or not isinstance(line.get("fingerprint"), str):
                continue
            known = found.setdefault(line["fingerprint"], {"table": "", "at": 0.0, "host": ""})
            if line.get("event") == "submitting":
                known |= {name: line[name] for name in ("table", "at", "host") if name in line}
            else:
                known |= {"end": line.get("event"), "job": line.get("job")}
        return [Entry(fingerprint=fingerprint, **values) for fingerprint, values in found.items()]

    def write(self, event: str, fingerprint: str, **more: Any) -> None:
        """Append a line, and have it on the disk before this returns."""
        value = {"event": event, "fingerprint": fingerprint, "at": round(time.time(), 3), **more}
        with open_to_append(self.path) as file:
            file.write(json.dumps(value) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def begin(self, fingerprint: str, table: Path) -> None:
        """About to call sbatch."""
        relative = str(table.relative_to(self.directory))
        self.write("submitting", fingerprint, table=relative, host=socket.gethostname(), pid=os.getpid())

    def may_have_jobs(self, entries: Sequence[Entry]) -> bool:
        """Whether something under this root may be in Slurm's queue; `entries`: all of the journal's."""
        if entries:
            return any(entry.end in ("submitted", None) for entry in entries)
        return any(self.directory.glob("[0-9][0-9][0-9][0-9]-*/*.sbatch"))  # the journal is gone

    def tasks(self, entry: Entry) -> list[Task]:
        """The runs of a submission.

        Raises:
            RunError: its table is missing or damaged.
        """
        return read_table(self.directory / entry.table)


def comment(fingerprint: str) -> str:
    """A job's comment."""
    return f"{MARK}:{fingerprint}"


def unsettled(entries: Iterable[Entry]) -> list[Entry]:
    """Those of which nobody wrote down how they ended."""
    return [entry for entry in entries if entry.end is None]


def may_still_come(entry: Entry, now: float) -> bool:
    """Whether the sbatch of an unsettled entry may still be at work, or its job not be in the queue yet."""
    if entry.host == socket.gethostname():
        return _sbatch_lives(entry.fingerprint) or now - entry.at < GRACE_SECONDS
    return now - entry.at < OTHER_HOST_SECONDS


def _sbatch_lives(fingerprint: str) -> bool:
    """Whether a process of this machine has the fingerprint on its command line."""
    wanted = fingerprint.encode()
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"sbatch") and any(wanted in word for word in words):
            return True
    return False

"""Slurm's own commands: what is in the queue, submit, cancel, limits. Everything else of the launcher is above this file.

Output is read in fixed columns (``squeue --format``), which are the same in all versions, where the JSON of Slurm changes with
each. An array is listed one element a line.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError

SECONDS = 60.0
"""Longest wait for an answer of Slurm."""

RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "CONFIGURING", "RESIZING")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
"""States of jobs that have not ended (squeue's manual, "JOB STATE CODES")."""

COLUMNS = "%F|%K|%T|%r|%k|%o"
"""Job or array, index in it, state, reason, comment, batch file; the file last, as its name may hold anything."""

FILTERS = ("SQUEUE_", "SBATCH_", "SACCT_")
"""Variables that begin so change what Slurm's commands do; only the configuration is to."""

MAY_HAVE_TAKEN = (
    *(
        "timed out",
        "timeout",
        "gave no answer",
        "unable to contact",
        "communication",
        "zero bytes",
        "unexpected message",
    ),
)
"""In what sbatch says where it does not know itself whether the controller took the job."""

DEFAULT_MAX_ARRAY_SIZE = 1001
"""Slurm's own default of MaxArraySize (slurm.conf)."""


class SlurmError(HarnessError):
    """Slurm is not there, does not answer, or refused."""

    @property
    def may_have_taken(self) -> bool:
        """Of sbatch: whether the job may be in the queue all the same."""
        return any(words in str(self).lower() for words in MAY_HAVE_TAKEN)


@dataclass(frozen=True, kw_only=True)
class Element:
    """One job, or one element of an array."""

    array: str
    index: int | None
    """None: a job of its own."""
    state: str
    reason: str
    comment: str
    script: str
    """The batch file."""

    @property
    def job(self) -> str:
        """As scancel and scontrol name it."""
        return self.array if self.index is None else f"{self.array}_{self.index}"

    @property
    def running(self) -> bool:
        """Whether it has nodes."""
        return self.state in RUNNING

    @property
    def active(self) -> bool:
        """Whether it runs or waits, rather than being over."""
        return self.state in RUNNING + WAITING


def elements(*, ended: bool = False) -> list[Element]:
    """The cluster's jobs (a root may be shared): those that wait or run, and with `ended` those that Slurm has not forgotten.

    Raises:
        SlurmError: squeue is not there, or gives no answer.
    """
    words = ["squeue", "--noheader", "--all", "--array", f"--format={COLUMNS}"]
    found = []
    for line in _call([*words, "--states=all"] if ended else words).splitlines():
        parts = line.split("|", 5)
        if len(parts) == 6:
            array, index, state, reason, comment, script = (part.strip() for part in parts)
            found.append(
                Element(
                    array=array,
                    index=int(index) if index.isdigit() else None,
                    state=state,
                    reason=reason,
                    comment=comment,
                    script=script,
                )
            )
    return found


def submit(script: Path, options: Sequence[str]) -> str:
    """Hand `script` to Slurm with further `options`; the job's number.

    Raises:
        SlurmError: it was refused, with Slurm's words.
    """
    answer = _call(["sbatch", "--parsable", *options, str(script)])
    found = re.search(r"^(\d+)(;\S+)?$", answer.strip().splitlines()[-1] if answer.strip() else "")
    if not found:
        raise SlurmError(f"sbatch {script} answered {answer.strip()!r}, which holds no job's number")
    return found.group(1)


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs or elements of arrays: those that run get SIGTERM first.

    Raises:
        SlurmError: Slurm refused.
    """
    for start in range(0, len(jobs), 200):  # a command line has an end
        _call(["scancel", *jobs[start : start + 200]])


def settings() -> Mapping[str, str]:
    """``scontrol show config`` as a mapping.

    Raises:
        SlurmError: no answer.
    """
    pairs = (line.split("=", 1) for line in _call(["scontrol", "show", "config"]).splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def max_array_size() -> int:
    """Elements of an array are numbered below this.

    Raises:
        SlurmError: no answer.
    """
    value = settings().get("MaxArraySize", "")
    return int(value) if value.isdigit() and int(value) > 1 else DEFAULT_MAX_ARRAY_SIZE


def how_they_ended(jobs: Sequence[str]) -> dict[str, str]:
    """What accounting says of jobs that the queue forgot, as ``OUT_OF_MEMORY on node3``; nothing without accounting."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    words = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobID,State,NodeList"]
    try:
        lines = _call([*words, f"--jobs={','.join(jobs)}"], seconds=10.0).splitlines()
    except SlurmError:
        return {}  # "Slurm accounting storage is disabled"
    rows = [line.split("|", 2) for line in lines]
    return {row[0]: f"{row[1]} on {row[2]}" if row[2] else row[1] for row in rows if len(row) == 3 and row[1]}


def _call(words: Sequence[str], seconds: float = SECONDS) -> str:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(FILTERS)}
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds, env=variables)
    except FileNotFoundError:
        raise SlurmError(
            f"{words[0]} is not installed here: run this on a machine of a Slurm cluster, or use launch.local (dry=true writes "
            "the batch files without Slurm)"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{words[0]} gave no answer in {seconds:.0f} s: the controller may be down; try again later"
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise SlurmError(f"{words[0]} failed (exit code {done.returncode}): {said or 'without a word'}")
    return done.stdout

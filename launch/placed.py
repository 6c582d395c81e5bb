"""What Slurm has of a root: its queue held against the journal.

settle(journal)          wait until it is known how every sbatch that nobody wrote the end of came out
placed(root)             every run that waits or runs, with its job
poll(root)               the same as launchers tell each other
cancel(root, run_ids)    cancel the jobs of runs
"""

import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import RunError
from launch import queue
from launch.journal import MARK, Journal, comment, may_still_come, unsettled
from launch.launcher import Seen
from launch.tasks import Task

LOOK_SECONDS = 0.5


def settle(journal: Journal) -> None:
    """Find the job of each submission without an end, or wait until there can be none.

    Raises:
        SlurmError: Slurm gives no answer.
    """
    said = False
    while waiting := unsettled(journal.entries()):
        now = time.time()
        jobs = {element.comment: element.array for element in queue.elements(ended=True)}
        for entry in waiting:
            if (job := jobs.get(comment(entry.fingerprint))) is not None:
                journal.write("submitted", entry.fingerprint, job=job, found=True)
                print(f"found job {job}, which an earlier start submitted and did not write down")
            elif not may_still_come(entry, now):
                journal.write("absent", entry.fingerprint)
        if unsettled(journal.entries()):
            if not said:
                print("an earlier start ended while it submitted: waiting to see whether Slurm has the job", flush=True)
            said = True
            time.sleep(LOOK_SECONDS)


def placed(root: Path) -> list[tuple[str, queue.Element]]:
    """Every run that has a job, with it; a run may have several. Slurm is not asked where nothing was submitted.

    Raises:
        SlurmError: Slurm gives no answer.
        RunError: there are jobs of this root whose task table or journal is gone.
    """
    journal = Journal(root)
    known = journal.entries()
    if not journal.may_have_jobs(known):
        return []
    entries = {comment(entry.fingerprint): entry for entry in known}
    tables: dict[str, list[Task]] = {}
    found = []
    for element in queue.elements():
        if not element.active or not element.comment.startswith(f"{MARK}:"):
            continue
        if (entry := entries.get(element.comment)) is None:
            if Path(element.script).is_relative_to(journal.directory.absolute()):
                raise RunError(
                    f"job {element.job} runs {element.script}, and {journal.path} does not know it: restore the journal, or "
                    "cancel the job (scancel)"
                )
            continue
        if entry.fingerprint not in tables:
            tables[entry.fingerprint] = journal.tasks(entry)
        found += [(task.run_id, element) for task in tables[entry.fingerprint] if task.index == element.index]
    return found


def poll(root: Path) -> dict[str, Seen]:
    """The runs under `root` that Slurm has in its queue, by run id; Slurm is not asked where nothing was submitted.

    Raises:
        SlurmError: Slurm gives no answer.
        RunError: there are jobs of this root whose task table or journal is gone.
    """
    return {
        run_id: Seen(job=element.job, running=element.running, reason=element.reason)
        for run_id, element in placed(root)
    }


def cancel(root: Path, run_ids: Sequence[str]) -> list[str]:
    """Cancel the jobs of these runs: those that run get SIGTERM, save a checkpoint and stop.

    A job that holds other runs too is left, and named.

    Raises:
        SlurmError: Slurm refuses.
    """
    by_job: dict[str, set[str]] = {}
    for run_id, element in placed(root):
        by_job.setdefault(element.job, set()).add(run_id)
    wanted = set(run_ids)
    said, jobs = [], []
    for job, ids in by_job.items():
        if others := ids - wanted:
            if ids & wanted:
                said.append(
                    f"job {job} of Slurm goes on: it holds {', '.join(sorted(others))} too; name all of its runs"
                )
        else:
            jobs.append(job)
            said.append(f"job {job} of Slurm: {', '.join(sorted(ids))}")
    queue.cancel(sorted(jobs))
    return said

"""Branches in a launch: which may start, why one never will, and when a trunk's checkpoints may go.

A branch starts as soon as its trunk's checkpoint at its branch point is whole, whatever becomes of the trunk after that.
"""

import shutil
from collections.abc import Collection
from pathlib import Path

from harness.experiment import Experiment
from harness.megatron.branching import can_start, checkpoint_path, trunk_of
from harness.rundir import RunDirectory
from harness.trunks import branches_of
from launch.job import Job


def startable(waiting: list[Job]) -> Job | None:
    """The first of `waiting` that may start now; None where all of them wait for a trunk."""
    return next((job for job in waiting if can_start(job.run, job.experiment)), None)


def why_never(job: Job, active: Collection[str]) -> str | None:
    """Why a branch that cannot start now never will in this launch; None where its trunk is `active` (waiting or running)."""
    training = job.experiment.training
    if training.trunk in active or can_start(job.run, job.experiment):
        return None
    trunk, step = trunk_of(job.run, job.experiment), training.first_iters
    status = trunk.status()
    if status.state == "done":
        return f"its trunk {training.trunk} is done and holds no checkpoint of step {step}; remove {trunk.path} to train it again"
    message = status.attempts[-1].message if status.attempts else None
    return f"its trunk {training.trunk} came to no checkpoint of step {step}: {status.state}{f' ({message})' if message else ''}"


def release(root: Path, trunk: Experiment, keep: str) -> bool:
    """Remove a trunk's checkpoints, or with `keep` = ``last`` all but the last, once no branch of any sweep needs them.

    A branch needs them until it is done or diverged. Returns whether anything was removed.
    """
    run = RunDirectory(root, trunk.run_id)
    if keep == "all" or not run.checkpoints.exists() or run.status().state != "done":
        return False
    if any(
        RunDirectory(root, branch).status().state not in ("done", "diverged")
        for branch in branches_of(root, run.run_id)
    ):
        return False
    if keep == "none":
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        return True
    gone = [path for step in trunk.training.kept_steps[:-1] if (path := checkpoint_path(run, step)).exists()]
    for path in gone:
        shutil.rmtree(path, ignore_errors=True)
    return bool(gone)

"""The mark of a simulated run, ``simulated.json`` in its directory, and the wall between simulated and trained runs.

A directory is one or the other for good: each trainer refuses what the other one has begun, and a launcher refuses a sweep
that holds any such run, before it starts one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.files import read_json, write_json
from harness.rundir import RunDirectory
from harness.simulated.truth import Truth

MARKER = "simulated.json"

SCHEMA = 1
"""Version of the file."""


def is_simulated(run: RunDirectory) -> bool:
    """Whether the simulator has begun this run (a torn mark counts)."""
    return (run.path / MARKER).exists()


def refuse_simulated(run: RunDirectory) -> None:
    """Keep a real trainer out of a simulated run.

    Raises:
        RunError: it is simulated.
    """
    if is_simulated(run):
        raise RunError(
            f"{run.path} is simulated ({MARKER}): nothing was trained there. To train the run, remove that directory, or plan "
            "under another root="
        )


def refuse_other(run: RunDirectory, truth: Truth) -> None:
    """Keep the simulator out of a run that was trained, or simulated from another truth.

    Raises:
        RunError: with what is there, or with the difference.
    """
    if is_simulated(run):
        mark = read_json(run.path / MARKER)
        held = mark.get("truth") if isinstance(mark, dict) else None
        if held != (wanted := truth.describe()):
            raise RunError(
                f"{run.path} was simulated from another truth ({_difference(held, wanted)}): remove that directory, or simulate "
                "under another root="
            )
    elif (trace := _trace(run)) is not None:
        raise RunError(
            f"{run.path} was trained ({trace}), and is not simulated over: simulate under another root=, or leave out "
            "train=simulated"
        )


def write_mark(run: RunDirectory, truth: Truth) -> None:
    """Mark the run before anything else is written to it.

    Raises:
        RunError: see `refuse_other`.
    """
    refuse_other(run, truth)
    if not is_simulated(run):
        write_json(run.path / MARKER, {"schema": SCHEMA, "simulated": True, "truth": truth.describe()})


def refuse_mixture(root: Path, run_ids: Iterable[str], truth: Truth | None) -> None:
    """For launchers: none of the runs of a sweep may have been begun by the other trainer; `truth`: None to train for real.

    Raises:
        RunError: one was; with how many more.
    """
    refused = []
    for run_id in run_ids:
        run = RunDirectory(root, run_id)
        try:
            refuse_simulated(run) if truth is None else refuse_other(run, truth)
        except RunError as error:
            refused.append(str(error))
    if refused:
        more = f" (and {len(refused) - 1} more runs of the sweep)" if len(refused) > 1 else ""
        raise RunError(f"{refused[0]}{more}")


def _trace(run: RunDirectory) -> str | None:
    """What a real trainer left, or None."""
    if any(attempt.command for attempt in run.status().attempts):  # without one, a start that came to no program
        return "status.json has attempts"
    for path in (run.metrics_path, run.path / "result.json", run.checkpoints):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            return f"it has {path.name}"
    return None


def _difference(held: Any, wanted: dict[str, Any]) -> str:
    if not isinstance(held, dict):
        return f"{MARKER} is torn"
    return "; ".join(
        f"{key}: {held.get(key)} -> {wanted.get(key)}"
        for key in sorted(held.keys() | wanted.keys())
        if held.get(key) != wanted.get(key)
    )

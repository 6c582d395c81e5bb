"""What is known of every run of a sweep now: its row of the sweep's table, its directory, and the launchers' queues.

    polled = poll_all(root)
    views = [view_run(root, row, polled) for row in sweep_rows(root, "phase1-1e19")]

Made for ten thousand runs: no `Experiment` is built, and a file is opened only where its contents are shown.
"""

import csv
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.lease import is_alive
from harness.sweepfile import SIMULATED
from launch.launcher import judge
from launch.launchers import Polled
from launch.logs import last_line, last_metrics, newest_log

STATES = ("done", "running", "waiting", "queued", "failed", "diverged", "lost")
"""Every state that a run is shown in (`launch.launcher.state_of`), in the order of the summary."""

TROUBLE = ("failed", "diverged", "lost")


@dataclass(frozen=True, kw_only=True)
class RunView:
    """One run, for people and for ``--json``."""

    run_id: str
    state: str
    study: str
    compute: float
    """Nominal budget, FLOPs."""
    gpus: int
    """0: a core."""
    steps: int
    """Planned."""
    step: int = 0
    """Reached."""
    loss: float | None = None
    """Nats a token: final validation loss of a run that is done, else the newest training loss."""
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    """Of a run that runs, at its present speed."""
    hours_spent: float = 0.0
    """GPU-hours (core-hours without GPUs) of all attempts; of a simulated run none."""
    hours_predicted: float = 0.0
    attempts: int = 0
    job: str | None = None
    """As its launcher's commands name it; of a lost run the job that it had."""
    reason: str | None = None
    """Why it waits."""
    message: str | None = None
    """Of the last attempt: the last line of its error."""
    log: str | None = None
    """Newest log of a run in trouble."""
    simulated: bool = False


def sweep_rows(root: Path, name: str) -> list[dict[str, str]]:
    """The rows of a sweep's table."""
    with (root / "sweeps" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)  # csv.DictReader takes twice as long
        header = next(lines, [])
        return [dict(zip(header, line, strict=False)) for line in lines if line]


def view_run(root: Path, row: Mapping[str, str], polled: Polled, *, details: bool = False) -> RunView:
    """The run of a row; `details`: also the final loss of a run that is done.

    Of a run that claims to run and has no job, ``lost`` is said only where every queue is known. A run whose files make no sense
    is failed, and says so.
    """
    try:
        return _view(root, row, polled, details=details)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        return RunView(
            run_id=row["run_id"],
            state="failed",
            study=row.get("study", ""),
            compute=_float(row.get("compute")) or 0.0,
            gpus=0,
            steps=0,
            message=f"its status.json is damaged ({error})",
            log=f"{root}/runs/{row['run_id']}/status.json",
        )


def _view(root: Path, row: Mapping[str, str], polled: Polled, *, details: bool) -> RunView:
    run_id = row["run_id"]
    path = f"{root}/runs/{run_id}"
    status = _read(f"{path}/status.json")
    attempts = [one for one in status.get("attempts") or [] if isinstance(one, dict)]
    last = attempts[-1] if attempts else {}
    state = _state(run_id, path, str(status.get("state", "queued")), polled)
    seen = polled.seen.get(run_id)
    steps, gpus = int(row["train_iters"]), int(float(row.get("gpus") or 0))
    simulated = SIMULATED in (row.get("marks") or "").split(";")
    step = steps if state == "done" else int(last.get("last_step") or last.get("first_step") or 0)
    loss = speed = left = None
    if state == "running":
        newest = last_metrics(Path(path) / "metrics.jsonl")
        step = max(step, int(_float(newest.get("step")) or 0))
        loss, speed = _float(newest.get("lm_loss")), _float(newest.get("tokens_per_s"))
        if speed:
            left = (steps - step) * int(row["global_batch_size"]) * int(row["seq_length"]) / speed
    elif state == "done" and details:
        loss = _float(_read(f"{path}/result.json").get("final_validation_loss"))
    # a run that lost its job spent nothing after its last sign of life
    until = _last_sign(path) if attempts and not last.get("ended") and state != "running" else time.time()
    seconds = sum(_seconds(attempt, until) for attempt in attempts)
    trouble = state in TROUBLE
    log = newest_log(Path(path)) if trouble else None
    return RunView(
        run_id=run_id,
        state=state,
        study=row.get("study", ""),
        compute=float(row["compute"]),
        gpus=gpus,
        steps=steps,
        step=step,
        loss=loss,
        tokens_per_second=speed,
        seconds_left=left,
        hours_spent=0.0 if simulated else max(1, gpus) * seconds / 3600,
        hours_predicted=float(row.get("est_gpu_hours") or 0),
        attempts=len(attempts),
        job=seen.job if seen and state in ("running", "waiting") else last.get("job_id") if state == "lost" else None,
        reason=seen.reason or None if seen and state == "waiting" else None,
        message=(last.get("message") or (last_line(log) if log else None)) if trouble else None,
        log=str(log) if log else None,
        simulated=simulated,
    )


def _state(run_id: str, path: str, state: str, polled: Polled) -> str:
    """As `launch.launcher.state_of`, from what was read already."""
    return judge(
        state,
        polled.seen.get(run_id),
        has_result=lambda: os.path.exists(f"{path}/result.json"),  # noqa: PTH110
        lives=lambda: bool(polled.unknown) or is_alive(Path(path)),
    )


def _float(value: Any) -> float | None:
    """A finite number, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _read(path: str) -> dict[str, Any]:
    """A JSON mapping; an empty one where the file is missing or torn."""
    try:
        descriptor = os.open(path, os.O_RDONLY)  # a file object costs as much as the reading
        try:
            text = os.read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        value = json.loads(text.decode())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _seconds(attempt: Mapping[str, Any], until: float) -> float:
    """Wall time of an attempt; of one without an end, to `until` (seconds since the epoch)."""
    try:
        begin = datetime.fromisoformat(attempt["started"]).timestamp()
        end = datetime.fromisoformat(attempt["ended"]).timestamp() if attempt.get("ended") else until
        return max(0.0, end - begin)
    except (KeyError, TypeError, ValueError):
        return 0.0


def _last_sign(path: str) -> float:
    """When a run wrote its last line of metrics, in seconds since the epoch; 0 where it wrote none."""
    try:
        return os.stat(f"{path}/metrics.jsonl").st_mtime  # noqa: PTH116
    except OSError:
        return 0.0

"""A run's directory: paths, status, attempts.

    <root>/runs/<run id>/
        experiment.json   the canonical experiment
        command.txt       the full Megatron command, to read and to rerun by hand
        status.json       state and attempts
        metrics.jsonl     one line a step
        result.json       final losses, tokens and FLOPs really spent, versions
        lease.json        who writes now, while someone does (`harness.lease`)
        simulated.json    only where nothing was trained (`harness.simulated`)
        checkpoints/ cache/ logs/

Every file is replaced whole (`harness.files`), except metrics.jsonl, to which lines are appended.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.experiment import Experiment
from harness.files import read_json, read_json_lines, read_text, write_atomically, write_json
from harness.lease import is_alive

STATE_AFTER = {
    "done": "done",
    "signal": "queued",
    "limit": "queued",
    "diverged": "diverged",
    "crash": "failed",
    "rerun": "failed",
    "killed": "failed",
}
"""How an attempt can end, and the run's state then. done: the last step and a finite validation loss; signal: told to stop
(a later start goes on from the last checkpoint); limit: likewise, before a cluster's time limit; diverged: a NaN, or a loss above
the initial; crash: an exception; rerun: Megatron's rerun state machine stopped it (exit codes 16, 17); killed: it vanished."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One start of a run."""

    number: int
    host: str
    pid: int
    command: str
    started: str
    """UTC, ISO 8601."""
    job_id: str | None = None
    first_step: int = 0
    """Step of the checkpoint it began from."""
    last_step: int = 0
    ended: str | None = None
    end: str | None = None
    """A key of `STATE_AFTER`; None while it runs."""
    exit_code: int | None = None
    message: str | None = None
    """One line for a person: the error, or the signal."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """Contents of status.json."""

    run_id: str
    state: str = "queued"
    attempts: tuple[Attempt, ...] = field(default=())
    schema: int = 1

    def wall_seconds(self) -> float:
        """Of all attempts so far, one that runs included."""
        return sum(
            (datetime.fromisoformat(attempt.ended or now()) - datetime.fromisoformat(attempt.started)).total_seconds()
            for attempt in self.attempts
        )


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def slurm_job(variables: Mapping[str, str]) -> str | None:
    """This process's job as Slurm's commands name it, ``1234_5`` for an element of an array; None outside of Slurm."""
    if (array := variables.get("SLURM_ARRAY_JOB_ID")) is not None:
        return f"{array}_{variables.get('SLURM_ARRAY_TASK_ID')}"
    return variables.get("SLURM_JOB_ID")


class RunDirectory:
    """The files of one run; creating this object touches nothing."""

    def __init__(self, root: Path, run_id: str):
        """`root` holds ``runs/``."""
        self.root = Path(root)
        self.run_id = run_id
        self.path = self.root / "runs" / run_id

    @classmethod
    def at(cls, path: Path) -> "RunDirectory":
        """The run whose directory is `path`, wherever it is (a rerun by hand need not be under ``runs/``)."""
        run = cls(path.parent.parent, path.name)
        run.path = path
        return run

    @property
    def checkpoints(self) -> Path:
        """Megatron's ``--save`` and ``--load``."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """One console log an attempt."""
        return self.path / "logs"

    @property
    def metrics_path(self) -> Path:
        """metrics.jsonl."""
        return self.path / "metrics.jsonl"

    def create(self, experiment: Experiment, command: str) -> None:
        """Make the directory for `experiment`; keep what is there.

        Raises:
            RunError: the directory holds another experiment.
        """
        for directory in (self.path, self.logs):
            directory.mkdir(parents=True, exist_ok=True)
        present = read_json(self.path / "experiment.json")
        if present is None:
            write_json(self.path / "experiment.json", experiment.canonical())
        elif (held := Experiment.from_canonical(present)) != experiment:
            raise RunError(
                f"{self.path} holds experiment {held.run_id}, not {experiment.run_id}: move it away, or give another root"
            )
        if read_text(self.path / "command.txt") != command:  # planned anew with other options of the job
            write_atomically(self.path / "command.txt", command)
        if not (self.path / "status.json").exists():
            self.write_status(Status(run_id=experiment.run_id))

    def experiment(self) -> Experiment:
        """The experiment of this run.

        Raises:
            RunError: experiment.json is missing or torn, or of a newer schema.
        """
        value = read_json(self.path / "experiment.json")
        if value is None:
            raise RunError(f"{self.path}/experiment.json is missing or torn: this is not a run directory")
        return Experiment.from_canonical(value)

    def status(self) -> Status:
        """What status.json says. A missing or torn file reads as done where there is a result, else as queued.

        Raises:
            RunError: it was written by a newer version.
        """
        value = read_json(self.path / "status.json")
        if isinstance(value, dict) and isinstance(schema := value.get("schema", 1), int) and schema > 1:
            raise RunError(f"{self.path}/status.json is of schema {schema}, this version reads 1: update")
        try:
            return Status(
                run_id=value["run_id"],  # type: ignore[index]
                state=value["state"],  # type: ignore[index]
                attempts=tuple(Attempt(**attempt) for attempt in value["attempts"]),  # type: ignore[index]
            )
        except (KeyError, TypeError):
            result = self.result() or {}
            return Status(run_id=self.run_id, state="done" if result.get("final_validation_loss") else "queued")

    def write_status(self, status: Status) -> None:
        """Replace status.json."""
        write_json(self.path / "status.json", asdict(status))

    def result(self) -> dict[str, Any] | None:
        """result.json, or None while there is none."""
        value = read_json(self.path / "result.json")
        return value if isinstance(value, dict) else None

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, one per step: where an attempt repeated steps, the later line counts."""
        by_step = {row["step"]: row for row in read_json_lines(self.metrics_path) if isinstance(row, dict)}
        return [by_step[step] for step in sorted(by_step)]

    def begin_attempt(self, *, command: str, job_id: str | None = None, first_step: int = 0) -> Attempt:
        """Record that this process starts the run now, from the checkpoint of `first_step`.

        An earlier attempt without an end was killed.
        """
        status = self.status()
        earlier = tuple(
            replace(attempt, end="killed", ended=now(), message="vanished without a word")
            if attempt.end is None
            else attempt
            for attempt in status.attempts
        )
        attempt = Attempt(
            number=len(earlier) + 1,
            host=socket.gethostname(),
            pid=os.getpid(),
            command=command,
            started=now(),
            job_id=job_id,
            first_step=first_step,
        )
        self.write_status(replace(status, state="running", attempts=(*earlier, attempt)))
        return attempt

    def lease_is_alive(self) -> bool:
        """Whether a process writes here: it lives on this machine, or its heartbeat is fresh on another."""
        return is_alive(self.path)

    def end_attempt(
        self,
        *,
        end: str,
        first_step: int | None = None,
        last_step: int | None = None,
        exit_code: int | None,
        message: str | None = None,
    ) -> None:
        """Record how the newest attempt ended, and the run's state that follows from it.

        `first_step`, `last_step`: None for an attempt that did not come to train; it stays where it began.
        """
        status = self.status()
        if not status.attempts:
            return
        first = status.attempts[-1].first_step if first_step is None else first_step
        last = replace(
            status.attempts[-1],
            ended=now(),
            end=end,
            first_step=first,
            last_step=first if last_step is None else last_step,
            exit_code=exit_code,
            message=message,
        )
        self.write_status(replace(status, state=STATE_AFTER[end], attempts=(*status.attempts[:-1], last)))

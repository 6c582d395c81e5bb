"""What a person sees of a local launch: a live table in a terminal, a plain log elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from launch.job import Job
from launch.logs import last_metrics

PLAIN_SECONDS = 30.0
"""A plain log gets a summary at least this often."""


@dataclass
class Tally:
    """How far a launch is."""

    total: int
    """Runs of the sweep."""
    work: float
    """Estimated seconds of all runs that were not done at the start."""
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    simulated: bool = False
    finished_work: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def seconds_left(self, running: Sequence[Job], steps: Sequence[int]) -> float | None:
        """From the share of the estimated work that is done; None in the first seconds."""
        partly = sum(
            job.seconds * max(0, step - training.first_iters) / training.own_iters
            for job, step in zip(running, steps, strict=True)
            for training in [job.experiment.training]
        )
        finished = self.finished_work + partly
        elapsed = time.monotonic() - self.started
        return elapsed * (self.work - finished) / finished if finished > 0 and elapsed > 5 else None


class Progress(Protocol):
    """Shows a launch."""

    def note(self, text: str) -> None:
        """Something happened."""

    def update(self, tally: Tally, running: Sequence[Job]) -> None:
        """Show the state; called several times a second."""

    def close(self) -> None:
        """The launch is over."""


def make_progress() -> Progress:
    """A live table where standard output is a terminal, a log where it is not."""
    return Unbroken(LiveTable() if sys.stdout.isatty() else PlainLog())


def _summary(tally: Tally, running: Sequence[Job], rows: Sequence[dict[str, Any]]) -> str:
    left = tally.seconds_left(running, [row.get("step", 0) for row in rows])
    failed = f", {tally.failed} failed" if tally.failed else ""
    failed += f", {tally.cancelled} cancelled" if tally.cancelled else ""
    waiting = tally.total - tally.done - tally.failed - tally.cancelled - len(running)
    mark = "SIMULATED: " if tally.simulated else ""
    return (
        f"{mark}{tally.done}/{tally.total} done, {len(running)} running, {waiting} waiting{failed}"
        f"{'' if left is None else f', about {clock(left)} left'}"
    )


def clock(seconds: float) -> str:
    """75 -> 1:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Unbroken:
    """A display that never ends a training: one that fails gives way to the plain log, and that to silence."""

    def __init__(self, display: Progress):
        self._display = display

    def note(self, text: str) -> None:
        """Show it."""
        self._try(lambda: self._display.note(text))

    def update(self, tally: Tally, running: Sequence[Job]) -> None:
        """Show the state."""
        self._try(lambda: self._display.update(tally, running))

    def close(self) -> None:
        """The launch is over."""
        self._try(lambda: self._display.close())

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except OSError:  # nobody reads any more, or the disk of the log is full
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            self._display = PlainLog()
        except Exception as error:
            with contextlib.suppress(Exception):
                self._display.close()
            self._display = PlainLog()
            self.note(f"the live table failed ({error}); going on with a plain log")


class PlainLog:
    """One line an event, and a summary every half minute."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def note(self, text: str) -> None:
        """Print it with the time."""
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def update(self, tally: Tally, running: Sequence[Job]) -> None:
        """Print a summary if the last is old."""
        if time.monotonic() - self._last < PLAIN_SECONDS:
            return
        self._last = time.monotonic()
        rows = [last_metrics(job.run.metrics_path) for job in running]
        steps = ", ".join(
            f"{job.run.run_id} {row.get('step', 0)}/{job.experiment.training.train_iters} loss {_loss(row)}"
            for job, row in zip(running, rows, strict=True)
            if row
        )
        self.note(f"{_summary(tally, running, rows)}{f' ({steps})' if steps else ''}")

    def close(self) -> None:
        """Nothing to undo."""


class LiveTable:
    """A table of the running jobs, redrawn in place; events scroll by above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(highlight=False), refresh_per_second=4, transient=True)
        self._live.start()

    def note(self, text: str) -> None:
        """Print it above the table."""
        self._live.console.print(f"{time.strftime('%H:%M:%S')} {text}", markup=False)

    def update(self, tally: Tally, running: Sequence[Job]) -> None:
        """Redraw."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = [last_metrics(job.run.metrics_path) for job in running]
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("run", "M", "step", "", "loss", "tokens/s"):
            table.add_column(name, justify="left" if name in ("run", "") else "right", no_wrap=True)
        for job, row in zip(running, rows, strict=True):
            steps, step = job.experiment.training.train_iters, row.get("step", 0)
            table.add_row(
                job.run.run_id,
                f"{job.experiment.counts.flops_per_token:.3g}",
                f"{step}/{steps}",
                ProgressBar(total=steps, completed=step, width=24),
                _loss(row),
                f"{row['tokens_per_s']:,.0f}" if row.get("tokens_per_s") else "-",
            )
        self._live.update(Group(Text(_summary(tally, running, rows)), table))

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()


def _loss(row: dict[str, Any]) -> str:
    loss = row.get("lm_loss")
    return "-" if loss is None else f"{loss:.4f}"

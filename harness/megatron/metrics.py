"""Metrics at full precision, through Megatron's own logging seam: the object it keeps for its TensorBoard writer.

Megatron hands every scalar of a step to ``add_scalar``. `MetricsWriter` stands in that place, passes each call on to the
real TensorBoard writer where there is one, and appends one line a step to metrics.jsonl. Nothing is read off a console.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.files import open_to_append

COLUMNS = {
    "lm loss": "lm_loss",
    "load_balancing_loss": "load_balancing_loss",
    "seq_load_balancing_loss": "load_balancing_loss",
    "global_load_balancing_loss": "load_balancing_loss",
    "z_loss": "z_loss",
    "grad-norm": "grad_norm",
    "learning-rate": "learning_rate",
}
"""Megatron's name of a scalar -> its column in metrics.jsonl."""

VALIDATION = "lm loss validation"

FLUSH_SECONDS = 1.0
"""Lines leave the process at least this often, for whoever watches."""


class MetricsWriter:
    """Stands where Megatron keeps its TensorBoard writer.

    A row has step, tokens, tokens_per_s, seconds (since the previous row), and the columns of `COLUMNS`; losses are in
    nats a token. `progress` is called with each finished row, and may raise to stop the training.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        batch_tokens: int,
        tensorboard: Any | None = None,
        progress: Callable[[dict[str, Any]], None] | None = None,
    ):
        """`path`: metrics.jsonl, appended to; None keeps rows in memory only. `batch_tokens`: tokens a step."""
        self.validation_loss: float | None = None
        self.rows: list[dict[str, Any]] = []
        self._batch_tokens = batch_tokens
        self._tensorboard = tensorboard
        self._progress = progress
        self._row: dict[str, Any] = {}
        self._last = time.perf_counter()
        self._written = 0.0
        self._file = None if path is None else open_to_append(path)

    def add_scalar(self, name: str, value: Any, step: int) -> None:
        """Take one scalar of one step (Megatron's call)."""
        if self._tensorboard is not None:
            self._tensorboard.add_scalar(name, value, step)
        if name == VALIDATION:
            self.validation_loss = float(value)
        elif name in COLUMNS:
            if step != self._row.get("step", step):
                self._finish_row()
            if "step" not in self._row:  # the step ended just now: its other scalars follow at once
                at = time.perf_counter()
                self._row = {"step": step, "seconds": at - self._last}
                self._last = at
            self._row[COLUMNS[name]] = float(value)

    def add_text(self, *args: Any, **kwargs: Any) -> None:
        """Pass text on to TensorBoard."""
        if self._tensorboard is not None:
            self._tensorboard.add_text(*args, **kwargs)

    def flush(self) -> None:
        """Finish the row at hand and flush the file."""
        self._finish_row()
        if self._file is not None:
            self._file.flush()
        if self._tensorboard is not None:
            self._tensorboard.flush()

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _finish_row(self) -> None:
        row, self._row = self._row, {}
        if "lm_loss" not in row:
            return
        row["tokens"] = row["step"] * self._batch_tokens
        row["tokens_per_s"] = self._batch_tokens / row["seconds"] if row["seconds"] > 0 else None
        self.rows.append(row)
        if self._file is not None:
            # JSON has no NaN: a diverged loss is written as null, and the status says why
            finite = {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in row.items()}
            self._file.write(json.dumps(finite) + "\n")
            if self._last - self._written > FLUSH_SECONDS:
                self._file.flush()
                self._written = self._last
        if self._progress is not None:
            self._progress(row)


def smoothed_final_loss(rows: list[dict[str, Any]], share: float = 0.05, least: int = 10) -> float | None:
    """Mean training loss (nats a token) over the last `share` of all steps, at least `least` of them.

    `rows` may start at any step (a resumed attempt); None where there are none.
    """
    losses = [row["lm_loss"] for row in rows if row.get("lm_loss") is not None]
    if not losses:
        return None
    last = losses[-max(least, round(share * rows[-1]["step"])) :]
    return float(sum(last) / len(last))

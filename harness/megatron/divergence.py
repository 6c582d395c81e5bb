"""Loss spikes, and when a run counts as diverged.

The loss is averaged over the last `steps` steps. A spike begins where this mean is more than `nats` above the least that it
was before, and ends where it is within half of that again. A spike that ends is recorded in result.json; a run that ends in one,
or above its first loss, or without a finite loss, is diverged and enters no fit.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Spike:
    """One rise of the training loss."""

    first_step: int
    last_step: int | None
    """The first step that was back; None: it did not come back."""
    height: float | None
    """Most nats above the least mean loss before it; None: a loss was not finite."""


def find_spikes(rows: list[dict[str, Any]], *, nats: float, steps: int) -> list[Spike]:
    """The spikes in the rows of metrics.jsonl (``step``, ``lm_loss`` in nats a token; a loss of None counts as infinite)."""
    window: deque[float] = deque(maxlen=steps)
    least, begun, height, spikes = math.inf, None, 0.0, []
    for row in rows:
        loss = row.get("lm_loss")
        window.append(math.inf if loss is None or not math.isfinite(loss) else loss)
        if len(window) < steps:
            continue
        mean = sum(window) / steps
        if begun is None and mean > least + nats:
            begun, height = row["step"], 0.0
        if begun is not None:
            height = max(height, mean - least)
            if mean <= least + nats / 2:
                spikes.append(Spike(first_step=begun, last_step=row["step"], height=_finite(height)))
                begun = None
        least = min(least, mean)
    if begun is not None:
        spikes.append(Spike(first_step=begun, last_step=None, height=_finite(height)))
    return spikes


def _finite(height: float) -> float | None:
    return height if math.isfinite(height) else None


def why_diverged(result: dict[str, Any]) -> str | None:
    """Why a finished run (its result.json) must not enter a fit, or None."""
    if result["final_validation_loss"] is None:
        return "the final validation loss is not finite"
    first, last = result["first_training_loss"], result["final_training_loss"]
    if first is not None and last is not None and last > first:
        return f"the training loss rose from {first:.4f} to {last:.4f} nats a token"
    for spike in result["spikes"]:
        if spike["last_step"] is None:
            height = "more than any number of" if spike["height"] is None else f"{spike['height']:.3f}"
            return (
                f"the training loss rose by {height} nats a token from step {spike['first_step']} on and did not come back "
                "(megatron.spike_nats says what counts as a spike)"
            )
    return None

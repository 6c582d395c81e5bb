"""The search for the optima of an additive power law: from a grid of starts, through ever narrower Huber losses, by Newton.

solved = solve(Frame.of(variables, y, weights, LogHuber(delta=1e-3)))
frame.outward(solved.parameters[np.argmin(solved.objective)])
"""

import numpy as np

from analysis.fitting.frame import Frame
from analysis.fitting.losses import LogHuber, Loss, Weighed, weighed
from analysis.fitting.newton import STEPS, Solved, minimise, objective
from analysis.fitting.results import Array
from analysis.fitting.starts import projected_starts

POLISHED = 8
"""Starts that are polished to the end."""

APPROACH = 25
"""Steps that a start has at each width of Huber's loss; those that are not near anything by then are seldom best."""

LEAST, MOST = 2, 16
"""Decades through which a Huber loss is approached."""

PROMISING = 1.1
"""Starts are polished to the end whose objective is by then at most this multiple of the best."""


def solve(frame: Frame, extra: Array | None = None) -> Solved:
    """Minimise from the best of the projected starts and from `extra` (s, 1 + 2k); every optimum found, as `frame` sees it.

    Huber's loss is approached from the square, in decades (`approach`). The starts come from least squares, and the kinks of
    a small delta would stop them early.
    """
    terms, prepared = frame.terms, frame.prepared
    starts = projected_starts(terms, frame.y, _precisions(frame.loss))
    values = objective(terms, prepared, frame.loss, starts)
    order = np.argsort(values, kind="stable")
    half = POLISHED // 2
    thinly = order[half :: max((len(order) - half) // half, 1)][:half]  # the rest of the grid
    widths = approach(frame, starts[order[0]])
    first = starts[np.concatenate([order[:half], thinly])]
    current = _narrowed(frame, widths[-LEAST:], first, APPROACH, 1e-4)
    if len(widths) > LEAST:
        # Far below the residuals nothing leads back to an optimum that a wider loss missed: each is followed to its end.
        current = np.concatenate([current, _narrowed(frame, widths, first, STEPS, 1e-7)])
    if extra is not None:
        current = np.concatenate([current, extra])
    near = minimise(terms, prepared, frame.loss, current, steps=APPROACH, decrease=1e-9)
    kept = _distinct(near)
    kept = kept[near.objective[kept] <= PROMISING * near.objective.min()]
    return minimise(terms, prepared, frame.loss, near.parameters[kept])


def _narrowed(frame: Frame, widths: list[Loss], starts: Array, steps: int, decrease: float) -> Array:
    """Where `starts` end after minimising each loss of `widths` in turn."""
    for wide in widths:
        found = minimise(frame.terms, frame.prepared, wide, starts, steps=steps, decrease=decrease)
        starts = found.parameters[_distinct(found)]
    return starts


def approach(frame: Frame, near: Array) -> list[Loss]:
    """Huber losses from about the width of the residuals at `near` (1 + 2k,), but at least 100 delta, down to 10 delta."""
    huber = frame.loss.loss if isinstance(frame.loss, Weighed) else frame.loss
    if not isinstance(huber, LogHuber):
        return []
    residuals = frame.prepared - frame.terms.log_model(near[None])[0]
    relative = _precisions(frame.loss)
    typical = float(np.median(np.abs(residuals if relative is None else residuals * np.sqrt(relative))))
    decades = int(np.clip(np.ceil(np.log10(max(typical, 1e-300) / huber.delta)), LEAST, MOST))
    return [weighed(LogHuber(delta=huber.delta * 10.0**power), relative) for power in range(decades, 0, -1)]


def _precisions(loss: Loss) -> Array | None:
    return loss.root**2 if isinstance(loss, Weighed) else None


def _distinct(found: Solved) -> Array:
    """Indices of fits that did not end where a better one did, by rising objective."""
    kept: list[int] = []
    for index in np.argsort(found.objective, kind="stable"):
        gaps = np.abs(found.parameters[kept] - found.parameters[index]).max(axis=1)
        if not (gaps < 1e-3).any():
            kept.append(int(index))
    return np.array(kept)

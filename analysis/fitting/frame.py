"""Where fits of additive power laws are searched for: a frame in which neither the unit of y nor those of x matter.

    frame = Frame.of(variables, y, weights, loss)
    frame.outward(minimise(frame.terms, frame.prepared, frame.loss, starts).parameters)

y counts in units of its geometric mean, each x of its own, points without weight are left out, and the precision of the
others is part of the loss.
"""

from dataclasses import dataclass, replace

import numpy as np

from analysis.fitting.losses import Loss, Squares, weighed
from analysis.fitting.newton import VANISHED, Terms
from analysis.fitting.results import Array

NOTHING = 1e-8
"""A term that is nowhere a larger share of the model has vanished."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The points that count, as the search sees them."""

    terms: Terms
    """Of the variables."""
    y: Array
    """Shape (n,): observations over their geometric mean."""
    level: float
    """ln of that mean."""
    loss: Loss
    """With the points' precisions in it."""
    factor: float
    """The objective in the caller's units over that in these."""

    @classmethod
    def of(cls, variables: dict[str, Array], y: Array, weights: Array | None, loss: Loss) -> "Frame":
        """Of the points that have weight."""
        used = np.ones(len(y), dtype=bool) if weights is None else weights > 0
        level = float(np.log(y[used]).mean())
        relative = None if weights is None else precisions(weights)[used]
        typical = 1.0 if weights is None else float(np.median(weights[used]))
        return cls(
            terms=Terms.of(np.stack([column[used] for column in variables.values()])),
            y=np.exp(np.log(y[used]) - level),
            level=level,
            loss=weighed(loss, relative),
            factor=typical * float(np.exp(2 * level)) if isinstance(loss, Squares) else 1.0,
        )

    @property
    def prepared(self) -> Array:
        """What the minimiser takes for y."""
        return self.loss.prepare(self.y)

    def seen_from(self, terms: Terms) -> "Frame":
        """The same points with other centres."""
        return replace(self, terms=terms)

    def inward(self, parameters: Array) -> Array:
        """Parameters (..., 1 + 2k) at x_i = 1 in the caller's units as they are here."""
        count = len(self.terms.log_x)
        moved = centred(parameters, self.terms)
        moved[..., : 1 + count] -= self.level
        moved[..., 0] = np.maximum(moved[..., 0], VANISHED)
        return moved

    def outward(self, parameters: Array) -> Array:
        """The inverse; ln E is minus infinity where E has vanished."""
        count = len(self.terms.log_x)
        moved = uncentred(parameters, self.terms)
        moved[..., : 1 + count] += self.level
        # The search ends where it no longer gains, which may be anywhere below this: to the data all of it is 0.
        vanished = parameters[..., 0] < np.log(NOTHING * self.y.min())
        moved[..., 0] = np.where(vanished, -np.inf, moved[..., 0])
        return moved


def precisions(weights: Array) -> Array:
    """Weights (n,) over the median of those above 0: a factor of all of them means nothing."""
    return np.asarray(weights / np.median(weights[weights > 0]))


def centred(parameters: Array, terms: Terms) -> Array:
    """Parameters at x_i = 1 seen from the centre of `terms`."""
    return _moved(parameters, terms, -1.0)


def uncentred(parameters: Array, terms: Terms) -> Array:
    """Parameters at the centre of `terms` seen from x_i = 1."""
    return _moved(parameters, terms, 1.0)


def _moved(parameters: Array, terms: Terms, sign: float) -> Array:
    count = len(terms.log_x)
    moved = np.array(parameters, dtype=float)
    moved[..., 1 : 1 + count] += sign * moved[..., 1 + count :] * terms.centre
    return moved

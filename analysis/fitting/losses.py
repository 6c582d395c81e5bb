"""What a fit minimises, as a function of the logarithm of the modelled value: value, slope and curvature per point.

    LogHuber(delta=1e-3)    Huber's function of ln y - ln model: Hoffmann et al. (2022), section 3.3
    Squares()               half the squared difference y - model

Both are sums over points, as published objectives are (a mean would hide how many points there were). A point's precision
is part of the loss (`weighed`); how often it was drawn by a bootstrap is not, and stays with the minimiser.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from analysis.fitting.results import Array, FitError


class Loss(Protocol):
    """A loss of one observation against one modelled value."""

    def prepare(self, y: Array) -> Array:
        """What `parts` takes in place of the observations: computed once a fit."""

    def parts(self, prepared: Array, log_model: Array) -> tuple[Array, Array, Array]:
        """Loss of each point, and its first and second derivative with respect to `log_model`, each of its shape."""


@dataclass(frozen=True, kw_only=True)
class LogHuber:
    """r^2 / 2 where |r| <= delta, else delta (|r| - delta / 2); r = ln y - ln model."""

    delta: float
    """Where the square gives way to the absolute value."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise FitError(f"delta is {self.delta}: it must be a finite number above 0 (1e-3 in Hoffmann et al.)")

    def prepare(self, y: Array) -> Array:
        """ln y."""
        return np.asarray(np.log(y))

    def parts(self, prepared: Array, log_model: Array) -> tuple[Array, Array, Array]:
        """See `Loss.parts`."""
        residual = prepared - log_model
        clipped = np.clip(residual, -self.delta, self.delta)
        return clipped * (residual - clipped / 2), -clipped, (residual == clipped).astype(float)


@dataclass(frozen=True, kw_only=True)
class Squares:
    """(y - model)^2 / 2."""

    def prepare(self, y: Array) -> Array:
        """`y` as it is."""
        return y

    def parts(self, prepared: Array, log_model: Array) -> tuple[Array, Array, Array]:
        """See `Loss.parts`."""
        with np.errstate(over="ignore"):
            model = np.exp(log_model)
            residual = prepared - model
            return residual**2 / 2, -residual * model, model * (model - residual)


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """A loss of residuals times each point's `root`: in units of its own standard error."""

    loss: Loss
    """Of a point with a root of 1."""
    root: Array
    """Shape (n,): square roots of the precisions."""

    def prepare(self, y: Array) -> Array:
        """That of `loss`."""
        return self.loss.prepare(y)

    def parts(self, prepared: Array, log_model: Array) -> tuple[Array, Array, Array]:
        """See `Loss.parts`."""
        if isinstance(self.loss, LogHuber):
            # Inside: a weight outside would leave a noisy point's residuals cut at the delta of the precise ones.
            value, slope, curvature = self.loss.parts(self.root * prepared, self.root * log_model)
            return value, self.root * slope, self.root**2 * curvature
        value, slope, curvature = self.loss.parts(prepared, log_model)
        return self.root**2 * value, self.root**2 * slope, self.root**2 * curvature


def weighed(loss: Loss, precisions: Array | None) -> Loss:
    """`loss` for points of these precisions (n,); None: all equal."""
    return loss if precisions is None else Weighed(loss=loss, root=np.sqrt(precisions))

"""The runs of one compute budget, the curve through their losses and its minimum, as plain numbers.

law.budget(1e20).curve(x), law.budget(1e20).optimum
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]
"""As in `analysis.fitting`, which starts slowly."""

RESOLVED = "resolved"
AT_THE_EDGE = "at the edge"
NOT_RESOLVED = "not resolved"
NO_CURVE = "no curve"
"""Status of a budget whose settings are only compared."""

HELD = ("target_flops_per_token", "target_m_over_na", "target_n_over_na")
"""Columns of a table whose common values `Budget.held` keeps: a law holds where they were held."""

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95% interval. An end that the data leave open is infinite, what is unknown is NaN."""

    value: float
    low: float = NAN
    high: float = NAN

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Points:
    """Runs of a curve, in one order throughout."""

    run_ids: tuple[str, ...] = ()
    x: tuple[float, ...] = ()
    """Abscissae, in the law's unit."""
    loss: tuple[float, ...] = ()
    """Final validation loss, nats a token; corrected where the law's variant says so."""
    group: tuple[str, ...] = ()
    """Label of the slice that a run belongs to, each with its own intercept; empty strings without slices."""

    def __len__(self) -> int:
        return len(self.run_ids)


@dataclass(frozen=True, kw_only=True)
class CurveRecord:
    """A fitted curve: loss in nats a token against the law's abscissa."""

    kind: str
    """A key of `SHAPES`."""
    coefficients: dict[str, float]
    """Without intercepts of slices; ``c`` is their mean, each weighing as many runs as it has."""
    constants: dict[str, float]
    """What else the formula needs: x0, floor, ceiling."""
    intercepts: dict[str, float]
    """By slice (`Points.group`), less the mean; {"": 0.0} without slices."""

    def __call__(self, x: Array | float) -> Array:
        """Loss at `x`, on the mean intercept."""
        names, columns = SHAPES[self.kind]
        coefficients = np.array([self.coefficients[name] for name in names])
        return np.asarray(columns(np.asarray(x, dtype=float), self.constants) @ coefficients)

    def shifted(self, points: Points) -> Array:
        """The losses of `points` less their slice's intercept, so that all lie about the one curve; shape (n,)."""
        own = np.array([self.intercepts.get(label, 0.0) for label in points.group])
        return np.asarray(np.array(points.loss) - own)


def _powers(u: Array) -> Array:
    return np.stack([np.ones_like(u), u, u**2], axis=-1)


type Columns = Callable[[Array, dict[str, float]], Array]
"""From abscissae (any shape) and a curve's constants: what its coefficients are multiplied with, shape (..., 3)."""

SHAPES: dict[str, tuple[tuple[str, ...], Columns]] = {
    "parabola": (("c0", "c1", "c2"), lambda x, k: _powers(x - k["x0"])),
    "parabola_in_log": (("c0", "c1", "c2"), lambda x, k: _powers(np.log(x / k["x0"]))),
    "floored_hyperbola": (
        ("a", "b", "c"),
        lambda x, k: np.stack([1 / (x - k["floor"]), x, np.ones_like(x)], axis=-1),
    ),
    "two_poles": (
        ("a", "b", "c"),
        lambda x, k: np.stack([1 / (x - k["floor"]), 1 / (k["ceiling"] - x), np.ones_like(x)], axis=-1),
    ),
}
"""By `CurveRecord.kind`: names of the coefficients, in which every curve is linear, and their columns."""


@dataclass(frozen=True, kw_only=True)
class NoiseRecord:
    """The noise of one loss that a budget's intervals rest on."""

    sd: float
    """Nats a token."""
    degrees_of_freedom: int
    source: str
    """Where it was measured, for a person."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The runs of one compute budget, the curve through their losses, and its minimum."""

    compute: float
    """Nominal C, FLOPs."""
    status: str
    """`RESOLVED`, `AT_THE_EDGE`, `NOT_RESOLVED` or `NO_CURVE`."""
    why: str
    """The status in a sentence."""
    points: Points
    """The runs that the curve was fitted to."""
    outside: Points = Points()
    """Usable runs of the budget that it was not fitted to: outside the window about its minimum."""
    held: dict[str, float] = field(default_factory=dict)
    """Targets that all runs of `points` have in common, by their columns (`HELD`); without those that differ or are unknown."""
    curve: CurveRecord | None = None
    """None where the points determine none."""
    fit: str = ""
    """How the fit ended: the text of an `analysis.fitting.FitStatus`."""
    optimum: Estimate = Estimate(value=NAN)
    """Abscissa of the least loss."""
    minimum_loss: Estimate = Estimate(value=NAN)
    """Fitted least loss, nats a token."""
    band: tuple[float, float] = (NAN, NAN)
    """Where the curve is within `tolerance` of its minimum."""
    tolerance: float = 1e-3
    """Relative height of the band."""
    sampled: tuple[float, float] = (NAN, NAN)
    """Least and largest abscissa of `points`."""
    model_free: float = NAN
    """Minimum of a convex spline through the same points: far from `optimum`, the curve's form is in doubt."""
    residual_sd: float = NAN
    residual_degrees_of_freedom: int = 0
    noise: NoiseRecord | None = None
    """None where nothing measures it."""
    failed_resamples: int | None = None
    """Simulated repetitions without a minimum inside the sampled range; None where none were drawn."""
    flags: tuple[str, ...] = ()
    """What a reader should know, in sentences."""

    @property
    def resolved(self) -> bool:
        """Whether laws may use this budget."""
        return self.status == RESOLVED

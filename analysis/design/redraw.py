"""Each budget's optimum and stiffness once more and once more, with the noise of its runs drawn anew.

    noise = RunNoise(2000);  fitted, drawn = redraw(budget, noise)

Coefficients of a law's curve are linear in the losses, so that a repetition of the experiment moves them by a matrix times the
runs' noise. A run has one noise whichever laws read it: laws that were fitted to the same runs err together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.laws.budget import SHAPES, Array, Budget, Points

SEED = 20260321
"""The same laws give the same intervals."""


class RunNoise:
    """Standard normal numbers by run, the same whenever the run is asked for; shape (draws,) each."""

    def __init__(self, draws: int):
        """`draws`: repetitions of the experiment."""
        self.draws = draws
        self.random = np.random.default_rng(SEED)
        self._of: dict[str, Array] = {}

    def __call__(self, run_ids: Sequence[str]) -> Array:
        """Shape (draws, runs)."""
        new = [run for run in dict.fromkeys(run_ids) if run not in self._of]
        self._of |= dict(zip(new, self.random.standard_normal((len(new), self.draws)), strict=True))
        return np.stack([self._of[run] for run in run_ids], axis=1)


@dataclass(frozen=True, kw_only=True)
class Minima:
    """Where curves are least, and how they rise from there; shape (m,) each. NaN for a curve without a minimum."""

    optimum: Array
    rise: Array
    """Nats a token: loss = least loss + rise g(x, optimum), with the g of `analysis.design.excess`."""


type Closed = Callable[[Array, dict[str, float]], Minima]
"""From coefficients (m, p) in the order of the basis, and a curve's constants."""


def redraw(budget: Budget, noise: RunNoise) -> tuple[Minima, Minima | None]:
    """The fitted minimum, m = 1, and that of every repetition, m = draws; None where the record does not hold its runs.

    Repetitions without a minimum are replaced by others, so that every one has a finite optimum and rise.
    """
    curve = budget.curve
    assert curve is not None
    (names, basis), closed = SHAPES[curve.kind], MINIMA[curve.kind]
    fitted = np.array([[curve.coefficients[name] for name in names]])
    found = closed(fitted, curve.constants)
    points = budget.points
    if budget.noise is None or len(points.x) != len(points) or len(points) <= len(names):
        return found, None
    columns = _with_slices(points, basis(np.array(points.x), curve.constants))
    scale = np.abs(columns).max(axis=0)
    answer = (np.linalg.pinv(columns / scale) / scale[:, None])[: len(names)]  # (p, runs)
    answer[[name in INTERCEPTS for name in names]] = (
        0.0  # the least loss's own noise moves neither optimum nor stiffness
    )
    dof = budget.noise.degrees_of_freedom
    spread = budget.noise.sd * np.sqrt(
        dof / noise.random.chisquare(dof, noise.draws)
    )  # the noise is itself an estimate
    moved = spread[:, None] * (noise(points.run_ids) @ answer.T)
    drawn = closed(fitted + moved, curve.constants)
    good = np.flatnonzero(np.isfinite(drawn.optimum) & np.isfinite(drawn.rise))
    if not len(good):
        return found, None
    kept = np.arange(noise.draws)
    bad = np.setdiff1d(kept, good)
    kept[bad] = noise.random.choice(good, len(bad))
    return found, Minima(optimum=drawn.optimum[kept], rise=drawn.rise[kept])


def _with_slices(points: Points, shape: Array) -> Array:
    """Columns of the linear fit, the curve's own first: slices add an intercept each, less the one that the curve has."""
    labels = sorted(set(points.group))
    own = np.array([[label == one for one in labels[1:]] for label in points.group], dtype=float)
    return np.hstack([shape, own]) if len(labels) > 1 else shape


def _parabola(c: Array, k: dict[str, float]) -> Minima:
    with np.errstate(all="ignore"):
        best = np.where(c[:, 2] > 0, k["x0"] - c[:, 1] / (2 * c[:, 2]), math.nan)
        best = np.where(best > 0, best, math.nan)
    return Minima(optimum=best, rise=c[:, 2] * best**2)


def _parabola_in_log(c: Array, k: dict[str, float]) -> Minima:
    with np.errstate(all="ignore"):
        way = np.where(c[:, 2] > 0, -c[:, 1] / (2 * c[:, 2]), math.nan)
        best = k["x0"] * np.exp(np.where(np.abs(way) < 100, way, math.nan))
    return Minima(optimum=best, rise=np.where(np.isfinite(best), c[:, 2], math.nan))


def _hyperbola(c: Array, k: dict[str, float]) -> Minima:
    a, b = np.where((c[:, :2] > 0).all(axis=1), c[:, :2].T, math.nan)
    return Minima(optimum=k["floor"] + np.sqrt(a / b), rise=b)


def _poles(c: Array, k: dict[str, float]) -> Minima:
    a, b = np.where((c[:, :2] > 0).all(axis=1), c[:, :2].T, math.nan)
    best = (k["ceiling"] + k["floor"] * np.sqrt(b / a)) / (1 + np.sqrt(b / a))
    return Minima(optimum=best, rise=a * (k["ceiling"] - k["floor"]) / (best - k["floor"]) ** 2)


INTERCEPTS = ("c0", "c")
"""Coefficients that move a curve as a whole."""

MINIMA: dict[str, Closed] = {
    "parabola": _parabola,
    "parabola_in_log": _parabola_in_log,
    "floored_hyperbola": _hyperbola,
    "two_poles": _poles,
}
"""By `CurveRecord.kind`."""

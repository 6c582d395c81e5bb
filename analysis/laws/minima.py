"""Where the loss is least at one budget, and whether the data resolve it.

A fitted minimum is no finding by itself: it counts as resolved only if it lies inside the sampled range, in the fit
and in at least 95% of simulated repetitions of the experiment. Otherwise it is at the edge (the loss falls or rises
over the whole range: sample further) or not resolved (the curve may bend, but the noise is too large to say where).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fitting import (
    Array,
    Curve,
    CurveFit,
    FitError,
    FitStatus,
    FlooredHyperbola,
    Interval,
    Noise,
    Parabola,
    ParabolaInLog,
    Resamples,
    Slice,
    TwoPoles,
    convex_optimum,
    fit_curve,
    resample_minimum,
)
from analysis.laws.budget import (
    AT_THE_EDGE,
    NAN,
    NOT_RESOLVED,
    RESOLVED,
    Budget,
    CurveRecord,
    Estimate,
    NoiseRecord,
    Points,
)
from analysis.laws.options import FitOptions
from analysis.laws.points import held_by, points_of
from analysis.noise import SeedNoise
from analysis.text import scientific

INSIDE = 0.95
"""Share of the repetitions that must have a minimum inside the sampled range."""

SCATTERS = "the runs scatter"
"""Begins the flag of a curve that its runs lie further from than seeds explain."""

CLEAR = 2.0
"""Standard deviations of a loss that a spline's minimum must lie above the curve's to be pointed out."""

SUSPICIOUS = 0.01
"""Probability of the scatter about a curve or a law below which it is pointed out."""

BUDGET_TOLERANCE = 0.05
"""A run whose realised compute is further than this from the budget is pointed out."""

KINDS: dict[type, str] = {
    Parabola: "parabola",
    ParabolaInLog: "parabola_in_log",
    FlooredHyperbola: "floored_hyperbola",
    TwoPoles: "two_poles",
}
"""Names of the curves in laws.json."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """How a law's curves are made from the rows of a budget."""

    law: str
    x: str
    """Column of the abscissa."""
    curve: Callable[[Array, Array | None], Curve]
    """From abscissae (n,) and slice numbers (n,) or None."""
    slices: tuple[str, ...] = ()
    """Columns whose values make a slice, with an intercept of its own."""


@dataclass(frozen=True, kw_only=True)
class Minimum:
    """A budget as it is recorded, with what a chain needs of it."""

    budget: Budget
    curve: Curve
    y: Array
    """Losses, in the order of the curve's abscissae."""
    noise: Noise | None
    resamples: Resamples | None
    """None without noise or without a fit."""

    def slice(self) -> Slice:
        """For `analysis.fitting.fit_chain`."""
        return Slice(at=self.budget.compute, curve=self.curve, y=self.y, noise=self.noise)


def find_minimum(
    family: Family, rows: pd.DataFrame, outside: pd.DataFrame, seeds: SeedNoise, seeds_of: str, options: FitOptions
) -> Minimum:
    """Fit a family's curve to usable `rows` of one budget and judge its minimum; `outside` are kept for figures and lists.

    `seeds` is the noise between seeds and `seeds_of` says where it was measured. The larger of it and of the curve's
    own residual scatter is taken: seeds do not show that the curve's form is wrong, few residuals may be small.

    Raises:
        FitError: a row holds a value that no curve can use (callers filter first).
    """
    compute = float(rows["compute"].iloc[0])
    points = points_of(rows, family.x, family.slices)
    numbers = np.unique(points.group, return_inverse=True)[1].astype(float) if family.slices else None
    x, y = np.array(points.x), np.array(points.loss)
    curve = family.curve(x, numbers)
    noise = choose_noise(fit_curve(curve, y, tolerance=options.band), seeds, seeds_of)
    fit = fit_curve(curve, y, tolerance=options.band, noise=noise)
    resamples = None
    if noise is not None and np.isfinite(fit.coefficients).all():
        resamples = resample_minimum(
            curve, fit, noise, resamples=options.resamples, rng=options.generator(family.law, compute)
        )
    status, why = _judge(fit, resamples)
    known = math.isfinite(fit.minimum)
    model_free = _model_free(curve, fit, y)
    budget = Budget(
        compute=compute,
        status=status,
        why=why,
        points=points,
        outside=points_of(outside, family.x, family.slices),
        held=held_by(rows),
        curve=record(curve, fit, points),
        fit=fit.status.value,
        optimum=estimate(fit.optimum, fit.intervals["optimum"]) if known else Estimate(value=NAN),
        minimum_loss=estimate(fit.minimum, fit.intervals["minimum"]),
        band=fit.band,
        tolerance=fit.tolerance,
        sampled=fit.sampled,
        model_free=model_free,
        residual_sd=fit.residual_sd,
        residual_degrees_of_freedom=fit.dof,
        noise=NoiseRecord(sd=noise.sd, degrees_of_freedom=noise.dof, source=noise.source) if noise else None,
        failed_resamples=resamples.failed if resamples else None,
        flags=(*_flags(fit, rows, compute), *_misfit(fit, x, y, seeds), *_other_minimum(curve, fit, model_free, noise)),
    )
    return Minimum(budget=budget, curve=curve, y=y, noise=noise, resamples=resamples)


def estimate(value: float, interval: Interval) -> Estimate:
    """A number with an interval of `analysis.fitting`."""
    return Estimate(value=float(value), low=float(interval.low), high=float(interval.high))


def record(curve: Curve, fit: CurveFit, points: Points) -> CurveRecord | None:
    """The fitted curve as it is recorded; None where there is none."""
    if not np.isfinite(fit.coefficients).all():
        return None
    names, values = curve.names, fit.coefficients
    own = curve.intercepts(values)
    coefficients = {name: float(value) for name, value in zip(names, values, strict=True)}
    if isinstance(curve, FlooredHyperbola | TwoPoles):
        at = float(curve.x[0])
        sloped = np.where(np.arange(len(values)) < 2, values, 0.0)
        mean = float(curve.profile(values, np.array([at]))[0] - curve.profile(sloped, np.array([at]))[0])
        coefficients = {"a": coefficients["a"], "b": coefficients["b"], "c": mean}
    return CurveRecord(
        kind=KINDS[type(curve)],
        coefficients=coefficients,
        constants={name: value for name, value in curve.constants.items() if not name.startswith("group")},
        intercepts=dict(sorted({label: float(value) for label, value in zip(points.group, own, strict=True)}.items())),
    )


def choose_noise(fit: CurveFit, seeds: SeedNoise, seeds_of: str) -> Noise | None:
    """The larger of the noise between seeds and the residual scatter of `fit`; None where neither can be measured."""
    choices = []
    if seeds.dof:
        choices.append(Noise(sd=seeds.sd, dof=seeds.dof, source=f"repeated seeds ({seeds_of})"))
    if fit.dof and np.isfinite(fit.residual_sd):
        choices.append(Noise(sd=fit.residual_sd, dof=fit.dof, source="scatter about the curve"))
    return max(choices, key=lambda noise: noise.sd, default=None)


def _model_free(curve: Curve, fit: CurveFit, y: Array) -> float:
    if not np.isfinite(fit.coefficients).all() or curve.x.min() <= 0 or len(np.unique(curve.x)) < 5:
        return NAN
    try:
        found = convex_optimum(curve.x, y - curve.intercepts(fit.coefficients))
    except FitError:
        return NAN
    return found.optimum if found.status is FitStatus.CONVERGED else NAN


def _other_minimum(curve: Curve, fit: CurveFit, model_free: float, noise: Noise | None) -> list[str]:
    """A flag where the curve says of a spline's minimum that it is worse than its own, by more than the band and the noise."""
    if fit.status is not FitStatus.CONVERGED or not math.isfinite(model_free) or noise is None:
        return []
    rise = float(curve.profile(fit.coefficients, np.array([model_free]))[0]) - fit.minimum
    if rise <= max(fit.tolerance * abs(fit.minimum), CLEAR * noise.sd):
        return []
    return [
        f"a convex spline has its minimum at {scientific(model_free, 4)}, where the curve is {rise:.2g} nats above its own: "
        "the curve's form is in doubt"
    ]


def _judge(fit: CurveFit, resamples: Resamples | None) -> tuple[str, str]:
    low, high = fit.sampled
    if fit.status is FitStatus.TOO_FEW_POINTS:
        return NOT_RESOLVED, f"{len(fit.fitted)} points for {len(fit.coefficients)} coefficients: too few"
    if fit.status is FitStatus.NOT_IDENTIFIABLE:
        return NOT_RESOLVED, "the points have too few distinct positions to determine the curve"
    if fit.status is FitStatus.NO_MINIMUM:
        return NOT_RESOLVED, "the best curve has no minimum"
    if fit.status is FitStatus.EDGE:
        verb, side = ("rises", "below") if fit.optimum <= low else ("falls", "above")
        sampled = f"the sampled range ({scientific(low, 4)} to {scientific(high, 4)})"
        return AT_THE_EDGE, f"the fitted curve {verb} over {sampled}: its minimum is at the end or {side}"
    if resamples is None:
        return NOT_RESOLVED, "as many points as coefficients and no repeated seeds: nothing measures the noise"
    share = f"{100 * resamples.inside:.1f}% of the simulated repetitions have a minimum inside the sampled range"
    if resamples.inside < INSIDE:
        return NOT_RESOLVED, f"only {share}; {100 * INSIDE:.0f}% are asked for"
    interval = fit.intervals["optimum"]
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return NOT_RESOLVED, "its 95% interval is open: the noise also allows a minimum far outside, or none"
    return RESOLVED, share


def _flags(fit: CurveFit, rows: pd.DataFrame, compute: float) -> list[str]:
    flags = []
    if not fit.dof and np.isfinite(fit.coefficients).all():
        flags.append("the curve goes through every point: its form is not tested")
    recipes = rows["recipe"].dropna().nunique()
    if recipes > 1:
        flags.append(
            f"the points come from {recipes} recipes (data, backbone or training settings differ): "
            "their losses may not be comparable"
        )
    off = (rows["realised_compute"] / compute - 1).abs()
    if (off > BUDGET_TOLERANCE).any():
        flags.append(
            f"{int((off > BUDGET_TOLERANCE).sum())} of {len(rows)} runs spent up to {100 * off.max():.0f}% more or "
            "less than the budget"
        )
    return flags


def _misfit(fit: CurveFit, x: Array, y: Array, seeds: SeedNoise) -> list[str]:
    """Signs that the form does not suit the data: more scatter than seeds explain, or a minimum that it misses."""
    from scipy.special import fdtrc

    flags = []
    if fit.dof and seeds.dof and np.isfinite(fit.residual_sd) and seeds.sd > 0:
        probability = float(fdtrc(fit.dof, seeds.dof, (fit.residual_sd / seeds.sd) ** 2))
        if probability < SUSPICIOUS:
            flags.append(
                f"{SCATTERS} {fit.residual_sd / seeds.sd:.1f} times as far about the curve as seeds do "
                f"(p = {probability:.1g}): its form, or the runs' being at one budget, is in doubt"
            )
    best = int(np.argmin(y))
    if fit.status is FitStatus.EDGE and fit.sampled[0] < x[best] < fit.sampled[1]:
        flags.append("the least measured loss nevertheless lies inside the range")
    return flags

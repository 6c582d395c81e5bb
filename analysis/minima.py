"""Where the loss is least at one budget, and whether the data resolve it.

A fitted minimum is no finding by itself: it counts as resolved only if it lies inside the sampled range, in the fit
and in at least 95% of simulated repetitions of the experiment. Otherwise it is at the edge (the loss falls or rises
over the whole range: sample further) or not resolved (the curve may bend, but the noise is too large to say where).
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fitting import (
    LEVEL,
    Array,
    Curve,
    CurveFit,
    FitStatus,
    Noise,
    Resamples,
    fit_curve,
    interval,
    resample_minimum,
)
from analysis.noise import SeedNoise
from analysis.text import scientific

RESOLVED = "resolved"
AT_THE_EDGE = "at the edge"
NOT_RESOLVED = "not resolved"

INSIDE = 0.95
"""Share of the repetitions that must have a minimum inside the sampled range."""

BAND = 1e-3
"""Relative height of the near-optimal band (paper, section 5.3: 0.1%)."""

SUSPICIOUS = 0.01
"""Probability of the scatter about a curve or a law below which it is pointed out."""

BUDGET_TOLERANCE = 0.05
"""A run whose realised compute is further than this from the budget is pointed out."""


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """How intervals are drawn."""

    resamples: int = 2000
    """Simulated repetitions."""
    seed: int = 0
    """Of their noise."""

    def generator(self, law: str, compute: float) -> np.random.Generator:
        """The noise of one budget of one law: it does not change when other budgets come or go."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{law} {compute:.6e}".encode())])


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The runs of one budget, the curve through their losses, and its minimum."""

    compute: float
    """Nominal C, FLOPs."""
    status: str
    """`RESOLVED`, `AT_THE_EDGE` or `NOT_RESOLVED`."""
    why: str
    """The status in a sentence."""
    points: pd.DataFrame
    """The runs, in the order of `curve.x`."""
    outside: pd.DataFrame
    """Usable runs of the budget that the curve was not fitted to: outside the window about its minimum."""
    curve: Curve
    """Loss (nats a token) against the studied quantity."""
    fit: CurveFit
    """Least-squares curve."""
    noise: Noise | None
    """Of one loss; None where nothing measures it."""
    resamples: Resamples | None
    """None without noise or without a fit."""
    optimum: tuple[float, float, float]
    """Value and 95% interval; an end that the data leave open is infinite, what is unknown is NaN."""
    minimum_loss: tuple[float, float, float]
    """Fitted least loss and its 95% interval over the repetitions that have one, nats a token."""
    flags: tuple[str, ...]
    """What a reader should know, in sentences."""

    @property
    def resolved(self) -> bool:
        """Whether laws may use this budget."""
        return self.status == RESOLVED


def find_minimum(
    law: str,
    compute: float,
    points: pd.DataFrame,
    make_curve: Callable[[pd.DataFrame], Curve],
    *,
    outside: pd.DataFrame,
    seeds: SeedNoise,
    seeds_of: str,
    bootstrap: Bootstrap,
) -> Budget:
    """Fit the curve that `make_curve` builds on `points` (usable rows of one budget) and judge its minimum.

    `outside` are the budget's other usable rows; they are kept for figures and lists only.

    `seeds` is the noise between seeds and `seeds_of` says where it was measured. The larger of it and of the curve's
    own residual scatter is drawn: seeds do not show that the curve's form is wrong, few residuals may be small.

    Raises:
        FitError: a row holds a value that no curve can use (callers filter first).
    """
    curve = make_curve(points)
    fit = fit_curve(curve, points["final_validation_loss"].to_numpy(dtype=float), tolerance=BAND)
    noise = choose_noise(fit, seeds, seeds_of)
    nothing = (float("nan"),) * 2
    resamples, low_high, loss_low_high = None, nothing, nothing
    if noise is not None and np.isfinite(fit.coefficients).all():
        resamples = resample_minimum(
            curve, fit, noise, resamples=bootstrap.resamples, rng=bootstrap.generator(law, compute)
        )
        low_high = _open_ends(interval(resamples.optimum), curve.axis)
        with_minimum = resamples.minimum[np.isfinite(resamples.minimum)]
        loss_low_high = interval(with_minimum) if len(with_minimum) else nothing
    status, why = _judge(fit, resamples)
    return Budget(
        compute=compute,
        status=status,
        why=why,
        points=points,
        outside=outside,
        curve=curve,
        fit=fit,
        noise=noise,
        resamples=resamples,
        optimum=(fit.optimum if np.isfinite(fit.minimum) else float("nan"), *low_high),
        minimum_loss=(fit.minimum, *loss_low_high),
        flags=(*_flags(fit, points, compute), *_misfit(fit, curve.x, points, seeds)),
    )


def choose_noise(fit: CurveFit, seeds: SeedNoise, seeds_of: str) -> Noise | None:
    """The larger of the noise between seeds and the residual scatter of `fit`; None where neither can be measured."""
    choices = []
    if seeds.dof:
        choices.append(Noise(sd=seeds.sd, dof=seeds.dof, source=f"repeated seeds ({seeds_of})"))
    if fit.dof and np.isfinite(fit.residual_sd):
        choices.append(Noise(sd=fit.residual_sd, dof=fit.dof, source="scatter about the curve"))
    return max(choices, key=lambda noise: noise.sd, default=None)


def _open_ends(ends: tuple[float, float], axis: tuple[float, float]) -> tuple[float, float]:
    """`ends` with infinity for an end of the axis: more repetitions than a tail holds have no minimum on that side."""
    return (ends[0] if ends[0] > axis[0] else -np.inf, ends[1] if ends[1] < axis[1] else np.inf)


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
    return RESOLVED, share


def _flags(fit: CurveFit, points: pd.DataFrame, compute: float) -> list[str]:
    flags = []
    if not fit.dof and np.isfinite(fit.coefficients).all():
        flags.append("the curve goes through every point: its form is not tested")
    recipes = points["recipe"].dropna().nunique()
    if recipes > 1:
        flags.append(
            f"the points come from {recipes} recipes (data, backbone or training settings differ): "
            "their losses may not be comparable"
        )
    off = (points["realised_compute"] / compute - 1).abs()
    if (off > BUDGET_TOLERANCE).any():
        flags.append(
            f"{int((off > BUDGET_TOLERANCE).sum())} of {len(points)} runs spent up to {100 * off.max():.0f}% more or "
            "less than the budget"
        )
    return flags


def _misfit(fit: CurveFit, x: Array, points: pd.DataFrame, seeds: SeedNoise) -> list[str]:
    """Signs that the form does not suit the data: more scatter than seeds explain, or a minimum that it misses."""
    from scipy.special import fdtrc

    flags = []
    if fit.dof and seeds.dof and np.isfinite(fit.residual_sd) and seeds.sd > 0:
        probability = float(fdtrc(fit.dof, seeds.dof, (fit.residual_sd / seeds.sd) ** 2))
        if probability < SUSPICIOUS:
            flags.append(
                f"the runs scatter {fit.residual_sd / seeds.sd:.1f} times as far about the curve as seeds do "
                f"(p = {probability:.1g}): its form is in doubt over so wide a range"
            )
    best = int(np.argmin(points["final_validation_loss"].to_numpy(dtype=float)))
    if fit.status is FitStatus.EDGE and fit.sampled[0] < x[best] < fit.sampled[1]:
        flags.append("the least measured loss nevertheless lies inside the range")
    return flags


def claimed_level() -> str:
    """The intervals' level for print: ``95%``."""
    return f"{100 * LEVEL:.0f}%"

"""Intervals from draws, and from two normal estimates: percentile, BCa, studentised, Fieller.

Which one when (docs/fitting.md has the measured coverage): Fieller where the wanted number is a ratio of linear
coefficients (the optimum of a curve), for it is exact however few points there are; studentised where draws carry their own
standard errors; BCa or percentile where neither can be had and there are many points.
"""

import numpy as np
from scipy.special import ndtr, ndtri

from analysis.fitting.results import LEVEL, Array, FitError, check_level


def interval(draws: Array, level: float = LEVEL) -> tuple[float, float]:
    """The central interval that holds `level` of `draws` (shape (r,)), which may contain infinities but no NaN.

    It takes draws as they are, outward: an average of a number and an infinity would mean nothing.

    Raises:
        FitError: there are no draws, or one is NaN.
    """
    _check_draws(draws, level)
    tail = (1 - level) / 2
    return _outward(draws, tail, 1 - tail)


def bca_interval(estimate: float, draws: Array, jackknife: Array, level: float = LEVEL) -> tuple[float, float]:
    """Efron's bias-corrected and accelerated interval (1987).

    Args:
        estimate: from the data themselves.
        draws: of the bootstrap, shape (r,).
        jackknife: estimates without each point (or each group of points) in turn, shape (n,).
        level: coverage.

    Raises:
        FitError: there are no draws or no jackknife estimates, or one is NaN.
    """
    _check_draws(draws, level)
    if not len(jackknife) or not np.isfinite(jackknife).all():
        raise FitError("BCa needs a finite jackknife estimate without each point; take the percentile interval instead")
    below = (draws < estimate).mean() + (draws == estimate).mean() / 2
    if not 0 < below < 1:  # the estimate lies beyond every draw: no finite correction exists
        return interval(draws, level)
    bias = ndtri(below)
    gaps = jackknife.mean() - jackknife
    spread = float((gaps**2).sum())
    acceleration = float((gaps**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    tail = (1 - level) / 2
    shares = []
    for quantile in (ndtri(tail), ndtri(1 - tail)):
        moved = bias + quantile
        shares.append(float(ndtr(bias + moved / max(1 - acceleration * moved, 1e-6))))
    return _outward(draws, *shares)


def studentised_interval(
    estimate: float, error: float, draws: Array, errors: Array, level: float = LEVEL
) -> tuple[float, float]:
    """The bootstrap-t interval: `estimate` less the quantiles of (draw - estimate) / its own standard error.

    Args:
        estimate: from the data themselves.
        error: its standard error.
        draws: shape (r,).
        errors: standard error of each draw, shape (r,), above 0.
        level: coverage.

    Raises:
        FitError: there are no draws, one is NaN, or a standard error is not above 0.
    """
    _check_draws(draws, level)
    if not error > 0 or not (errors > 0).all():
        raise FitError(
            f"a standard error of {min(error, errors.min()):g}: it must be above 0; the noise may be nothing"
        )
    tail = (1 - level) / 2
    low, high = _outward((draws - estimate) / errors, tail, 1 - tail)
    return estimate - high * error, estimate - low * error


def fieller(
    numerator: float, denominator: float, covariance: Array, quantile: float
) -> tuple[tuple[float, float], ...]:
    """All ratios r for which numerator - r denominator is within `quantile` standard errors of 0 (Fieller 1954).

    Returns one bounded interval, two unbounded ones (the denominator may be 0), or the whole line.

    Args:
        numerator: normal estimate.
        denominator: normal estimate.
        covariance: of the two, shape (2, 2).
        quantile: of Student's t, two-sided.
    """
    square = quantile**2
    a = denominator**2 - square * covariance[1, 1]
    b = numerator * denominator - square * covariance[0, 1]
    c = numerator**2 - square * covariance[0, 0]
    inside = b**2 - a * c  # a r^2 - 2 b r + c <= 0
    if a > 0:
        half = np.sqrt(max(inside, 0.0))
        return ((float((b - half) / a), float((b + half) / a)),)
    if a == 0 or inside <= 0:
        return ((-np.inf, np.inf),)
    half = np.sqrt(inside)
    return ((-np.inf, float((b + half) / a)), (float((b - half) / a), np.inf))


def _outward(draws: Array, low: float, high: float) -> tuple[float, float]:
    return float(np.quantile(draws, low, method="lower")), float(np.quantile(draws, high, method="higher"))


def _check_draws(draws: Array, level: float) -> None:
    check_level(level)
    if not len(draws) or np.isnan(draws).any():
        raise FitError(f"an interval of {len(draws)} draws, {int(np.isnan(draws).sum())} of them NaN: leave those out")

"""How well two orderings agree: Pearson's, Spearman's and Kendall's correlation and R^2, with p-values and intervals.

rank_agreement(proxy_loss, least_loss).spearman.value, .p_value, .interval
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from analysis.fitting.inputs import column_of
from analysis.fitting.results import LEVEL, NO_FIT, Array, FitStatus, Interval, check_level, check_points, unknown

TOO_FEW = unknown("Fisher's z needs five points")


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """A correlation coefficient."""

    value: float
    """NaN where a column does not vary."""
    p_value: float
    """Probability of one at least as far from 0 between unrelated columns, two-sided."""
    interval: Interval
    """By Fisher's z; NaN with fewer than five points."""


@dataclass(frozen=True, kw_only=True)
class RankAgreement:
    """Agreement of two columns of n values."""

    status: FitStatus
    """Not identifiable where a column does not vary, too few points below three."""
    pearson: Correlation
    """Of the values."""
    spearman: Correlation
    """Of the ranks."""
    kendall: Correlation
    """Of the pairs' order (tau-b)."""
    r_squared: float
    """Share of the variance of y that the best straight line in x explains."""
    residuals: Array
    """Shape (n,): y less that line."""
    slope: float
    """Of that line."""
    intercept: float
    """Of that line."""

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)


def rank_agreement(x: Array, y: Array, *, level: float = LEVEL) -> RankAgreement:
    """Agreement of `x` and `y`, each of shape (n,).

    The intervals use the variance of Fisher's z: 1/(n - 3) for Pearson, (1 + r^2/2)/(n - 3) for Spearman (Bonett & Wright
    2000), 0.437/(n - 4) for Kendall (Fieller, Hartley & Pearson 1957).

    Raises:
        FitError: a value is not finite, lengths differ, or a column has more than one dimension.
    """
    from scipy import stats  # half a second, which the other fits need not wait for

    x, y = column_of("x", x), column_of("y", y)
    check_points(x=x, y=y)
    check_level(level)
    count = len(x)
    if count < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        nothing = Correlation(value=float("nan"), p_value=float("nan"), interval=NO_FIT)
        return RankAgreement(
            status=FitStatus.TOO_FEW_POINTS if count < 3 else FitStatus.NOT_IDENTIFIABLE,
            pearson=nothing,
            spearman=nothing,
            kendall=nothing,
            r_squared=float("nan"),
            residuals=np.full(count, np.nan),
            slope=float("nan"),
            intercept=float("nan"),
        )
    line = stats.linregress(x, y)
    pearson, spearman, kendall = stats.pearsonr(x, y), stats.spearmanr(x, y), stats.kendalltau(x, y)
    variances = (1 / max(count - 3, 1), (1 + spearman.statistic**2 / 2) / max(count - 3, 1), 0.437 / max(count - 4, 1))
    made = [
        Correlation(
            value=float(of.statistic),
            p_value=float(of.pvalue),
            interval=_fisher(float(of.statistic), variance, level) if count >= 5 else TOO_FEW,
        )
        for of, variance in zip((pearson, spearman, kendall), variances, strict=True)
    ]
    return RankAgreement(
        status=FitStatus.CONVERGED,
        pearson=made[0],
        spearman=made[1],
        kendall=made[2],
        r_squared=float(line.rvalue**2),
        residuals=y - line.intercept - line.slope * x,
        slope=float(line.slope),
        intercept=float(line.intercept),
    )


def _fisher(value: float, variance: float, level: float) -> Interval:
    z = np.arctanh(np.clip(value, -1 + 1e-15, 1 - 1e-15))
    half = float(ndtri((1 + level) / 2)) * np.sqrt(variance)
    return Interval(low=float(np.tanh(z - half)), high=float(np.tanh(z + half)), level=level, method="Fisher's z")

"""Profile intervals of an additive power law: how far a parameter can go before the best fit of the others is too bad.

Under least squares the bound is the F test's. Under Huber's loss it is that of the likelihood-ratio type test for
M-estimates (Schrader & Hettmansperger 1980): the objective may rise by t^2/2 times sum(psi^2)/(n - p) over the mean of psi'.
Unlike a standard error this follows the curvature: E cannot fall below 0, and A is skew over a decade.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.additive import AdditiveFit
from analysis.fitting.frame import Frame
from analysis.fitting.losses import LogHuber, Squares, Weighed
from analysis.fitting.newton import VANISHED, Terms, minimise, objective
from analysis.fitting.results import LEVEL, NO_FIT, UNKNOWN, Array, Interval, check_level

CLOSE = 1e-3
"""Relative accuracy of a bound, in standard errors."""

ROUNDS = 60
"""Attempts at a bound, all bounds at once."""

ROUNDING = 1e-13
"""Residuals, relative to the observations, that say nothing about noise."""

UNFELT = 1e-9
"""A standard error, to first order, below which the fit does not feel the parameter: its term has vanished."""

FURTHEST = 60.0
"""An exponent or a logarithm that may move further than this is not bounded by the data."""


def profile_intervals(fit: AdditiveFit, level: float = LEVEL) -> dict[str, Interval]:
    """Intervals of E, A_i and a_i by the names of `AdditiveFit.names`.

    Raises:
        FitError: `level` is no probability.
    """
    check_level(level)
    method = "profile, F" if isinstance(fit.loss, Squares) else "profile, robust likelihood ratio"
    if not fit.determined:
        return dict.fromkeys(fit.names, NO_FIT)
    if not fit.dof or noise_unit(fit)[0] <= ROUNDING**2:
        return dict.fromkeys(fit.names, UNKNOWN)
    frame = fit.frame
    at_centre = frame.terms
    count, quantile = len(at_centre.log_x), float(stdtrit(fit.dof, (1 + level) / 2))
    ends = np.empty((1 + 2 * count, 2))
    others = [0, *range(1 + count, 1 + 2 * count)]
    ends[others] = _Profile(fit, frame, quantile).bounds(others)
    for index in range(count):  # A_i is a coordinate where ln x_i counts from 1; the other variables stay centred
        shift = np.where(np.arange(count) == index, at_centre.centre, 0.0)
        terms = Terms(log_x=at_centre.log_x + shift[:, None], centre=at_centre.centre - shift)
        ends[[1 + index]] = _Profile(fit, frame.seen_from(terms), quantile).bounds([1 + index])
    with np.errstate(over="ignore"):
        ends[: 1 + count] = np.exp(ends[: 1 + count] + frame.level)
    return {
        name: Interval(low=float(low), high=float(high), level=level, method=method)
        for name, (low, high) in zip(fit.names, ends, strict=True)
    }


def noise_unit(fit: AdditiveFit) -> tuple[float, float]:
    """Twice the rise of the objective that one squared standard error costs, and the mean curvature of the loss.

    Both in the fit's frame, of a point of the median weight. Under least squares these are the residual variance and 1. Under
    Huber's loss with a small delta few residuals have curvature, so its mean is a density estimate with a bandwidth of its own.
    """
    residuals = fit.standardised
    if not isinstance(fit.loss, LogHuber):
        scale = np.exp(fit.frame.level) if isinstance(fit.loss, Squares) else 1.0
        return float(((residuals / scale) ** 2).sum()) / fit.dof, 1.0
    delta = fit.loss.delta
    squares = float((np.clip(residuals, -delta, delta) ** 2).sum()) / fit.dof
    typical = 1.4826 * float(np.median(np.abs(residuals)))
    width = max(delta, 1.06 * typical * len(residuals) ** -0.2)
    within = float((np.abs(residuals) <= width).sum())
    # A fit with a small delta passes through about as many points as it has parameters: they say nothing about density.
    share = max(within - len(fit.parameters), 0.5) / fit.dof
    curvature = min(share * delta / width, 1.0)
    # Huber's correction for few points (1981, section 7.6), capped: for a small delta it overshoots, as coverage shows.
    few = 1 + len(fit.parameters) / len(residuals) * min((1 - curvature) / curvature, 1.0)
    return few * squares / curvature, curvature


@dataclass
class _Profile:
    """Bounds of parameters as the coordinates of `terms`."""

    fit: AdditiveFit
    frame: Frame
    quantile: float

    def __post_init__(self) -> None:
        self.terms, self.prepared, loss = self.frame.terms, self.frame.prepared, self.frame.loss
        self.best = self.frame.inward(self.fit.parameters)
        self.least = float(objective(self.terms, self.prepared, loss, self.best[None])[0])
        self.unit, curvature = noise_unit(self.fit)
        logs = self.terms.log_terms(self.best[None])[0]
        log_model = self.terms.log_model(self.best[None])
        share = np.exp(logs - log_model)
        jacobian = np.concatenate([share, -share[1:] * self.terms.log_x])
        if isinstance(self.fit.loss, Squares):
            jacobian = jacobian * np.exp(log_model)
        precision = 1.0 if not isinstance(loss, Weighed) else loss.root**2
        covariance = np.linalg.pinv((jacobian * precision) @ jacobian.T) * self.unit / curvature
        variance = np.diag(covariance).copy()
        # To first order such a parameter may go anywhere without the others: steps of 1 find where that ends.
        unfelt = variance < UNFELT**2
        variance[unfelt] = 1.0
        self.error = np.sqrt(variance)
        self.along = covariance / variance[:, None]
        """Row j: how all parameters move, to first order, when parameter j moves by 1 and the fit stays the best."""
        self.along[unfelt] = np.eye(len(variance))[unfelt]

    def bounds(self, indices: list[int]) -> Array:
        """Lower and upper bound of each parameter in `indices`, shape (len(indices), 2); NaN where no fit converged there."""
        index = np.repeat(indices, 2)
        side = np.tile([-1.0, 1.0], len(indices))
        rows = np.arange(len(index))
        fixed = np.zeros((len(index), len(self.best)), dtype=bool)
        fixed[rows, index] = True
        start = self.best[index]
        inner, inner_z = np.zeros(len(index)), np.zeros(len(index))  # distances from the best value, and their z
        outer, outer_z = np.full(len(index), np.inf), np.full(len(index), np.inf)
        distance = np.minimum(self.quantile * self.error[index], 2.0)
        inside = np.tile(self.best, (len(index), 1))
        bound = np.full(len(index), np.nan)
        settled = np.zeros(len(index), dtype=bool)
        open_rows = rows
        for _ in range(ROUNDS):
            now = open_rows
            moved = side[now] * (distance[now] - inner[now])
            trial = inside[now] + moved[:, None] * self.along[index[now]]
            trial[np.arange(len(now)), index[now]] = start[now] + side[now] * distance[now]
            found = minimise(self.terms, self.prepared, self.frame.loss, trial, fixed=fixed[now], decrease=1e-9)
            z = np.sqrt(np.maximum(2 * (found.objective - self.least) / self.unit, 0.0))
            low = z <= self.quantile
            # A fit that stopped early is good enough to show that a place is inside, not that it is outside.
            unknown = ~low & ~found.converged
            inner[now[low]], inner_z[now[low]] = distance[now[low]], z[low]
            inside[now[low]] = found.parameters[low]
            outer[now[~low]], outer_z[now[~low]] = distance[now[~low]], z[~low]
            close = np.abs(z - self.quantile) < CLOSE * self.quantile
            bound[now[close]] = start[now[close]] + side[now[close]] * distance[now[close]]
            narrow = outer[now] - inner[now] < 1e-3 * CLOSE * np.maximum(self.error[index[now]], 1e-12)
            bound[now[narrow & ~close]] = start[now[narrow & ~close]] + (side * outer)[now[narrow & ~close]]
            reached = start[now] + side[now] * inner[now]
            scales = index[now] < 1 + len(self.terms.log_x)
            gone = scales & (reached <= VANISHED) & ((start[now] > VANISHED) | (index[now] == 0))
            lost = low & ((inner[now] > FURTHEST) | (gone & (side[now] < 0)))
            bound[now[lost & ~close]] = side[now[lost & ~close]] * np.inf
            bound[now[unknown]] = np.nan
            settled[now[unknown]] = True
            open_rows = now[~(close | narrow | lost | unknown)]
            if not len(open_rows):
                break
            distance[open_rows] = self._next(inner[open_rows], inner_z[open_rows], outer[open_rows], outer_z[open_rows])
        late = np.isnan(bound) & ~settled  # the bracket so far, on its outer side: at worst the interval is too wide
        bound[late] = (self.best[index] + side * outer)[late]
        return bound.reshape(-1, 2)

    def _next(self, inner: Array, inner_z: Array, outer: Array, outer_z: Array) -> Array:
        """Where to look next: further out until a bound is bracketed, then between, by the secant of z."""
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = inner * np.clip(self.quantile / inner_z * 1.05, 1.2, 4.0)
            share = (self.quantile - inner_z) / (outer_z - inner_z)
            between = inner + np.clip(share, 0.05, 0.95) * (outer - inner)
        return np.asarray(np.where(np.isinf(outer), beyond, between))

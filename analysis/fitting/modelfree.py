"""Optima without a model, as a check on the curves: Akima's interpolation, and a convex cubic spline.

    akima_optimum(x, y).optimum     the interpolant goes through every point: no form is assumed, and noise is believed
    convex_optimum(x, y).optimum    least squares among convex splines: the only assumption is that there is one minimum

Both work in ln x. Repeated abscissae are averaged first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import Akima1DInterpolator, BSpline, PPoly
from scipy.optimize import nnls

from analysis.fitting.intervals import interval
from analysis.fitting.results import (
    LEVEL,
    NO_FIT,
    UNKNOWN,
    Array,
    FitStatus,
    Interval,
    Noise,
    check_above,
    check_level,
    check_points,
)

DRAWS = 400
"""Repetitions behind an interval ..."""

FINE = 25
"""... and the places between two abscissae at which their curves are compared."""


@dataclass(frozen=True, kw_only=True)
class ModelFreeFit:
    """The minimum of a smooth curve through or near n points."""

    status: FitStatus
    optimum: float
    """Abscissa of the least ordinate, in the unit of x; an end of the data where that is least."""
    minimum: float
    """Ordinate there."""
    residuals: Array
    """Shape (m,), at the different abscissae: 0 for an interpolant."""
    points: int
    """n."""
    interval: Interval
    """Of the optimum, by percentiles over repetitions with the given noise; NaN without noise."""
    method: str
    """Akima or convex spline."""


def akima_optimum(
    x: Array, y: Array, *, noise: Noise | None = None, level: float = LEVEL, rng: np.random.Generator | None = None
) -> ModelFreeFit:
    """The least point of Akima's interpolation of y against ln x.

    Args:
        x: shape (n,), positive.
        y: shape (n,). It is taken as it is: to interpolate ln L, as Porian et al. do, pass ln L; the optimum is then a
            little different, for an interpolant is not linear in its ordinates.
        noise: of one ordinate; None: no interval.
        level: of the interval.
        rng: draws the repetitions; None: a generator with seed 0.

    Raises:
        FitError: a value is impossible, or lengths differ.
    """
    u, means, counts = _grouped(x, y)
    if len(u) < 3:
        return _nothing(len(x), u, "Akima")
    optimum, least = _least(Akima1DInterpolator(u, means), u)
    drawn = _interval(u, means, counts, lambda values: Akima1DInterpolator(u, values.T), noise, level, rng)
    return _made(u, optimum, least, np.zeros(len(u)), len(x), drawn, "Akima")


def convex_optimum(
    x: Array, y: Array, *, noise: Noise | None = None, level: float = LEVEL, rng: np.random.Generator | None = None
) -> ModelFreeFit:
    """The least point of the best convex cubic spline of y against ln x; arguments as of `akima_optimum`.

    Raises:
        FitError: a value is impossible, or lengths differ.
    """
    u, means, counts = _grouped(x, y)
    if len(u) < 4:
        return _nothing(len(x), u, "convex spline")
    spline = _ConvexSpline(u, counts)
    fitted = spline.fit(means[None])
    optimum, least = _least(PPoly.from_spline(BSpline(fitted.t, fitted.c[:, 0], 3)), u)
    drawn = _interval(u, means, counts, spline.fit, noise, level, rng)
    return _made(u, optimum, least, means - spline.basis @ fitted.c[:, 0], len(x), drawn, "convex spline")


def _grouped(x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Different ln x, the mean y of each, and how many points it has."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    check_points(x=x, y=y)
    check_above("x", x, 0.0)
    u, which, counts = np.unique(np.log(x), return_inverse=True, return_counts=True)
    return u, np.bincount(which, weights=y) / counts, counts.astype(float)


def _least(curve: PPoly, u: Array) -> tuple[float, float]:
    """Place and value of the least point of a piecewise cubic between the ends of u."""
    roots = curve.derivative().roots(extrapolate=False)
    places = np.concatenate([u, roots[np.isfinite(roots)]])
    values = curve(places)
    best = int(np.argmin(values))
    return float(places[best]), float(values[best])


class _ConvexSpline:
    """Convex cubic splines on even knots: their coefficients are a straight line plus non-negative hinges."""

    def __init__(self, u: Array, counts: Array):
        self.u, self.root = u, np.sqrt(counts)
        pieces = max(len(u) // 2, 1)
        step = (u[-1] - u[0]) / pieces
        self.knots = u[0] + step * np.arange(-3, pieces + 4)
        size = pieces + 3
        steps = np.arange(size, dtype=float)
        line = np.stack([np.ones(size), -np.ones(size), steps, -steps], axis=1)  # of either sign, in non-negative parts
        hinges = np.maximum(steps[:, None] - np.arange(1, size - 1), 0.0)
        self.shapes = np.concatenate([line, hinges], axis=1)
        self.basis = BSpline.design_matrix(np.clip(u, self.knots[3], self.knots[-4]), self.knots, 3).toarray()
        self.design = (self.basis @ self.shapes) * self.root[:, None]

    def fit(self, y: Array) -> BSpline:
        """The best spline for each row of y (r, n), one column of coefficients each."""
        level, scale = y.mean(axis=1, keepdims=True), np.maximum(np.ptp(y, axis=1, keepdims=True), 1e-300)
        solved = np.array([nnls(self.design, row * self.root)[0] for row in (y - level) / scale])
        return BSpline(self.knots, (level + scale * (solved @ self.shapes.T)).T, 3)


def _interval(
    u: Array,
    y: Array,
    counts: Array,
    fit: Callable[[Array], Callable[[Array], Array]],
    noise: Noise | None,
    level: float,
    rng: np.random.Generator | None,
) -> Interval:
    """Percentiles of the optimum; `fit` turns ordinates (r, n) into curves, evaluated to (m, r)."""
    check_level(level)
    if noise is None:
        return UNKNOWN
    rng = rng or np.random.default_rng(0)
    scale = noise.sd * np.sqrt(noise.dof / rng.chisquare(noise.dof, DRAWS))
    repeated = y + scale[:, None] * rng.standard_normal((DRAWS, len(u))) / np.sqrt(counts)
    fine = np.linspace(u[0], u[-1], FINE * (len(u) - 1) + 1)
    low, high = interval(fine[np.argmin(fit(repeated)(fine), axis=0)], level)
    return Interval(
        low=float(np.exp(low)) if low > u[0] else -np.inf,
        high=float(np.exp(high)) if high < u[-1] else np.inf,
        level=level,
        method="percentile",
    )


def _made(
    u: Array, optimum: float, least: float, residuals: Array, points: int, drawn: Interval, method: str
) -> ModelFreeFit:
    return ModelFreeFit(
        status=FitStatus.CONVERGED if u[0] < optimum < u[-1] else FitStatus.EDGE,
        optimum=float(np.exp(optimum)),
        minimum=least,
        residuals=residuals,
        points=points,
        interval=drawn,
        method=method,
    )


def _nothing(points: int, u: Array, method: str) -> ModelFreeFit:
    nothing = float("nan")
    return ModelFreeFit(
        status=FitStatus.TOO_FEW_POINTS if points < 4 else FitStatus.NOT_IDENTIFIABLE,
        optimum=nothing,
        minimum=nothing,
        residuals=np.full(len(u), np.nan),
        points=points,
        interval=NO_FIT,
        method=method,
    )

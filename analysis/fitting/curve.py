"""What curves with one minimum have in common, and the fit of one: least squares, minimum, band, intervals.

    fit = fit_curve(ParabolaInLog(x), y)
    fit.optimum, fit.intervals["optimum"], fit.band, fit.status

A curve object (`parabola.py`, `branches.py`) is bound to its abscissae and linear in its coefficients, so that a batch of
fits is a matrix product; its methods take observations with any leading batch shape.
"""

from typing import Protocol

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.results import (
    LEVEL,
    NO_FIT,
    NO_OPTIMUM,
    UNKNOWN,
    Array,
    CurveFit,
    FitError,
    FitStatus,
    Interval,
    Noise,
    check_level,
    check_points,
)


class Curve(Protocol):
    """A family of curves, bound to n abscissae."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the p coefficients."""

    x: Array
    """Shape (n,)."""
    axis: tuple[float, float]
    """The open interval that abscissae can lie in."""
    dof: int
    """n - p."""
    strata: Array
    """Shape (n,): resampling keeps as many points of each label as there are."""
    bends: slice
    """The two coefficients that are not intercepts."""
    identifiable: bool
    """Whether the points determine every coefficient."""
    design: Array
    """Shape (n, p): an ordinate is a row times the coefficients."""
    covariance: Array
    """Of the coefficients without sign constraints, for noise of variance 1, shape (p, p); if identifiable."""

    def units(self, x: str, y: str) -> tuple[str, ...]:
        """Units of the coefficients, from those of x and y."""

    @property
    def constants(self) -> dict[str, float]:
        """What else the formula needs besides its coefficients, by name."""

    def solve(self, y: Array) -> Array:
        """Coefficients (..., p) for observations (..., n)."""

    def solve_free(self, y: Array) -> Array:
        """The same without sign constraints: linear in y, so normal where y is."""

    def values(self, coefficients: Array) -> Array:
        """Fitted ordinates (..., n) at the curve's own abscissae, for coefficients (..., p)."""

    def profile(self, coefficients: Array, x: Array) -> Array:
        """Ordinates (m,) of one curve (p,) at any abscissae (m,)."""

    def intercepts(self, coefficients: Array) -> Array:
        """What to subtract from each ordinate, (n,), so that all lie about one curve (p,): groups may have their own."""

    def minimum(self, coefficients: Array) -> tuple[Array, Array]:
        """Abscissa and ordinate of the minimum, each (...). Without one: an end of `axis`, and NaN."""

    def band(self, coefficients: Array, tolerance: float) -> tuple[Array, Array]:
        """Where the curve is at most ``tolerance * |minimum|`` above its minimum, each end (...); NaN without one."""

    def optimum_interval(self, free: Array, covariance: Array, quantile: float) -> tuple[float, float] | None:
        """Fieller's interval of the abscissa of the minimum, from `solve_free`'s coefficients (p,); open ends infinite.

        None where the data refute a minimum: a coefficient is significantly of the wrong sign.
        """

    def direction(self, x: Array) -> Array:
        """The coefficients `bends` (..., 2), up to a factor of at least 0, of curves with their minimum at x (...)."""

    def optimum_error(self, coefficients: Array, covariance: Array) -> Array:
        """Standard error (...) of the optimum, to first order; covariance (..., p, p). NaN without a minimum."""

    def monotone(self, coefficients: Array) -> bool:
        """Whether one curve (p,) without a minimum rises or falls all along, so that its best point is an end."""


def fit_curve(
    curve: Curve,
    y: Array,
    *,
    tolerance: float = 1e-3,
    noise: Noise | None = None,
    level: float = LEVEL,
    units: tuple[str, str] = ("", ""),
) -> CurveFit:
    """Least squares of `curve` against `y`.

    Args:
        curve: bound to the abscissae.
        y: shape (n,).
        tolerance: the band's height above the minimum, relative to it.
        noise: of one observation, where it is measured; None: the scatter about the curve.
        level: of the intervals.
        units: of x and y, for print.

    Raises:
        FitError: `y` is not finite or not as long as the curve's abscissae, or `tolerance` is not above 0.
    """
    y = np.asarray(y, dtype=float)
    check_points(x=curve.x, y=y)
    check_level(level)
    if not tolerance > 0:
        raise FitError(f"a band of relative height {tolerance:g}: it must be above 0")
    sampled = (float(curve.x.min()), float(curve.x.max()))
    names = (*curve.names, "optimum", "minimum")
    named = (*curve.units(*units), *units)
    if curve.dof < 0 or not curve.identifiable:
        nothing = float("nan")
        return CurveFit(
            status=FitStatus.TOO_FEW_POINTS if curve.dof < 0 else FitStatus.NOT_IDENTIFIABLE,
            coefficients=np.full(len(curve.names), np.nan),
            optimum=nothing,
            minimum=nothing,
            band=(nothing, nothing),
            tolerance=tolerance,
            fitted=np.full_like(y, np.nan),
            residuals=np.full_like(y, np.nan),
            residual_sd=nothing,
            dof=max(curve.dof, 0),
            sampled=sampled,
            intervals=dict.fromkeys(names, NO_FIT),
            units=named,
        )
    coefficients = curve.solve(y)
    fitted = curve.values(coefficients)
    optimum, minimum = (float(value) for value in curve.minimum(coefficients))
    low, high = curve.band(coefficients, tolerance)
    squares = float(((y - fitted) ** 2).sum())
    sd = float(np.sqrt(squares / curve.dof)) if curve.dof else float("nan")
    return CurveFit(
        status=_status(curve, coefficients, optimum, minimum, sampled),
        coefficients=coefficients,
        optimum=optimum,
        minimum=minimum,
        band=(float(low), float(high)),
        tolerance=tolerance,
        fitted=fitted,
        residuals=y - fitted,
        residual_sd=sd,
        dof=curve.dof,
        sampled=sampled,
        intervals=_intervals(curve, y, noise, level) if noise or curve.dof else dict.fromkeys(names, UNKNOWN),
        units=named,
    )


def _intervals(curve: Curve, y: Array, noise: Noise | None, level: float) -> dict[str, Interval]:
    """Student's t for the coefficients and the least ordinate, Fieller's for the optimum; signs are not enforced here."""
    free = curve.solve_free(y)
    residuals = y - curve.values(free)
    # The scatter is that about the curve without signs: the one about the constrained curve is too large where they bind.
    sd, dof = (noise.sd, noise.dof) if noise else (float(np.sqrt((residuals**2).sum() / curve.dof)), curve.dof)
    quantile = float(stdtrit(dof, (1 + level) / 2))
    covariance = curve.covariance * sd**2
    half = quantile * np.sqrt(np.diag(covariance))
    made = {
        name: Interval(low=float(value - width), high=float(value + width), level=level, method="t")
        for name, value, width in zip(curve.names, free, half, strict=True)
    }
    ends = curve.optimum_interval(free, covariance, quantile)
    made["optimum"] = Interval(low=ends[0], high=ends[1], level=level, method="Fieller") if ends else NO_OPTIMUM
    made["minimum"] = NO_OPTIMUM
    optimum, least = curve.minimum(free)
    if np.isfinite(least) and curve.axis[0] < optimum < curve.axis[1]:
        # By the envelope theorem the uncertain place of the minimum does not matter to first order.
        at = _gradient(curve, free, float(optimum))
        width = quantile * float(np.sqrt(at @ covariance @ at))
        made["minimum"] = Interval(low=float(least) - width, high=float(least) + width, level=level, method="t")
    return made


def _gradient(curve: Curve, free: Array, x: float) -> Array:
    """How the ordinate at `x` depends on each coefficient: the curve is linear in them."""
    at = np.array([x])
    return np.array([float(curve.profile(unit, at)[0]) for unit in np.eye(len(free))])


def _status(
    curve: Curve, coefficients: Array, optimum: float, minimum: float, sampled: tuple[float, float]
) -> FitStatus:
    if np.isfinite(minimum):
        return FitStatus.CONVERGED if sampled[0] < optimum < sampled[1] else FitStatus.EDGE
    return FitStatus.EDGE if curve.monotone(coefficients) else FitStatus.NO_MINIMUM

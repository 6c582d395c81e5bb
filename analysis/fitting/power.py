"""Power laws y = floor + k (x / x0)^e by straight lines in logarithms.

    fit = fit_power_law(compute, optimum, floor=6.0)
    fit.exponent, fit.intervals["exponent"], fit.predict(1e24), fit.held_out, fit.status

x0, the geometric mean of x, is where the data are: the value there is well determined, while the coefficient at x = 1
(often twenty decades away) has an interval that says nothing by itself.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.inputs import column_of, place_of, weights_of
from analysis.fitting.linear import LeastSquares
from analysis.fitting.results import (
    LEVEL,
    UNKNOWN,
    Array,
    Coefficient,
    FitError,
    FitStatus,
    HeldOut,
    Interval,
    Prediction,
    check_above,
    check_level,
    check_points,
)


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """y = floor + at_reference (x / reference)^exponent; numbers, or arrays (r,) for a batch."""

    at_reference: Array
    """y - floor at x0, in the unit of y."""
    exponent: Array
    """e."""
    reference: float
    """x0, in the unit of x."""
    floor: float = 0.0
    """Known lower bound of y; not fitted."""

    @property
    def coefficient(self) -> Array:
        """k of y = floor + k x^e."""
        with np.errstate(over="ignore"):  # a resample of nearly flat optima may have any exponent
            return np.asarray(np.exp(np.log(self.at_reference) - self.exponent * np.log(self.reference)))

    def __call__(self, x: float) -> Array:
        """y at the abscissa `x`, one value for each law of the batch."""
        with np.errstate(over="ignore"):
            return np.asarray(self.floor + self.at_reference * (x / self.reference) ** self.exponent)


@dataclass(frozen=True, kw_only=True)
class PowerLawFit:
    """A power law through n points, with what is known of its accuracy."""

    status: FitStatus
    law: PowerLaw
    """Numbers, not a batch; NaN where `status` names no fit."""
    residuals: Array
    """Shape (n,): ln(y - floor) less the fitted line."""
    residual_sd: float
    """Square root of the weighted residual sum of squares over `dof`; NaN where `dof` is 0."""
    dof: int
    """Points that have weight, less 2."""
    covariance: Array
    """Of (ln at_reference, exponent), shape (2, 2); NaN where `dof` is 0."""
    intervals: dict[str, Interval]
    """Of exponent, at_reference and coefficient; NaN at both ends where `dof` is 0."""
    held_out: HeldOut | None
    """The largest x, predicted without it; None with fewer than three different x."""
    units: tuple[str, str]
    """Of x and y, for print."""

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)

    @property
    def exponent(self) -> float:
        """e."""
        return float(self.law.exponent)

    @property
    def at_reference(self) -> float:
        """y - floor at x0."""
        return float(self.law.at_reference)

    @property
    def coefficient(self) -> float:
        """k of y = floor + k x^e."""
        return float(self.law.coefficient)

    @property
    def coefficients(self) -> dict[str, Coefficient]:
        """Every coefficient with unit and interval."""
        x, y = self.units
        units = {"exponent": "", "at_reference": y, "coefficient": f"{y} {x}^-e".strip() if x else y}
        return {
            name: Coefficient(value=getattr(self, name), unit=unit, interval=self.intervals[name])
            for name, unit in units.items()
        }

    def __call__(self, x: float) -> float:
        """y at `x`."""
        return float(self.law(x))

    def predict(self, x: float, *, level: float = LEVEL) -> Prediction:
        """y at `x` with the interval of the law there and that of one more observation, by Student's t in logarithms.

        Raises:
            FitError: `x` is no positive number, or `level` no probability.
        """
        check_level(level)
        x = place_of("x", x)
        if not self.dof:
            return Prediction(value=self(x), law=UNKNOWN, observation=UNKNOWN)
        at = np.array([1.0, np.log(x / self.law.reference)])
        variance = float(at @ self.covariance @ at)
        quantile = float(stdtrit(self.dof, (1 + level) / 2))
        excess = self(x) - self.law.floor
        made = []
        for more in (0.0, self.residual_sd**2):
            factor = float(np.exp(quantile * np.sqrt(variance + more)))
            made.append(
                Interval(
                    low=self.law.floor + excess / factor,
                    high=self.law.floor + excess * factor,
                    level=level,
                    method="t, logarithms",
                )
            )
        return Prediction(value=self(x), law=made[0], observation=made[1])


def fit_power_law(
    x: Array,
    y: Array,
    *,
    floor: float = 0.0,
    weights: Array | None = None,
    noise_ratio: float | None = None,
    level: float = LEVEL,
    units: tuple[str, str] = ("", ""),
) -> PowerLawFit:
    """Fit ln(y - floor) against ln x.

    Args:
        x: shape (n,), positive.
        y: shape (n,), above `floor`.
        floor: known lower bound of y.
        weights: shape (n,), of the squared residuals in logarithms: inverse variances up to a factor; None: all equal.
        noise_ratio: None: x is exact. Else the variance of the noise of ln y over that of ln x: 1 is the orthogonal fit.
        level: of the intervals.
        units: of x and y, for print.

    Raises:
        FitError: a value is impossible, lengths differ, fewer than two different x have weight, or weights come with a
            noise ratio.
    """
    x, y = column_of("x", x), np.asarray(y, dtype=float)
    check_level(level)
    if y.ndim != 1:
        raise FitError(f"y has shape {y.shape}: fit_power_law takes one law; solve_power_laws takes a batch")
    if noise_ratio is not None:
        if weights is not None:
            raise FitError("weights and noise_ratio together: an orthogonal fit takes all points as equally precise")
        if not (np.isfinite(noise_ratio) and noise_ratio > 0):
            raise FitError(f"a noise ratio of {noise_ratio:g}: it must be finite and above 0; None: x is exact")
    weights = weights_of(weights, len(x))
    law = solve_power_laws(x, y, floor=floor, weights=weights)
    used = np.ones(len(x), dtype=bool) if weights is None else weights > 0
    dof = int(used.sum()) - 2
    u, v = np.log(x / law.reference), np.log(y - floor)
    if noise_ratio is None:
        scale = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=float)
        residuals = v - np.log(law.at_reference) - law.exponent * u
        sd = float(np.sqrt((scale * residuals**2).sum() / dof)) if dof else float("nan")
        design = np.stack([np.ones_like(u), u])
        covariance = np.linalg.inv((design * scale) @ design.T) * sd**2
        intervals = _t_intervals(law, covariance, dof, level)
    else:
        law, residuals, sd, covariance, intervals = _orthogonal(u, v, law, noise_ratio, dof, level)
    return PowerLawFit(
        status=FitStatus.CONVERGED,
        law=law,
        residuals=np.asarray(residuals),
        residual_sd=sd,
        dof=dof,
        covariance=covariance,
        intervals=intervals,
        held_out=_held_out(x, y, floor, weights, noise_ratio),
        units=units,
    )


def solve_power_laws(x: Array, y: Array, *, floor: float = 0.0, weights: Array | None = None) -> PowerLaw:
    """Least squares of ln(y - floor) on ln x, for one law or a batch on the same x: the numbers alone.

    Args:
        x: shape (n,), positive.
        y: shape (n,) for one law, (r, n) for a batch; above `floor`.
        floor: known lower bound of y.
        weights: shape (n,), of the squared residuals in logarithms; None: all equal.

    Raises:
        FitError: a value is impossible, lengths differ, or fewer than two different x have weight.
    """
    x, y = column_of("x", x), np.asarray(y, dtype=float)
    check_points(x=x)
    check_above("x", x, 0.0)
    if not np.isfinite(floor):
        raise FitError(f"a floor of {floor:g}: it must be finite; 0 is none")
    if not y.size or y.shape[-1] != len(x):
        raise FitError(f"y of shape {y.shape} against {len(x)} x: give one y per x, and at least one law")
    check_points(y=y.ravel())
    check_above("y", y, floor)
    weights = weights_of(weights, len(x))
    log_x = np.log(x)
    centre = float(log_x.mean())
    squares = LeastSquares(np.stack([np.ones_like(log_x), log_x - centre], axis=1), weights)
    if not squares.full_rank:
        different = np.unique(x if weights is None else x[weights > 0]).tolist()
        raise FitError(f"a power law needs two different x that have weight, got {different}; add a budget")
    solved = squares.solve(np.log(y - floor))
    return PowerLaw(
        at_reference=np.exp(solved[..., 0]), exponent=solved[..., 1], reference=float(np.exp(centre)), floor=floor
    )


def _t_intervals(law: PowerLaw, covariance: Array, dof: int, level: float) -> dict[str, Interval]:
    if not dof:
        return dict.fromkeys(("exponent", "at_reference", "coefficient"), UNKNOWN)
    quantile = float(stdtrit(dof, (1 + level) / 2))
    to_one = np.array([1.0, -np.log(law.reference)])
    half = quantile * float(np.sqrt(covariance[1, 1]))
    made = {
        "exponent": Interval(low=float(law.exponent) - half, high=float(law.exponent) + half, level=level, method="t")
    }
    for name, centre, variance in (
        ("at_reference", float(law.at_reference), covariance[0, 0]),
        ("coefficient", float(law.coefficient), float(to_one @ covariance @ to_one)),
    ):
        factor = float(np.exp(quantile * np.sqrt(variance)))
        made[name] = Interval(low=centre / factor, high=centre * factor, level=level, method="t, logarithms")
    return made


def _orthogonal(
    u: Array, v: Array, start: PowerLaw, noise_ratio: float, dof: int, level: float
) -> tuple[PowerLaw, Array, float, Array, dict[str, Interval]]:
    """Total least squares of v on u, whose noise has the variance ratio `noise_ratio` (Creasy 1956, Williams 1959)."""
    root = float(np.sqrt(noise_ratio))
    scaled = v / root
    (suu, suv), (_, svv) = np.cov(u, scaled, bias=True) * len(u)
    angle = 0.5 * np.arctan2(2 * suv, suu - svv)
    slope = root * np.tan(angle)
    law = PowerLaw(
        at_reference=np.exp(v.mean() - slope * u.mean()),
        exponent=np.asarray(slope),
        reference=start.reference,
        floor=start.floor,
    )
    residuals = v - np.log(law.at_reference) - slope * u
    if not dof:
        nothing = np.full((2, 2), np.nan)
        return law, residuals, float("nan"), nothing, _t_intervals(law, nothing, 0, level)
    sd = float(np.sqrt((residuals**2).sum() / dof))
    quantile = float(stdtrit(dof, (1 + level) / 2))
    determinant = max(suu * svv - suv**2, 0.0)
    spread = 2 * np.sqrt(determinant / (dof * ((suu - svv) ** 2 + 4 * suv**2)))  # of sin(2 angle), in units of t
    half = 0.5 * np.arcsin(quantile * spread) if quantile * spread < 1 else np.inf
    ends = np.array([angle - half, angle + half])
    low, high = root * np.tan(ends) if (np.abs(ends) < np.pi / 2).all() else (-np.inf, np.inf)
    error = float(root * spread / 2 / np.cos(angle) ** 2)
    covariance = np.diag([sd**2 / len(u), error**2])  # u is centred at its mean, so the two are independent
    intervals = _t_intervals(law, covariance, dof, level)
    intervals["exponent"] = Interval(low=float(low), high=float(high), level=level, method="Creasy-Williams")
    return law, residuals, sd, covariance, intervals


def _held_out(x: Array, y: Array, floor: float, weights: Array | None, noise_ratio: float | None) -> HeldOut | None:
    """What a law without the largest x says there."""
    used = np.ones(len(x), dtype=bool) if weights is None else weights > 0
    largest = used & (x == x[used].max())
    kept = used & ~largest
    if len(np.unique(x[kept])) < 2:
        return None
    law = solve_power_laws(x[kept], y[kept], floor=floor, weights=None if weights is None else weights[kept])
    if noise_ratio is not None:
        u, v = np.log(x[kept] / law.reference), np.log(y[kept] - floor)
        law = _orthogonal(u, v, law, noise_ratio, 0, LEVEL)[0]
    at = float(x[largest][0])
    return HeldOut(at=at, predicted=float(law(at)), observed=float(np.exp(np.log(y[largest] - floor).mean()) + floor))

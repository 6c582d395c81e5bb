"""Power laws with an unknown offset, y = e + a (x / x0)^b, by least squares of y.

    fit = fit_offset_power_law(compute, loss);  fit.offset, fit.exponent, fit.intervals["offset"], fit.predict(1e24)

For a fixed exponent the model is linear, so only the exponent is searched for (`offset_profile.py`). It is written with
(x^b - 1)/b, which becomes ln x at b = 0: the fit passes smoothly from a law that levels off to one that does not. Intervals
are profiles: the offset of data that hardly bend is open on one side, and says so.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.edges import has_rival
from analysis.fitting.inputs import column_of, place_of, weights_of
from analysis.fitting.offset_profile import STEEPEST, OffsetProfile, box_cox
from analysis.fitting.results import (
    LEVEL,
    NO_FIT,
    UNKNOWN,
    Array,
    Coefficient,
    FitStatus,
    HeldOut,
    Interval,
    Prediction,
    check_above,
    check_level,
    check_points,
    unknown,
)

NOT_FINITE = unknown("the law's value there is no finite number")


@dataclass(frozen=True, kw_only=True)
class OffsetPowerLawFit:
    """y = offset + at_reference (x / reference)^exponent through n points."""

    status: FitStatus
    offset: float
    """e, in the unit of y."""
    at_reference: float
    """a: y - e at x0, in the unit of y."""
    exponent: float
    """b."""
    reference: float
    """x0, the geometric mean of x."""
    residuals: Array
    """Shape (n,): y - model."""
    residual_sd: float
    """Square root of the weighted residual sum of squares over `dof`; NaN where `dof` is 0."""
    dof: int
    """Points that have weight, less 3."""
    intervals: dict[str, Interval]
    """Profile intervals of offset, at_reference and exponent."""
    held_out: HeldOut | None
    """The largest x, predicted without it; None where the others determine no law."""
    units: tuple[str, str]
    """Of x and y, for print."""
    _profile: OffsetProfile = field(repr=False)

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)

    @property
    def coefficients(self) -> dict[str, Coefficient]:
        """Every coefficient with unit and interval."""
        units = {"offset": self.units[1], "at_reference": self.units[1], "exponent": ""}
        return {
            name: Coefficient(value=getattr(self, name), unit=unit, interval=self.intervals[name])
            for name, unit in units.items()
        }

    def __call__(self, x: float) -> float:
        """y at `x`; infinite beyond the largest number, NaN where the law has no offset (b = 0)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(self.offset + self.at_reference * np.power(x / self.reference, self.exponent))

    def predict(self, x: float, *, level: float = LEVEL) -> Prediction:
        """y at `x`, with the profile interval of the law there, and that of one more observation.

        Raises:
            FitError: `x` is no positive number, or `level` no probability.
        """
        check_level(level)
        x = place_of("x", x)
        value = self(x)
        if np.isnan(self.exponent) or not self._profile.measures_noise or not np.isfinite(value):
            why = NO_FIT if np.isnan(self.exponent) else NOT_FINITE if self._profile.measures_noise else UNKNOWN
            return Prediction(value=value, law=why, observation=why)
        low, high = self._profile.value_interval(float(np.log(x / self.reference)), value, level)
        noise = float(stdtrit(self.dof, (1 + level) / 2)) * self.residual_sd
        wide = value - np.hypot(value - low, noise), value + np.hypot(high - value, noise)
        return Prediction(
            value=value,
            law=Interval(low=low, high=high, level=level, method="profile"),
            observation=Interval(low=float(wide[0]), high=float(wide[1]), level=level, method="profile and t"),
        )


def fit_offset_power_law(
    x: Array,
    y: Array,
    *,
    weights: Array | None = None,
    level: float = LEVEL,
    units: tuple[str, str] = ("", ""),
) -> OffsetPowerLawFit:
    """Least squares of y = e + a (x / x0)^b.

    Args:
        x: shape (n,), positive.
        y: shape (n,).
        weights: shape (n,), inverse variances up to a factor; None: all equal.
        level: of the intervals.
        units: of x and y, for print.

    Raises:
        FitError: a value is impossible, or lengths differ.
    """
    x, y = column_of("x", x), column_of("y", y)
    check_points(x=x, y=y)
    check_above("x", x, 0.0)
    check_level(level)
    given = weights_of(weights, len(x))
    weight = np.ones(len(x)) if given is None else given
    used = weight > 0
    reference = float(np.exp(np.log(x[used]).mean()))
    u = np.log(x / reference)
    profile = OffsetProfile(u[used], y[used], weight[used], max(int(used.sum()) - 3, 0))
    different = len(np.unique(x[used]))
    if different < 3:
        nothing = float("nan")
        return OffsetPowerLawFit(
            status=FitStatus.TOO_FEW_POINTS if used.sum() < 3 else FitStatus.NOT_IDENTIFIABLE,
            offset=nothing,
            at_reference=nothing,
            exponent=nothing,
            reference=reference,
            residuals=np.full(len(x), np.nan),
            residual_sd=nothing,
            dof=profile.dof,
            intervals=dict.fromkeys(("offset", "at_reference", "exponent"), NO_FIT),
            held_out=None,
            units=units,
            _profile=profile,
        )
    exponent = profile.best_exponent()
    level_there, slope = profile.linear(exponent)
    straight = abs(exponent) < 1e-9 / profile.reach
    at_reference = float("inf") if straight else slope / exponent
    offset = level_there - at_reference
    residuals = y - level_there - slope * box_cox(u, exponent)
    sd = float(np.sqrt((weight * residuals**2).sum() / profile.dof)) if profile.dof else float("nan")
    steep = abs(exponent) * profile.reach > 0.999 * STEEPEST
    flat = abs(slope) * profile.reach <= 1e-12 * max(float(np.abs(y[used]).max()), 1e-300)
    status = FitStatus.AMBIGUOUS if has_rival(profile.free(profile.grid)) else FitStatus.CONVERGED
    status = FitStatus.AT_BOUND if steep else FitStatus.NOT_IDENTIFIABLE if straight or flat else status
    at = float(x[used].max())
    largest, earlier = used & (x == at), used & (x != at)
    held_out = None
    if len(np.unique(x[earlier])) >= 3:
        without = OffsetProfile(u[earlier], y[earlier], weight[earlier], 0)
        found = without.best_exponent()
        base, rise = without.linear(found)
        predicted = base + rise * float(box_cox(np.array([np.log(at / reference)]), found)[0])
        observed = float(np.average(y[largest], weights=weight[largest]))
        held_out = HeldOut(at=at, predicted=predicted, observed=observed)
    return OffsetPowerLawFit(
        status=status,
        offset=float(offset),
        at_reference=float(at_reference),
        exponent=exponent,
        reference=reference,
        residuals=np.asarray(residuals),
        residual_sd=sd,
        dof=profile.dof,
        intervals=profile.intervals(exponent, float(offset), float(at_reference), level),
        held_out=held_out,
        units=units,
        _profile=profile,
    )

"""What a chain of curves, optima and their law takes and returns: `Slice` in, `ChainFit` out, made by `fit_chain` (`chain.py`).

    chain.law, chain.interval("exponent"), chain.predict(1e24), chain.interval("exponent", method=Method.BCA)

`interval` and `predict` are profiles over all laws (`chain_profile.py`) unless a method by resampling is named, which takes
its quantiles from the draws that the fit holds.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from analysis.fitting.chain_profile import ChainProfile
from analysis.fitting.curve import Curve
from analysis.fitting.intervals import bca_interval, interval, studentised_interval
from analysis.fitting.power import PowerLaw, PowerLawFit
from analysis.fitting.results import LEVEL, Array, CurveFit, FitError, FitStatus, Interval, Noise, check_level

NAMES = ("exponent", "at_reference")
"""Of the law, as in `PowerLawFit`."""


class Draw(Enum):
    """How a resample is drawn."""

    NOISE = "new noise on the fitted curves"
    RUNS = "runs with replacement, within each budget"


class Method(Enum):
    """How an interval is found."""

    PROFILE = "profile through the chain"
    """All laws that the runs do not refute: no draws, and right where the optima's errors are not small either."""
    STUDENTISED = "studentised"
    """Each draw in units of its own standard error; covers too little once resamples fail. Needs `Draw.NOISE`."""
    PERCENTILE = "percentile"
    BCA = "BCa"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The runs of one budget."""

    at: float
    """The budget: abscissa of the law."""
    curve: Curve
    """Bound to the runs' abscissae."""
    y: Array
    """Their ordinates, shape (n,)."""
    noise: Noise | None = None
    """Of one ordinate, where it is measured."""

    def __post_init__(self) -> None:
        """Take any sequence for y.

        Raises:
            FitError: `at` is not a finite number above 0.
        """
        if not (np.isfinite(self.at) and self.at > 0):
            raise FitError(f"a budget of {self.at}: it must be finite and above 0")
        object.__setattr__(self, "y", np.asarray(self.y, dtype=float))


@dataclass(frozen=True, kw_only=True)
class ChainFit:
    """The law of m optima and r resamples of all of it."""

    status: FitStatus
    """Too few points: fewer than two budgets have a minimum inside their data. Unresolved: more than 1% of the resamples
    failed, and intervals by resampling are too narrow."""
    curves: tuple[CurveFit, ...]
    """By rising budget, all of them."""
    used: tuple[bool, ...]
    """Which budgets have a minimum inside their data: the law is theirs."""
    law: PowerLawFit | None
    """Through the optima; its own intervals are from the scatter of the optima about it."""
    edges: tuple[PowerLawFit, PowerLawFit] | None
    """Laws of the lower and upper edge of the near-optimal band, with intervals from their scatter only; None where an edge
    lies at or below the floor."""
    model_free: PowerLawFit | None
    """The law of the same budgets' optima by convex splines: where it differs, the curve's form is in doubt. None where a
    spline has no minimum inside the data, or where an abscissa is not positive."""
    noise: tuple[Noise, ...]
    """What the resamples were drawn with, a budget."""
    budgets: Array
    """Of the law, shape (m,)."""
    log_optima: Array
    """ln(optimum - floor), shape (m,)."""
    errors: Array
    """Their standard errors, shape (m,)."""
    draws: Array
    """ln(optimum - floor) of the resamples, shape (r - failed, m)."""
    draw_errors: Array | None
    """Their standard errors, same shape; None for `Draw.RUNS`."""
    jackknife: Array
    """ln(optimum - floor) without each run in turn, shape (runs, m)."""
    failed: int
    """Resamples in which a budget had no minimum above the floor; they are left out."""
    draw: Draw
    """How they were drawn."""
    profile: ChainProfile | None
    """Behind the intervals; None without a law, or where the noise of a budget is nothing beyond rounding."""

    @cached_property
    def joint(self) -> PowerLaw:
        """The law with the least squares of all runs together: the profile's intervals are about it.

        `law` gives every optimum the same weight. With much noise the two differ, and `law` may lie outside.

        Raises:
            FitError: there is no law.
        """
        law = self._law().law
        if self.profile is None:
            return law
        exponent, log_value = self.profile.law()
        return PowerLaw(
            at_reference=np.asarray(_exp(log_value)),
            exponent=np.asarray(exponent),
            reference=law.reference,
            floor=law.floor,
        )

    def interval(self, name: str, *, level: float = LEVEL, method: Method | None = None) -> Interval:
        """Of the law's exponent or of its value (less the floor) at the reference budget, through the whole chain.

        Args:
            name: one of `NAMES`.
            level: coverage.
            method: None: `Method.PROFILE`.

        Raises:
            FitError: there is no law, no such name, or too few draws to judge by.
        """
        if name not in NAMES:
            raise FitError(f"no coefficient is called {name!r}; there are {', '.join(NAMES)}")
        self._law()
        low, high, used = self._ends((1.0, 0.0) if name == "exponent" else (0.0, 1.0), level, method or Method.PROFILE)
        if name == "at_reference":
            low, high = _exp(low), _exp(high)
        return Interval(low=low, high=high, level=level, method=used)

    def predict(self, at: float, *, level: float = LEVEL, method: Method | None = None) -> Interval:
        """Of the law at the budget `at`, through the whole chain: the noise of the runs, not the doubt about the form.

        Args:
            at: a budget.
            level: coverage.
            method: None: `Method.PROFILE`.

        Raises:
            FitError: there is no law, `at` is not above 0, or too few draws to judge by.
        """
        if not (np.isfinite(at) and at > 0):
            raise FitError(f"a budget of {at}: it must be finite and above 0")
        row = (float(np.log(at / self._law().law.reference)), 1.0)
        low, high, used = self._ends(row, level, method or Method.PROFILE)
        floor = self._law().law.floor
        return Interval(low=floor + _exp(low), high=floor + _exp(high), level=level, method=used)

    def _law(self) -> PowerLawFit:
        if self.law is None:
            raise FitError(
                f"there is no law: {sum(self.used)} of {len(self.used)} budgets have a minimum inside the data"
            )
        return self.law

    def _line(self) -> Array:
        """Shape (2, m): the exponent and ln at_reference are these rows times ln(optimum - floor)."""
        u = np.log(self.budgets / self._law().law.reference)
        return np.stack([u / (u**2).sum(), np.full(len(u), 1 / len(u))])

    def _ends(self, row: tuple[float, float], level: float, chosen: Method) -> tuple[float, float, str]:
        """Of row[0] exponent + row[1] ln at_reference."""
        check_level(level)
        weights = np.array(row) @ self._line()
        estimate = float(self.log_optima @ weights)
        if chosen is Method.PROFILE:
            if self.profile is None:
                return estimate, estimate, "no noise"
            return *self.profile.ends(row, level), chosen.value
        if len(self.draws) < 2 / (1 - level):
            raise FitError(
                f"{len(self.draws)} resamples with a minimum show no interval of {100 * level:g}%: take at least "
                f"{int(np.ceil(2 / (1 - level)))}, or the profile"
            )
        drawn = self.draws @ weights
        if chosen is Method.STUDENTISED:
            if self.draw_errors is None:
                raise FitError("draws of runs have no standard errors: take BCa or percentile, or draw noise")
            error = float(np.sqrt((self.errors**2) @ weights**2))
            errors = np.sqrt((self.draw_errors**2) @ weights**2)
            if error == 0:
                return estimate, estimate, "no noise"
            low, high = studentised_interval(estimate, error, drawn, errors, level)
        elif chosen is Method.BCA:
            low, high = bca_interval(estimate, drawn, self.jackknife @ weights, level)
        else:
            low, high = interval(drawn, level)
        return low, high, chosen.value


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))

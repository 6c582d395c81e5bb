"""From runs to a law in one step: a curve at each budget, its optimum, and the power law of the optima, with its error bars.

    chain = fit_chain([Slice(at=budget, curve=FlooredHyperbola(x, 6.0), y=loss), ...], floor=6.0)
    chain.law, chain.interval("exponent"), chain.predict(1e24), chain.failed

`interval` and `predict` are profiles over all laws (`chain_profile.py`) unless a method by resampling is named: every
resample repeats all budgets and the whole way to the law. `Draw.NOISE` repeats the experiment: new noise on the fitted
curves, as large as measured between seeds or, without that, as the scatter about all curves together. `Draw.RUNS` draws
runs with replacement within each budget; five points seldom bear that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from analysis.fitting.chain_profile import ChainProfile
from analysis.fitting.curve import Curve, fit_curve
from analysis.fitting.intervals import bca_interval, interval, studentised_interval
from analysis.fitting.modelfree import convex_optimum
from analysis.fitting.power import PowerLaw, PowerLawFit, fit_power_law
from analysis.fitting.resample import draw_counts
from analysis.fitting.results import (
    LEVEL,
    ROUNDING,
    Array,
    CurveFit,
    FitError,
    FitStatus,
    Interval,
    Noise,
    check_level,
)  # fmt: skip

NAMES = ("exponent", "at_reference")
"""Of the law, as in `PowerLawFit`."""

FAILED = 0.01
"""Share of resamples without a minimum from which on the rest are no fair sample."""


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


def fit_chain(
    slices: Sequence[Slice],
    *,
    floor: float = 0.0,
    tolerance: float = 1e-3,
    resamples: int = 1000,
    rng: np.random.Generator | None = None,
    draw: Draw = Draw.NOISE,
) -> ChainFit:
    """Fit curves, optima and their power law, and repeat all of it `resamples` times.

    Args:
        slices: one a budget, in any order.
        floor: known lower bound of the optimum: the law is of optimum - floor.
        tolerance: of the near-optimal band.
        resamples: how many.
        rng: draws them; None: a generator with seed 0.
        draw: see `Draw`.

    Raises:
        FitError: a value is impossible, two slices share a budget, nothing measures the noise (as many points as
            coefficients everywhere, and no measured noise), or only some budgets have a measured noise of 0.
    """
    if not np.isfinite(floor):
        raise FitError(f"a floor of {floor}: it must be finite")
    if resamples < 1:
        raise FitError(f"{resamples} resamples: there must be at least one")
    rng = rng or np.random.default_rng(0)
    slices = sorted(slices, key=lambda part: part.at)
    if len({part.at for part in slices}) < len(slices):
        raise FitError("two slices have the same budget: put their runs into one")
    curves = [fit_curve(part.curve, part.y, tolerance=tolerance, noise=part.noise) for part in slices]
    used = [fit.status is FitStatus.CONVERGED and fit.optimum > floor for fit in curves]
    kept = [(part, fit) for part, fit, good in zip(slices, curves, used, strict=True) if good]
    noise = _noise(kept)
    budgets = np.array([part.at for part, _ in kept])
    nothing = np.empty((0, len(kept)))
    base = {
        "curves": tuple(curves),
        "used": tuple(used),
        "noise": tuple(noise),
        "budgets": budgets,
        "draw": draw,
    }
    optima = np.array([fit.optimum for _, fit in kept])
    log_optima = np.log(optima - floor)
    errors = np.array(
        [
            float(part.curve.optimum_error(fit.coefficients, part.curve.covariance * of.sd**2)) / (fit.optimum - floor)
            for (part, fit), of in zip(kept, noise, strict=True)
        ]
    )
    if len(kept) < 2:
        return ChainFit(
            status=FitStatus.TOO_FEW_POINTS, law=None, edges=None, model_free=None, log_optima=log_optima, errors=errors,
            draws=nothing, draw_errors=None, jackknife=nothing, failed=0, profile=None, **base,  # type: ignore[arg-type]
        )  # fmt: skip
    if draw is Draw.NOISE:
        draws, draw_errors = _draw_noise(kept, noise, floor, resamples, rng)
    else:
        draws, draw_errors = _draw_runs(kept, floor, resamples, rng), None
    law = fit_power_law(budgets, optima, floor=floor)
    whole = np.isfinite(draws).all(axis=1)
    if draw_errors is not None:
        whole &= np.isfinite(draw_errors).all(axis=1)
        draw_errors = draw_errors[whole]
    edges = [np.array([fit.band[end] for _, fit in kept]) for end in (0, 1)]
    return ChainFit(
        status=FitStatus.UNRESOLVED if (~whole).sum() > FAILED * resamples else FitStatus.CONVERGED,
        law=law,
        edges=(
            (fit_power_law(budgets, edges[0], floor=floor), fit_power_law(budgets, edges[1], floor=floor))
            if (edges[0] > floor).all()
            else None
        ),
        model_free=_model_free(kept, budgets, floor),
        log_optima=log_optima,
        errors=errors,
        draws=draws[whole],
        draw_errors=draw_errors,
        jackknife=_jackknife(kept, floor, log_optima),
        failed=int((~whole).sum()),
        profile=_profile(kept, noise, np.log(budgets / law.law.reference), floor, log_optima, errors),
        **base,  # type: ignore[arg-type]
    )


def _profile(
    kept: list[tuple[Slice, CurveFit]], noise: list[Noise], u: Array, floor: float, log_optima: Array, errors: Array
) -> ChainProfile | None:
    silent = [of.sd <= ROUNDING * np.abs(part.y).max() for (part, _), of in zip(kept, noise, strict=True)]
    if all(silent):
        return None
    if any(silent):
        raise FitError("some budgets have a noise of 0 and others have not: give all a noise above 0, or none")
    free = [part.curve.solve_free(part.y) for part, _ in kept]
    return ChainProfile([part.curve for part, _ in kept], free, noise, u, floor, log_optima, errors)


def _model_free(kept: list[tuple[Slice, CurveFit]], budgets: Array, floor: float) -> PowerLawFit | None:
    if any(part.curve.x.min() <= 0 for part, _ in kept):
        return None
    found = [convex_optimum(part.curve.x, part.y - part.curve.intercepts(fit.coefficients)) for part, fit in kept]
    if any(fit.status is not FitStatus.CONVERGED or fit.optimum <= floor for fit in found):
        return None
    return fit_power_law(budgets, np.array([fit.optimum for fit in found]), floor=floor)


def _noise(kept: list[tuple[Slice, CurveFit]]) -> list[Noise]:
    """Each budget's measured noise, else the scatter about all curves that have none measured, pooled."""
    squares = sum(float((fit.residuals**2).sum()) for part, fit in kept if part.noise is None)
    dof = sum(fit.dof for part, fit in kept if part.noise is None)
    if any(part.noise is None for part, _ in kept) and not dof:
        raise FitError("every curve has as many coefficients as points and no noise is measured: repeat a run")
    pooled = Noise(sd=float(np.sqrt(squares / max(dof, 1))), dof=max(dof, 1), source="scatter about the curves, pooled")
    return [part.noise or pooled for part, _ in kept]


def _draw_noise(
    kept: list[tuple[Slice, CurveFit]], noise: list[Noise], floor: float, resamples: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """ln(optimum - floor) and its standard error, each (resamples, m); NaN without a minimum."""
    optima, unit_errors, own = [], [], []
    scatter, dof = np.zeros(resamples), 0
    for (part, fit), of in zip(kept, noise, strict=True):
        repeated = fit.fitted + of.sd * rng.standard_normal((resamples, fit.points))
        coefficients = part.curve.solve(repeated)
        optimum = _inside(part.curve, coefficients, floor)
        optima.append(np.log(optimum - floor))
        unit_errors.append(part.curve.optimum_error(coefficients, part.curve.covariance) / (optimum - floor))
        own.append(None if part.noise is None else of.sd * np.sqrt(rng.chisquare(of.dof, resamples) / of.dof))
        if part.noise is None:
            scatter += ((repeated - part.curve.values(coefficients)) ** 2).sum(axis=1)
            dof += fit.dof
    pooled = np.sqrt(scatter / max(dof, 1))
    scales = np.stack([pooled if scale is None else scale for scale in own], axis=1)
    return np.stack(optima, axis=1), np.stack(unit_errors, axis=1) * scales


def _draw_runs(kept: list[tuple[Slice, CurveFit]], floor: float, resamples: int, rng: np.random.Generator) -> Array:
    columns = []
    for part, fit in kept:
        counts = draw_counts(fit.points, resamples, rng, part.curve.strata)
        columns.append(_log_optima(part.curve, part.y, counts, floor))
    return np.stack(columns, axis=1)


def _jackknife(kept: list[tuple[Slice, CurveFit]], floor: float, log_optima: Array) -> Array:
    """Without each run in turn; runs without which its budget has no minimum are passed over."""
    rows = []
    for index, (part, fit) in enumerate(kept):
        without = _log_optima(part.curve, part.y, 1 - np.eye(fit.points), floor)
        row = np.tile(log_optima, (fit.points, 1))
        row[:, index] = without
        rows.append(row[np.isfinite(without)])
    return np.concatenate(rows)


def _log_optima(curve: Curve, y: Array, counts: Array, floor: float) -> Array:
    """ln(optimum - floor) for points counted as often as `counts` (r, n) says; NaN where these determine no minimum."""
    design = curve.design
    normal = np.einsum("rn,np,nq->rpq", counts, design, design, optimize=True)
    scale = np.sqrt(np.maximum(np.einsum("rpp->rp", normal), 1e-300))
    scaled = normal / (scale[:, :, None] * scale[:, None, :])
    possible = np.linalg.eigvalsh(scaled)[:, 0] > 1e-10
    coefficients = np.full((len(counts), design.shape[1]), np.nan)
    right = (counts * y) @ design / scale
    coefficients[possible] = np.linalg.solve(scaled[possible], right[possible][:, :, None])[:, :, 0] / scale[possible]
    return np.asarray(np.log(_inside(curve, coefficients, floor) - floor))


def _inside(curve: Curve, coefficients: Array, floor: float) -> Array:
    """The optimum where there is one above `floor`, else NaN."""
    optimum, least = curve.minimum(coefficients)
    return np.where(np.isfinite(least) & np.isfinite(optimum) & (optimum > floor), optimum, np.nan)


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))

"""From runs to a law in one step: a curve at each budget, its optimum, and the power law of the optima, with its error bars.

    chain = fit_chain([Slice(at=budget, curve=FlooredHyperbola(x, 6.0), y=loss), ...], floor=6.0)
    chain.law, chain.interval("exponent"), chain.predict(1e24), chain.failed

All of it is repeated (`chain_draws.py`), the whole way to the law. `Draw.NOISE` repeats the experiment: new noise on the
fitted curves, as large as measured between seeds or, without that, as the scatter about all curves together. `Draw.RUNS`
draws runs with replacement within each budget; five points seldom bear that. `chain_fit.py` makes intervals of it.
"""

from collections.abc import Sequence

import numpy as np

from analysis.fitting.chain_draws import Kept, draw_noise, draw_runs, jackknife
from analysis.fitting.chain_fit import ChainFit, Draw, Slice
from analysis.fitting.chain_profile import ChainProfile
from analysis.fitting.curve import fit_curve
from analysis.fitting.modelfree import convex_optimum
from analysis.fitting.power import PowerLawFit, fit_power_law
from analysis.fitting.results import ROUNDING, Array, FitError, FitStatus, Noise

FAILED = 0.01
"""Share of resamples without a minimum from which on the rest are no fair sample."""


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
        draws, draw_errors = draw_noise(kept, noise, floor, resamples, rng)
    else:
        draws, draw_errors = draw_runs(kept, floor, resamples, rng), None
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
        jackknife=jackknife(kept, floor, log_optima),
        failed=int((~whole).sum()),
        profile=_profile(kept, noise, np.log(budgets / law.law.reference), floor, log_optima, errors),
        **base,  # type: ignore[arg-type]
    )


def _profile(
    kept: Kept, noise: list[Noise], u: Array, floor: float, log_optima: Array, errors: Array
) -> ChainProfile | None:
    silent = [of.sd <= ROUNDING * np.abs(part.y).max() for (part, _), of in zip(kept, noise, strict=True)]
    if all(silent):
        return None
    if any(silent):
        raise FitError("some budgets have a noise of 0 and others have not: give all a noise above 0, or none")
    free = [part.curve.solve_free(part.y) for part, _ in kept]
    return ChainProfile([part.curve for part, _ in kept], free, noise, u, floor, log_optima, errors)


def _model_free(kept: Kept, budgets: Array, floor: float) -> PowerLawFit | None:
    if any(part.curve.x.min() <= 0 for part, _ in kept):
        return None
    found = [convex_optimum(part.curve.x, part.y - part.curve.intercepts(fit.coefficients)) for part, fit in kept]
    if any(fit.status is not FitStatus.CONVERGED or fit.optimum <= floor for fit in found):
        return None
    return fit_power_law(budgets, np.array([fit.optimum for fit in found]), floor=floor)


def _noise(kept: Kept) -> list[Noise]:
    """Each budget's measured noise, else the scatter about all curves that have none measured, pooled."""
    squares = sum(float((fit.residuals**2).sum()) for part, fit in kept if part.noise is None)
    dof = sum(fit.dof for part, fit in kept if part.noise is None)
    if any(part.noise is None for part, _ in kept) and not dof:
        raise FitError("every curve has as many coefficients as points and no noise is measured: repeat a run")
    pooled = Noise(sd=float(np.sqrt(squares / max(dof, 1))), dof=max(dof, 1), source="scatter about the curves, pooled")
    return [part.noise or pooled for part, _ in kept]

"""From minima to their laws of compute, with the noise of every run carried through the whole chain.

Intervals are profiles through the chain (docs/fitting.md): runs, curves, optima, law. They hold the noise of the runs, not the
doubt whether a power law is the right form; where the optima lie further from the law than noise explains, the wider interval
from that scatter is given in their place.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from analysis.fitting import ChainFit, FitStatus, Interval, PowerLawFit, fit_chain, fit_power_law
from analysis.fitting import HeldOut as FittedHeldOut
from analysis.laws.budget import Estimate
from analysis.laws.minima import SUSPICIOUS, Minimum, estimate
from analysis.laws.options import FitOptions
from analysis.laws.records import HeldOut, Prediction, Relation, Statement, covers
from analysis.text import flops

BEHIND, AHEAD = 10.0, 1e5
"""The grid of predictions reaches this factor below the least and above the largest budget."""

PER_DECADE = 1
"""Predictions of the grid, besides those at the budgets. In logarithms an interval's ends bend outwards: straight lines between
them are a little wide."""

PARTS = ("exponent", "at_reference")
"""Coefficients with intervals."""

PROFILE = "profile through the chain"
SCATTER = "scatter of the optima about the law"


def chain_of(minima: Sequence[Minimum], options: FitOptions, *, floor: float = 0.0) -> ChainFit | None:
    """The chain of the resolved budgets; None with fewer than two."""
    resolved = [one for one in minima if one.budget.resolved and one.budget.optimum.value > floor]
    if len(resolved) < 2:
        return None
    chain = fit_chain(
        [one.slice() for one in resolved],
        floor=floor,
        tolerance=options.band,
        resamples=options.resamples,
        rng=np.random.default_rng(options.seed),
    )
    return chain if chain.law is not None else None


def grid_of(compute: Sequence[float]) -> list[float]:
    """Budgets that predictions are given at: those of the law, and even steps from below them to far beyond."""
    low, high = math.log10(min(compute) / BEHIND), math.log10(max(compute) * AHEAD)
    even = 10 ** (np.arange(math.ceil(low * PER_DECADE), math.floor(high * PER_DECADE) + 1) / PER_DECADE)
    return sorted({*(float(value) for value in compute), *(float(value) for value in even)})


def relation_of(chain: ChainFit, name: str, symbol: str, unit: str = "") -> Relation:
    """The law of the optima of `chain`."""
    law = chain.law
    assert law is not None
    compute = [float(budget) for budget in chain.budgets]
    floor = law.law.floor
    optima = floor + np.exp(chain.log_optima)
    flags = [f"{symbol}: two points: exponent has no residual"] if len(compute) == 2 else []
    parts = {part: chain.interval(part) for part in PARTS}
    doubts = _misfit(chain, law, symbol) or _outside(chain, law, parts, symbol)
    flags += doubts
    scattered = bool(doubts) and law.dof > 0
    if scattered:
        parts = {part: law.intervals[part] for part in PARTS}
    grid = []
    for budget in grid_of(compute):
        ends = law.predict(budget).law if scattered else chain.predict(budget)
        grid.append(prediction(budget, law(budget), ends.low, ends.high, compute))
    failed = chain.failed / max(1, chain.failed + len(chain.draws))
    if chain.status is FitStatus.UNRESOLVED:
        flags.append(f"{symbol}: {100 * failed:.1f}% of the simulated repetitions had no minimum at some budget")
    free = chain.model_free
    return Relation(
        name=name,
        symbol=symbol,
        unit=unit,
        reference=law.law.reference,
        at_reference=estimate(law.at_reference, parts["at_reference"]),
        exponent=estimate(law.exponent, parts["exponent"]),
        floor=floor,
        compute=tuple(compute),
        values=tuple(float(value) for value in optima),
        grid=tuple(grid),
        method=SCATTER if scattered else PROFILE,
        held_out=held_out_of(law.held_out),
        model_free=(free.exponent, free.at_reference) if free else None,
        failed=failed,
        flags=tuple(flags),
    )


def relation_through(
    fit: PowerLawFit, compute: Sequence[float], values: Sequence[float], name: str, symbol: str, unit: str = ""
) -> Relation:
    """A power law through points, with Student's t intervals from their scatter about it."""
    grid = []
    for budget in grid_of(compute):
        predicted = fit.predict(budget)
        grid.append(prediction(budget, predicted.value, predicted.law.low, predicted.law.high, compute))
    return Relation(
        name=name,
        symbol=symbol,
        unit=unit,
        reference=fit.law.reference,
        at_reference=estimate(fit.at_reference, fit.intervals["at_reference"]),
        exponent=estimate(fit.exponent, fit.intervals["exponent"]),
        floor=fit.law.floor,
        compute=tuple(float(value) for value in compute),
        values=tuple(float(value) for value in values),
        grid=tuple(grid),
        method=SCATTER if fit.dof else "",
        held_out=held_out_of(fit.held_out),
        flags=() if fit.dof else (f"{symbol}: two points: exponent has no residual",),
    )


def edges_of(chain: ChainFit, name: str, symbol: str, unit: str = "") -> list[Relation]:
    """Laws of the lower and upper edge of the near-optimal band; none where an edge lies at or below the floor."""
    if chain.edges is None:
        return []
    kept = [fit for fit, used in zip(chain.curves, chain.used, strict=True) if used]
    return [
        relation_through(
            edge,
            chain.budgets.tolist(),
            [fit.band[end] for fit in kept],
            f"{name}_{side}",
            f"{symbol}, {side}er edge",
            unit,
        )
        for end, (side, edge) in enumerate(zip(("low", "high"), chain.edges, strict=True))
    ]


def band_widens(chain: ChainFit, what: str) -> Statement | None:
    """Whether the near-optimal band widens with compute: the slope of ln(upper - floor) - ln(lower - floor) against ln C."""
    if chain.edges is None or len(chain.budgets) < 3:
        return None
    assert chain.law is not None
    floor = chain.law.law.floor
    bands = np.array([fit.band for fit, used in zip(chain.curves, chain.used, strict=True) if used]) - floor
    fit = fit_power_law(chain.budgets, bands[:, 1] / bands[:, 0])
    slope = estimate(fit.exponent, fit.intervals["exponent"])
    holds = True if slope.low > 0 else False if slope.high < 0 else None
    verdict = {
        True: "widens with compute",
        False: "narrows with compute",
        None: "is not shown to widen or narrow with compute",
    }
    distance = f" (distances from {floor:g})" if floor else ""
    return Statement(
        id="band_widens",
        text=f"The near-optimal band of {what} {verdict[holds]}: upper over lower edge{distance} goes as C^{slope.value:.4f} "
        f"({slope.low:.4f} to {slope.high:.4f}).",
        estimate=slope,
        holds=holds,
    )


def tokens_of(relation: Relation) -> Relation:
    """D_opt(C) = C / M_opt(C) from the law of M_opt: the same data and intervals, turned round."""
    e, at, reference = relation.exponent, relation.at_reference, relation.reference

    def over(value: float, compute: float) -> float:
        return compute / value if value > 0 else math.inf

    held = relation.held_out
    free = relation.model_free
    return replace(
        relation,
        name="tokens",
        symbol="D_opt",
        unit="tokens",
        exponent=Estimate(value=1 - e.value, low=1 - e.high, high=1 - e.low),
        at_reference=Estimate(
            value=over(at.value, reference), low=over(at.high, reference), high=over(at.low, reference)
        ),
        values=tuple(over(value, compute) for value, compute in zip(relation.values, relation.compute, strict=True)),
        grid=tuple(
            replace(
                point,
                value=over(point.value, point.compute),
                low=over(point.high, point.compute),
                high=over(point.low, point.compute),
            )
            for point in relation.grid
        ),
        held_out=replace(held, predicted=over(held.predicted, held.compute), optimum=over(held.optimum, held.compute))
        if held
        else None,
        model_free=(1 - free[0], over(free[1], reference)) if free else None,
        flags=tuple(flag.replace(relation.symbol, "D_opt") for flag in relation.flags if "(F = " not in flag),
    )


def prediction(budget: float, value: float, low: float, high: float, compute: Sequence[float]) -> Prediction:
    """A value at `budget` of a law that was fitted to the budgets `compute`."""
    return Prediction(
        compute=budget, value=float(value), low=float(low), high=float(high), extrapolated=not covers(compute, budget)
    )


def held_out_of(held: FittedHeldOut | None) -> HeldOut | None:
    """What a fit without the largest budget says of it, as it is recorded."""
    return HeldOut(compute=held.at, predicted=held.predicted, optimum=held.observed) if held else None


def _misfit(chain: ChainFit, law: PowerLawFit, symbol: str) -> list[str]:
    """A flag where the optima lie further from the law than their own uncertainty explains (F test)."""
    from scipy.special import fdtrc

    dof = len(chain.budgets) - 2
    if dof < 1 or not (chain.errors > 0).all():
        return []
    ratio = float(((law.residuals / chain.errors) ** 2).mean()) * len(chain.budgets) / dof
    known = min(noise.dof for noise in chain.noise)
    probability = float(fdtrc(dof, known, ratio))
    if probability >= SUSPICIOUS:
        return []
    return [
        f"{symbol}: the optima lie further from the power law than their intervals explain (F = "
        f"{ratio:.1f} on {dof} and {known} degrees of freedom, p = {probability:.1g}): the form is in doubt, and the intervals "
        "are from that scatter"
    ]


def _outside(chain: ChainFit, law: PowerLawFit, parts: Mapping[str, Interval], symbol: str) -> list[str]:
    """A flag where the law through the optima, each of the same weight, is refuted by the law of all runs together."""
    values = {"exponent": law.exponent, "at_reference": law.at_reference}
    if all(values[part] in parts[part] for part in PARTS):
        return []
    return [
        f"{symbol}: the law of all runs together (exponent {float(chain.joint.exponent):.3f}) excludes the law through the "
        "optima: they are known with very different accuracy, or the form is in doubt; the intervals are from their scatter"
    ]


def crossing(relation: Relation, bound: float, what: str) -> list[str]:
    """Where a plain power law leaves what an architecture can have (paper notes, section 4)."""
    exponent = relation.exponent.value
    rising = relation.at_reference.value < bound
    if exponent == 0 or (exponent > 0) != rising:
        return []
    with np.errstate(over="ignore"):
        there = relation.reference * float(np.exp(np.log(bound / relation.at_reference.value) / exponent))
    if not math.isfinite(there) or there > 1e40:
        return []
    return [
        f"the plain power law of {what} passes the bound {bound:.4g} at {flops(there)}, which no architecture can have"
    ]

"""Laws read off at a budget: each recommended number with its interval, what it rests on, and how far from the data it is.

A law's own resolved optimum at the budget is preferred to its line through all budgets, as in `harness.laws` and the paper's
section 6; elsewhere the line holds. Where a file has optima but no line, the nearest budget's optimum is held.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from analysis.laws.budget import NAN, Array
from analysis.laws.records import Law, LawsFile, Relation
from harness.architecture import Backbone
from harness.equations import MIN_M_OVER_NA
from harness.errors import ConfigError, InfeasibleError
from harness.scales import budget_label

PAPER_MAX_N_OVER_NA = 289 / 9
"""Bound of N/N_a on the paper's backbone, which published laws are stated for."""

STUDIES = {
    "classical": "python -m harness.sweep phase=classical scale=all",
    "m_over_na": "python -m harness.sweep phase=1 scale=all, then phase=refine",
    "n_over_na": "python -m harness.sweep phase=1 scale=all",
    "hidden_size": "python -m harness.sweep phase=2 scale=all",
    "learning_rate": "python -m harness.sweep phase=hyperparameters scale=all",
    "batch_size": "python -m harness.sweep phase=hyperparameters scale=all",
}
"""Which runs give a law, by its id."""

LAW, MEASURED, HELD, RULE, GIVEN, DERIVED = "law", "measured", "held", "rule", "given", "derived"
"""Where a number comes from: a law's line; the budget's own optimum; the nearest budget's; the backbone's table or a rule of
it; the user; other numbers."""


TAILS = (0.025, 0.975)
"""Quantiles of draws that are the ends of an interval."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A recommended number."""

    value: float
    low: float = NAN
    """Ends of the 95% interval; NaN where none is known."""
    high: float = NAN
    origin: str
    """`LAW`, `MEASURED`, `HELD`, `RULE`, `GIVEN` or `DERIVED`."""
    basis: str
    """What it rests on, in a phrase."""
    extrapolation: float = 1.0
    """How far the budget is outside those behind it, as a factor; 1 inside."""
    noise: tuple[float, float] = (NAN, NAN)
    """The law's own 95% interval, which holds the noise of its runs alone; NaN where there is none, or nothing else."""
    without: tuple[str, ...] = ()
    """Symbols of the numbers behind it whose uncertainty is unknown, and which the interval therefore leaves out."""
    draws: Array | None = field(default=None, repr=False, compare=False)
    """Values that the data leave possible, draw by draw with those of the other numbers; shape (draws,). None: unknown."""

    @property
    def known(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def carried(self, change: Callable[[float], float], basis: str) -> "Quantity":
        """The number and both ends through a rising function."""
        return replace(
            self, value=change(self.value), low=change(self.low), high=change(self.high), origin=DERIVED, basis=basis
        )


def given(value: float, option: str) -> Quantity:
    """A number that the user decided."""
    return Quantity(value=value, origin=GIVEN, basis=f"{option}= given")


def with_draws(quantity: Quantity, draws: Array) -> Quantity:
    """`quantity` with the interval of `draws`, which its own value is made part of."""
    low, high = (float(end) for end in np.quantile(draws, TAILS))
    return replace(quantity, low=min(low, quantity.value), high=max(high, quantity.value), draws=draws)


def derived(
    change: Callable[..., Any],
    parts: Mapping[str, Quantity],
    basis: str,
    *,
    drawn: Callable[..., Array] | None = None,
) -> Quantity:
    """A function of other numbers, by symbol, at their values and at each of their joint draws.

    A part without an interval is held at its value, and `Quantity.without` names it, unless it was given. `drawn` does the
    same for draws where `change` cannot; it may leave some out.
    """
    found = Quantity(
        value=float(change(*(part.value for part in parts.values()))),
        origin=DERIVED,
        basis=basis,
        extrapolation=max(part.extrapolation for part in parts.values()),
    )
    if all(part.draws is None for part in parts.values()):
        return found
    silent = tuple(symbol for symbol, part in parts.items() if part.draws is None and part.origin != GIVEN)
    columns = [part.value if part.draws is None else part.draws for part in parts.values()]
    draws = np.asarray((drawn or change)(*columns), dtype=float)
    return with_draws(replace(found, without=silent), draws) if len(draws) else found


def read_off(
    laws: LawsFile, law_id: str, names: Sequence[str], compute: float, *, main: bool = True
) -> Quantity | None:
    """The quantity at `compute` FLOPs: the first of the relations `names` that the law has; None where it says nothing.

    `main`: whether the quantity is the law's abscissa, so that its budgets' own optima are of it.
    """
    law = laws.law(law_id)
    if law is None:
        return None
    resolved = [budget for budget in law.per_budget if budget.resolved] if main else []
    for budget in resolved:
        if math.isclose(budget.compute, compute, rel_tol=1e-9):
            source = law.source or f"{len(set(budget.points.run_ids))} runs"
            optimum = budget.optimum
            return Quantity(
                value=optimum.value,
                low=optimum.low,
                high=optimum.high,
                origin=MEASURED,
                basis=f"this budget's own optimum ({source})",
            )
    for name in names:
        if (relation := law.relation(name)) is not None:
            predicted = relation.predict(compute)
            source = law.source or f"{_runs(law, relation.compute)} runs"
            return Quantity(
                value=predicted.value,
                low=predicted.low,
                high=predicted.high,
                origin=LAW,
                basis=f"law of {relation.symbol} through {len(relation.compute)} budgets ({source})",
                extrapolation=relation.extrapolation(compute),
            )
    if not resolved:
        return None
    nearest = min(resolved, key=lambda budget: abs(math.log(budget.compute / compute)))
    edges = [budget.compute for budget in resolved]
    source = law.source or f"{_runs(law, edges)} runs"
    return Quantity(
        value=nearest.optimum.value,
        origin=HELD,
        basis=f"held at the optimum of {budget_label(nearest.compute)}, as there is no law of C ({source})",
        extrapolation=max(1.0, compute / max(edges), min(edges) / compute),
    )


def _runs(law: Law, budgets: Sequence[float]) -> int:
    """Runs of those budgets that curves were fitted to, each once."""
    used = [one for one in law.per_budget if any(math.isclose(one.compute, there, rel_tol=1e-9) for there in budgets)]
    return len({run for budget in used for run in budget.points.run_ids})


def needed(laws: LawsFile, where: str, law_id: str, names: Sequence[str], compute: float, option: str) -> Quantity:
    """`read_off`, or which study to run.

    Raises:
        ConfigError: the laws say nothing of it.
    """
    found = read_off(laws, law_id, names, compute)
    if found is None:
        why = laws.missing.get(law_id)
        if why is None and (law := laws.law(law_id)) is not None:
            why = "; ".join(law.flags) or "no two budgets are resolved"
        given_by = "" if law_id == "classical" else f", or give {option}=<number>"
        raise ConfigError(
            f"{where} has no law of {option}{f' ({why})' if why else ''}: run its study ({STUDIES[law_id]}) and refit "
            f"(python -m analysis.refit sweep=all){given_by}; it has "
            f"{', '.join(law.id for law in laws.laws if law.fitted) or 'no law'}"
        )
    return found


def m_over_na_at(laws: LawsFile, where: str, compute: float) -> Quantity:
    """M/N_a.

    Raises:
        ConfigError: there is no law of it.
        InfeasibleError: the law leaves what an architecture can have at this budget; with the budget at which it happens.
    """
    found = needed(laws, where, "m_over_na", ("m_over_na_minus_6", "m_over_na"), compute, "m_over_na")
    if not found.value > MIN_M_OVER_NA:
        law = laws.law("m_over_na")
        relation = law.relation("m_over_na") if law else None
        there = _crossing(relation, MIN_M_OVER_NA) if relation else NAN
        raise InfeasibleError(
            f"the law of M/N_a in {where} reads {found.value:.4g} at {budget_label(compute)}, and M/N_a is always above "
            f"{MIN_M_OVER_NA:g}: it passes {MIN_M_OVER_NA:g} at {there:.3g} FLOPs. Give m_over_na=<number above "
            f"6>, or refit with "
            "this version, whose law is of M/N_a - 6"
        )
    return replace(found, low=max(found.low, MIN_M_OVER_NA * (1 + 1e-6))) if found.known else found


def n_over_na_at(laws: LawsFile, where: str, backbone: Backbone, compute: float) -> Quantity:
    """N/N_a, carried to `backbone` as the same share of the way from 1 to its bound where the laws are of another one.

    Raises:
        ConfigError: there is no law of it.
        InfeasibleError: the law leaves the bounds at this budget.
    """
    found = needed(laws, where, "n_over_na", ("n_over_na",), compute, "n_over_na")
    law = laws.law("n_over_na")
    assert law is not None
    bound, most = _bound(law), backbone.max_n_over_na
    if bound and abs(bound / most - 1) > 1e-6:
        found = found.carried(
            lambda value: 1 + (value - 1) * (most - 1) / (bound - 1),
            f"{found.basis}; carried from bound {bound:.4g} to this backbone's {most:.4g} as the same share (assumed)",
        )
    if not 1 < found.value < most:
        relation = law.relation("n_over_na")
        there = _crossing(relation, most if found.value > 1 else 1.0) if relation else NAN
        raise InfeasibleError(
            f"the law of N/N_a in {where} reads {found.value:.4g} at {budget_label(compute)}, and N/N_a lies between 1 and "
            f"{most:.4g} on this backbone: it leaves that range at {there:.3g} FLOPs. Give n_over_na=<number>"
        )
    if not found.known:
        return found
    return replace(found, low=max(found.low, 1 + 1e-6), high=min(found.high, most * (1 - 1e-6)))


def _bound(law: Law) -> float | None:
    """Upper bound of N/N_a on the backbone that the law was found on."""
    if law.source:
        return PAPER_MAX_N_OVER_NA
    ceilings = [budget.curve.constants.get("ceiling") for budget in law.per_budget if budget.curve is not None]
    return next((ceiling for ceiling in ceilings if ceiling), None)


def _crossing(relation: Relation, bound: float) -> float:
    """The budget at which a power law passes a bound, FLOPs."""
    ratio = (bound - relation.floor) / relation.at_reference.value
    if ratio <= 0 or not relation.exponent.value:
        return NAN
    return relation.reference * math.exp(min(700.0, math.log(ratio) / relation.exponent.value))

"""Where the law of d holds: at the M, M/N_a and N/N_a that the runs behind it were held at, which a design need not have."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.design.optimum import HELD, MEASURED, Quantity
from analysis.laws.records import LawsFile
from harness.architecture import Backbone
from harness.scales import budget_label
from harness.settings import Settings

PRICED = ("flops_per_token", "m_over_na", "n_over_na")

NEAR = 0.01
"""Relative difference of a ratio (of M/N_a - 6 and N/N_a - 1) from the runs' below which nothing is said."""


@dataclass(frozen=True, kw_only=True)
class WidthLaw:
    """The law of d at one budget."""

    holds_at: dict[str, Quantity]
    """M, M/N_a and N/N_a, by the names of the laws' quantities."""
    recorded: bool
    """Whether laws.json says at which N/N_a; else the study's settings do."""


def width_law(
    settings: Settings, laws: LawsFile, compute: float, backbone: Backbone, optima: Mapping[str, Quantity]
) -> WidthLaw | None:
    """Where the law of d holds at `compute` FLOPs, `optima` being the laws' numbers there; None without such a law.

    At a budget of its own: at what its runs were held at. Elsewhere at that budget's M and M/N_a, as every budget of the study
    was planned at its own, and at the N/N_a of the nearest budget.
    """
    law = laws.law("hidden_size")
    if law is None or not law.fitted or any(name not in optima for name in PRICED):
        return None
    used = [budget for budget in law.per_budget if budget.resolved]
    nearest = min(used, key=lambda budget: abs(math.log(budget.compute / compute)))
    found = {name: optima[name] for name in PRICED}
    own = math.isclose(nearest.compute, compute, rel_tol=1e-9)
    for name in PRICED if own else ("n_over_na",):
        if (value := nearest.held.get(f"target_{name}")) is not None:
            basis = f"held in the runs behind the law of d at {budget_label(nearest.compute)}"
            found[name] = Quantity(value=value, origin=MEASURED if own else HELD, basis=basis)
    recorded = "target_n_over_na" in nearest.held
    if not recorded and (stated := _stated(settings, compute)) is not None:
        found["n_over_na"] = Quantity(value=stated, origin=HELD, basis="the settings of phase 2")
    return (
        WidthLaw(holds_at=found, recorded=recorded) if 1 < found["n_over_na"].value < backbone.max_n_over_na else None
    )


def difference(law: WidthLaw, m_over_na: float, n_over_na: float) -> str | None:
    """How far a design's ratios are from those that the law of d holds at, in a sentence; None where they are the same."""
    said = []
    pairs = (("N/N_a", "n_over_na", n_over_na, 1.0), ("M/N_a", "m_over_na", m_over_na, 6.0))
    for symbol, name, here, floor in pairs:
        there = law.holds_at[name].value
        if abs((here - floor) / (there - floor) - 1) > NEAR:
            guess = (
                ""
                if law.recorded or name != "n_over_na"
                else " (by the settings of phase 2: laws.json does not say, refit it)"
            )
            said.append(f"at {symbol} = {there:.4g}{guess}, here it is {here:.4g} ({here / there - 1:+.1%})")
    if not said:
        return None
    return (
        f"the law of d holds {', and '.join(said)}: whether d moves with the feasible widths no curve says, and the predicted "
        "loss allows for both"
    )


def _stated(settings: Settings, compute: float) -> float | None:
    """The N/N_a that phase 2 is planned at, at the nearest budget that it states."""
    stated = settings.study("optima").get("n_over_na")
    if isinstance(stated, dict) and stated:
        return float(stated[min(stated, key=lambda one: abs(math.log(float(one) / compute)))])
    return float(stated) if isinstance(stated, int | float) else None

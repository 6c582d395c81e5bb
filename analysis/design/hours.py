"""A budget in GPU-hours in place of FLOPs: the design whose bill on the cluster is as long.

    within_hours(50_000, settings, design_at)

A bill rises with C only in stretches: where a layout no longer fits, or another number of layers divides better, it jumps up or
down by a tenth or more. So several budgets may have the same bill, and some bills no budget has. Budgets are searched from the
largest down; of those whose bill is within 1% of the limit the largest is taken, as it trains most for the hours.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from analysis.design.result import Design
from harness.errors import ConfigError, InfeasibleError
from harness.scales import LEAST_BUDGET, MOST_BUDGET, budget_label
from harness.settings import Settings

WITHIN = 0.01
"""Share of the limit that a design may leave over before a note says so."""

CLOSE = 0.001
"""Share of the limit at which no better budget is looked for."""

STEP = 1.03
"""Ratio of budgets that are tried one after the other: most stretches between two jumps are longer."""

DIGITS = 4
"""Of the budgets that are tried, so that a printed budget is one that was tried."""


def within_hours(hours: float, settings: Settings, design: Callable[[float], Design]) -> Design:
    """The design with the largest C that takes at most `hours` GPU-hours and leaves at most 1% of them.

    Where none does, that with the largest C that takes at most `hours`; its first note then says what is left, and why.

    Raises:
        ConfigError: the smallest run takes longer, or a law that is needed is missing.
        InfeasibleError: no budget has a design with a bill.
    """
    bill = _Bills(design)
    above = _start(hours, settings, bill)
    while above > LEAST_BUDGET:
        below = max(LEAST_BUDGET, _rounded(above / STEP))
        if bill(below) <= hours < bill(above) and _fills(below, above, hours, bill):
            break
        if bill(below) < hours / 2:  # no jump is so high that a smaller budget could take all of the hours
            break
        above = below
    kept = {compute: spent for compute, spent in bill.known.items() if spent <= hours}
    if not kept:
        raise _nothing(hours, settings, bill)
    full = [compute for compute, spent in kept.items() if spent >= hours * (1 - WITHIN)]
    chosen = bill.designs[max(full or kept)]
    return replace(chosen, notes=(*_notes(hours, chosen.compute, kept, bill), *chosen.notes))


class _Bills:
    """GPU-hours by budget: each budget is designed once."""

    def __init__(self, design: Callable[[float], Design]):
        self._design = design
        self.designs: dict[float, Design] = {}
        self.known: dict[float, float] = {}
        self.refused: dict[float, str] = {}
        """Why a budget has no bill."""

    def __call__(self, compute: float) -> float:
        """The bill at `compute` FLOPs; infinite where there is no architecture, or no layout that holds it."""
        if compute not in self.known and compute not in self.refused:
            try:
                found = self._design(compute)
            except InfeasibleError as error:
                self.refused[compute] = str(error)
            else:
                if found.estimate is None:
                    self.refused[compute] = found.no_layout
                else:
                    self.designs[compute], self.known[compute] = found, found.estimate.gpu_hours
        return self.known.get(compute, math.inf)


def _start(hours: float, settings: Settings, bill: _Bills) -> float:
    """A budget above all that can be had for the hours; where budgets have bills, less than four times the largest of them."""
    cluster = settings.cluster
    # real FLOPs are M D and the output layer, so that no run gets all of this, unless measured ones were faster than assumed
    top = _rounded(min(MOST_BUDGET, max(LEAST_BUDGET, hours * 3600 * cluster.peak_flops * cluster.mfu)))
    while bill(top) <= hours and top * 2 <= MOST_BUDGET:
        top = _rounded(top * 2)
    # one without a bill says nothing of those below it: a layout fits some numbers of layers and not others
    while top / 2 >= LEAST_BUDGET and 2 * hours < bill(_rounded(top / 2)) < math.inf:
        top = _rounded(top / 2)
    return top


def _fills(low: float, high: float, hours: float, bill: _Bills) -> bool:
    """Whether a budget between one that keeps the hours and one that does not nearly takes all of them; it is tried then."""
    while bill(low) < hours * (1 - CLOSE):
        middle = _rounded(low * hours / bill(low))  # it, if no jump lies between
        if not low < middle < high:
            middle = _rounded(math.sqrt(low * high))
        if not low < middle < high:
            return False
        low, high = (middle, high) if bill(middle) <= hours else (low, middle)
    return True


def _nothing(hours: float, settings: Settings, bill: _Bills) -> ConfigError | InfeasibleError:
    if not bill.known:
        compute, why = max(bill.refused.items())
        return InfeasibleError(f"gpu_hours={hours:g}: no budget from {compute:g} FLOPs down has a design; there, {why}")
    least = min(bill.known.values())
    return ConfigError(
        f"gpu_hours={hours:g} is less than the smallest run takes on cluster {settings.cluster.name}: "
        f"{least:.3g} GPU-hours; allow as many"
    )


def _notes(hours: float, compute: float, kept: dict[float, float], bill: _Bills) -> list[str]:
    """What a reader should know of the hours that are left, and of a budget that would take fewer."""
    spent, larger = kept[compute], max(kept)
    if larger > compute:
        return [
            f"compute={budget_label(larger)} trains {larger / compute - 1:.0%} more FLOPs in {kept[larger]:,.6g} GPU-hours, "
            "fewer than this one, since its layout wastes less"
        ]
    if spent >= hours * (1 - WITHIN):
        return []
    left = f"gpu_hours={hours:g}: {spent:,.6g} are used, {1 - spent / hours:.1%} are left"
    beyond = min((tried for tried in (*bill.known, *bill.refused) if tried > compute), default=None)
    if beyond is None:
        return [left]
    if beyond in bill.refused:
        return [f"{left}: at {budget_label(beyond)} FLOPs, {bill.refused[beyond]}"]
    return [
        f"{left}, as bills jump where layout or layers change: {budget_label(beyond)} FLOPs take {bill.known[beyond]:,.6g}"
    ]


def _rounded(compute: float) -> float:
    return float(f"{compute:.{DIGITS}g}")

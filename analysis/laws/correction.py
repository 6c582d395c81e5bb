"""Losses moved to the budget that they were meant for, to first order: how far realised sizes bend each law, and the real FLOPs.

The published grid's runs miss their targets by up to 19%, so that the runs of a budget did not spend the same compute. Along the
compute-optimal path dL/dln C is the same as dL/dln M at fixed D (at the optimum of E + A/M^alpha + B/D^beta the terms fall
equally fast in ln M and ln D), so

    L at the target = L + dL/dln C x ln(target / realised)

with the slope of the least losses against compute. It is first order: no correction is made for M off its optimum at the right C.

M leaves out the output layer, up to 1.6 times M. For ``real_flops`` a run costs Megatron's M + 6 d V a token, each study's budget
becomes the median real compute of its runs, and losses are moved to it in the same way.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fitting import Array, FitError, fit_offset_power_law, fit_power_law
from analysis.laws.points import LOSS
from analysis.laws.records import Law

FEWEST = 4
"""Budgets that a law of the least losses with an offset needs."""

SOURCES = ("classical", "m_over_na", "hidden_size", "n_over_na")
"""Laws whose least losses give the slope, the best first."""


@dataclass(frozen=True, kw_only=True)
class Slope:
    """dL/dln C of the least losses."""

    law: str
    """Id of the law whose minima it was fitted to."""
    of: Callable[[Array], Array]
    """Nats a token, at compute (n,) in FLOPs: below 0."""


def slope_of(laws: Sequence[Law], scale: dict[float, float] | None = None) -> Slope | None:
    """The slope from the first of `SOURCES` with two resolved budgets; None without one.

    `scale`: real over nominal compute by budget, for the slope against real FLOPs.
    """
    for law in sorted((law for law in laws if law.id in SOURCES), key=lambda law: SOURCES.index(law.id)):
        resolved = [one for one in law.per_budget if one.resolved and math.isfinite(one.minimum_loss.value)]
        if len(resolved) < 2:
            continue
        compute = np.array([one.compute * (scale or {}).get(one.compute, 1.0) for one in resolved])
        try:
            of = _slope(compute, np.array([one.minimum_loss.value for one in resolved]))
        except FitError:
            continue
        if (of(compute) < 0).all():
            return Slope(law=law.id, of=of)
    return None


def _slope(compute: Array, least: Array) -> Callable[[Array], Array]:
    if len(compute) >= FEWEST:
        fit = fit_offset_power_law(compute, least)
        return lambda c: fit.exponent * fit.at_reference * (np.asarray(c) / fit.reference) ** fit.exponent
    law = fit_power_law(compute, least)
    return lambda c: law.exponent * law.at_reference * (np.asarray(c) / law.law.reference) ** law.exponent


def corrected(table: pd.DataFrame, slope: Slope) -> pd.DataFrame:
    """`table` with every loss moved from the run's realised compute to its nominal budget."""
    moved = slope.of(table["compute"].to_numpy(dtype=float)) * np.log(table["compute"] / table["realised_compute"])
    return table.assign(**{LOSS: table[LOSS] + moved})


def real_scale(table: pd.DataFrame) -> pd.Series:
    """Real over nominal compute of each row's study and budget: the median over its runs; indexed as `table`."""
    ratio = table["megatron_flops_per_token"] / table["flops_per_token"]
    return ratio.groupby([table["study"], table["compute"]]).transform("median")


def in_real_flops(table: pd.DataFrame, slope: Slope, scale: pd.Series) -> pd.DataFrame:
    """`table` with M and budgets in real FLOPs, and every loss moved to its study's real budget."""
    budget = table["compute"] * scale
    spent = table["realised_compute"] * table["megatron_flops_per_token"] / table["flops_per_token"]
    moved = slope.of(budget.to_numpy(dtype=float)) * np.log(budget / spent)
    return table.assign(
        compute=budget,
        flops_per_token=table["megatron_flops_per_token"],
        realised_compute=spent,
        **{LOSS: table[LOSS] + moved},
    )

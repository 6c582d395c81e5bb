"""What a deviation from the laws' optimum costs in loss, from the fitted loss curves.

At each resolved budget a law has a curve of loss with a least value. Its relative height above that value is
k g(x), with a shape g that the curve's form fixes once its minimum is known, and a stiffness k:

    M                parabola in ln M         g = ln^2(x / x*)
    M/N_a            a/(x - 6) + b x + c      g = (x - x*)^2 / (x - 6)
    N/N_a            a/(x - 1) + b/(B - x)    g = (x - x*)^2 / ((x - 1)(B - x)),  B the bound
    d                parabola                 g = (x / x* - 1)^2

k goes to other budgets by a power law through the budgets' own. The interval takes the worst of the ends of k and of the optimum
x*: wider than a joint interval, never narrower. Published laws have no curves, so that nothing is predicted from them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.design.optimum import Quantity
from analysis.laws.records import NAN, Budget, LawsFile
from harness.architecture import Backbone
from harness.equations import MIN_M_OVER_NA

COMPONENTS = {
    "flops_per_token": "classical",
    "m_over_na": "m_over_na",
    "n_over_na": "n_over_na",
    "hidden_size": "hidden_size",
}
"""Quantity by quantity, the law whose curves price it."""

type Shape = Callable[[float, float], float]
"""g(x, x*)."""


@dataclass(frozen=True, kw_only=True)
class Excess:
    """Predicted loss above the least one, as a share of it."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Excess") -> "Excess":
        return Excess(value=self.value + other.value, low=self.low + other.low, high=self.high + other.high)


NOTHING = Excess(value=0.0, low=0.0, high=0.0)


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """How the loss rises to both sides of one quantity's optimum at one budget."""

    shape: Shape
    optimum: Quantity
    stiffness: float
    stiffness_low: float
    stiffness_high: float

    def __call__(self, x: float) -> Excess:
        """The excess at `x`; infinite outside the quantity's bounds."""
        best = self.optimum
        places = [best.value] + ([best.low, best.high] if best.known else [])
        with np.errstate(all="ignore"):
            heights = [self.shape(x, place) for place in places]
        value = self.stiffness * heights[0]
        if not all(height >= 0 for height in heights):
            return Excess(value=math.inf, low=math.inf, high=math.inf)
        if not best.known and not math.isfinite(self.stiffness_high):
            return Excess(value=value, low=NAN, high=NAN)
        least, most = min(heights), max(heights)
        if best.known and best.low <= x <= best.high:
            least = 0.0
        low, high = (end if math.isfinite(end) else self.stiffness for end in (self.stiffness_low, self.stiffness_high))
        return Excess(value=value, low=low * least, high=high * most)


class LossModel:
    """The penalties that the laws have curves for, at one budget."""

    def __init__(self, laws: LawsFile, backbone: Backbone, compute: float, optima: Mapping[str, Quantity]):
        """`optima`: the laws' recommendation at `compute`, by the names of `COMPONENTS`."""
        from analysis.fitting import fit_power_law  # starts slowly, and published laws do not need it

        self.penalties: dict[str, Penalty] = {}
        self.missing: list[str] = []
        for name, law_id in COMPONENTS.items():
            law = laws.law(law_id)
            budgets = (
                [budget for budget in law.per_budget if budget.resolved and budget.curve is not None] if law else []
            )
            shape = _shape(name, budgets, backbone)
            found = [pair for budget in budgets if (pair := _stiffness(budget, _shape(name, budgets, None)))]
            if not found or name not in optima:
                self.missing.append(name)
                continue
            low = high = NAN
            if len({where for where, _ in found}) > 1:
                fit = fit_power_law(*(np.array(column) for column in zip(*found, strict=True)))
                predicted = fit.predict(compute)
                value, low, high = fit(compute), predicted.law.low, predicted.law.high
            else:
                value = found[0][1]
            self.penalties[name] = Penalty(
                shape=shape, optimum=optima[name], stiffness=value, stiffness_low=low, stiffness_high=high
            )

    def __call__(self, values: Mapping[str, float]) -> Excess | None:
        """The sum over those of `values` that have a curve (ends added); None where none has."""
        found = [penalty(values[name]) for name, penalty in self.penalties.items() if name in values]
        return sum(found, NOTHING) if found else None


def _shape(name: str, budgets: list[Budget], backbone: Backbone | None) -> Shape:
    """g of a quantity; the bound of N/N_a is the backbone's, or without one that of the curves."""
    if name == "flops_per_token":
        return lambda x, best: math.log(x / best) ** 2
    if name == "m_over_na":
        return lambda x, best: (x - best) ** 2 / (x - MIN_M_OVER_NA) if x > MIN_M_OVER_NA else -1.0
    if name == "hidden_size":
        return lambda x, best: (x / best - 1) ** 2
    ceilings = [
        budget.curve.constants["ceiling"] for budget in budgets if budget.curve and "ceiling" in budget.curve.constants
    ]
    bound = backbone.max_n_over_na if backbone else ceilings[0] if ceilings else math.inf
    # in units of the way from 1 to the bound, so that it means the same on another backbone
    return lambda x, best: (x - best) ** 2 / ((x - 1) * (bound - x)) if 1 < x < bound else -1.0


def _stiffness(budget: Budget, shape: Shape) -> tuple[float, float] | None:
    """(C, k) of a budget's curve, from its height at the band's ends, or a little beside the optimum where these are unknown."""
    curve, best = budget.curve, budget.optimum.value
    assert curve is not None
    least = float(curve(best))
    ends = [end for end in budget.band if math.isfinite(end) and end != best] or [best * 1.02]
    heights = [(float(curve(end)) / least - 1) / height for end in ends if (height := shape(end, best)) > 0]
    if not heights or not all(math.isfinite(one) and one > 0 for one in heights):
        return None
    return budget.compute, math.exp(sum(map(math.log, heights)) / len(heights))

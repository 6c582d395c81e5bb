"""What the laws leave possible at a budget: joint draws of each quantity's optimum and of how the loss rises around it.

    chains = Chains(laws);  chains.at("m_over_na", 1e22, backbone).optimum          # shape (DRAWS,)

Runs -> curve of every budget -> its optimum and stiffness -> both at another budget, drawn as one chain (`redraw`, `drift`). Each
quantity is extrapolated in the coordinate in which it has no bounds: ln M, ln(M/N_a - 6), ln(z / (1 - z)) of the share z of
N/N_a's way from 1 to its bound, ln d; stiffness k in ln k.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.design.drift import Allowance, predictions
from analysis.design.redraw import SEED, Minima, RunNoise, redraw
from analysis.laws.budget import Array, Budget
from analysis.laws.records import LawsFile
from harness.architecture import Backbone
from harness.equations import MIN_M_OVER_NA

DRAWS = 2000

COMPONENTS = {
    "flops_per_token": "classical",
    "m_over_na": "m_over_na",
    "n_over_na": "n_over_na",
    "hidden_size": "hidden_size",
}
"""Quantity by quantity, the law whose curves price it."""

OPTIMUM = Allowance(bias=0.2, common=0.25, drift=0.05)
"""Of an optimum in its coordinate: 0.2 is 20% of M, of M/N_a - 6 and of d, and 1.5 of N/N_a = 20 on the paper's backbone.

Where a study's models differ in more than what it looks at (M, in shape; the ratios, in how good a proxy d is), no scatter shows
how far that moves an optimum. On simulated truths it was 0.1 to 0.3, and 0.5 and more for M at the smallest budgets.
"""

STIFFNESS = Allowance(bias=0.3, common=0.4, drift=0.05)
"""Of ln k."""

ALLOWED = dict.fromkeys(COMPONENTS, (OPTIMUM, STIFFNESS))
"""Quantity by quantity, what is allowed for beyond noise in its optimum and its stiffness: benchmarks/design_intervals.py."""

NORMAL_END = 1.959964
"""Standard deviations from the middle of a normal distribution to the end of its central 95%."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One quantity at one budget; draw by draw what belongs together."""

    optimum: Array
    """Shape (draws,)."""
    stiffness: Array
    """k of relative loss = k g(x, optimum), shape (draws,)."""


class Chains:
    """The curves of a laws file, drawn anew."""

    def __init__(self, laws: LawsFile, allowed: Mapping[str, tuple[Allowance, Allowance]] = ALLOWED):
        """`allowed`: as `ALLOWED`."""
        self.allowed = allowed
        noise = RunNoise(DRAWS)
        self._drawn: dict[tuple[str, float, float], Drawn | None] = {}
        self._found: dict[str, list[tuple[Budget, Minima, Minima | None]]] = {}
        for name, law_id in COMPONENTS.items():
            law = laws.law(law_id)
            budgets = [one for one in law.per_budget if one.resolved and one.curve is not None] if law else []
            drawn = [(budget, *redraw(budget, noise)) for budget in budgets]
            self._found[name] = [one for one in drawn if np.isfinite(one[1].optimum).all() and (one[1].rise > 0).all()]

    def at(self, name: str, compute: float, backbone: Backbone) -> Drawn | None:
        """A quantity of `COMPONENTS` at `compute` FLOPs on `backbone`; None with fewer than two budgets with curves."""
        key = name, compute, backbone.max_n_over_na
        if key not in self._drawn:
            self._drawn[key] = self._at(name, compute, backbone.max_n_over_na)
        return self._drawn[key]

    def _at(self, name: str, compute: float, bound: float) -> Drawn | None:
        found = self._found[name]
        if len(found) < 2:
            return None
        # one stream a quantity, whatever is asked before; independent of the runs' noise
        random = np.random.default_rng([SEED, list(COMPONENTS).index(name)])
        log_budgets = np.log([budget.compute for budget, _, _ in found])
        columns = [
            predictions(math.log(compute), log_budgets, *column, allowance, random)
            for allowance, column in zip(self.allowed[name], (_optima(name, found), _stiffnesses(found)), strict=True)
        ]
        back = _coordinate(name, bound)[1]
        return Drawn(optimum=back(columns[0]), stiffness=np.exp(columns[1]))

    def stiffness(self, name: str) -> float | None:
        """k of the only budget with a curve; None without one."""
        found = self._found[name]
        return float(np.exp(_stiffnesses(found)[0][0])) if found else None


def from_interval(name: str, value: float, low: float, high: float, bound: float) -> Array:
    """Draws of a quantity that has an interval and no curves: normal to either side in its coordinate; shape (DRAWS,).

    `bound`: of N/N_a.
    """
    forth, back = _coordinate(name, bound)
    centre, ends = forth(np.array(value)), forth(np.array([low, high]))
    way = np.random.default_rng([SEED, len(COMPONENTS) + list(COMPONENTS).index(name)]).standard_normal(DRAWS)
    return back(centre + np.abs(ends[(way > 0).astype(int)] - centre) / NORMAL_END * way)


def _optima(name: str, found: list[tuple[Budget, Minima, Minima | None]]) -> tuple[Array, Array]:
    """Values (n,) and draws (draws, n) in the quantity's coordinate."""
    values, drawn = [], []
    for budget, fitted, again in found:
        assert budget.curve is not None
        forth, _ = _coordinate(name, budget.curve.constants.get("ceiling", math.inf))
        values.append(float(forth(fitted.optimum)[0]))
        drawn.append(np.full(DRAWS, values[-1]) if again is None else forth(again.optimum))
    return np.array(values), np.stack(drawn, axis=1)


def _stiffnesses(found: list[tuple[Budget, Minima, Minima | None]]) -> tuple[Array, Array]:
    """Likewise ln k."""
    values, drawn = [], []
    for budget, fitted, again in found:
        assert budget.curve is not None
        least = math.log(float(budget.curve(float(fitted.optimum[0]))))
        values.append(math.log(float(fitted.rise[0])) - least)
        drawn.append(np.full(DRAWS, values[-1]) if again is None else np.log(again.rise) - least)
    return np.array(values), np.stack(drawn, axis=1)


def _coordinate(name: str, bound: float) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """To the coordinate without bounds, and back; `bound` is that of N/N_a."""
    if name == "m_over_na":
        return lambda x: np.log(x - MIN_M_OVER_NA), lambda y: MIN_M_OVER_NA + np.exp(y)
    if name == "n_over_na":
        return lambda x: np.log((x - 1) / (bound - x)), lambda y: 1 + (bound - 1) / (1 + np.exp(-y))
    return np.log, np.exp

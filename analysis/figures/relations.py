"""Optima against compute: the law with its 95% region, dashed where it is extrapolated (Figures 5b, 6b).

The region is of the law, from the noise of the runs; it says nothing about whether a power law is the right form.
"""

import math
from typing import Any

import numpy as np

from analysis.figures.findings import Findings
from analysis.figures.style import BLUE, GREEN, GREY, ORANGE, Drawing, log_budgets, page, plain_log, readable_log
from analysis.laws import Budget, Estimate, Law, Relation
from analysis.text import scientific

AHEAD = 10.0
"""How far beyond the largest budget a law is drawn."""


def classical_laws(findings: Findings) -> Drawing:
    """M_opt(C) and D_opt(C) (paper, section 4.2.1)."""
    law = findings.related("classical")
    figure = page(8.6, 3.8, simulated=findings.simulated)
    for axes, relation in zip(figure.subplots(1, 2), law.relations, strict=True):
        draw_relation(axes, relation, BLUE, "power law")
        for budget in _resolved(law):
            value = budget.optimum
            if relation.name == "tokens":
                ends = [budget.compute / end if end > 0 else math.inf for end in (value.high, value.low)]
                value = Estimate(value=budget.compute / value.value, low=ends[0], high=ends[1])
            _draw_optimum(axes, budget.compute, value)
        axes.set_ylabel(f"{relation.symbol}, {relation.unit}")
        axes.set_yscale("log")
        readable_log(axes.yaxis)
        axes.set_title(exponent_text(relation), fontsize=9)
        axes.legend(fontsize=8)
    return figure


def m_over_na_law(findings: Findings) -> Drawing:
    """The optimum of M/N_a against C, by a power law of the excess over 6 and of M/N_a itself, and the near-optimal band."""
    law = findings.related("m_over_na")
    figure, axes = _with_band(findings, law, "m_over_na_minus_6", digits=2)
    if plain := law.relation("m_over_na"):
        compute = _grid(plain)
        axes.plot(
            compute, [plain(one) for one in compute], color=ORANGE, linestyle=":", label="power law of M/N_a itself"
        )
    axes.axhline(6, color="black", linewidth=1, linestyle="-.", label="bound: M/N_a > 6")
    axes.set_ylabel("optimal M/N_a, FLOPs per active parameter")
    axes.legend(fontsize=8)
    return figure


def n_over_na_law(findings: Findings) -> Drawing:
    """The optimum of N/N_a against C, with the near-optimal band."""
    figure, axes = _with_band(findings, findings.related("n_over_na"), "n_over_na", digits=2)
    axes.set_ylabel("optimal N/N_a, total over active parameters")
    axes.legend(fontsize=8)
    return figure


def hidden_size_law(findings: Findings) -> Drawing:
    """d_opt and the edges d_l and d_r of its near-optimal band against C (Figure 6b)."""
    figure, axes = _with_band(findings, findings.related("hidden_size"), "hidden_size", digits=0)
    axes.set_yscale("log")
    plain_log(axes.yaxis)
    axes.set_ylabel("optimal hidden size d")
    axes.legend(fontsize=8)
    return figure


def _with_band(findings: Findings, law: Law, name: str, *, digits: int) -> tuple[Drawing, Any]:
    figure = page(6.4, 4.4, simulated=findings.simulated)
    axes = figure.subplots()
    main = law.relation(name) or law.relations[0]
    edges = [law.relation(f"{main.name}{suffix}") for suffix in ("_low", "_high")]
    if edges[0] and edges[1]:
        compute = _grid(main)
        low, high = (np.array([edge(one) for one in compute]) for edge in edges if edge)
        tolerance = 100 * law.per_budget[0].tolerance if law.per_budget else 0.1
        axes.fill_between(
            compute, low, high, color=GREY, alpha=0.15, linewidth=0, label=f"within {tolerance:g}% of the least loss"
        )
        for edge, values in zip(edges, (low, high), strict=True):
            inside = compute <= (edge.compute[-1] if edge else 0) * (1 + 1e-9)
            axes.plot(compute[inside], values[inside], color=GREEN, linewidth=1.2)
            axes.plot(compute[~inside], values[~inside], color=GREEN, linewidth=1.2, linestyle="--")
        axes.plot([], [], color=GREEN, linewidth=1.2, marker="_", label="edges of that band, and their laws")
    for budget in _resolved(law):
        axes.plot([budget.compute] * 2, budget.band, "_", color=GREEN, markersize=9, markeredgewidth=1.6)
        _draw_optimum(axes, budget.compute, budget.optimum)
    draw_relation(axes, main, BLUE, "law of the optimum")
    axes.set_title(
        f"{exponent_text(main)};  {main(main.reference):,.{digits}f} at {scientific(main.reference, 3)} FLOPs",
        fontsize=9,
    )
    return figure, axes


def draw_relation(axes: Any, relation: Relation, colour: str, label: str, *, region: bool = True) -> None:
    """The relation and its 95% region: solid over the budgets that it was fitted to, dashed beyond."""
    compute = _grid(relation)
    predicted = [relation.predict(one) for one in compute]
    ends = np.array([[one.low, one.high] for one in predicted])
    values = np.array([one.value for one in predicted])
    if region and np.isfinite(ends).any():
        open_ended = np.where(np.isfinite(ends), ends, values[:, None] * (0.2, 5))
        axes.fill_between(compute, *open_ended.T, color=colour, alpha=0.2, linewidth=0, label="95% of the law")
    inside = compute <= relation.compute[-1] * (1 + 1e-9)
    axes.plot(compute[inside], values[inside], color=colour, label=label)
    beyond = compute >= relation.compute[-1] * (1 - 1e-9)
    axes.plot(compute[beyond], values[beyond], color=colour, linestyle="--", label="extrapolated")
    log_budgets(axes)


def exponent_text(relation: Relation) -> str:
    """``M_opt ∝ C^0.544  (0.53 to 0.56)``."""
    e = relation.exponent
    symbol = f"{relation.symbol} − {relation.floor:g}" if relation.floor else relation.symbol
    between = f"  ({e.low:.3f} to {e.high:.3f})" if math.isfinite(e.low) and math.isfinite(e.high) else ""
    return f"{symbol} ∝ C^{e.value:.3f}{between}"


def _grid(relation: Relation) -> Any:
    first, last = relation.compute[0], relation.compute[-1]
    return np.concatenate([np.geomspace(first / 1.2, last, 50), np.geomspace(last, last * AHEAD, 20)[1:]])


def _resolved(law: Law) -> list[Budget]:
    return [budget for budget in law.per_budget if budget.resolved]


def _draw_optimum(axes: Any, compute: float, value: Estimate) -> None:
    low = value.low if math.isfinite(value.low) and value.low > 0 else value.value / 3  # an open end: a long bar
    high = value.high if math.isfinite(value.high) else 3 * value.value
    reach = [[max(value.value - low, 0)], [max(high - value.value, 0)]]
    axes.errorbar(
        compute, value.value, yerr=reach, fmt="D", color="black", markersize=4, capsize=3, linewidth=1, zorder=5
    )

"""Near-optimal learning rates and batches against compute, between two parallel lines (Figure 12)."""

from typing import Any

import numpy as np

from analysis.figures.findings import Findings
from analysis.figures.relations import draw_relation, exponent_text
from analysis.figures.style import BLUE, GREY, RED, Drawing, log_budgets, page, plain_log, readable_log
from analysis.laws import Points

SPREAD = 0.02
"""Runs of one setting and budget are drawn beside each other, this far apart in ln C over the range of budgets."""


def learning_rates(findings: Findings) -> Drawing:
    """Figure 12(a)."""
    return _settings(findings, "learning_rate")


def batch_sizes(findings: Findings) -> Drawing:
    """Figure 12(b)."""
    return _settings(findings, "batch_size")


def _settings(findings: Findings, law_id: str) -> Drawing:
    law = findings.curves(law_id)
    figure = page(6.4, 4.4, simulated=findings.simulated)
    axes = figure.subplots()
    axes.set_yscale("log")
    reach = np.log(law.per_budget[-1].compute / law.per_budget[0].compute) or 1.0
    for budget in law.per_budget:
        looks: tuple[tuple[Points, dict[str, Any]], ...] = (
            (budget.outside, {"marker": "x", "color": GREY, "alpha": 0.5, "markersize": 4}),
            (budget.points, {"marker": "o", "color": BLUE, "markersize": 4.5}),
        )
        for points, look in looks:
            x = np.array(points.x)
            order = np.array([int((x[:index] == value).sum()) for index, value in enumerate(x)])
            number = np.array([int((x == value).sum()) for value in x])
            beside = (order - (number - 1) / 2) * SPREAD * reach
            axes.plot(budget.compute * np.exp(beside), x, linestyle="", **look)
    near = 100 * law.per_budget[0].tolerance
    axes.plot([], [], "o", color=BLUE, markersize=4.5, label=f"within {near:g}% of the least loss at its C")
    axes.plot([], [], "x", color=GREY, markersize=4, label="other settings")
    if main := next((one for one in law.relations if not one.name.endswith(("_low", "_high"))), None):
        edges = [law.relation(f"{main.name}{suffix}") for suffix in ("_low", "_high")]
        if edges[0] and edges[1]:
            compute = np.geomspace(main.compute[0] / 1.2, main.compute[-1] * 10, 40)
            low, high = (np.array([edge(one) for one in compute]) for edge in edges if edge)
            axes.fill_between(compute, low, high, color=GREY, alpha=0.15, linewidth=0)
            axes.plot(compute, low, "--", color=BLUE, linewidth=1, label="lower line")
            axes.plot(compute, high, "--", color=RED, linewidth=1, label="upper line")
        draw_relation(axes, main, "black", "middle line: the law")
        axes.set_title(exponent_text(main), fontsize=9)
    else:
        log_budgets(axes)
        axes.set_title("no law: " + ("; ".join(law.flags) or "one budget"), fontsize=8, wrap=True)
    (readable_log if law_id == "batch_size" else plain_log)(axes.yaxis)
    axes.set_ylabel(law.x_label)
    axes.legend(fontsize=7.5)
    return figure

"""Loss against what a study varies, with the fitted curve, its minimum and what is not known about it (Figures 5a, 6a).

`isoflop` has all budgets in one panel; `against_optimum` has a panel for each, slices shifted onto one curve.
"""

import math
from typing import Any

import numpy as np

from analysis.figures.findings import Findings
from analysis.figures.style import (
    BLUE,
    GREEN,
    GREY,
    MARKERS,
    ORANGE,
    RED,
    Drawing,
    budget_colours,
    legend_below,
    page,
    panels,
    readable_log,
)
from analysis.laws import Budget
from analysis.text import count, flops

TALLEST, MOST_ABOVE = 0.06, 0.1
"""Loss over the least one, relatively, up to which a panel reaches if no more than this share of its runs lie above: a run at the
bound would flatten all others."""


def isoflop(findings: Findings) -> Drawing:
    """Loss against M, a colour a budget: runs (repeated seeds share an abscissa), parabola, optimum with its interval."""
    law = findings.curves("classical")
    figure = page(8.6, 4.8, simulated=findings.simulated)
    axes = figure.subplots()
    for colour, budget in zip(budget_colours(len(law.per_budget)), law.per_budget, strict=True):
        x = np.array(budget.points.x)
        axes.plot(x, budget.points.loss, "o", color=colour, markersize=5, markerfacecolor="none", zorder=6)
        axes.plot(budget.outside.x, budget.outside.loss, "x", color=colour, markersize=4, alpha=0.7, zorder=6)
        label = f"{flops(budget.compute)}: {budget.status}"
        if budget.curve is None:
            axes.plot([], [], "o", color=colour, markerfacecolor="none", label=label)
            continue
        grid = np.geomspace(x.min() / 1.1, x.max() * 1.1, 200)
        axes.plot(grid, budget.curve(grid), "-" if budget.resolved else ":", color=colour, label=label)
        if budget.resolved:
            _optimum(axes, budget, (grid[0], grid[-1]), color=colour, markersize=4, capsize=6, linewidth=2)
    axes.set_xscale("log")
    readable_log(axes.xaxis)
    axes.set_xlabel(law.x_label)
    axes.set_ylabel("final validation loss, nats per token")
    if any(len(budget.outside) for budget in law.per_budget):
        axes.plot([], [], "x", color=GREY, markersize=4, label="outside the fitted window")
    axes.legend(title="budget and its minimum", loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def against_optimum(findings: Findings, law_id: str) -> Drawing:
    """A panel for each budget of the law: runs, curve, the near-optimal band, the optimum with its interval."""
    law = findings.curves(law_id)
    figure, grid = panels(len(law.per_budget), width=3.3, height=2.75, simulated=findings.simulated)
    groups = sorted({_slice(group) for budget in law.per_budget for group in budget.points.group}, key=_number)
    shapes = {group: MARKERS[index % len(MARKERS)] for index, group in enumerate(groups)}
    word = "N/N_a" if law_id == "m_over_na" else "M/N_a"
    for axes, budget in zip(grid, law.per_budget, strict=True):
        _panel(axes, budget, shapes, word)
        axes.set_xlabel(law.x_label, fontsize=8)
        shifted = budget.curve is not None and len(budget.curve.intercepts) > 1
        axes.set_ylabel("shifted loss, nats/token" if shifted else "loss, nats/token", fontsize=8)
    legend_below(figure, grid, columns=5)
    return figure


def _panel(axes: Any, budget: Budget, shapes: dict[str, str], word: str) -> None:
    points, curve = budget.points, budget.curve
    x = np.array(points.x)
    losses = curve.shifted(points) if curve else np.array(points.loss)
    groups = np.array([_slice(group) for group in points.group])
    for group in sorted(set(groups), key=_number):
        there = groups == group
        label = f"{word} = {group}" if group else "runs"
        axes.plot(x[there], losses[there], shapes[group], color=GREY, markersize=4, markerfacecolor="none", label=label)
    if len(budget.outside):
        axes.plot(budget.outside.x, budget.outside.loss, "x", color=GREY, markersize=4, label="not fitted")
    note = f"minimum {budget.status}"
    least = float(np.nanmin(losses))
    if curve is not None:
        line = np.linspace(x.min(), x.max(), 300)
        fitted = curve(line)
        least = min(least, float(fitted.min()))
        axes.plot(line, fitted, "-" if budget.resolved else ":", color=BLUE, label="fitted curve", zorder=4)
    top = min(float(np.nanmax(losses)), max(least * (1 + TALLEST), float(np.nanquantile(losses, 1 - MOST_ABOVE))))
    margin = 0.08 * (top - least) or 0.01
    axes.set_ylim(least - margin, top + margin)
    if above := int((losses > top + margin).sum()):
        axes.text(
            0.98,
            0.97,
            f"{count(above, 'run')} above",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=7,
            color=GREY,
        )
    margin = 0.03 * (x.max() - x.min()) or 0.5
    axes.set_xlim(x.min() - margin, x.max() + margin)
    if budget.resolved:
        label = f"within {100 * budget.tolerance:g}% of the least loss"
        axes.axvspan(*budget.band, color=GREEN, alpha=0.15, linewidth=0, label=label)
        _optimum(
            axes, budget, (x.min(), x.max()), color=ORANGE, markersize=5, capsize=3, zorder=5, label="optimum, 95%"
        )
        digits = 0 if budget.optimum.value > 100 else 2
        ends = " to ".join(
            f"{end:.{digits}f}" if math.isfinite(end) else "open" for end in (budget.optimum.low, budget.optimum.high)
        )
        note = f"optimum {budget.optimum.value:.{digits}f} ({ends})"
    axes.set_title(f"{flops(budget.compute)}\n{note}", fontsize=9, color="black" if budget.resolved else RED)


def _optimum(axes: Any, budget: Budget, ends: tuple[float, float], **look: Any) -> None:
    """The least point of the curve; an open interval is drawn to the end of the panel."""
    value = budget.optimum.value
    low = budget.optimum.low if math.isfinite(budget.optimum.low) else ends[0]
    high = budget.optimum.high if math.isfinite(budget.optimum.high) else ends[1]
    reach = [[max(value - max(low, ends[0]), 0)], [max(min(high, ends[1]) - value, 0)]]
    axes.errorbar(value, budget.minimum_loss.value, xerr=reach, fmt="D", **look)


def _slice(group: str) -> str:
    """The slice's value, without the study that a law of several studies puts before it."""
    return group.rpartition(", ")[2]


def _number(label: str) -> float:
    return float(label) if label.replace(".", "", 1).isdigit() else -1.0

"""Loss against what a study varies, with the fitted curve, its minimum and what is not known about it."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.fitting import Array, FlooredHyperbola
from analysis.laws import Law
from analysis.minima import Budget
from analysis.style import BLUE, GREEN, GREY, MARKERS, ORANGE, budget_colours, panels, readable_log
from analysis.text import flops


def draw_isoflop(law: Law) -> Figure:
    """Loss against M, a colour a budget: runs (repeated seeds share an abscissa), parabola, optimum.

    Crosses are runs outside the window about the minimum that the parabola is fitted to.
    """
    figure = Figure(figsize=(8.6, 4.8), layout="constrained")
    axes = figure.subplots()
    for colour, budget in zip(budget_colours(len(law.budgets)), law.budgets, strict=True):
        x, y = budget.curve.x, _losses(budget)
        axes.plot(x, y, "o", color=colour, markersize=5, markerfacecolor="none", zorder=6)
        far = budget.outside
        axes.plot(far[law.x], far["final_validation_loss"], "x", color=colour, markersize=4, alpha=0.6, zorder=6)
        label = f"{flops(budget.compute)}: {budget.status}"
        if not np.isfinite(budget.fit.coefficients).all():
            axes.plot([], [], "o", color=colour, markerfacecolor="none", label=label)
            continue
        grid = np.geomspace(x.min() / 1.1, x.max() * 1.1, 200)
        line = "-" if budget.resolved else ":"
        axes.plot(grid, budget.curve.profile(budget.fit.coefficients, grid), line, color=colour, label=label)
        if budget.resolved:
            value, low, high = budget.optimum
            reach = [[value - max(low, grid[0])], [min(high, grid[-1]) - value]]
            least = budget.fit.minimum
            axes.errorbar(value, least, xerr=reach, fmt="D", color=colour, markersize=4, capsize=6, linewidth=2)
    axes.set_xscale("log")
    readable_log(axes.xaxis)
    axes.set_xlabel(law.x_label)
    axes.set_ylabel("final validation loss, nats per token")
    if any(len(budget.outside) for budget in law.budgets):
        axes.plot([], [], "x", color=GREY, markersize=4, label="outside the fitted window")
    axes.legend(title="budget and its minimum", loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    _mark_simulated(axes, law)
    return figure


def draw_m_over_na(law: Law) -> Figure:
    """Loss against M/N_a, a panel for each budget, slices of N/N_a shifted onto one curve (paper, Figure 5a)."""
    figure, grid = panels(len(law.budgets))
    everywhere = np.concatenate([budget.curve.x for budget in law.budgets])
    slices = sorted({float(value) for budget in law.budgets for value in budget.points["target_n_over_na"]})
    shapes = {value: MARKERS[index % len(MARKERS)] for index, value in enumerate(slices)}
    for axes, budget in zip(grid, law.budgets, strict=True):
        _draw_density(axes, budget, shapes, (everywhere.min(), everywhere.max()))
        _mark_simulated(axes, law)
    columns = 2 if len(grid) == 4 else min(len(grid), 3)
    for axes in grid[-columns:]:
        axes.set_xlabel("M/N_a, FLOPs per active parameter")
    figure.supylabel("final validation loss, nats per token", fontsize=9)
    handles: dict[str, Any] = {}
    for axes in grid:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _draw_density(axes: Any, budget: Budget, shapes: dict[float, str], ends: tuple[float, float]) -> None:
    curve, fit = budget.curve, budget.fit
    known = bool(np.isfinite(fit.coefficients).all())
    shift: Array = np.zeros_like(curve.x)
    if known and isinstance(curve, FlooredHyperbola):
        shift = curve.intercepts(fit.coefficients)
    targets = budget.points["target_n_over_na"].to_numpy(dtype=float)
    losses = _losses(budget) - shift
    for value in np.unique(targets):
        there = targets == value
        axes.plot(
            curve.x[there], losses[there], shapes[float(value)], color=GREY, markersize=4.5, markerfacecolor="none",
            label=f"N/N_a = {value:g}",
        )  # fmt: skip
    margin = 0.03 * (ends[1] - ends[0]) or 0.5
    axes.set_xlim(ends[0] - margin, ends[1] + margin)
    if known:
        x = np.linspace(curve.x.min(), curve.x.max(), 300)
        axes.plot(
            x, curve.profile(fit.coefficients, x), "-" if budget.resolved else ":", color=BLUE, label="fitted curve"
        )
    note = f"minimum {budget.status}"
    if budget.resolved:
        value, low, high = budget.optimum
        axes.axvspan(*fit.band, color=GREEN, alpha=0.13, linewidth=0, label="within 0.1% of the least loss")
        reach = [[value - max(low, ends[0])], [min(high, ends[1]) - value]]
        axes.errorbar(
            value,
            fit.minimum,
            xerr=reach,
            fmt="D",
            color=ORANGE,
            markersize=5,
            capsize=3,
            zorder=5,
            label="optimum, 95%",
        )
        note = f"optimum {value:.2f} ({_end(low)} to {_end(high)})"
    axes.set_title(f"{flops(budget.compute)}\n{note}", fontsize=9, color="black" if budget.resolved else "#b00020")


def _end(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "open"


def _losses(budget: Budget) -> Array:
    return np.asarray(budget.points["final_validation_loss"].to_numpy(dtype=np.float64))


def _mark_simulated(axes: Any, law: Law) -> None:
    if law.simulated:
        axes.text(0.98, 0.02, "SIMULATED", transform=axes.transAxes, ha="right", color="#b00020", weight="bold")

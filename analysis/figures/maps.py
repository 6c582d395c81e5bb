"""The loss over the grid: maps over (N_a, N) and (M/N_a, N/N_a), and profiles along N/N_a (Figures 4, 7 and 8).

Colour is the loss over the least one of its budget, in percent; between runs it is interpolated linearly on triangles.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.findings import Findings, NoFigureError
from analysis.figures.style import GREY, Drawing, budget_colours, page, panels, readable_log
from analysis.laws import Law
from analysis.text import flops

LEVELS = (0, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10)
"""Percent over the least loss; the first step is the near-optimal band of 0.1%."""

PROFILE = 9.0
"""M/N_a of the profiles (the paper draws 9)."""

SHOWN = 1e20
"""Budget that Figure 4 shows; the nearest of the study's is taken."""

FEWEST = 6
"""Points that a map needs."""

LOSS = "final_validation_loss"


def landscape(findings: Findings) -> Drawing:
    """(a) the map over (N_a, N), (b) over the ratios, both at the budget nearest 1e20; (c) profiles of all budgets (Figure 4)."""
    points = grid_points(findings)
    budgets = np.array(sorted(points["compute"].unique()))
    shown = budgets[np.argmin(np.abs(np.log(budgets / SHOWN)))]
    here = points[points["compute"] == shown]
    figure = page(11.0, 3.8, simulated=findings.simulated)
    left, middle, right = figure.subplots(1, 3)
    _map(left, here, "sizes")
    mesh = _map(middle, here, "ratios")
    bar = figure.colorbar(mesh, ax=[left, middle], pad=0.01, ticks=LEVELS, label="loss over the least, %")
    bar.ax.tick_params(labelsize=7)
    for axes, letter in ((left, "a"), (middle, "b")):
        axes.set_title(f"({letter}) {flops(float(shown))}", fontsize=9, loc="left")
    density = profile_density(points)
    middle.axvline(density, color="black", linewidth=1.6)
    _profiles(right, points, density, findings.laws.law("n_over_na"))
    right.set_title(f"(c) profiles at M/N_a = {density:g}", fontsize=9, loc="left")
    return figure


def maps_over_sizes(findings: Findings) -> Drawing:
    """The loss over (N_a, N), a panel for each budget (Figure 7)."""
    return _maps(findings, "sizes")


def maps_over_ratios(findings: Findings) -> Drawing:
    """The loss over (M/N_a, N/N_a), a panel for each budget, with the line of the profile (Figure 8)."""
    return _maps(findings, "ratios")


def profiles(findings: Findings) -> Drawing:
    """The loss along N/N_a at one M/N_a, over its least, every budget (Figure 4c, large)."""
    points = grid_points(findings)
    figure = page(6.4, 4.2, simulated=findings.simulated)
    density = profile_density(points)
    axes = figure.subplots()
    _profiles(axes, points, density, findings.laws.law("n_over_na"))
    axes.set_title(f"M/N_a = {density:g}; lines: the law's curve", fontsize=9)
    return figure


def grid_points(findings: Findings) -> pd.DataFrame:
    """The grid study's points, the mean over seeds for each; columns of the table and ``over``, percent over the least.

    Raises:
        NoFigureError: no budget has enough points, or they lie on a line.
    """
    rows = findings.usable("grid").copy()
    keys = ["compute", "target_m_over_na", "target_n_over_na"]
    numbers = ["m_over_na", "n_over_na", "active_params", "total_params", LOSS]
    if missing := [name for name in (*keys, *numbers) if name not in rows]:
        raise NoFigureError(f"the table has no column {', '.join(missing)}")
    points = rows.groupby(keys, as_index=False)[numbers].mean()
    plane = points.groupby("compute")[["target_m_over_na", "target_n_over_na"]].agg("nunique").min(axis=1)
    size = points.groupby("compute").size()
    whole = size.index[(size >= FEWEST) & (plane > 1)]
    if not len(whole):
        raise NoFigureError(f"no budget of the grid has {FEWEST} points with several M/N_a and N/N_a")
    points = points[points["compute"].isin(whole)]
    return points.assign(over=100 * (points[LOSS] / points.groupby("compute")[LOSS].transform("min") - 1))


def profile_density(points: pd.DataFrame) -> float:
    """The M/N_a nearest `PROFILE` at which the grid has at least three N/N_a, or the nearest of all."""
    number = points.groupby("target_m_over_na")["target_n_over_na"].nunique()
    candidates = number.index[number >= min(3, number.max())].to_numpy(dtype=float)
    return float(candidates[np.argmin(np.abs(candidates - PROFILE))])


def _maps(findings: Findings, plane: str) -> Drawing:
    points = grid_points(findings)
    budgets = sorted(points["compute"].unique())
    figure, grid = panels(len(budgets), width=3.3, height=2.8, simulated=findings.simulated)
    mesh: Any = None
    for axes, budget in zip(grid, budgets, strict=True):
        mesh = _map(axes, points[points["compute"] == budget], plane)
        axes.set_title(flops(float(budget)), fontsize=9)
        if plane == "ratios":
            axes.axvline(profile_density(points), color="black", linewidth=1.2)
    bar = figure.colorbar(mesh, ax=grid, pad=0.01, ticks=LEVELS, label="loss over the least of its budget, %")
    bar.ax.tick_params(labelsize=7)
    return figure


def _map(axes: Any, points: pd.DataFrame, plane: str) -> Any:
    """One map; the star is the run with the least loss."""
    from matplotlib.colors import BoundaryNorm
    from matplotlib.tri import Triangulation

    names = ("active_params", "total_params") if plane == "sizes" else ("m_over_na", "n_over_na")
    x, y = (points[name].to_numpy(dtype=float) for name in names)
    values = np.minimum(points["over"].to_numpy(dtype=float), LEVELS[-1] * 1.5)
    # Triangles in the plane of the targets, where the grid is regular: rounding must not turn one over into a sliver.
    targets = np.log(points[["target_m_over_na", "target_n_over_na"]].to_numpy(dtype=float))
    triangles = Triangulation(*targets.T).triangles
    mesh = axes.tricontourf(
        Triangulation(x, y, triangles),
        values,
        levels=LEVELS,
        cmap="viridis_r",
        norm=BoundaryNorm(LEVELS, 256),
        extend="max",
    )
    axes.plot(x, y, ".", color="black", markersize=2.5)
    best = int(np.argmin(values))
    axes.plot(x[best], y[best], "*", color="white", markeredgecolor="black", markersize=11)
    axes.grid(visible=False)
    if plane == "sizes":
        axes.set(xscale="log", yscale="log", xlabel="active parameters N_a", ylabel="total parameters N")
        for axis in (axes.xaxis, axes.yaxis):
            readable_log(axis, giga="B")
        axes.minorticks_off()  # in so small a panel they are noise
    else:
        axes.set(xlabel="M/N_a, FLOPs per active parameter", ylabel="N/N_a")
    return mesh


def _profiles(axes: Any, points: pd.DataFrame, density: float, law: Law | None) -> None:
    there = points[points["target_m_over_na"] == density]
    budgets = sorted(there["compute"].unique())
    for colour, compute in zip(budget_colours(len(budgets)), budgets, strict=True):
        line = there[there["compute"] == compute].sort_values("n_over_na")
        x, loss = line["n_over_na"].to_numpy(dtype=float), line[LOSS].to_numpy(dtype=float)
        budget = law.budget(float(compute)) if law else None
        label = flops(float(compute))
        if budget and budget.curve and (offset := budget.curve.intercepts.get(f"{density:g}")) is not None:
            dense = np.linspace(x.min(), x.max(), 200)
            fitted = budget.curve(dense) + offset
            axes.plot(dense, 100 * (fitted / fitted.min() - 1), color=colour, linewidth=1.2, label=label)
            axes.plot(x, 100 * (loss / fitted.min() - 1), "o", color=colour, markersize=3.5)
        else:
            axes.plot(x, 100 * (loss / loss.min() - 1), "o-", color=colour, markersize=3.5, linewidth=0.8, label=label)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xlabel("N/N_a, total over active parameters")
    axes.set_ylabel("loss over the curve's least, %")
    axes.legend(fontsize=7)

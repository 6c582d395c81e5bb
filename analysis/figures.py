"""The figures of the report, PNG files under ``<root>/figures``, from the table of runs and the laws.

    isoflop.png         loss against M at each budget, fitted parabolas, optima with intervals
    classical_laws.png  M_opt and D_opt against C
    m_over_na.png       loss against M/N_a at each budget, optimum and 0.1% band (paper, Figure 5a)
    m_over_na_law.png   optimum of M/N_a against C (paper, Figure 5b)
    loss_curves.png     training loss against tokens

A figure whose data are not there is not drawn, and one left from an earlier refit is removed.
"""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis.curve_figures import draw_isoflop, draw_m_over_na
from analysis.fitting import interval
from analysis.laws import M_OVER_NA_FLOOR, Law
from analysis.relations import Relation
from analysis.style import BLUE, GREY, ORANGE, STYLE, budget_colours, log_budgets, panels, readable_log
from analysis.text import flops
from harness.files import read_json_lines, write_atomically

MOST_PANELS = 12
"""Of loss curves: more would be too small to read."""

BINS_PER_E = 8
"""Bins of a loss curve while the tokens grow by a factor of e."""

MOST_RUNS = 12
"""Loss curves in a panel, chosen evenly along M."""


def draw_figures(table: pd.DataFrame, laws: Sequence[Law], root: Path) -> dict[str, Path]:
    """Draw what there are data for into ``<root>/figures``; returns each figure's path by its name without suffix."""
    directory = root / "figures"
    directory.mkdir(parents=True, exist_ok=True)
    by_id = {law.id: law for law in laws if law.budgets}
    classical, density = by_id.get("classical"), by_id.get("m_over_na")
    wanted: dict[str, Callable[[], Figure | None]] = {
        "isoflop": lambda: draw_isoflop(classical) if classical else None,
        "classical_laws": lambda: draw_classical_laws(classical) if classical and classical.fitted else None,
        "m_over_na": lambda: draw_m_over_na(density) if density else None,
        "m_over_na_law": lambda: draw_m_over_na_law(density) if density and density.fitted else None,
        "loss_curves": lambda: draw_loss_curves(table, root),
    }
    drawn = {}
    for name, draw in wanted.items():
        path = directory / f"{name}.png"
        with mpl.rc_context(STYLE):
            figure = draw()
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None})
        write_atomically(path, buffer.getvalue())
        drawn[name] = path
    return drawn


def draw_classical_laws(law: Law) -> Figure:
    """M_opt(C) and D_opt(C) (paper, section 4.2.1) with the 95% band of the whole chain."""
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    for axes, relation in zip(figure.subplots(1, 2), law.relations, strict=True):
        _draw_law(axes, relation, law, colour=BLUE)
        resolved = [budget for budget in law.budgets if budget.resolved]
        for budget in resolved:
            value, low, high = budget.optimum
            if relation.name == "tokens":
                value, low, high = (budget.compute / end if end > 0 else math.inf for end in (value, high, low))
            _draw_optimum(axes, budget.compute, value, low, high)
        axes.set_ylabel(f"{relation.symbol}, {relation.unit}")
        axes.set_yscale("log")
        readable_log(axes.yaxis)
        axes.set_title(_exponent(relation), fontsize=10)
        axes.legend(fontsize=8)
    return figure


def draw_m_over_na_law(law: Law) -> Figure:
    """The optimum of M/N_a against C, as a power law of the excess over 6 and of M/N_a itself, and the 0.1% band."""
    figure = Figure(figsize=(6.6, 4.2), layout="constrained")
    axes = figure.subplots()
    excess, plain = law.relations
    _draw_law(axes, excess, law, colour=BLUE)
    budgets = np.geomspace(plain.compute[0] / 1.5, plain.compute[-1] * 10, 200)
    values = [float(plain.law(compute)) for compute in budgets]
    axes.plot(budgets, values, color=ORANGE, linestyle=":", linewidth=1.5, label="power law of M/N_a itself")
    resolved = [budget for budget in law.budgets if budget.resolved]
    for index, budget in enumerate(resolved):
        _draw_optimum(axes, budget.compute, *budget.optimum)
        label: Any = None if index else "within 0.1% of the least loss"
        axes.vlines(budget.compute, *budget.fit.band, color=GREY, linewidth=7, alpha=0.3, label=label)
    axes.axhline(M_OVER_NA_FLOOR, color="black", linewidth=1, linestyle="--", label="bound: M/N_a > 6")
    axes.set_ylabel("optimal M/N_a, FLOPs per active parameter")
    axes.set_title(_exponent(excess, "(M/N_a) − 6"), fontsize=10)
    axes.legend(fontsize=8)
    return figure


def draw_loss_curves(table: pd.DataFrame, root: Path) -> Figure | None:
    """Training loss against tokens, a panel for each study and budget; None where no run has a metrics.jsonl."""
    curves: dict[tuple[str, float], list[tuple[float, list[Any]]]] = {}
    for _, rows in list(table.groupby(["study", "compute"], sort=True))[:MOST_PANELS]:
        key = (str(rows["study"].iloc[0]), float(rows["compute"].iloc[0]))
        ordered = rows.sort_values(["flops_per_token", "run_id"])
        chosen = np.unique(np.linspace(0, len(ordered) - 1, MOST_RUNS).round().astype(int))
        for run_id, size in ordered[["run_id", "flops_per_token"]].iloc[chosen].itertuples(index=False):
            points = _metrics(root / "runs" / str(run_id) / "metrics.jsonl")
            if len(points) > 1:
                curves.setdefault(key, []).append((float(size), points))
    if not curves:
        return None
    figure, grid = panels(len(curves), height=2.6)
    for axes, ((study, compute), lines) in zip(grid, sorted(curves.items()), strict=False):
        colours = budget_colours(len(lines))
        for colour, (size, points) in zip(colours, lines, strict=True):
            tokens, loss = zip(*points, strict=True)
            label = EngFormatter(places=1, sep="")(size) if size in (lines[0][0], lines[-1][0]) else None
            axes.plot(tokens, loss, color=colour, linewidth=1, label=label)
        axes.set_xscale("log")
        readable_log(axes.xaxis)
        axes.set_title(f"{study}, {flops(compute)}", fontsize=9)
        axes.set_xlabel("training tokens")
        axes.set_ylabel("training loss, nats/token")
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(handles.values(), handles.keys(), title="M, FLOPs/token", fontsize=7, title_fontsize=7)
    return figure


def _draw_law(axes: Any, relation: Relation, law: Law, *, colour: str) -> None:
    """The law and its band, solid where there are budgets and dashed ten times further."""
    first, last = float(relation.compute[0]), float(relation.compute[-1])
    for low, high, dashes, label in (
        (first / 1.2, last, "-", f"power law, {_level()}"),
        (last, last * 10, "--", "extrapolated"),
    ):
        compute = np.geomspace(low, high, 60)
        ends = np.array([interval(relation.draws(budget)) for budget in compute])
        axes.fill_between(compute, ends[:, 0], ends[:, 1], color=colour, alpha=0.18, linewidth=0)
        axes.plot(compute, [float(relation.law(c)) for c in compute], color=colour, linestyle=dashes, label=label)
    log_budgets(axes)
    axes.set_xlabel("C, training FLOPs")
    if law.simulated:
        axes.text(0.98, 0.02, "SIMULATED", transform=axes.transAxes, ha="right", color="#b00020", weight="bold")


def _draw_optimum(axes: Any, compute: float, value: float, low: float, high: float) -> None:
    low = low if math.isfinite(low) and low > 0 else value / 3  # an open end is drawn as a long bar
    reach = [[value - low], [high - value if math.isfinite(high) else 2 * value]]
    axes.errorbar(compute, value, yerr=reach, fmt="D", color="black", markersize=4, capsize=3, linewidth=1, zorder=5)


def _exponent(relation: Relation, symbol: str | None = None) -> str:
    value, low, high = relation.coefficients()[f"{relation.name}_exponent"]
    return f"{symbol or relation.symbol} ∝ C^{value:.3f}  ({low:.3f} to {high:.3f})"


def _level() -> str:
    from analysis.minima import claimed_level

    return f"{claimed_level()} interval"


def _metrics(path: Path) -> list[tuple[float, float]]:
    """Mean tokens and loss in logarithmic bins of tokens: steps are noisy, and most of them are at the end."""
    by_step = {
        row["step"]: (row["tokens"], row["lm_loss"])
        for row in read_json_lines(path)
        if isinstance(row, dict) and {"step", "tokens", "lm_loss"} <= row.keys()
    }
    points = [by_step[step] for step in sorted(by_step)]
    whole = [(t, loss) for t, loss in points if isinstance(loss, int | float) and math.isfinite(loss) and t > 0]
    if not whole:
        return []
    tokens, loss = np.array(whole).T
    bins = np.floor(np.log(tokens / tokens[0]) * BINS_PER_E).astype(int)
    return [(float(tokens[bins == there].mean()), float(loss[bins == there].mean())) for there in np.unique(bins)]

"""Training loss against tokens, a panel for each study and budget; read from the runs' metrics.jsonl."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import EngFormatter

from analysis.figures.findings import Findings, NoFigureError
from analysis.figures.style import Drawing, budget_colours, panels, readable_log
from analysis.text import flops
from harness.files import read_json_lines

MOST_PANELS = 9
"""More would be too small to read."""

MOST_RUNS = 8
"""Curves in a panel, chosen evenly along M."""

BINS_PER_E = 8
"""Bins of a loss curve while the tokens grow by a factor of e."""

Curves = dict[tuple[str, float], list[tuple[float, list[Any]]]]


def loss_curves(findings: Findings) -> Drawing:
    """Dark to light by rising M."""
    curves = _read(findings)
    if not curves:
        raise NoFigureError("no run has a metrics.jsonl with two steps or more")
    figure, grid = panels(len(curves), height=2.6, simulated=findings.simulated)
    for axes, ((study, compute), lines) in zip(grid, sorted(curves.items()), strict=False):
        colours = budget_colours(len(lines))
        for colour, (size, points) in zip(colours, lines, strict=True):
            tokens, loss = zip(*points, strict=True)
            label = EngFormatter(places=1, sep="")(size) if size in (lines[0][0], lines[-1][0]) else None
            axes.plot(tokens, loss, color=colour, linewidth=1, label=label)
        axes.set_xscale("log")
        readable_log(axes.xaxis)
        axes.minorticks_off()
        axes.set_title(f"{study}, {flops(compute)}", fontsize=9)
        axes.set_xlabel("training tokens")
        axes.set_ylabel("training loss, nats/token")
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(
            handles.values(), handles.keys(), loc="lower left", title="M, FLOPs/token", fontsize=7, title_fontsize=7
        )
    return figure


def _read(findings: Findings) -> Curves:
    curves: Curves = {}
    if findings.root is None:
        return curves
    for _, rows in list(findings.table.groupby(["study", "compute"], sort=True)):
        key = (str(rows["study"].iloc[0]), float(rows["compute"].iloc[0]))
        ordered = rows.sort_values(["flops_per_token", "run_id"])
        chosen = np.unique(np.linspace(0, len(ordered) - 1, MOST_RUNS).round().astype(int))
        for run_id, size in ordered[["run_id", "flops_per_token"]].iloc[chosen].itertuples(index=False):
            points = _metrics(findings.root / "runs" / str(run_id) / "metrics.jsonl")
            if len(points) > 1:
                curves.setdefault(key, []).append((float(size), points))
        if len(curves) == MOST_PANELS:
            break
    return curves


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

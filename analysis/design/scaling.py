"""Designs at a list of budgets: the scaling table, as text and CSV, and the figure."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.design.result import Design
from analysis.design.text import LABELS, factor
from harness.files import write_atomically
from harness.quantities import short
from harness.scales import budget_label

PANELS = (
    "flops_per_token",
    "tokens",
    "m_over_na",
    "active_params",
    "n_over_na",
    "total_params",
    "hidden_size",
    "num_layers",
)
"""Of the figure."""


def print_scaling(designs: Sequence[Design], where: str, console: Any) -> None:
    """A line a budget, within 80 columns."""
    from rich.table import Table

    worst = max(design.extrapolation for design in designs)
    inside = "all inside the budgets" if worst <= 1 + 1e-9 else f"up to {factor(worst)} times beyond the budgets"
    console.print(f"Designs at {len(designs)} budgets by {where}: {inside} that they were measured at")
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("C", "out", "N_a", "N", "D", "d", "layers", "d_m", "heads", "rate", "batch", "loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for design in designs:
        a, counts, training = design.architecture, design.experiment.counts, design.experiment.training
        table.add_row(
            budget_label(design.compute),
            f"{factor(design.extrapolation)}x",
            *(_three(number) for number in (counts.active_params, counts.total_params, design.experiment.tokens)),
            str(a.hidden_size),
            f"{a.num_dense_layers}+{a.num_moe_layers}",
            str(a.moe_ffn_hidden_size),
            f"{design.backbone.num_query_heads}x{design.backbone.head_dim}",
            f"{training.learning_rate:.1e}".replace("e-0", "e-"),
            str(training.global_batch_size),
            "?" if design.excess is None else f"{100 * design.excess.value:.2f}%",
        )
    console.print(table)
    console.print(
        "out: how far outside the laws' budgets; batch in sequences; loss: predicted above the least possible (?: no curves)",
    )
    for design in designs:
        for sentence in design.aim.binding:
            console.print(f"limit at {budget_label(design.compute)}: {sentence}")


def _three(number: float) -> str:
    return short(float(f"{number:.3g}"))


def write_scaling(designs: Sequence[Design], root: Path, where: str) -> list[Path]:
    """``<root>/designs/scaling.png`` and ``.csv``; returns their paths."""
    folder = root / "designs"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "scaling.csv", folder / "scaling.png"]
    write_atomically(paths[0], table(designs))
    write_atomically(paths[1], draw(designs, where))
    return paths


def table(designs: Sequence[Design]) -> str:
    """As CSV: for each number the laws' value, both ends of its interval, and what was built."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    columns = [f"{name}{suffix}" for name in LABELS for suffix in ("", "_low", "_high", "_built")]
    writer.writerow(["compute", "extrapolation", *columns, "real_flops"])
    for design in designs:
        made = design.built
        cells: list[float] = []
        for name in LABELS:
            quantity = design.optima[name]
            cells += [quantity.value, quantity.low, quantity.high, made[name]]
        row = [design.compute, design.extrapolation, *cells, design.real_flops]
        writer.writerow(["" if value != value else f"{value:.10g}" for value in row])
    return lines.getvalue()


def draw(designs: Sequence[Design], where: str) -> bytes:
    """A panel a quantity against C: the laws' value, its interval, and what was built; PNG."""
    from matplotlib import rc_context

    from analysis.figures.style import BLUE, ORANGE, STYLE, log_budgets, panels, plain_log, readable_log

    with rc_context(STYLE):
        simulated = any(design.simulated for design in designs)
        figure, axes = panels(len(PANELS), width=3.2, height=2.6, simulated=simulated)
        compute = [design.compute for design in designs]
        for axis, name in zip(axes, PANELS, strict=True):
            quantities = [design.optima[name] for design in designs]
            ends = ([quantity.low for quantity in quantities], [quantity.high for quantity in quantities])
            axis.plot(compute, [quantity.value for quantity in quantities], color=BLUE, label="by the laws")
            axis.fill_between(compute, *ends, color=BLUE, alpha=0.2, label="95% interval")
            axis.plot(compute, [design.built[name] for design in designs], "o", color=ORANGE, ms=4, label="built")
            if name not in ("m_over_na", "n_over_na"):
                axis.set_yscale("log")
                (plain_log if name in ("hidden_size", "num_layers") else readable_log)(axis.yaxis)
            log_budgets(axis, title=False)
            axis.set_title(LABELS[name], loc="left", fontsize=9)
        axes[0].legend(fontsize=7)
        figure.supxlabel(f"C, training FLOPs; designs by {where}", fontsize=9)
        return figure.save("png")

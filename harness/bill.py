"""What a person sees of a plan: the table of experiments, and the bill by budget."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.resources import Cluster, Estimate, Layout
from harness.scales import budget_label
from harness.studies import Point

MARKS = {
    "inferred": "the target M is the one that reproduces the published tables; it is up to 10% off the paper's Table 2",
    "extrapolated": "the budget is not in the backbone's table: heads, learning rate and batch follow rules and fitted laws",
}
"""What the marks of rows mean."""

MOST_ROWS = 400
"""A longer table is printed by its two ends."""

ENDS = 20


@dataclass(frozen=True, kw_only=True)
class Row:
    """A point with what it costs."""

    point: Point
    layout: Layout
    estimate: Estimate

    @property
    def run_id(self) -> str:
        """Of the point's experiment."""
        return self.point.experiment.run_id


def print_plan(rows: Sequence[Row], cluster: Cluster) -> None:
    """The table of experiments and the bill by budget."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)
    table = Table(box=None, header_style="bold", pad_edge=False)
    names = "run budget C M D N_a N M/N_a N/N_a d L_d+L_m d_m heads lr batch steps seed off".split()
    for name in names:
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    shown = rows if len(rows) <= MOST_ROWS else [*rows[:ENDS], *rows[-ENDS:]]
    for row in shown:
        experiment = row.point.experiment
        counts, architecture, training = experiment.counts, experiment.architecture, experiment.training
        table.add_row(
            experiment.run_id,
            budget_label(row.point.compute),
            f"{counts.flops_per_token * experiment.tokens:.3g}",
            *(_short(value) for value in (counts.flops_per_token, experiment.tokens)),
            *(_short(value) for value in (counts.active_params, counts.total_params)),
            f"{counts.m_over_na:.3f}",
            f"{counts.n_over_na:.3f}",
            str(architecture.hidden_size),
            f"{architecture.num_dense_layers}+{architecture.num_moe_layers}",
            str(architecture.moe_ffn_hidden_size),
            f"{experiment.backbone.num_query_heads}/{experiment.backbone.num_kv_heads}x{experiment.backbone.head_dim}",
            f"{training.learning_rate:.3g}",
            str(training.global_batch_size),
            str(training.train_iters),
            str(training.seed),
            f"{max(deviations(row), key=abs):+.1%}",
        )
    console.print(table)
    if len(shown) < len(rows):
        console.print(f"(the first and the last {ENDS} of {len(rows):,} runs; all of them are in the sweep's .csv)")
    console.print("budget: nominal; C = M D as realised; off: the largest deviation of M, N_a and N from their targets")
    what = "one core" if cluster.gpus_per_node == 0 else "estimated"
    console.print(f"\nBill on cluster {cluster.name} ({what}); FLOPs with the output layer, as Megatron counts them")
    console.print(_bill(rows, cluster))
    for mark, meaning in MARKS.items():
        if any(mark in row.point.marks for row in rows):
            console.print(f"{mark}: {meaning}")


def deviations(row: Row) -> tuple[float, float, float]:
    """Relative deviations of the realised M, N_a and N from their targets."""
    counts, targets = row.point.experiment.counts, row.point.targets
    return (
        counts.flops_per_token / targets.flops_per_token - 1,
        counts.active_params / targets.active_params - 1,
        counts.total_params / targets.total_params - 1,
    )


def _bill(rows: Sequence[Row], cluster: Cluster) -> Any:
    from rich.table import Table

    unit = "core-hours" if cluster.gpus_per_node == 0 else "GPU-hours"
    bill = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("budget", "runs", "tokens", "FLOPs (M D)", "FLOPs (Megatron)", unit, "longest run"):
        bill.add_column(name, justify="right")
    budgets = sorted({row.point.compute for row in rows})
    for label, part in [
        *((budget_label(budget), [row for row in rows if row.point.compute == budget]) for budget in budgets),
        ("total", list(rows)),
    ]:
        experiments = [row.point.experiment for row in part]
        bill.add_row(
            label,
            str(len(part)),
            _short(sum(experiment.tokens for experiment in experiments)),
            f"{sum(experiment.tokens * experiment.counts.flops_per_token for experiment in experiments):.3e}",
            f"{sum(experiment.tokens * experiment.counts.megatron_flops_per_token for experiment in experiments):.3e}",
            f"{sum(row.estimate.gpu_hours for row in part):,.2f}",
            _duration(max(row.estimate.seconds for row in part)),
        )
    return bill


def _short(number: float) -> str:
    """1234567 -> 1.235M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:g}"


def _duration(seconds: float) -> str:
    """90 -> 1m30s; 4000 -> 1h06m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"

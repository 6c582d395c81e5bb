"""What a person sees of a plan: the table of experiments, and the bill by budget."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from harness.cost import print_bill
from harness.quantities import short
from harness.resources import Cluster, Estimate, Layout
from harness.settings import budget_label
from harness.studies import Point


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

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    table = Table(box=None, header_style="bold", pad_edge=False)
    names = "run budget M D N_a N M/N_a N/N_a d L_d+L_m d_m heads lr batch steps seed".split()
    for name in names:
        table.add_column(name, justify="left" if name == "run" else "right", no_wrap=True)
    for row in rows:
        experiment = row.point.experiment
        counts, architecture, training = experiment.counts, experiment.architecture, experiment.training
        table.add_row(
            experiment.run_id,
            budget_label(row.point.compute),
            *(short(value) for value in (counts.flops_per_token, experiment.tokens)),
            *(short(value) for value in (counts.active_params, counts.total_params)),
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
        )
    console.print(table)
    print_bill(rows, cluster, console)
    if any("inferred" in row.point.marks for row in rows):
        console.print("The target M of phase 1 is inferred from the published tables; it is up to 10% off Table 2.")

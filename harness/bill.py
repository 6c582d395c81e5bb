"""What a person sees of a plan: the table of experiments, and the bill by budget."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.cost import print_bill
from harness.plan import Row, deviations
from harness.quantities import short
from harness.resources import Cluster
from harness.scales import budget_label
from harness.sweepfile import SIMULATED
from harness.trunks import TRUNK, savings

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {
    "inferred": "the target M is the one that reproduces the published tables; it is up to 10% off the paper's Table 2",
    TRUNK: "the stable phase of the branches that name it, with a checkpoint at each step where one leaves (docs/branches.md)",
    SIMULATED: "train=simulated: nothing is trained, and the losses come from a formula (configs/truth/)",
    "extrapolated": "the budget is not in the backbone's table: heads, learning rate and batch follow rules and fitted laws",
}
"""What the marks of rows mean."""

MOST_ROWS = 400
"""A longer table is printed by its two ends."""

ENDS = 20


def print_plan(rows: Sequence[Row], cluster: Cluster) -> None:
    """The table of experiments and the bill by budget."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)
    table = Table(box=None, header_style="bold", pad_edge=False)
    names = "run budget C M D N_a N M/N_a N/N_a d L_d+L_m d_m heads lr batch steps seed off".split()
    shared = any(row.point.experiment.training.trunk for row in rows)
    for name in [*names, "trunk"] if shared else names:
        table.add_column(name, justify="left" if name in ("run", "trunk") else "right", no_wrap=True)
    shown = rows if len(rows) <= MOST_ROWS else [*rows[:ENDS], *rows[-ENDS:]]
    for row in shown:
        experiment = row.point.experiment
        counts, architecture, training = experiment.counts, experiment.architecture, experiment.training
        table.add_row(
            experiment.run_id,
            budget_label(row.point.compute),
            f"{counts.flops_per_token * experiment.tokens:.3g}",
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
            f"{max(deviations(row), key=abs):+.1%}",
            *([training.trunk or (training.branch_points and "is one") or "-"] if shared else []),
        )
    console.print(table)
    if len(shown) < len(rows):
        console.print(f"(the first and the last {ENDS} of {len(rows):,} runs; all of them are in the sweep's .csv)")
    console.print("budget: nominal; C = M D as realised; off: the largest deviation of M, N_a and N from their targets")
    print_bill(rows, cluster, console)
    _print_savings(rows, console)
    for mark, meaning in MARKS.items():
        if any(mark in row.point.marks for row in rows):
            console.print(f"{mark}: {meaning}")


def _print_savings(rows: Sequence[Row], console: "Console") -> None:
    """What shared trunks save, where there are any."""
    saved = savings([row.point.experiment for row in rows])
    if saved.trunks:
        console.print(
            f"\n{saved.branches} branches of {saved.trunks} trunks: {saved.shared:.3e} FLOPs (Megatron) in place of "
            f"{saved.alone:.3e}, each run alone: a factor of {saved.factor:.3f}.\nOf a branch, the bill counts its decay only."
        )

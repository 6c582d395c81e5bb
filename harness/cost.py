"""The bill of a plan: what its runs take by budget and in total, and the layouts they were priced with."""

from collections.abc import Sequence
from typing import Any

from harness.cluster import Cluster
from harness.layouts import order
from harness.memory import Memory
from harness.plan import Row
from harness.quantities import duration, gigabytes, short
from harness.scales import budget_label


def print_bill(rows: Sequence[Row], cluster: Cluster, console: Any) -> None:
    """Print both tables on a rich `console`."""
    console.print(
        f"\nBill on cluster {cluster.name}; FLOPs with the output layer, as Megatron counts them; {basis(rows, cluster)}"
    )
    console.print(_bill(rows, cluster))
    if cluster.gpus_per_node:
        console.print(
            f"\nLayouts, and memory of the fullest GPU of each, in GB ({gigabytes(cluster.usable_memory)} of "
            f"{gigabytes(cluster.gpu_memory)} may be used)"
        )
        console.print(_layouts(rows))


def basis(rows: Sequence[Row], cluster: Cluster) -> str:
    """What the hours rest on: measured runs, or an assumption."""
    assumed = f"MFU {cluster.mfu:g} assumed"
    on = sorted(row.estimate.measured_on for row in rows if row.estimate.measured_on)
    if not on:
        return assumed
    like = f"{on[0]}" if on[0] == on[-1] else f"{on[0]} to {on[-1]}"
    measured = f"throughput measured on {like} like runs"
    return measured if len(on) == len(rows) else f"{measured} for {len(on)} of {len(rows)} runs, else {assumed}"


def _bill(rows: Sequence[Row], cluster: Cluster) -> Any:
    from rich.table import Table

    on_gpus, priced = cluster.gpus_per_node > 0, cluster.price_per_gpu_hour is not None
    bill = Table(box=None, header_style="bold", pad_edge=False)
    names = ["budget", "runs", "tokens", "FLOPs (M D)", "FLOPs (Megatron)", "GPU-hours" if on_gpus else "core-hours"]
    names += ["cost"] if priced else []
    names += ["checkpoints", "longest run"]
    names += ["most GPUs"] if on_gpus else []
    for name in names:
        bill.add_column(name, justify="right")
    budgets = sorted({row.point.compute for row in rows})
    for label, part in [
        *((budget_label(budget), [row for row in rows if row.point.compute == budget]) for budget in budgets),
        ("total", list(rows)),
    ]:
        experiments = [row.point.experiment for row in part]
        cells = [
            label,
            str(len(part)),
            short(sum(experiment.own_tokens for experiment in experiments)),
            f"{sum(experiment.own_tokens * experiment.counts.flops_per_token for experiment in experiments):.3e}",
            f"{sum(experiment.own_tokens * experiment.counts.megatron_flops_per_token for experiment in experiments):.3e}",
            f"{sum(row.estimate.gpu_hours for row in part):,.2f}",
        ]
        cells += [f"{sum(row.estimate.cost or 0.0 for row in part):,.2f}"] if priced else []
        cells += [gigabytes(sum(row.estimate.checkpoint_bytes for row in part))]
        cells += [duration(max(row.estimate.seconds for row in part))]
        cells += [str(max(row.layout.gpus for row in part))] if on_gpus else []
        bill.add_row(*cells)
    return bill


def _layouts(rows: Sequence[Row]) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("layout", no_wrap=True)
    for name in ("runs", "budgets", "total", *Memory.names()):
        table.add_column(name, justify="right")
    by_layout: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: order(row.layout)):
        by_layout.setdefault(str(row.layout), []).append(row)
    for name, part in by_layout.items():
        fullest = max((row.estimate.memory for row in part if row.estimate.memory), key=lambda memory: memory.total)
        least, most = (budget_label(pick(row.point.compute for row in part)) for pick in (min, max))
        table.add_row(
            name,
            str(len(part)),
            least if least == most else f"{least} to {most}",
            *(f"{count / 1e9:.1f}" for count in (fullest.total, *fullest.parts().values())),
        )
    return table

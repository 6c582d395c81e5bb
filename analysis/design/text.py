"""A design for people: tables that fit 80 columns, and what each number rests on."""

import math
from typing import Any

from analysis.design.constraints import FLAT, FLAT_FROM, FLAT_TO, share
from analysis.design.excess import Excess
from analysis.design.neighbours import Neighbours
from analysis.design.optimum import GIVEN, HELD, LAW, MEASURED, Quantity
from analysis.design.result import Design
from harness.cluster import Cluster
from harness.quantities import duration, gigabytes, short
from harness.scales import budget_label

LABELS = {
    "flops_per_token": "M, FLOPs a token",
    "tokens": "D, tokens",
    "m_over_na": "M/N_a",
    "active_params": "N_a, active",
    "n_over_na": "N/N_a",
    "total_params": "N, total",
    "hidden_size": "d, hidden size",
    "num_layers": "L, layers",
    "learning_rate": "learning rate",
    "batch_tokens": "batch, tokens",
}
"""Rows of the table, in the order in which they follow from one another."""

INTERVALS = (
    "Intervals are 95%, drawn jointly from the runs' noise through curves and laws, with what is allowed for bent laws "
    "(docs/design.md); of learning rate and batch they are the law's own, and hold neither."
)

SMALL = {"m_over_na", "n_over_na", "hidden_size", "num_layers"}

UNPRICED = {"flops_per_token": "M", "m_over_na": "M/N_a", "n_over_na": "N/N_a", "hidden_size": "d"}


def first_line(design: Design, where: str) -> str:
    """The budget, the laws, and how far the budget is from them."""
    ratio = design.extrapolation
    inside = (
        "inside the budgets that they were measured at"
        if ratio <= 1 + 1e-9
        else f"EXTRAPOLATED {factor(ratio)} times beyond the budgets that they were measured at"
    )
    mark = " (SIMULATED losses)" if design.simulated else ""
    return f"Design for {budget_label(design.compute)} FLOPs by {where}{mark}: {inside}"


def factor(ratio: float) -> str:
    """A factor as people write it: 33, 3300, 2e+06."""
    return f"{float(f'{ratio:.2g}'):g}"


def print_design(design: Design, where: str, cluster: Cluster, console: Any) -> None:
    """Everything but the neighbours, on a rich `console`."""
    line = console.print
    line(first_line(design, where))
    line(_recommended(design))
    if silent := _left_out(design):
        line(silent)
    line()
    line(_architecture(design))
    for sentence in design.aim.binding:
        line(f"limit: {sentence}")
    if design.cost_of_limits is not None:
        line(f"the limits cost {percent(design.cost_of_limits)} of loss, before rounding")
    line(_loss(design))
    line()
    line("What the numbers rest on", style="bold")
    line(_bases(design))
    line(INTERVALS)
    for note in design.notes:
        line(f"note: {note}")
    line()
    line(_cost(design, cluster))


def _recommended(design: Design) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in ("by the laws", "95% interval", "built"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("from", no_wrap=True, overflow="fold")
    built = design.built
    for name, label in LABELS.items():
        quantity = design.optima[name]
        table.add_row(
            label,
            _value(name, quantity.value),
            _interval(name, quantity),
            _value(name, built[name]),
            _origin(quantity),
        )
    return table


def _value(name: str, value: float) -> str:
    if name == "learning_rate":
        return f"{value:.3g}"
    if name == "hidden_size":
        return f"{value:.0f}"
    if name == "num_layers":
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.4g}" if name in SMALL else short(value)


def _interval(name: str, quantity: Quantity) -> str:
    if quantity.origin == GIVEN:
        return "exact"
    mark = "*" if quantity.without else ""
    return f"{_value(name, quantity.low)} to {_value(name, quantity.high)}{mark}" if quantity.known else "not known"


def _left_out(design: Design) -> str:
    """What the marked intervals leave out, in a line; empty where none does."""
    by_part: dict[str, list[str]] = {}
    for name, label in LABELS.items():
        for part in design.optima[name].without:
            by_part.setdefault(part, []).append(label.split(",")[0])
    said = [f"that of {part} (in {', '.join(names)})" for part, names in by_part.items()]
    return f"* leaves out an uncertainty that is not known: {' and '.join(said)}" if said else ""


def _origin(quantity: Quantity) -> str:
    """The kind of evidence, and how far from it."""
    words = {LAW: "law", MEASURED: "measured", HELD: "held", GIVEN: "given"}
    word = words.get(quantity.origin, quantity.origin)
    return word if quantity.extrapolation <= 1 + 1e-9 else f"{word}, {factor(quantity.extrapolation)}x out"


def _bases(design: Design) -> Any:
    """Each basis once, with the numbers that share it."""
    from rich.table import Table

    found: dict[str, list[str]] = {}
    for name, label in LABELS.items():
        quantity = design.optima[name]
        low, high = (_value(name, end) for end in quantity.noise)
        noise = f"; by their noise alone {low} to {high}" if math.isfinite(sum(quantity.noise)) else ""
        found.setdefault(quantity.basis + noise, []).append(label.split(",")[0])
    grid = Table.grid(padding=(0, 2))
    for basis, names in found.items():
        grid.add_row(", ".join(names), basis)
    heads = "row of the backbone's table of budgets"
    if design.scale.extrapolated:
        heads = (
            "width law through the backbone's table of budgets, rounded to a power of two (harness/scales.py); no law prices "
            "them"
        )
    grid.add_row("heads", heads)
    grid.add_row("schedule", "configs/training: the paper states WSD without the lengths of its phases")
    return grid


def _architecture(design: Design) -> str:
    a, b, t = design.architecture, design.backbone, design.experiment.training
    return (
        f"d {a.hidden_size}; {a.num_layers} layers: {a.num_dense_layers} dense (FFN {a.ffn_hidden_size}), {a.num_moe_layers} MoE "
        f"(experts {a.moe_ffn_hidden_size} wide); {b.num_experts} routed experts, {b.top_k} chosen, "
        f"{b.num_shared_experts} shared; "
        f"{b.num_query_heads} query and {b.num_kv_heads} key/value heads of {b.head_dim}; S {b.seq_length}\n"
        f"{t.train_iters:,} steps of {t.global_batch_size} sequences; WSD: warm-up {t.warmup_iters:,} steps, "
        f"decay {t.decay_iters:,} "
        f"({t.decay_style}), peak learning rate {t.learning_rate:g}, to {t.min_learning_rate:g}"
    )


def _loss(design: Design) -> str:
    """The predicted excess, or what the band's definition says without curves."""
    if design.excess is None:
        said = "Predicted loss above the least possible: not known, as these laws have no loss curves."
        return f"{said} {_bands(design)}" if design.published else said
    missing = [UNPRICED[name] for name in design.model.missing]
    without = f" (without {' and '.join(missing)}, which have no curve)" if missing else ""
    return f"Predicted loss above the least possible: {percent(design.excess)}{without}"


def _bands(design: Design) -> str:
    """What the paper's bands say of the built architecture."""
    inside = FLAT[0] <= share(design.experiment.counts.n_over_na, design.backbone.max_n_over_na) <= FLAT[1]
    expansion = f"N/N_a {'is inside' if inside else 'is outside'} the range of {FLAT_FROM:g} to {FLAT_TO:g}" + (
        ", over which it changes by less than 1% (F.4)" if inside else " for which F.4 states less than 1%"
    )
    return (
        "By the definition of the paper's near-optimal bands it is at most 0.1% each where M/N_a and d lie inside them, "
        f"but their edges are printed only in figures; {expansion}."
    )


def percent(excess: Excess) -> str:
    """+0.031% (-0.011 to 0.064)."""
    if not math.isfinite(excess.value):
        return "outside the curves"
    ends = (
        f" ({100 * excess.low:.3f} to {100 * excess.high:.3f})"
        if math.isfinite(excess.low)
        else " (interval not known)"
    )
    return f"{100 * excess.value:+.3f}%{ends}"


def _cost(design: Design, cluster: Cluster) -> str:
    spent = float(design.experiment.counts.flops_per_token) * design.experiment.tokens
    line = (
        f"Cost: M D = {spent:.3e} FLOPs, with the output layer {design.real_flops:.3e} ({design.real_flops / spent:.2f} times; "
        f"Megatron's own count); {short(design.experiment.counts.megatron_params)} parameters with embeddings."
    )
    if design.layout is None or design.estimate is None:
        return f"{line}\nNo layout on cluster {cluster.name}: {design.no_layout}"
    price = design.estimate
    basis = f"measured on {price.measured_on} like runs" if price.measured_on else f"MFU {cluster.mfu:g} assumed"
    money = "" if price.cost is None else f", {price.cost:,.0f} in money"
    memory = (
        "" if price.memory is None else f"; {gigabytes(price.memory.total)} of {gigabytes(cluster.gpu_memory)} a GPU"
    )
    unit = "GPU-hours" if design.layout.gpus else "core-hours"
    more = " This is the smallest layout that fits: cluster.layout.gpus= asks for more." if design.layout.gpus else ""
    return (
        f"{line}\nOn cluster {cluster.name} ({basis}): {short(float(f'{price.gpu_hours:.4g}'))} {unit}{money}, "
        f"{duration(price.seconds)} on {design.layout}{memory}; a checkpoint has {gigabytes(price.checkpoint_bytes)}.{more}"
    )


def print_neighbours(found: Neighbours, design: Design, console: Any) -> None:
    """The neighbours, cheapest in loss first, and how many are too far off to be listed."""
    from rich.table import Table

    if not found.listed:
        console.print("No hardware-friendly neighbour divides as wished and meets the targets within the rules.")
        return
    priced = design.excess is not None
    console.print("\nHardware-friendly neighbours", style="bold")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("d", "d_m", "layers", "M/N_a", "N/N_a", "loss" if priced else "off by", "speed"):
        table.add_column(name, justify="right", no_wrap=True)
    changed = any(one.backbone_changes for one in found.listed)
    if changed:
        table.add_column("changed")
    for one in found.listed:
        a = one.architecture
        cost = percent(one.change) if one.change else f"{one.distance:.1%}"
        cells = [
            str(a.hidden_size),
            str(a.moe_ffn_hidden_size),
            f"{a.num_dense_layers}+{a.num_moe_layers}",
            f"{one.counts.m_over_na:.3f}",
            f"{one.counts.n_over_na:.2f}",
            cost,
            f"{one.throughput:+.0%}",
        ]
        table.add_row(*cells, *([", ".join(one.backbone_changes)] if changed else []))
    console.print(table)
    console.print(
        (
            "loss: predicted against the design's, from the fitted curves: the median, and 95% of what they leave open "
            "(docs/design.md). "
            if priced
            else "off by: the largest deviation of M, N_a, N from their targets and of d from the design's; what that "
            "costs in loss is not known "
            "without loss curves: at most 0.1% each inside the paper's bands of M/N_a and d (edges unprinted), "
            "less than 1% for N/N_a "
            "from 18 to 25. "
        )
        + "speed: at which the budget is spent, against the design's architecture, by a roofline with tiles of 128 "
        "(nothing measured)." + (" What of the backbone is changed is not priced." if changed else ""),
    )
    if sentence := _not_listed(found):
        console.print(sentence)
    if found.unlisted:
        console.print(
            f"Not shown: {found.unlisted} more, neither faster than all of less loss nor next by it (neighbours= shows more)."
            if priced
            else f"Not shown: {found.unlisted} more, further off or slower (neighbours= shows more)."
        )


def _not_listed(found: Neighbours) -> str:
    """How many neighbours are not listed for their distance."""
    if found.listed[0].distance > found.within:
        more = f", nor are {found.left_out} more" if found.left_out else ""
        return f"This one, the nearest, is not within {100 * found.within:g}% of the targets{more} (within=)."
    if not found.left_out:
        return ""
    return f"Left out: {found.left_out} that are more than {100 * found.within:g}% off the targets (within=)."

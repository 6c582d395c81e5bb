"""A public MoE beside a design at the same budget, in the same accounting, and where it lies between the laws' bands."""

from typing import Any

from analysis.design.constraints import FLAT, share
from analysis.design.export import excess
from analysis.design.public import PublicModel
from analysis.design.result import Design
from analysis.design.text import percent
from harness.quantities import short
from harness.scales import budget_label

ROWS = {
    "flops_per_token": "M, FLOPs a token",
    "tokens": "D, tokens",
    "active_params": "N_a",
    "total_params": "N",
    "m_over_na": "M/N_a",
    "n_over_na": "N/N_a",
    "max_n_over_na": "bound of N/N_a",
    "hidden_size": "d",
    "num_layers": "layers",
    "all_params": "all parameters",
    "all_active_params": "all active",
}
"""Of the table."""


def comparison(model: PublicModel, design: Design) -> dict[str, Any]:
    """The public model's numbers at the design's budget and sequence length, as JSON values."""
    flops = model.flops_per_token(design.backbone.seq_length)
    density, expansion = flops / model.active_params, model.total_params / model.active_params
    found: dict[str, Any] = {
        "name": model.name,
        "flops_per_token": flops,
        "tokens": design.compute / flops,
        "active_params": model.active_params,
        "total_params": model.total_params,
        "m_over_na": density,
        "n_over_na": expansion,
        "max_n_over_na": model.max_n_over_na,
        "hidden_size": model.hidden_size,
        "num_layers": model.num_layers,
        "all_params": model.all_params,
        "all_active_params": model.all_active_params,
        "places": places(model, design),
        "notes": list(model.notes),
    }
    penalties = design.model.penalties
    priced = {"flops_per_token": float(flops), "m_over_na": density}
    found["predicted_excess_loss"] = {
        name: excess(penalties[name](value)) for name, value in priced.items() if name in penalties
    }
    return found


def places(model: PublicModel, design: Design) -> list[str]:
    """Where the model lies, in sentences. N/N_a is taken as its share of the way to the bound of its own experts."""
    flops = model.flops_per_token(design.backbone.seq_length)
    density, expansion = flops / model.active_params, model.total_params / model.active_params
    best, size = design.optima["m_over_na"], design.optima["flops_per_token"]
    ends = f" ({best.low:.3g} to {best.high:.3g})" if best.known else ""
    side = "above" if density > best.value else "below"
    where = (
        f"inside the interval of the law's {best.value:.3g}"
        if best.known and best.low <= density <= best.high
        else (f"{side} the law's {best.value:.3g}")
    )
    said = [f"M/N_a {density:.3g} is {where}{ends} at this budget, S = {design.backbone.seq_length}"]
    if (penalty := design.model.penalties.get("m_over_na")) is not None:
        said[0] += f": predicted {percent(penalty(density))} loss"
    way = share(expansion, model.max_n_over_na)
    inside = "below" if way < FLAT[0] else "above" if way > FLAT[1] else "inside"
    said.append(
        f"N/N_a {expansion:.3g} is {way:.0%} of the way from 1 to the bound {model.max_n_over_na:.3g} of its "
        f"{model.num_experts} experts; {inside} the flat range of F.4 ({FLAT[0]:.0%} to {FLAT[1]:.0%} of the way)"
    )
    ratio = flops / size.value
    said.append(
        f"M {short(flops)} is {ratio:.3g} times the optimal M: at {budget_label(design.compute)} it would see "
        f"{short(design.compute / flops)} tokens, the design {short(design.experiment.tokens)}"
    )
    return said


def print_comparison(model: PublicModel, design: Design, console: Any) -> None:
    """Both columns, and the sentences."""
    from rich.table import Table

    found, counts = comparison(model, design), design.experiment.counts
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in (model.name, "design"):
        table.add_column(name, justify="right")
    ours = design.built | {
        "max_n_over_na": design.backbone.max_n_over_na,
        "all_params": float(counts.megatron_params),
        "all_active_params": float(counts.megatron_params - counts.total_params + counts.active_params),
    }
    for name, label in ROWS.items():
        table.add_row(label, *(f"{value:.4g}" if value < 1e4 else short(value) for value in (found[name], ours[name])))
    console.print(f"\n{model.name} beside the design at {budget_label(design.compute)} FLOPs", style="bold")
    console.print(table)
    for sentence in found["places"]:
        console.print(sentence)
    for note in model.notes:
        console.print(f"note: {note}")

"""A public MoE beside a design at the same budget, in the same accounting, and where it lies between the laws' bands."""

from typing import Any

from analysis.design.constraints import FLAT_FROM, FLAT_TO
from analysis.design.export import excess
from analysis.design.optimum import PAPER_MAX_N_OVER_NA
from analysis.design.public import PublicModel
from analysis.design.result import Design
from analysis.design.text import percent
from harness.quantities import short
from harness.scales import budget_label


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
    share = (expansion - 1) / (model.max_n_over_na - 1)
    flat = [(end - 1) / (PAPER_MAX_N_OVER_NA - 1) for end in (FLAT_FROM, FLAT_TO)]
    inside = "inside" if flat[0] <= share <= flat[1] else "below" if share < flat[0] else "above"
    said.append(
        f"N/N_a {expansion:.3g} is {share:.0%} of the way from 1 to the bound {model.max_n_over_na:.3g} of its "
        f"{model.num_experts} "
        f"experts; {inside} the flat range of F.4 ({flat[0]:.0%} to {flat[1]:.0%} of the way)"
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
    ours = {
        "flops_per_token": float(counts.flops_per_token),
        "tokens": float(design.experiment.tokens),
        "active_params": float(counts.active_params),
        "total_params": float(counts.total_params),
        "m_over_na": counts.m_over_na,
        "n_over_na": counts.n_over_na,
        "max_n_over_na": design.backbone.max_n_over_na,
        "hidden_size": float(design.architecture.hidden_size),
        "num_layers": float(design.architecture.num_layers),
        "all_params": float(counts.megatron_params),
        "all_active_params": float(counts.megatron_params - counts.total_params + counts.active_params),
    }
    labels = "M, FLOPs a token|D, tokens|N_a|N|M/N_a|N/N_a|bound of N/N_a|d|layers|all parameters|all active".split("|")
    for (name, own), label in zip(ours.items(), labels, strict=True):
        table.add_row(label, *(f"{value:.4g}" if value < 1e4 else short(value) for value in (found[name], own)))
    console.print(f"\n{model.name} beside the design at {budget_label(design.compute)} FLOPs", style="bold")
    console.print(table)
    for sentence in found["places"]:
        console.print(sentence)

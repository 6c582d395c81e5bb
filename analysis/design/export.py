"""A design for other programs: as options of `harness.sweep` that plan the same run, as the Megatron command, and as JSON."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.design.excess import Excess
from analysis.design.neighbours import Neighbours
from analysis.design.optimum import Quantity
from analysis.design.result import Design
from harness.experiment import plain
from harness.megatron.argv import Paths, command, megatron_argv
from harness.megatron.options import JobOptions
from harness.scales import Scale, budget_label
from harness.solver import Rules

SCHEMA = 1
"""Version of the JSON document."""

KEPT = ("backbone", "training", "cluster", "data", "studies", "megatron", "logging", "train", "rules", "seed", "root")
"""First parts of the options of this command that `harness.sweep` has too."""


def kept_options(words: Sequence[str]) -> list[str]:
    """Of this command's options, those that mean the same to `harness.sweep`."""
    return [word for word in words if word.lstrip("+").partition("=")[0].partition(".")[0] in KEPT]


def sweep_options(
    design: Design, kept: Sequence[str] = (), *, rules: Rules | None = None, name: str | None = None
) -> list[str]:
    """Options of ``python -m harness.sweep`` that plan the run of `design`, whatever laws it has.

    The budget's row is given whole (``scales=``), so that nothing is read off a law again. `kept`: see `kept_options`.
    """
    scale, aim = design.scale, design.aim
    words = [
        "phase=2",
        f"scale={_number(scale.compute)}",
        f"name={name or f'design-{budget_label(scale.compute)}'}",
        f"scales=[{_row(scale)}]",
        f"m_over_na={_number(aim.m_over_na)}",
        f"n_over_na={_number(aim.n_over_na)}",
        f"values=[{design.architecture.hidden_size}]",
        f"training.tokens={'compute' if aim.fixed_tokens is None else 'fixed'}",
        *(word for word in kept if not word.startswith("training.tokens=")),
    ]
    if rules is not None:
        words += [
            f"rules.hidden_size_step={rules.hidden_size_step}",
            f"rules.moe_ffn_hidden_size_step={rules.moe_ffn_hidden_size_step}",
        ]
    return words


def _row(scale: Scale) -> str:
    values = {name: value for name, value in asdict(scale).items() if name != "extrapolated"}
    return "{" + ",".join(f"{name}:{_number(value)}" for name, value in values.items()) + "}"


def _number(value: float) -> str:
    """Digits that give the same number back, as Hydra reads them."""
    return str(value) if isinstance(value, int) else repr(float(value))


def sweep_command(words: Sequence[str]) -> str:
    """The options as a shell command."""
    return f"python -m harness.sweep {shlex.join(words)}"


def placeholder_paths(design: Design) -> Paths:
    """Where a run of the design would lie."""
    return Paths(run=Path("/path/to/runs") / design.experiment.run_id, data=Path("/path/to/dataset"))


def flags_of(design: Design, job: JobOptions) -> list[str]:
    """Every Megatron flag of the design's run; empty where no layout fits."""
    if design.layout is None:
        return []
    return megatron_argv(design.experiment, design.layout, placeholder_paths(design), job)


def command_of(design: Design, job: JobOptions) -> str:
    """The Megatron command, ready to paste once its two paths are filled in; empty where no layout fits."""
    if design.layout is None:
        return ""
    return command(design.experiment, design.layout, placeholder_paths(design), job)


def document(
    design: Design, neighbours: Neighbours, *, where: str, kept: Sequence[str], job: JobOptions
) -> dict[str, Any]:
    """The design as JSON values; unknown and infinite numbers are null."""
    experiment = design.experiment
    counts = experiment.counts
    return {
        "schema": SCHEMA,
        "compute": design.compute,
        "laws": where,
        "extrapolation": number(design.extrapolation),
        "recommended": {name: _quantity(quantity) for name, quantity in design.optima.items()},
        "aim": {
            **{name: number(value) for name, value in design.aim.values().items()},
            "tokens": number(design.scale.tokens),
            "binding": list(design.aim.binding),
            "cost_of_limits": excess(design.cost_of_limits),
        },
        "architecture": asdict(design.architecture),
        "backbone": plain(design.backbone),
        "training": {**plain(experiment.training), "tokens": experiment.tokens},
        "counts": {**asdict(counts), "m_over_na": counts.m_over_na, "n_over_na": counts.n_over_na},
        "realised_compute": float(counts.flops_per_token) * experiment.tokens,
        "real_flops": design.real_flops,
        "predicted_excess_loss": excess(design.excess),
        "unpriced": list(design.model.missing),
        "feasible_widths": [int(design.widths[0]), int(design.widths[-1]), len(design.widths)],
        "resources": _resources(design),
        "neighbours": [one.describe() for one in neighbours.listed],
        "neighbours_left_out": neighbours.left_out,
        "neighbours_unlisted": neighbours.unlisted,
        "run_id": experiment.run_id,
        "sweep_options": sweep_options(design, kept),
        "megatron_flags": flags_of(design, job),
        "notes": list(design.notes),
    }


def _resources(design: Design) -> dict[str, Any]:
    if design.layout is None or design.estimate is None:
        return {"layout": None, "why": design.no_layout}
    price = design.estimate
    return {
        "layout": asdict(design.layout),
        "gpu_hours": price.gpu_hours,
        "wall_seconds": price.seconds,
        "memory_bytes": price.memory.parts() if price.memory else None,
        "cost": price.cost,
        "checkpoint_bytes": price.checkpoint_bytes,
    }


def _quantity(quantity: Quantity) -> dict[str, Any]:
    return {
        "value": number(quantity.value),
        "low": number(quantity.low),
        "high": number(quantity.high),
        "noise_interval": [number(end) for end in quantity.noise],
        "interval_without": list(quantity.without),
        "origin": quantity.origin,
        "basis": quantity.basis,
        "extrapolation": number(quantity.extrapolation),
    }


def excess(found: Excess | None) -> dict[str, float | None] | None:
    """An excess loss as JSON values."""
    return None if found is None else found.describe()


def number(value: float) -> float | None:
    """`value`, or None where it is NaN or infinite."""
    return value if math.isfinite(value) else None

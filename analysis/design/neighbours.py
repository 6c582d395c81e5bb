"""Hardware-friendly architectures near a design: what each costs in predicted loss and wins in predicted throughput.

Candidates are all combinations of a width d that is a multiple of 128 or 256, an expert width d_m that is a multiple of 64 or
128 (the rules' own steps where no such model is feasible), and a number of layers (the design's, or the nearest that divide
into pipeline stages), solved by Eq. 3 at the design's M and rounded. Their loss is priced by the realised M, M/N_a, N/N_a and
d. Where tensor or expert parallelism needs other heads or another number of experts, the backbone changes at the same
targets, which no law here prices. Only those near the targets are kept (`Wish.within`).
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from analysis.design.constraints import Limits
from analysis.design.excess import Excess, Priced
from analysis.design.result import Design
from analysis.design.throughput import Machine
from harness.accounting import Counts, count, score_flops
from harness.architecture import Architecture, Backbone
from harness.cluster import Cluster
from harness.errors import ConfigError, InfeasibleError
from harness.settings import Settings
from harness.solver import Rules, Targets, feasible_widths, rounded, worst_deviation

WIDTH_STEPS, EXPERT_STEPS = (128, 256), (64, 128)

WITHIN = 0.10
"""Largest deviation of a neighbour: that of the published tables' rows from their targets (docs/paper.md)."""

PER_STEP = 4
"""Widths that are tried for each step, nearest first."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the hardware is to divide; None: anything."""

    stages: int | None = None
    """Pipeline stages, which divide the layers."""
    tensor: int | None = None
    """Tensor-parallel size, which divides query and key/value heads."""
    experts: int | None = None
    """Expert-parallel size, which divides the routed experts."""
    within: float = WITHIN
    """Largest `Neighbour.distance`."""

    def __post_init__(self) -> None:
        for name in ("stages", "tensor", "experts"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}={value}: a whole number of at least 1 is wanted")
        if not 0 < self.within < math.inf:
            raise ConfigError(f"within={self.within:g}: a positive share is wanted, 0.1 for 10%")


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One candidate."""

    architecture: Architecture
    backbone: Backbone
    counts: Counts
    m_over_na: float
    """Target ratio it was solved at, for `harness.sweep`."""
    rules: Rules
    """Steps that it was rounded with."""
    excess: Excess | None
    """Predicted loss above the least possible, as a share of it; None without loss curves."""
    change: Excess | None
    """Predicted loss above the design's, likewise: what is unknown of both alike cancels, so that it is known better."""
    distance: float
    """Largest relative deviation of M, N_a and N from their targets and of d from the design's: the order without loss curves."""
    throughput: float
    """Predicted change of the speed at which the budget C is spent (M times tokens a second), against the design, as a share."""
    backbone_changes: tuple[str, ...] = ()
    """What of the backbone is not the design's: not priced."""

    def describe(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "architecture": asdict(self.architecture),
            "num_query_heads": self.backbone.num_query_heads,
            "num_experts": self.backbone.num_experts,
            "m_over_na": self.counts.m_over_na,
            "n_over_na": self.counts.n_over_na,
            "flops_per_token": self.counts.flops_per_token,
            "predicted_excess_loss": self.excess.describe() if self.excess else None,
            "predicted_loss_against_design": self.change.describe() if self.change else None,
            "distance": self.distance,
            "predicted_throughput_change": self.throughput,
            "backbone_changes": list(self.backbone_changes),
            "sweep_rules": {
                "m_over_na": self.m_over_na,
                "rules.hidden_size_step": self.rules.hidden_size_step,
                "rules.moe_ffn_hidden_size_step": self.rules.moe_ffn_hidden_size_step,
            },
        }


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """What is listed, and how much is not."""

    listed: tuple[Neighbour, ...] = ()
    left_out: int = 0
    """Candidates further off than `within`, but for the nearest of them where it is listed, as no other is."""
    within: float = WITHIN
    unlisted: int = 0
    """Candidates within it that are one too many."""


def neighbours(design: Design, settings: Settings, limits: Limits, wish: Wish, most: int) -> Neighbours:
    """At most `most` candidates, by rising predicted loss; without loss curves by distance from the design's targets.

    Those that are predicted to be faster than all of less loss come first into the list, then the others by their loss.
    """
    friendly = [(width, expert) for width in WIDTH_STEPS for expert in EXPERT_STEPS]
    own = [(settings.rules.hidden_size_step, settings.rules.moe_ffn_hidden_size_step)]
    found = _ranked(design, settings, limits, wish, friendly) or _ranked(design, settings, limits, wish, own)
    near = [one for one in found if one.distance <= wish.within]
    kept = near or sorted(found, key=lambda one: one.distance)[:1]
    listed = tuple(_chosen(kept, most))
    return Neighbours(
        listed=listed, left_out=len(found) - len(kept), within=wish.within, unlisted=len(kept) - len(listed)
    )


def _ranked(
    design: Design, settings: Settings, limits: Limits, wish: Wish, steps: list[tuple[int, int]]
) -> list[Neighbour]:
    """Every candidate of the steps, best first."""
    machine = Machine.of(settings.cluster, design.layout, design.backbone.seq_length)
    here = machine.seconds_per_token(design.backbone, design.architecture)
    found: dict[tuple[Architecture, Backbone], Neighbour] = {}
    for backbone, changes in _backbones(design.backbone, wish, settings.cluster):
        for density in _densities(design, backbone, wish):
            targets = Targets.from_ratios(
                backbone,
                flops_per_token=design.aim.flops_per_token,
                m_over_na=density,
                n_over_na=min(design.aim.n_over_na, backbone.max_n_over_na * 0.99),
            )
            for rules, width in _steps(design, backbone, targets, settings.rules, steps):
                made = _neighbour(design, backbone, targets, density, rules, width, limits, wish)
                if made is None:
                    continue
                seconds = machine.seconds_per_token(backbone, made.architecture)
                per_flop = made.counts.flops_per_token / design.experiment.counts.flops_per_token
                made = replace(made, throughput=here / seconds * per_flop - 1, backbone_changes=changes)
                if made.architecture == design.architecture and not changes:
                    continue
                found.setdefault((made.architecture, backbone), made)
    return sorted(
        found.values(),
        key=lambda one: (len(one.backbone_changes), one.change.value if one.change else one.distance, one.distance),
    )


def _chosen(ranked: list[Neighbour], most: int) -> list[Neighbour]:
    """`most` of them in their order: first those that are predicted to be faster than all ranked before them."""
    best, front = -np.inf, []
    for one in ranked:
        if one.throughput > best + 1e-4:
            front.append(one)
            best = one.throughput
    rest = [one for one in ranked if one not in front]
    kept = [*front, *rest][:most]
    return [one for one in ranked if one in kept]


def _backbones(backbone: Backbone, wish: Wish, cluster: Cluster) -> Iterator[tuple[Backbone, tuple[str, ...]]]:
    """The backbone itself where everything divides, else the nearest that do."""
    heads = [backbone.num_query_heads]
    group = backbone.num_query_heads // backbone.num_kv_heads
    tensor = wish.tensor or cluster.layout.tensor_parallel or 1
    if backbone.num_kv_heads % tensor:
        heads = _around(backbone.num_query_heads, tensor * group)
    experts = [backbone.num_experts]
    expert = wish.experts or cluster.layout.expert_parallel or 1
    if backbone.num_experts % expert:
        experts = [number for number in _around(backbone.num_experts, expert) if number >= backbone.top_k]
    for queries, number in product(heads, experts):
        changes = [f"N_q {queries}"] if queries != backbone.num_query_heads else []
        changes += [f"N_e {number}"] if number != backbone.num_experts else []
        changed = replace(backbone, num_query_heads=queries, num_kv_heads=queries // group, num_experts=number)
        yield changed, tuple(changes)


def _around(number: int, step: int) -> list[int]:
    below = number // step * step
    return [one for one in (below, below + step) if one > 0]


def _densities(design: Design, backbone: Backbone, wish: Wish) -> list[float]:
    """The M/N_a of the numbers of layers that are tried: the design's own, and the nearest that divide into the stages."""
    own = design.aim.m_over_na
    stages = wish.stages or (design.layout.pipeline_parallel if design.layout else 1)
    layers = design.architecture.num_layers
    if stages == 1 and backbone == design.backbone:
        return [own]
    share = score_flops(backbone, 1) / design.aim.flops_per_token
    divides = layers % stages == 0
    wanted = (layers - stages, layers + stages) if divides else _around(layers, stages)
    return ([own] if divides else []) + [6 / (1 - number * share) for number in wanted if 0 < number * share < 1]


def _steps(
    design: Design, backbone: Backbone, targets: Targets, rules: Rules, steps: list[tuple[int, int]]
) -> Iterator[tuple[Rules, int]]:
    """Steps of d and d_m with the multiples of the former that are nearest to the design's width."""
    wanted = design.architecture.hidden_size
    for width_step, expert_step in steps:
        stepped = replace(rules, hidden_size_step=width_step, moe_ffn_hidden_size_step=expert_step)
        try:
            widths = feasible_widths(backbone, targets, stepped)
        except InfeasibleError:
            continue
        nearest = widths[np.argsort(np.abs(np.log(widths / wanted)), kind="stable")][:PER_STEP]
        for width in nearest.tolist():
            yield stepped, width


def _neighbour(
    design: Design,
    backbone: Backbone,
    targets: Targets,
    density: float,
    rules: Rules,
    width: int,
    limits: Limits,
    wish: Wish,
) -> Neighbour | None:
    """The candidate, or None where it does not divide or breaks a limit."""
    model = rounded(backbone, targets, width, rules)
    if wish.stages and model.num_layers % wish.stages:
        return None
    counts = count(backbone, model)
    if limits.max_total_params is not None and counts.total_params > limits.max_total_params:
        return None
    if limits.max_active_params is not None and counts.active_params > limits.max_active_params:
        return None
    off = worst_deviation(
        backbone, design.targets, width, model.num_dense_layers, model.num_moe_layers, model.moe_ffn_hidden_size
    )
    own = Priced(backbone=design.backbone, counts=design.experiment.counts, hidden_size=design.architecture.hidden_size)
    priced = Priced(backbone=backbone, counts=counts, hidden_size=width)
    return Neighbour(
        architecture=model,
        backbone=backbone,
        counts=counts,
        m_over_na=density,
        rules=rules,
        excess=design.model.of(priced),
        change=design.model.of(priced, own),
        distance=max(float(off), abs(width / design.architecture.hidden_size - 1)),
        throughput=0.0,
    )

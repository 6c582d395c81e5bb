"""A design: the recommended numbers, the architecture built from them, its run, its price, and what a reader should know.

    design(settings, laws, "laws.json", 1e22)

The run is an `Experiment` that `harness.sweep` plans to the same run id (`analysis.design.export`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.design.build import Built, build_within
from analysis.design.constraints import Aim, Limits
from analysis.design.draws import Chains
from analysis.design.excess import Excess, LossModel, Priced
from analysis.design.optimum import DERIVED, Quantity
from analysis.design.recommend import Fixed, far_from_laws, optima_at, own_optima
from analysis.design.width_law import WidthLaw, difference, width_law
from analysis.laws.records import LawsFile
from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError, InfeasibleError
from harness.experiment import Experiment
from harness.measured import Measurements
from harness.resources import Estimate, Layout, estimate, layout
from harness.scales import Scale, budget_label
from harness.settings import Settings
from harness.solver import Targets

FAR = 0.02
"""Relative distance of d from the law's at which it is pointed out."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """A recommended architecture with what it rests on."""

    compute: float
    """Budget C, FLOPs."""
    optima: dict[str, Quantity]
    """What the laws recommend, before limits and rounding, by name."""
    aim: Aim
    """Targets after limits."""
    targets: Targets
    experiment: Experiment
    """As `harness.sweep` plans it."""
    scale: Scale
    """The budget's row, as for the harness."""
    widths: np.ndarray
    """Feasible widths, shape (n,)."""
    excess: Excess | None
    """Predicted loss of the built architecture above the least one, as a share; None without loss curves."""
    cost_of_limits: Excess | None
    """Predicted loss of the targets that limits moved, above that of the laws' own; None where none binds, or without curves."""
    model: LossModel
    layout: Layout | None
    estimate: Estimate | None
    published: bool = False
    """Whether the laws are printed ones, without runs."""
    simulated: bool = False
    """Whether the laws rest on simulated losses."""
    no_layout: str = ""
    """Why there is no layout."""
    notes: tuple[str, ...] = ()
    """What a reader should know, in sentences."""

    @property
    def backbone(self) -> Backbone:
        """What the budget fixes."""
        return self.experiment.backbone

    @property
    def architecture(self) -> Architecture:
        """The rounded one."""
        return self.experiment.architecture

    @property
    def extrapolation(self) -> float:
        """The largest factor by which the budget is outside the data behind any number."""
        return max(quantity.extrapolation for quantity in self.optima.values())

    @property
    def built(self) -> dict[str, float]:
        """What was built, by the names of `optima`."""
        experiment, counts = self.experiment, self.experiment.counts
        return {
            "flops_per_token": float(counts.flops_per_token),
            "tokens": float(experiment.tokens),
            "m_over_na": counts.m_over_na,
            "active_params": float(counts.active_params),
            "n_over_na": counts.n_over_na,
            "total_params": float(counts.total_params),
            "hidden_size": float(self.architecture.hidden_size),
            "num_layers": float(self.architecture.num_layers),
            "learning_rate": experiment.training.learning_rate,
            "batch_tokens": float(experiment.batch_tokens),
        }

    @property
    def real_flops(self) -> float:
        """Of the whole run, with the output layer, as Megatron counts them."""
        return float(self.experiment.counts.megatron_flops_per_token) * self.experiment.tokens


def design(
    settings: Settings,
    laws: LawsFile,
    where: str,
    compute: float,
    *,
    limits: Limits | None = None,
    fixed: Fixed | None = None,
    measured: Measurements | None = None,
    chains: Chains | None = None,
) -> Design:
    """The architecture that `laws` (read from `where`) recommend at `compute` FLOPs, within `limits`.

    `measured`: throughput of finished runs, for the bill; without like ones it rests on the cluster's assumed MFU.
    `chains`: of `laws`, where they serve several designs.

    Raises:
        ConfigError: a law that is needed is missing, or a number of the user's cannot be used.
        InfeasibleError: no architecture keeps to the limits, or a law leaves the possible region.
    """
    limits, fixed = limits or Limits(), fixed or Fixed()
    (base,) = settings.choose_scales(compute)
    backbone = settings.backbone(base)
    chains = chains or Chains(laws)
    optima = optima_at(settings, laws, where, compute, backbone, base, fixed, chains)
    try:
        centres = own_optima(laws, where, compute, backbone, chains)
        of_width = width_law(settings, laws, compute, backbone, centres)
        model = LossModel(chains, backbone, compute, centres, of_width.holds_at if of_width else None)
        built = build_within(settings, laws, compute, optima, backbone, model, limits, fixed)
    except InfeasibleError as error:
        raise far_from_laws(error, compute, optima) from error
    aim, backbone = built.aim, built.backbone
    if built.like != compute:
        there = own_optima(laws, where, built.like, backbone, chains)
        if "hidden_size" in there:
            of_width = width_law(settings, laws, built.like, backbone, there)
            centres |= {"hidden_size": there["hidden_size"]}
            model = LossModel(chains, backbone, compute, centres, of_width.holds_at if of_width else None)
    batch = max(1, round(optima["batch_tokens"].value / backbone.seq_length / settings.between.batch_step))
    scale = replace(
        base,
        compute=compute,
        flops_per_token=aim.flops_per_token,
        grid_flops_per_token=aim.flops_per_token,
        tokens=aim.fixed_tokens or compute / aim.flops_per_token,
        num_query_heads=backbone.num_query_heads,
        num_kv_heads=backbone.num_kv_heads,
        head_dim=backbone.head_dim,
        learning_rate=float(f"{optima['learning_rate'].value:.3g}"),
        global_batch_size=batch * settings.between.batch_step,
    )
    training = settings.training(
        scale,
        backbone,
        tokens=aim.fixed_tokens or settings.tokens(scale, backbone, built.architecture, spend_budget=True),
        hidden_size=built.architecture.hidden_size,
        seed=settings.first_seed,
    )
    experiment = Experiment(backbone=backbone, architecture=built.architecture, training=training, data=settings.data)
    counts = experiment.counts
    placed, price, problem = _placed(settings, experiment, measured)
    return Design(
        compute=compute,
        optima=optima,
        aim=aim,
        targets=built.targets,
        experiment=experiment,
        scale=scale,
        widths=built.widths,
        cost_of_limits=model(aim.values(), {name: optima[name].value for name in aim.values()})
        if aim.binding
        else None,
        excess=model.of(Priced(backbone=backbone, counts=counts, hidden_size=built.architecture.hidden_size)),
        model=model,
        layout=placed,
        estimate=price,
        no_layout=problem,
        simulated=laws.simulated,
        published=any(law.source for law in laws.laws),
        notes=_notes(laws, optima, backbone, built, compute, of_width),
    )


def _placed(
    settings: Settings, experiment: Experiment, measured: Measurements | None
) -> tuple[Layout | None, Estimate | None, str]:
    try:
        found = layout(experiment, settings.cluster)
    except ConfigError as error:
        return None, None, str(error)
    return found, estimate(experiment, experiment.counts, found, settings.cluster, measured), ""


def _notes(
    laws: LawsFile,
    optima: Mapping[str, Quantity],
    backbone: Backbone,
    built: Built,
    compute: float,
    of_width: WidthLaw | None,
) -> tuple[str, ...]:
    notes = []
    published = any(law.source for law in laws.laws)
    paper = (backbone.num_experts, backbone.top_k, backbone.seq_length) == (288, 8, 8192)
    if published and not paper:
        notes.append(
            f"the published laws were found with N_e = 288, K = 8, S = 8192; here N_e = {backbone.num_experts}, K "
            f"= {backbone.top_k}, "
            f"S = {backbone.seq_length}: that they hold is assumed"
        )
    if optima["hidden_size"].origin == DERIVED and "hidden_size" in laws.missing:
        notes.append(f"no law of d: {laws.missing['hidden_size']}")
    if of_width is not None and (said := difference(of_width, built.aim.m_over_na, built.aim.n_over_na)):
        notes.append(said)
    wanted, width = optima["hidden_size"].value, built.architecture.hidden_size
    if built.like == compute and optima["hidden_size"].origin != DERIVED and abs(width / wanted - 1) > FAR:
        notes.append(
            f"the law asks for d = {wanted:.0f}, and {built.widths[0]} to {built.widths[-1]} are feasible with "
            f"these M, N_a, N: d = "
            f"{width} is the nearest"
        )
    reach, moved = _reach(laws), abs(math.log(built.aim.flops_per_token / optima["flops_per_token"].value))
    if reach is not None and moved > reach:
        notes.append(
            f"the loss curves of M were fitted within {math.exp(reach):.2g} times the optimum, and here M is "
            f"{math.exp(moved):.2g} times "
            "off: what it costs is extrapolated"
        )
    if built.like != compute:
        notes.append(
            f"the limits move M to that of {budget_label(float(f'{built.like:.3g}'))} FLOPs: heads and d are "
            f"taken from there, M/N_a, "
            "N/N_a, learning rate and batch from the budget itself; that this holds away from the optimal M is assumed"
        )
    return tuple(notes)


def _reach(laws: LawsFile) -> float | None:
    """How far from the optimum, in ln M, the curves of M have runs at most; None without curves."""
    law = laws.law("classical")
    ratios = [
        abs(math.log(end / budget.optimum.value))
        for budget in (law.per_budget if law else ())
        if budget.resolved and budget.curve is not None
        for end in budget.sampled
        if math.isfinite(end)
    ]
    return max(ratios, default=None)


def settings_of(config: Any) -> Settings:
    """The harness's settings from configs/design.yaml; the laws are read by this command, and fill no gap in the table here."""
    from omegaconf import open_dict

    with open_dict(config):
        wanted = config.laws
        config.laws = None
        settings = Settings(config)
        config.laws = wanted
    return settings

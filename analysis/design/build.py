"""From laws and a budget to an architecture: C -> M, D -> M/N_a -> N_a -> N/N_a -> N -> d -> everything else (section 7).

Laws give the targets, limits move them (`constraints`), Eq. 3 and the published rounding rules (`harness.solver`) give the
architecture at the width that the law of d asks for, or at the median proxy where there is no such law. Heads, schedule, layout
and bill are the harness's own: the result is an `Experiment` that `harness.sweep` plans to the same run id.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.design.constraints import Aim, Limits, constrained
from analysis.design.excess import COMPONENTS, Excess, LossModel
from analysis.design.optimum import (
    DERIVED,
    GIVEN,
    RULE,
    Quantity,
    combined,
    given,
    m_over_na_at,
    n_over_na_at,
    needed,
    read_off,
)
from analysis.laws.records import NAN, LawsFile
from harness.accounting import count, score_flops
from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError, InfeasibleError
from harness.experiment import Experiment
from harness.measured import Measurements
from harness.resources import Estimate, Layout, estimate, layout
from harness.scales import Scale, budget_label
from harness.settings import Settings
from harness.solver import (
    Targets,
    feasible_widths,
    no_feasible_width,
    proxies_among,
    rounded,
)

FAR = 0.02
"""Relative distance of d from the law's at which it is pointed out."""

MOST_TRIES = 8
"""How often a limit is tightened until the rounded architecture keeps it."""


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Numbers that the user decides in the laws' place; None: the laws'."""

    m_over_na: float | None = None
    n_over_na: float | None = None
    hidden_size: int | None = None


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
    """Predicted loss of the built architecture above the laws' best, as a share; None without loss curves."""
    cost_of_limits: Excess | None
    """Predicted loss above the laws' best of the targets that the limits moved; None where none binds, or without loss curves."""
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
    def real_flops(self) -> float:
        """Of the whole run, with the output layer, as Megatron counts them."""
        return float(self.experiment.counts.megatron_flops_per_token) * self.experiment.tokens


def optima_at(
    settings: Settings, laws: LawsFile, where: str, compute: float, backbone: Backbone, base: Scale, fixed: Fixed
) -> dict[str, Quantity]:
    """The laws' recommendation at `compute` FLOPs; `base` fills in learning rate and batch where there is no law of them.

    Raises:
        ConfigError: a law that is needed is missing.
        InfeasibleError: a law leaves the possible region here.
    """
    size = needed(laws, where, "classical", ("flops_per_token",), compute, "flops_per_token")
    density = m_over_na_at(laws, where, compute) if fixed.m_over_na is None else given(fixed.m_over_na, "m_over_na")
    expansion = (
        n_over_na_at(laws, where, backbone, compute) if fixed.n_over_na is None else given(fixed.n_over_na, "n_over_na")
    )
    active = combined(
        size.value / density.value, [(size, 1), (density, -1)], _from("M / (M/N_a)", M=size, density=density)
    )
    total = combined(
        active.value * expansion.value,
        [(size, 1), (density, -1), (expansion, 1)],
        _from("N_a (N/N_a)", M=size, density=density, expansion=expansion),
    )
    share = density.mapped(lambda value: 1 - 6 / value, "")
    layers = combined(
        size.value * share.value / score_flops(backbone, 1.0), [(size, 1), (share, 1)], "(M - 6 N_a) / (6 S N_q d_qkv)"
    )
    rate = read_off(laws, "learning_rate", ("learning_rate",), compute)
    batch = read_off(laws, "batch_size", ("batch_tokens",), compute)
    rule = f"table and rule of backbone={settings.backbone_name} (harness/scales.py), as the laws have none"
    return {
        "flops_per_token": size,
        "tokens": size.mapped(lambda value: compute / value, "C / M"),
        "m_over_na": density,
        "active_params": active,
        "n_over_na": expansion,
        "total_params": total,
        "num_layers": layers,
        "learning_rate": rate or Quantity(value=base.learning_rate, origin=RULE, basis=rule),
        "batch_tokens": batch
        or Quantity(value=float(base.global_batch_size * backbone.seq_length), origin=RULE, basis=rule),
    }


def design(
    settings: Settings,
    laws: LawsFile,
    where: str,
    compute: float,
    *,
    limits: Limits | None = None,
    fixed: Fixed | None = None,
    measured: Measurements | None = None,
) -> Design:
    """The architecture that `laws` (read from `where`) recommend at `compute` FLOPs, within `limits`.

    `measured`: throughput of finished runs, for the bill; without like ones it rests on the cluster's assumed MFU.

    Raises:
        ConfigError: a law that is needed is missing, or a number of the user's cannot be used.
        InfeasibleError: no architecture keeps to the limits, or a law leaves the possible region.
    """
    limits, fixed = limits or Limits(), fixed or Fixed()
    (base,) = settings.choose_scales(compute)
    backbone = settings.backbone(base)
    optima = optima_at(settings, laws, where, compute, backbone, base, fixed)
    optima["hidden_size"] = _width(settings, laws, optima, backbone, compute, fixed)
    priced = _priced(laws, where, compute, backbone, optima, fixed)
    model = LossModel(laws, backbone, compute, priced)
    built = _built(settings, laws, compute, optima, backbone, model, limits, fixed)
    aim, backbone = built.aim, built.backbone
    if built.like != compute and (width := read_off(laws, "hidden_size", ("hidden_size",), built.like)):
        model = LossModel(laws, backbone, compute, {**priced, "hidden_size": width})
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
        tokens=settings.tokens(scale, backbone, built.architecture, spend_budget=aim.fixed_tokens is None)
        if aim.fixed_tokens is None
        else aim.fixed_tokens,
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
        cost_of_limits=model(aim.values()) if aim.binding else None,
        excess=model(
            {
                "flops_per_token": counts.flops_per_token,
                "m_over_na": counts.m_over_na,
                "n_over_na": counts.n_over_na,
                "hidden_size": built.architecture.hidden_size,
            }
        ),
        model=model,
        layout=placed,
        estimate=price,
        no_layout=problem,
        simulated=laws.simulated,
        published=any(law.source for law in laws.laws),
        notes=_notes(laws, optima, backbone, built, compute),
    )


def _from(formula: str, **parts: Quantity) -> str:
    """A formula, and which of its parts have no interval to pass on."""
    silent = [
        {"density": "M/N_a", "expansion": "N/N_a"}.get(name, name) for name, part in parts.items() if not part.known
    ]
    return formula + (f"; without the unknown uncertainty of {' and '.join(silent)}" if silent else "")


def _placed(
    settings: Settings, experiment: Experiment, measured: Measurements | None
) -> tuple[Layout | None, Estimate | None, str]:
    try:
        found = layout(experiment, settings.cluster)
    except ConfigError as error:
        return None, None, str(error)
    return found, estimate(experiment, experiment.counts, found, settings.cluster, measured), ""


def _budget_of_size(laws: LawsFile, flops: float, compute: float) -> float:
    """The budget whose optimal M is `flops`; `compute` itself without a law that says so."""
    law = laws.law("classical")
    relation = law.relation("flops_per_token") if law else None
    if relation is None or not relation.exponent.value or flops <= relation.floor:
        return compute
    ratio = (flops - relation.floor) / relation.at_reference.value
    return float(relation.reference * ratio ** (1 / relation.exponent.value))


def _width(
    settings: Settings,
    laws: LawsFile,
    optima: Mapping[str, Quantity],
    backbone: Backbone,
    compute: float,
    fixed: Fixed,
) -> Quantity:
    """d by its law, else the median proxy, at the ends of M/N_a's interval too."""
    if fixed.hidden_size is not None:
        return given(float(fixed.hidden_size), "hidden_size")
    found = read_off(laws, "hidden_size", ("hidden_size",), compute)
    if found is not None:
        return found
    density = optima["m_over_na"]

    def proxy(m_over_na: float) -> tuple[float, np.ndarray]:
        targets = Targets.from_ratios(
            backbone,
            flops_per_token=optima["flops_per_token"].value,
            m_over_na=m_over_na,
            n_over_na=optima["n_over_na"].value,
        )
        widths = feasible_widths(backbone, targets, settings.rules)
        if not len(widths):
            raise no_feasible_width(backbone, targets, settings.rules)
        return float(proxies_among(widths, np.array([0, len(widths)]), settings.rules)[0]), widths

    value, widths = proxy(density.value)
    ends = [value]
    for end in (density.low, density.high) if density.known else ():
        try:
            ends.append(proxy(end)[0])
        except InfeasibleError:  # at this end of the interval no width is feasible: it says nothing of d
            ends.append(NAN)
    return Quantity(
        value=value,
        low=min(ends) if len(ends) > 1 else NAN,
        high=max(ends) if len(ends) > 1 else NAN,
        origin=DERIVED,
        basis=f"{settings.rules.proxy.replace('_', ' ')} of {len(widths)} feasible widths, {widths[0]} to {widths[-1]}, as "
        "there is no law of d; the interval is that of M/N_a alone",
        extrapolation=density.extrapolation,
    )


def _priced(
    laws: LawsFile, where: str, compute: float, backbone: Backbone, optima: Mapping[str, Quantity], fixed: Fixed
) -> dict[str, Quantity]:
    """What the loss curves are centred on: the laws' own values, also where the user gave others."""
    found = {name: optima[name] for name in COMPONENTS if optima[name].origin != GIVEN}
    if found.get("hidden_size") is not None and found["hidden_size"].origin == DERIVED:  # the proxy is no optimum
        del found["hidden_size"]
    try:
        if fixed.m_over_na is not None:
            found["m_over_na"] = m_over_na_at(laws, where, compute)
        if fixed.n_over_na is not None:
            found["n_over_na"] = n_over_na_at(laws, where, backbone, compute)
    except (ConfigError, InfeasibleError):  # the laws say nothing of it: it is not priced, and named so
        pass
    if fixed.hidden_size is not None and (width := read_off(laws, "hidden_size", ("hidden_size",), compute)):
        found["hidden_size"] = width
    return found


@dataclass(frozen=True, kw_only=True)
class _Built:
    """The rounded architecture and what it was built from."""

    aim: Aim
    backbone: Backbone
    targets: Targets
    widths: np.ndarray
    architecture: Architecture
    like: float
    """The budget whose heads and d it has: the one whose optimal M is the aim's."""


def _built(
    settings: Settings,
    laws: LawsFile,
    compute: float,
    optima: Mapping[str, Quantity],
    backbone: Backbone,
    model: LossModel,
    limits: Limits,
    fixed: Fixed,
) -> _Built:
    """The architecture at the feasible width nearest to the wanted one that keeps the limits after rounding."""
    tight, said = limits, constrained(limits, compute, optima, backbone, model).binding
    for _ in range(MOST_TRIES):
        aim = constrained(tight, compute, optima, backbone, model)
        moved = not math.isclose(aim.flops_per_token, optima["flops_per_token"].value, rel_tol=1e-9)
        like = _budget_of_size(laws, aim.flops_per_token, compute) if moved else compute
        own = settings.backbone(settings.choose_scales(like)[0]) if moved else backbone
        targets = Targets.from_ratios(
            own, flops_per_token=aim.flops_per_token, m_over_na=aim.m_over_na, n_over_na=aim.n_over_na
        )
        widths = feasible_widths(own, targets, settings.rules)
        if not len(widths):
            raise no_feasible_width(own, targets, settings.rules)
        wanted = _wanted_width(settings, laws, like, widths, fixed)
        over = math.inf
        for width in sorted(widths.tolist(), key=lambda one: abs(math.log(one / wanted))):
            architecture = rounded(own, targets, width, settings.rules)
            misses = _over(own, architecture, limits)
            if misses <= 1:
                return _Built(
                    aim=replace(aim, binding=said),
                    backbone=own,
                    targets=targets,
                    widths=widths,
                    architecture=architecture,
                    like=like,
                )
            over = min(over, misses)
        tight = replace(
            tight,
            **{
                name: value / over
                for name in ("max_active_params", "max_total_params")
                if (value := getattr(tight, name)) is not None
            },
        )
    raise InfeasibleError(
        f"no rounded architecture keeps max_active_params={limits.max_active_params}, "
        f"max_total_params={limits.max_total_params}: "
        f"the nearest is {over:.3f} times over; allow that much more, or finer steps (rules.hidden_size_step, "
        "rules.moe_ffn_hidden_size_step)"
    )


def _over(backbone: Backbone, architecture: Architecture, limits: Limits) -> float:
    """By which factor the built architecture exceeds a limit; 1 or less: it keeps all."""
    counts = count(backbone, architecture)
    pairs = ((counts.active_params, limits.max_active_params), (counts.total_params, limits.max_total_params))
    return max((number / most for number, most in pairs if most is not None), default=0.0)


def _wanted_width(settings: Settings, laws: LawsFile, compute: float, widths: np.ndarray, fixed: Fixed) -> float:
    """d: the user's, the law's, or the proxy's."""
    if fixed.hidden_size is not None:
        if fixed.hidden_size not in widths:
            near = widths[np.argmin(np.abs(widths - fixed.hidden_size))]
            raise InfeasibleError(
                f"hidden_size={fixed.hidden_size} is not feasible here: {len(widths)} multiples of "
                f"{settings.rules.hidden_size_step} between {widths[0]} and {widths[-1]} are, the nearest is {near}"
            )
        return float(fixed.hidden_size)
    found = read_off(laws, "hidden_size", ("hidden_size",), compute)
    if found is not None:
        return found.value
    return float(proxies_among(widths, np.array([0, len(widths)]), settings.rules)[0])


def _notes(
    laws: LawsFile, optima: Mapping[str, Quantity], backbone: Backbone, built: _Built, compute: float
) -> tuple[str, ...]:
    notes = []
    if laws.simulated:
        notes.append("the laws were fitted to SIMULATED losses")
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
        built = Settings(config)
        config.laws = wanted
    return built

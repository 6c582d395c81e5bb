"""What the laws recommend at a budget, number by number (section 7): C -> M, D -> M/N_a -> N_a -> N/N_a -> N -> d."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from analysis.design.draws import DRAWS, Chains, from_interval
from analysis.design.optimum import (
    GIVEN,
    RULE,
    Quantity,
    derived,
    given,
    m_over_na_at,
    n_over_na_at,
    needed,
    read_off,
    with_draws,
)
from analysis.laws.budget import Array
from analysis.laws.records import LawsFile
from harness.accounting import score_flops
from harness.architecture import Backbone
from harness.errors import ConfigError, InfeasibleError
from harness.scales import Scale
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, feasible_widths_of, no_feasible_width, proxies_among, proxy_of


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Numbers that the user decides in the laws' place; None: the laws'."""

    m_over_na: float | None = None
    n_over_na: float | None = None
    hidden_size: int | None = None


PROXIES = 100
"""Draws that the interval of a proxy is taken from: each costs a solution over all widths."""

NEAR = 1.5
"""How many times outside the laws' budgets a budget is before errors say so."""


def far_from_laws(error: InfeasibleError, compute: float, optima: Mapping[str, Quantity]) -> InfeasibleError:
    """`error`, with how far the budget is outside those of the laws, where that, and nothing given, is its likely cause."""
    ratio = max(quantity.extrapolation for quantity in optima.values())
    if ratio <= NEAR or any(quantity.origin == GIVEN for quantity in optima.values()):
        return error
    return InfeasibleError(
        f"at {compute:g} FLOPs, {ratio:.2g} times outside the laws' budgets, they lead to no architecture: {error}"
    )


def optima_at(
    settings: Settings,
    laws: LawsFile,
    where: str,
    compute: float,
    backbone: Backbone,
    base: Scale,
    fixed: Fixed,
    chains: Chains,
) -> dict[str, Quantity]:
    """Every number that the laws recommend at `compute` FLOPs, by name; `base` fills in learning rate and batch without a law.

    Raises:
        ConfigError: a law that is needed is missing.
        InfeasibleError: a law leaves the possible region here.
    """
    found = {"flops_per_token": needed(laws, where, "classical", ("flops_per_token",), compute, "flops_per_token")}
    found["m_over_na"] = (
        m_over_na_at(laws, where, compute) if fixed.m_over_na is None else given(fixed.m_over_na, "m_over_na")
    )
    found["n_over_na"] = (
        n_over_na_at(laws, where, backbone, compute) if fixed.n_over_na is None else given(fixed.n_over_na, "n_over_na")
    )
    found = {name: possible(quantity, name, chains, compute, backbone) for name, quantity in found.items()}
    size, density, expansion = found.values()
    parts = {"M": size, "M/N_a": density}
    score = score_flops(backbone, 1.0)
    rate = read_off(laws, "learning_rate", ("learning_rate",), compute)
    batch = read_off(laws, "batch_size", ("batch_tokens",), compute)
    rule = f"table and rule of backbone={settings.backbone_name} (harness/scales.py), as the laws have none"
    found |= {
        "tokens": derived(lambda m: compute / m, {"M": size}, "C / M"),
        "active_params": derived(lambda m, ratio: m / ratio, parts, "M / (M/N_a)"),
        "total_params": derived(lambda m, ratio, times: m / ratio * times, parts | {"N/N_a": expansion}, "N_a (N/N_a)"),
        "num_layers": derived(lambda m, ratio: m * (1 - 6 / ratio) / score, parts, "(M - 6 N_a) / (6 S N_q d_qkv)"),
        "learning_rate": rate or Quantity(value=base.learning_rate, origin=RULE, basis=rule),
        "batch_tokens": batch
        or Quantity(value=float(base.global_batch_size * backbone.seq_length), origin=RULE, basis=rule),
    }
    return found | {"hidden_size": _width(settings, laws, found, backbone, compute, fixed, chains)}


def possible(quantity: Quantity, name: str, chains: Chains, compute: float, backbone: Backbone) -> Quantity:
    """`quantity` (of `COMPONENTS`) with the draws of its law's curves; without curves, of its own interval, if it has one."""
    if quantity.origin == GIVEN:
        return quantity
    drawn = chains.at(name, compute, backbone)
    if drawn is not None:
        return with_draws(replace(quantity, noise=(quantity.low, quantity.high)), drawn.optimum)
    if not quantity.known:
        return quantity
    ends = quantity.value, quantity.low, quantity.high
    return with_draws(quantity, from_interval(name, *ends, backbone.max_n_over_na))


def _width(
    settings: Settings,
    laws: LawsFile,
    optima: Mapping[str, Quantity],
    backbone: Backbone,
    compute: float,
    fixed: Fixed,
    chains: Chains,
) -> Quantity:
    """d by its law, else the median proxy of M, M/N_a and N/N_a, and of a part of their draws."""
    if fixed.hidden_size is not None:
        return given(float(fixed.hidden_size), "hidden_size")
    found = read_off(laws, "hidden_size", ("hidden_size",), compute)
    if found is not None:
        return possible(found, "hidden_size", chains, compute, backbone)
    parts = {"M": optima["flops_per_token"], "M/N_a": optima["m_over_na"], "N/N_a": optima["n_over_na"]}
    flops, density, expansion = (part.value for part in parts.values())
    targets = Targets.from_ratios(backbone, flops_per_token=flops, m_over_na=density, n_over_na=expansion)
    widths = feasible_widths(backbone, targets, settings.rules)
    if not len(widths):
        raise far_from_laws(no_feasible_width(backbone, targets, settings.rules), compute, optima)
    proxy = float(proxy_of(widths, settings.rules))
    basis = (
        f"{settings.rules.proxy.replace('_', ' ')} of {len(widths)} feasible widths, {widths[0]} to {widths[-1]}, as there is "
        "no law of d; how good a proxy is, its interval does not hold"
    )
    return derived(lambda *_: proxy, parts, basis, drawn=lambda *drawn: _proxies(settings, backbone, *drawn))


def _proxies(settings: Settings, backbone: Backbone, *drawn: float | Array) -> Array:
    """The proxies at some draws of M, M/N_a and N/N_a, where a width is feasible; shape (n,), 0 where they reach too far."""
    flops, density, expansion = (np.broadcast_to(one, (DRAWS,))[:PROXIES] for one in drawn)
    active = flops / density
    targets = Targets(flops_per_token=flops, active_params=active, total_params=active * expansion)  # type: ignore[arg-type]
    try:
        found = proxies_among(*feasible_widths_of(backbone, targets, settings.rules), settings.rules)
    except InfeasibleError:  # more widths than are ever tried: the draws say nothing of d
        return np.empty(0)
    return found[found > 0].astype(float)


def own_optima(laws: LawsFile, where: str, compute: float, backbone: Backbone, chains: Chains) -> dict[str, Quantity]:
    """What the loss curves are centred on: the laws' own M, M/N_a, N/N_a and d, whatever the user gave; those that there are."""
    readers: dict[str, Callable[[], Quantity | None]] = {
        "flops_per_token": lambda: read_off(laws, "classical", ("flops_per_token",), compute),
        "m_over_na": lambda: m_over_na_at(laws, where, compute),
        "n_over_na": lambda: n_over_na_at(laws, where, backbone, compute),
        "hidden_size": lambda: read_off(laws, "hidden_size", ("hidden_size",), compute),
    }
    found = {}
    for name, read in readers.items():
        try:
            quantity = read()
        except (ConfigError, InfeasibleError):  # the laws say nothing of it: it is not priced, and named so
            continue
        if quantity is not None:
            found[name] = possible(quantity, name, chains, compute, backbone)
    return found

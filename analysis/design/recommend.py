"""What the laws recommend at a budget, number by number (section 7): C -> M, D -> M/N_a -> N_a -> N/N_a -> N -> d."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.design.excess import COMPONENTS
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
from harness.accounting import score_flops
from harness.architecture import Backbone
from harness.errors import ConfigError, InfeasibleError
from harness.scales import Scale
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, no_feasible_width, proxy_of


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """Numbers that the user decides in the laws' place; None: the laws'."""

    m_over_na: float | None = None
    n_over_na: float | None = None
    hidden_size: int | None = None


NEAR = 1.5
"""How many times outside the laws' budgets a budget is before errors say so."""


def far_from_laws(error: InfeasibleError, compute: float, optima: Mapping[str, Quantity]) -> InfeasibleError:
    """`error`, with how far the budget is outside those of the laws, where that is its likely cause."""
    ratio = max(quantity.extrapolation for quantity in optima.values())
    if ratio <= NEAR:
        return error
    return InfeasibleError(
        f"at {compute:g} FLOPs, {ratio:.2g} times outside the laws' budgets, they lead to no architecture: {error}"
    )


def optima_at(
    settings: Settings, laws: LawsFile, where: str, compute: float, backbone: Backbone, base: Scale, fixed: Fixed
) -> dict[str, Quantity]:
    """Every number that the laws recommend at `compute` FLOPs, by name; `base` fills in learning rate and batch without a law.

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
    found = {
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
    return found | {"hidden_size": _width(settings, laws, found, backbone, compute, fixed)}


def _from(formula: str, **parts: Quantity) -> str:
    """A formula, and which of its parts have no interval to pass on."""
    silent = [
        {"density": "M/N_a", "expansion": "N/N_a"}.get(name, name) for name, part in parts.items() if not part.known
    ]
    return formula + (f"; without the unknown uncertainty of {' and '.join(silent)}" if silent else "")


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
            raise far_from_laws(no_feasible_width(backbone, targets, settings.rules), compute, optima)
        return float(proxy_of(widths, settings.rules)), widths

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


def priced(
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

"""From targets to whole numbers: the architecture at the feasible width that the law of d asks for, within the limits.

Eq. 3 and the published rounding rules are `harness.solver`'s. Where limits move M, heads and d are those of the budget whose
optimal M the model then has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from analysis.design.constraints import Aim, Limits, constrained
from analysis.design.excess import LossModel
from analysis.design.optimum import Quantity, read_off
from analysis.design.recommend import Fixed
from analysis.laws.records import LawsFile
from harness.accounting import count
from harness.architecture import Architecture, Backbone
from harness.errors import InfeasibleError
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, no_feasible_width, proxy_of, rounded

MOST_TRIES = 8
"""How often a limit is tightened until the rounded architecture keeps it."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """The rounded architecture and what it was built from."""

    aim: Aim
    backbone: Backbone
    targets: Targets
    widths: np.ndarray
    architecture: Architecture
    like: float
    """The budget whose heads and d it has: the one whose optimal M is the aim's."""


def build_within(
    settings: Settings,
    laws: LawsFile,
    compute: float,
    optima: Mapping[str, Quantity],
    backbone: Backbone,
    model: LossModel,
    limits: Limits,
    fixed: Fixed,
) -> Built:
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
            missing = no_feasible_width(own, targets, settings.rules)
            raise (
                _unreachable(limits, aim.flops_per_token, optima["flops_per_token"].value, missing)
                if moved
                else missing
            )
        wanted = _wanted_width(settings, laws, like, widths, fixed)
        over = math.inf
        for width in sorted(widths.tolist(), key=lambda one: abs(math.log(one / wanted))):
            architecture = rounded(own, targets, width, settings.rules)
            misses = _over(own, architecture, limits)
            if misses <= 1:
                return Built(
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
        f"max_total_params={limits.max_total_params}: the nearest is {over:.3f} times over; allow that much more, or finer "
        "steps (rules.hidden_size_step, rules.moe_ffn_hidden_size_step)"
    )


def _unreachable(limits: Limits, flops: float, wanted: float, missing: InfeasibleError) -> InfeasibleError:
    """No architecture is as small (or as large) as the limits ask: they are named, with how far they move M."""
    given = {one.name: getattr(limits, one.name) for one in fields(limits)}
    asked = ", ".join(f"{name}={value:g}" for name, value in given.items() if value is not None)
    factor = max(flops / wanted, wanted / flops)
    return InfeasibleError(
        f"{asked} cannot be kept: it takes M from {wanted:.4g} to {flops:.4g} FLOPs a token "
        f"({factor:.3g} times), and there {missing}"
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
    return float(proxy_of(widths, settings.rules))


def _budget_of_size(laws: LawsFile, flops: float, compute: float) -> float:
    """The budget whose optimal M is `flops`; `compute` itself without a law that says so."""
    law = laws.law("classical")
    relation = law.relation("flops_per_token") if law else None
    if relation is None or not relation.exponent.value or flops <= relation.floor:
        return compute
    ratio = (flops - relation.floor) / relation.at_reference.value
    return float(relation.reference * ratio ** (1 / relation.exponent.value))

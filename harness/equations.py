"""The paper's Eq. 3, solved: from targets (M, N_a, N) and one structural quantity to a real-valued architecture.

The targets leave one degree of freedom (section 4.2.2). Whatever fills it (a width, a width ratio, a share of dense layers,
a granularity), `width_for` gives the hidden size d that it means, and `solve` the rest. With A = 2 (N_q + N_kv) d_qkv,
s shared experts, X = (N - N_a) / (3 (N_e - K)) = d d_m L_m and L = (M - 6 N_a) / (6 S N_q d_qkv), each quantity turns
N_a = A d L + 3 d d_d L_d + 3 d d_m (K + s) L_m into ``square d^2 + A L d = constant`` with one positive root.

All functions take numbers or numpy arrays, of targets and of widths alike, that broadcast against each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np

from harness.accounting import attention_params, score_flops
from harness.architecture import Backbone
from harness.errors import ConfigError, InfeasibleError, nearest

MIN_M_OVER_NA = 6.0
"""Lower bound of M/N_a: 6 FLOPs per active parameter, with no attention scores at all (Eq. 5)."""

MOST_FLOPS = 1e18
"""Largest M, FLOPs per token; far beyond any model, and within what 64-bit integers count."""

QUANTITIES = {
    "hidden_size": "d",
    "width_ratio": "(K + shared) d_m / d",
    "granularity": "d / d_m",
    "dense_share": "L_d / L",
}
"""What may fill the last degree of freedom, by its name in configurations: the symbol for people."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What an architecture is to cost. Each a number, or an array of shape (p,) for p points (see `stack`)."""

    flops_per_token: float
    """M, FLOPs."""
    active_params: float
    """N_a."""
    total_params: float
    """N."""

    @classmethod
    def from_ratios(cls, backbone: Backbone, *, flops_per_token: float, m_over_na: float, n_over_na: float) -> Self:
        """Targets at M and the two ratios of section 5.1.

        Raises:
            InfeasibleError: a ratio is outside its bounds, which no architecture of this backbone can reach.
        """
        if not 0 < flops_per_token <= MOST_FLOPS:
            raise InfeasibleError(
                f"M={flops_per_token:.10g}: FLOPs per token must be above 0 and at most {MOST_FLOPS:g}"
            )
        if not math.isfinite(m_over_na):
            raise InfeasibleError(
                f"m_over_na={m_over_na:.10g}: a finite ratio always above {MIN_M_OVER_NA:g} is wanted"
            )
        if not m_over_na > MIN_M_OVER_NA:
            raise InfeasibleError(
                f"m_over_na={m_over_na:.10g}: M/N_a is always above {MIN_M_OVER_NA:g}, since each active parameter costs 6 "
                "FLOPs a token and attention scores come on top; choose a larger ratio"
            )
        if not 1 < n_over_na < backbone.max_n_over_na:
            raise InfeasibleError(
                f"n_over_na={n_over_na:.10g}: N/N_a lies strictly between 1 and (N_e + shared)/(K + shared) = "
                f"{backbone.num_experts + backbone.num_shared_experts}/{backbone.active_experts} = "
                f"{backbone.max_n_over_na:.4g} on this backbone; choose a ratio inside, or more experts"
            )
        active = flops_per_token / m_over_na
        return cls(flops_per_token=flops_per_token, active_params=active, total_params=active * n_over_na)

    @classmethod
    def stack(cls, targets: Sequence["Targets"]) -> Self:
        """Many targets as one, with arrays of shape (p,)."""
        columns = np.array([(t.flops_per_token, t.active_params, t.total_params) for t in targets]).reshape(-1, 3).T
        return cls(
            flops_per_token=cast(Any, columns[0]),
            active_params=cast(Any, columns[1]),
            total_params=cast(Any, columns[2]),
        )

    def deviations(self, flops_per_token: Any, active_params: Any, total_params: Any) -> tuple[Any, Any, Any]:
        """Relative deviations, with sign, of M, N_a and N from these targets; elementwise over arrays."""
        return (
            flops_per_token / self.flops_per_token - 1,
            active_params / self.active_params - 1,
            total_params / self.total_params - 1,
        )

    def take(self, index: Any) -> "Targets":
        """Of stacked targets, those that a numpy index (integers, a mask, a repetition) picks."""
        return Targets(
            flops_per_token=cast(Any, self.flops_per_token)[index],
            active_params=cast(Any, self.active_params)[index],
            total_params=cast(Any, self.total_params)[index],
        )


@dataclass(frozen=True, kw_only=True)
class Solution:
    """The real-valued solution of Eq. 3 at one width, or (as arrays) at many."""

    hidden_size: Any
    num_layers: Any
    """L; the same for every width."""
    num_dense_layers: Any
    """L_d, negative where attention and experts alone exceed N_a."""
    num_moe_layers: Any
    """L_m, not positive where even dense layers alone stay below N_a."""
    moe_ffn_hidden_size: Any
    """d_m; meaningless where L_m <= 0."""


def solve(backbone: Backbone, targets: Targets, hidden_size: Any) -> Solution:
    """Solve Eq. 3 for L, L_d, L_m and d_m at `hidden_size` (a number, or an array of any shape)."""
    d = np.asarray(hidden_size, dtype=float)
    layers = num_layers(backbone, targets)
    area = _expert_area(backbone, targets)
    attention = attention_params(backbone, d) * layers
    with np.errstate(divide="ignore", invalid="ignore"):
        if backbone.ffn_aligned:
            expert = (targets.active_params - attention) / (3 * d * backbone.active_experts * layers)
            moe = area / (d * expert)
        else:
            left = _left_for_dense(backbone, targets)
            moe = layers - (left - attention) / (3 * backbone.ffn_ratio * d**2)
            expert = area / (d * moe)
    return Solution(
        hidden_size=d, num_layers=layers, num_dense_layers=layers - moe, num_moe_layers=moe, moe_ffn_hidden_size=expert
    )


def width_for(backbone: Backbone, targets: Targets, quantity: str, value: float) -> float:
    """The hidden size d, before rounding, at which `quantity` (a key of `QUANTITIES`) is `value`.

    Raises:
        ConfigError: there is no such quantity.
        InfeasibleError: no architecture with these targets has this value; the message has the bound.
    """
    if quantity not in QUANTITIES:
        raise ConfigError(
            f"{quantity} cannot be the free quantity: choose one of {', '.join(QUANTITIES)}{nearest(quantity, QUANTITIES)}"
        )
    if not 0 <= value < math.inf or (value == 0 and quantity != "dense_share"):
        least = "at least 0" if quantity == "dense_share" else "positive"
        raise InfeasibleError(f"{quantity}={value:.10g}: {QUANTITIES[quantity]} must be {least} and finite")
    lower, upper = width_bounds(backbone, targets)
    if quantity == "hidden_size":
        if not lower < value <= upper * (1 + 1e-12):
            raise InfeasibleError(f"hidden_size={value:.10g}: {_widths_between(backbone, targets)}")
        return float(value)
    if quantity == "dense_share":
        _check_share(backbone, targets, value)
    layers = num_layers(backbone, targets)
    root = _positive_root(
        _square(backbone, quantity, value, layers),
        attention_params(backbone, 1.0) * layers,
        _constant(backbone, targets, quantity, value),
    )
    if root > upper * (1 + 1e-12):  # more than all layers would have to be MoE
        end = quantity_at(backbone, targets, quantity, upper)
        bound = "at least" if quantity == "width_ratio" else "at most"
        raise InfeasibleError(
            f"{quantity}={value:.10g}: {QUANTITIES[quantity]} is {bound} {end:.6g} with these targets, where all "
            f"{layers:.2f} layers are MoE; choose {'more' if quantity == 'width_ratio' else 'less'}"
        )
    return float(min(root, upper))


def quantity_at(backbone: Backbone, targets: Targets, quantity: str, hidden_size: float) -> float:
    """The value of `quantity` in the real-valued solution at a width; `width_for` inverts it."""
    solution = solve(backbone, targets, hidden_size)
    values = {
        "hidden_size": hidden_size,
        "width_ratio": backbone.active_experts * solution.moe_ffn_hidden_size / hidden_size,
        "granularity": hidden_size / solution.moe_ffn_hidden_size,
        "dense_share": solution.num_dense_layers / solution.num_layers,
    }
    return float(values[quantity])


def width_bounds(backbone: Backbone, targets: Targets) -> tuple[float, float]:
    """The interval (lower, upper] of widths d with L_d >= 0 and L_m > 0, before rounding.

    L_d >= 0 means that attention and experts fit into N_a; L_m > 0 that all layers dense would exceed it (where d_d is
    aligned with the experts it holds at every width).

    Raises:
        InfeasibleError: the interval is empty; with the bound of Eq. 5 that is violated.
    """
    m_over_na, n_over_na = targets.flops_per_token / targets.active_params, targets.total_params / targets.active_params
    Targets.from_ratios(backbone, flops_per_token=targets.flops_per_token, m_over_na=m_over_na, n_over_na=n_over_na)
    lower, upper = width_intervals(backbone, targets)
    return float(lower), float(upper)


def width_intervals(backbone: Backbone, targets: Targets) -> tuple[Any, Any]:
    """`width_bounds` of targets that are known to respect Eq. 5, elementwise over arrays."""
    layers = num_layers(backbone, targets)
    left = _left_for_dense(backbone, targets)
    attention = attention_params(backbone, 1.0) * layers
    lower = 0.0 * left if backbone.ffn_aligned else _positive_root(3 * backbone.ffn_ratio * layers, attention, left)
    return lower, left / attention


def num_layers(backbone: Backbone, targets: Targets) -> Any:
    """L = (M - 6 N_a) / (6 S N_q d_qkv), the same at every width."""
    return (targets.flops_per_token - 6 * targets.active_params) / score_flops(backbone, 1)


def _expert_area(backbone: Backbone, targets: Targets) -> Any:
    """X = d d_m L_m, from N - N_a = 3 (N_e - K) X."""
    return (targets.total_params - targets.active_params) / (3 * backbone.idle_experts)


def _left_for_dense(backbone: Backbone, targets: Targets) -> Any:
    """N_a - 3 (K + s) X: active parameters outside the experts."""
    return targets.active_params - 3 * backbone.active_experts * _expert_area(backbone, targets)


def _square(backbone: Backbone, quantity: str, value: float, layers: Any) -> Any:
    """The coefficient of d^2."""
    aligned, dense = backbone.ffn_aligned, 3 * backbone.ffn_ratio * layers
    if quantity == "dense_share":
        return 0.0 if aligned else dense * value
    return 3 * _width_ratio(backbone, quantity, value) * layers if aligned else dense


def _constant(backbone: Backbone, targets: Targets, quantity: str, value: float) -> Any:
    """The constant on the other side."""
    experts = 3 * backbone.active_experts * _expert_area(backbone, targets)
    if backbone.ffn_aligned:
        return targets.active_params - (experts / (1 - value) if quantity == "dense_share" else 0.0)
    left = targets.active_params - experts
    return (
        left
        if quantity == "dense_share"
        else left + backbone.ffn_ratio * experts / _width_ratio(backbone, quantity, value)
    )


def _width_ratio(backbone: Backbone, quantity: str, value: float) -> float:
    """(K + s) d_m / d, of which the granularity d / d_m is another way to speak."""
    return value if quantity == "width_ratio" else backbone.active_experts / value


def _check_share(backbone: Backbone, targets: Targets, share: float) -> None:
    """Refuse a share of dense layers that leaves no MoE layer, or (aligned) nothing for attention."""
    moe = 3 * backbone.active_experts * _expert_area(backbone, targets) / targets.active_params
    most = float(1 - moe) if backbone.ffn_aligned else 1.0
    if not share < most:
        why = (
            f"where d_d = (K + shared) d_m and {moe:.4g} of N_a lies in experts, beyond that nothing is left for attention"
            if backbone.ffn_aligned
            else "beyond that no layer is MoE"
        )
        raise InfeasibleError(f"dense_share={share:.10g}: L_d / L must be below {most:.6g} ({why}); choose less")


def _widths_between(backbone: Backbone, targets: Targets) -> str:
    lower, upper = width_bounds(backbone, targets)
    return f"widths above {lower:.1f} (where no MoE layer is left) up to {upper:.1f} (where no dense one is) meet these targets"


def _positive_root(square: Any, linear: Any, constant: Any) -> Any:
    """The positive d with square d^2 + linear d = constant, in the form that loses no digits and allows square = 0."""
    return 2 * constant / (linear + np.sqrt(linear**2 + 4 * square * constant))

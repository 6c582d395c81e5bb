"""From targets (M, N_a, N) and a width d to an architecture: the paper's Eq. 3 solved, then rounded as its tables are.

The paper leaves one degree of freedom and fills it with d (in Appendix E with the width ratio: `width_at_ratio`). `solve`
gives the real-valued solution, `rounded` the architecture that is trained, `feasible_widths` the widths whose rounded
architectures meet the targets, and `proxy_width` the one that stands for all of them (section 4.3). The rounding rules and
the tolerance are read off the published tables: with them every published architecture comes out.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from harness.accounting import active_params, attention_params, idle_params, score_flops
from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError, InfeasibleError

MIN_M_OVER_NA = 6.0
"""Lower bound of M/N_a: 6 FLOPs per active parameter, with no attention scores at all (Eq. 5)."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What an architecture is to cost."""

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


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How real-valued solutions become architectures; the defaults are the published ones."""

    hidden_size_step: int = 8
    """d is a multiple of it."""
    moe_ffn_hidden_size_step: int = 8
    """d_m is the nearest multiple of it, at least one."""
    tolerance: float = 0.10
    """M, N_a and N of the rounded architecture may each be this far off, relatively. (The text says 5%, the tables 10%.)"""

    def __post_init__(self) -> None:
        if self.hidden_size_step < 1 or self.moe_ffn_hidden_size_step < 1 or not self.tolerance > 0:
            raise ConfigError(
                f"rules: steps {self.hidden_size_step} and {self.moe_ffn_hidden_size_step}, tolerance {self.tolerance:g}: "
                "steps must be at least 1, and the tolerance above 0"
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
    layers = _num_layers(backbone, targets)
    area = _expert_area(backbone, targets)
    attention = attention_params(backbone, d) * layers
    with np.errstate(divide="ignore", invalid="ignore"):
        if backbone.ffn_aligned:
            expert = (targets.active_params - attention) / (3 * d * backbone.active_experts * layers)
            moe = area / (d * expert)
        else:
            dense = (targets.active_params - attention - 3 * backbone.active_experts * area) / (
                3 * backbone.ffn_ratio * d**2
            )
            moe = layers - dense
            expert = area / (d * moe)
    return Solution(
        hidden_size=d, num_layers=layers, num_dense_layers=layers - moe, num_moe_layers=moe, moe_ffn_hidden_size=expert
    )


def width_at_ratio(backbone: Backbone, targets: Targets, ratio: float) -> float:
    """The width d at which (K + shared) d_m / d = `ratio`, before rounding (Appendix E).

    The positive root of 3 gamma L d^2 + A L d - (N_a - 3 (K+1) X + 3 gamma (K+1) X / ratio) = 0, where A d is
    `attention_params` and X = d d_m L_m.

    Raises:
        InfeasibleError: the ratio is not positive, L_m would exceed L (the ratio is too small), or the backbone aligns
            d_d with the experts, which leaves no such freedom.
    """
    if not ratio > 0:
        raise InfeasibleError(f"(K + shared) d_m / d = {ratio:g}: the ratio must be positive")
    if backbone.ffn_aligned:
        raise InfeasibleError(
            "(K + shared) d_m / d cannot be chosen where d_d = (K + shared) d_m (backbone.ffn_aligned)"
        )
    layers, area = _num_layers(backbone, targets), _expert_area(backbone, targets)
    active, gamma = backbone.active_experts, backbone.ffn_ratio
    constant = targets.active_params - 3 * active * area + 3 * gamma * active * area / ratio
    root = _positive_root(3 * gamma * layers, attention_params(backbone, 1.0) * layers, constant)
    _, upper = width_bounds(backbone, targets)
    if root > upper:
        least = float(active * solve(backbone, targets, upper).moe_ffn_hidden_size / upper)
        raise InfeasibleError(
            f"(K + shared) d_m / d = {ratio:g} is too small: with all {layers:.2f} layers MoE it is {least:.4g}; choose more"
        )
    return root


def width_bounds(backbone: Backbone, targets: Targets) -> tuple[float, float]:
    """The open interval of widths d with L_d >= 0 and L_m > 0, before rounding.

    L_d >= 0 means that attention and experts fit into N_a; L_m > 0 that all layers dense would exceed it (where d_d is
    aligned with the experts it holds at every width).

    Raises:
        InfeasibleError: the interval is empty.
    """
    layers = _num_layers(backbone, targets)
    left = targets.active_params - 3 * backbone.active_experts * _expert_area(backbone, targets)
    attention = attention_params(backbone, 1.0) * layers
    if left <= 0 or layers <= 0:
        raise InfeasibleError(
            f"M={targets.flops_per_token:.4g}, N_a={targets.active_params:.4g}, N={targets.total_params:.4g} "
            "leave no parameters for attention: lower N/N_a or raise M/N_a"
        )
    lower = 0.0 if backbone.ffn_aligned else _positive_root(3 * backbone.ffn_ratio * layers, attention, left)
    return lower, left / attention


def feasible_widths(backbone: Backbone, targets: Targets, rules: Rules) -> np.ndarray:
    """All widths, ascending, whose rounded architecture meets the targets; may be empty. Shape (n,), int.

    A width is feasible when the unrounded L_d >= 0 and L_m > 0, and M, N_a and N of the rounded architecture are each
    within `rules.tolerance` of their targets.
    """
    lower, upper = width_bounds(backbone, targets)
    step = rules.hidden_size_step
    widths = np.arange(max(1, math.floor(lower / step)), math.ceil(upper / step) + 1) * step
    solution = solve(backbone, targets, widths)
    inside = (solution.num_dense_layers >= 0) & (solution.num_moe_layers > 0)
    widths, solution = widths[inside], solve(backbone, targets, widths[inside])
    good = worst_deviation(backbone, targets, widths, *_round(solution, rules)) <= rules.tolerance
    return np.asarray(widths[good])


def worst_deviation(backbone: Backbone, targets: Targets, d: Any, l_dense: Any, l_moe: Any, d_expert: Any) -> Any:
    """Largest relative deviation of M, N_a and N from their targets; elementwise over arrays."""
    active = active_params(backbone, d, l_dense, l_moe, _ffn(backbone, d, d_expert), d_expert)
    total = active + idle_params(backbone, d, l_moe, d_expert)
    flops = 6 * active + score_flops(backbone, l_dense + l_moe)
    return np.maximum.reduce(
        [
            np.abs(flops / targets.flops_per_token - 1),
            np.abs(active / targets.active_params - 1),
            np.abs(total / targets.total_params - 1),
        ]
    )


def proxy_width(backbone: Backbone, targets: Targets, rules: Rules) -> int:
    """The width that stands for all: the lower median of the feasible ones (section 4.3).

    Raises:
        InfeasibleError: no width is feasible.
    """
    widths = feasible_widths(backbone, targets, rules)
    if not len(widths):
        lower, upper = width_bounds(backbone, targets)
        raise InfeasibleError(
            f"no width is feasible for M={targets.flops_per_token:.5g}, "
            f"M/N_a={targets.flops_per_token / targets.active_params:.8g}, "
            f"N/N_a={targets.total_params / targets.active_params:.8g}: of the multiples of {rules.hidden_size_step} between "
            f"{lower:.1f} and {upper:.1f} none gives M, N_a and N within {rules.tolerance:.0%} of the targets after rounding; "
            "change a ratio, or allow a larger tolerance"
        )
    return int(widths[(len(widths) - 1) // 2])


def rounded(backbone: Backbone, targets: Targets, hidden_size: int, rules: Rules) -> Architecture:
    """The architecture at `hidden_size` by the rounding rules, whether or not it meets the tolerance.

    L_d and L_m round to the nearest integer (half up), each at least 1; d_m comes from the unrounded L_m and rounds to the
    nearest multiple of its step.

    Raises:
        InfeasibleError: L_m is not positive at this width, so that there is no expert width.
    """
    solution = solve(backbone, targets, hidden_size)
    if not solution.num_moe_layers > 0:
        lower, upper = width_bounds(backbone, targets)
        raise InfeasibleError(
            f"hidden_size={hidden_size} leaves no MoE layers (L_m = {float(solution.num_moe_layers):.2f}): widths between "
            f"{lower:.1f} and {upper:.1f} do"
        )
    dense, moe, expert = (int(value) for value in _round(solution, rules))
    return Architecture(
        hidden_size=int(hidden_size),
        num_dense_layers=dense,
        num_moe_layers=moe,
        ffn_hidden_size=int(_ffn(backbone, hidden_size, expert)),
        moe_ffn_hidden_size=expert,
    )


def _positive_root(square: float, linear: float, constant: float) -> float:
    """The positive d with square d^2 + linear d = constant."""
    return (math.sqrt(linear**2 + 4 * square * constant) - linear) / (2 * square)


def _num_layers(backbone: Backbone, targets: Targets) -> float:
    """L = (M - 6 N_a) / (6 S N_q d_qkv), the same at every width."""
    return (targets.flops_per_token - 6 * targets.active_params) / score_flops(backbone, 1)


def _expert_area(backbone: Backbone, targets: Targets) -> float:
    """X = d d_m L_m, from N - N_a = 3 (N_e - K) X."""
    return (targets.total_params - targets.active_params) / (3 * backbone.idle_experts)


def _ffn(backbone: Backbone, d: Any, d_expert: Any) -> Any:
    """d_d of the rounded architecture."""
    if backbone.ffn_aligned:
        return backbone.active_experts * d_expert
    return np.floor(np.asarray(backbone.ffn_ratio * d) + 0.5).astype(int)


def _round(solution: Solution, rules: Rules) -> tuple[Any, Any, Any]:
    """L_d, L_m, d_m of the rounded architecture, elementwise."""
    step = rules.moe_ffn_hidden_size_step
    dense = np.maximum(1, np.floor(solution.num_dense_layers + 0.5)).astype(int)
    moe = np.maximum(1, np.floor(solution.num_moe_layers + 0.5)).astype(int)
    expert = np.maximum(1, np.floor(solution.moe_ffn_hidden_size / step + 0.5)).astype(int) * step
    return dense, moe, expert

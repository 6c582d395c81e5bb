"""From a real-valued solution to the architecture that is trained: the rounding rules and the feasible widths.

`rounded` gives the architecture at a width, `feasible_widths` the widths whose rounded architectures meet the targets, and
`proxy_width` the one that stands for all of them (section 4.3). The published steps and the tolerance are read off the
tables: with them every published architecture comes out (docs/paper.md). The equations are in `harness.equations`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.accounting import active_params, idle_params, score_flops
from harness.architecture import Architecture, Backbone
from harness.equations import (
    MIN_M_OVER_NA,
    QUANTITIES,
    Solution,
    Targets,
    quantity_at,
    solve,
    width_bounds,
    width_for,
    width_intervals,
)
from harness.errors import InfeasibleError
from harness.rules import PROXIES, Rules

__all__ = [
    "MIN_M_OVER_NA",
    "PROXIES",
    "QUANTITIES",
    "Rules",
    "Solution",
    "Targets",
    "deviations",
    "feasible_widths",
    "feasible_widths_of",
    "proxies_among",
    "proxy_of",
    "proxy_width",
    "proxy_widths",
    "quantity_at",
    "rounded",
    "rounded_all",
    "solve",
    "thinned",
    "width_bounds",
    "width_for",
    "width_intervals",
    "worst_deviation",
]

WIDEST = 2.0**40
"""Of an expert, in steps: where hardly any of a MoE layer is left, d_m grows beyond what integers hold."""

MOST_WIDTHS = 5_000_000
"""Most widths that are tried for one point; M/N_a would have to lie within a millionth of 6 for more."""

CHUNK = 2_000_000
"""Most widths that are tried at a time, to bound memory: about 100 bytes each."""


def feasible_widths(backbone: Backbone, targets: Targets, rules: Rules) -> np.ndarray:
    """All widths, ascending, whose rounded architecture meets the targets; may be empty. Shape (n,), int.

    A width is feasible when the unrounded L_d >= 0 and L_m > 0, and M, N_a and N of the rounded architecture are each
    within the tolerances of their targets.

    Raises:
        InfeasibleError: the targets violate a bound of Eq. 5.
    """
    width_bounds(backbone, targets)
    widths, _ = feasible_widths_of(backbone, Targets.stack([targets]), rules)
    return widths


def feasible_widths_of(backbone: Backbone, targets: Targets, rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """`feasible_widths` of p stacked targets at once, which must respect Eq. 5.

    Returns the widths of all points, one point after the other, shape (sum of n,), and where each point's begin and the last
    one's end, shape (p + 1,).
    """
    lower, upper = width_intervals(backbone, targets)
    step = rules.hidden_size_step
    first = np.minimum(np.maximum(1, np.floor(lower / step)), WIDEST).astype(int)
    tried = np.maximum(0, np.minimum(np.ceil(upper / step), WIDEST).astype(int) + 1 - first)
    if len(tried) and tried.max() > MOST_WIDTHS:
        worst = int(np.argmax(tried))
        raise InfeasibleError(
            f"M={targets.flops_per_token[worst]:.5g}, N_a={targets.active_params[worst]:.5g}: {tried[worst]:,} multiples of "  # type: ignore[index]
            f"{step} between d = {lower[worst]:.5g} and {upper[worst]:.5g} would have to be tried, more than {MOST_WIDTHS:,}: "
            "choose a larger M/N_a, or a larger rules.hidden_size_step"
        )
    found, counts = [], np.zeros(len(tried), dtype=int)
    start = 0
    while start < len(tried):
        end = max(start + 1, int(np.searchsorted(np.cumsum(tried[start:]), CHUNK, side="right")) + start)
        part = slice(start, end)
        point = np.repeat(np.arange(start, end), tried[part])
        offset = np.arange(len(point)) - np.repeat(np.cumsum(tried[part]) - tried[part], tried[part])
        widths = (first[point] + offset) * step
        solution = solve(backbone, targets.take(point), widths)
        inside = np.flatnonzero((solution.num_dense_layers >= 0) & (solution.num_moe_layers > 0))
        widths, point = widths[inside], point[inside]
        whole = _round(_pick(solution, inside), rules)
        good = _within(backbone, targets.take(point), widths, whole, rules)
        found.append(widths[good])
        counts[part] = np.bincount(point[good] - start, minlength=end - start)
        start = end
    return np.concatenate(found) if found else np.empty(0, dtype=int), np.concatenate([[0], np.cumsum(counts)])


def proxy_width(backbone: Backbone, targets: Targets, rules: Rules) -> int:
    """The width that stands for all feasible ones, by `rules.proxy`: the lower median in the paper (section 4.3).

    Raises:
        InfeasibleError: no width is feasible.
    """
    width_bounds(backbone, targets)
    width = int(proxy_widths(backbone, Targets.stack([targets]), rules)[0])
    if not width:
        raise no_feasible_width(backbone, targets, rules)
    return width


def proxy_widths(backbone: Backbone, targets: Targets, rules: Rules) -> np.ndarray:
    """`proxy_width` of p stacked targets that respect Eq. 5; 0 where no width is feasible. Shape (p,), int."""
    return proxies_among(*feasible_widths_of(backbone, targets, rules), rules)


def proxies_among(widths: np.ndarray, ends: np.ndarray, rules: Rules) -> np.ndarray:
    """`proxy_widths` from what `feasible_widths_of` returned. Shape (p,), int."""
    begin, count = ends[:-1], np.diff(ends)
    there = count > 0
    if rules.proxy == "nearest_to_middle":
        parts = [widths[a:b] for a, b in zip(begin, ends[1:], strict=True)]
        return np.array([p[np.argmin(np.abs(p - (p[0] + p[-1]) / 2))] if len(p) else 0 for p in parts], dtype=int)
    index = {
        "lower_median": (count - 1) // 2,
        "upper_median": count // 2,
        "smallest": np.zeros_like(count),
        "largest": count - 1,
    }[rules.proxy]
    proxies = np.zeros(len(count), dtype=int)
    proxies[there] = widths[(begin + index)[there]]
    return proxies


def proxy_of(widths: np.ndarray, rules: Rules) -> int:
    """The proxy among the feasible widths of one model, of which there is at least one."""
    return int(proxies_among(widths, np.array([0, len(widths)]), rules)[0])


def no_feasible_width(backbone: Backbone, targets: Targets, rules: Rules) -> InfeasibleError:
    """Why targets that respect Eq. 5 have no architecture all the same: rounding."""
    lower, upper = width_bounds(backbone, targets)
    if upper < rules.hidden_size_step:
        return InfeasibleError(
            f"no width is feasible for M={targets.flops_per_token:.5g}: d would have to be at most {upper:.3g}, and the least "
            f"multiple of rules.hidden_size_step={rules.hidden_size_step} is larger; choose a larger M or smaller steps"
        )
    return InfeasibleError(
        f"no width is feasible for M={targets.flops_per_token:.5g}, "
        f"M/N_a={targets.flops_per_token / targets.active_params:.8g}, "
        f"N/N_a={targets.total_params / targets.active_params:.8g}: of the multiples of {rules.hidden_size_step} between "
        f"{lower:.1f} and {upper:.1f} none gives M, N_a and N within {_percent(rules)} of the targets after rounding; "
        "change a ratio, or allow a larger tolerance (rules.tolerance) or finer steps"
    )


def thinned(widths: Sequence[int] | np.ndarray, most: int) -> list[int]:
    """At most `most` of `widths`, evenly by rank, the first and the last among them (one: the lower median)."""
    if most >= len(widths):
        return [int(width) for width in widths]
    if most == 1:
        return [int(widths[(len(widths) - 1) // 2])]
    return [int(widths[index]) for index in np.round(np.linspace(0, len(widths) - 1, most)).astype(int)]


def rounded(backbone: Backbone, targets: Targets, hidden_size: int, rules: Rules) -> Architecture:
    """The architecture at `hidden_size` by the rounding rules, whether or not it meets the tolerance.

    L_d and L_m round to the nearest integer (half up), L_m at least 1 and L_d at least `rules.min_dense_layers`; d_m comes
    from the unrounded L_m and rounds to the nearest multiple of its step.

    Raises:
        InfeasibleError: L_m is not positive at this width, so that there is no expert width.
    """
    (architecture,) = rounded_all(backbone, Targets.stack([targets]), np.array([hidden_size]), rules)
    if architecture is None:
        lower, upper = width_bounds(backbone, targets)
        raise InfeasibleError(
            f"hidden_size={hidden_size} leaves no MoE layers or no parameters for experts: widths between {lower:.1f} and "
            f"{upper:.1f} do with these targets"
        )
    return architecture


def rounded_all(backbone: Backbone, targets: Targets, widths: np.ndarray, rules: Rules) -> list[Architecture | None]:
    """`rounded` at p widths, one for each of p stacked targets; None where there is no expert width."""
    solution = solve(backbone, targets, widths)
    there = (solution.num_moe_layers > 0) & (solution.moe_ffn_hidden_size > 0) & np.isfinite(solution.num_moe_layers)
    d, picked = widths[there], _pick(solution, there)
    dense, moe, expert = _round(picked, rules)
    numbers = zip(
        d.tolist(), dense.tolist(), moe.tolist(), _ffn(backbone, d, expert).tolist(), expert.tolist(), strict=True
    )
    built = iter(
        Architecture(
            hidden_size=width,
            num_dense_layers=l_dense,
            num_moe_layers=l_moe,
            ffn_hidden_size=ffn,
            moe_ffn_hidden_size=d_m,
        )
        for width, l_dense, l_moe, ffn, d_m in numbers
    )
    return [next(built) if here else None for here in there.tolist()]


def deviations(
    backbone: Backbone, targets: Targets, d: Any, l_dense: Any, l_moe: Any, d_expert: Any
) -> tuple[Any, Any, Any]:
    """Relative deviations, with sign, of M, N_a and N from their targets; elementwise over arrays."""
    d, l_dense, l_moe, d_expert = (np.asarray(value, dtype=float) for value in (d, l_dense, l_moe, d_expert))
    active = active_params(backbone, d, l_dense, l_moe, _ffn(backbone, d, d_expert), d_expert)
    total = active + idle_params(backbone, d, l_moe, d_expert)
    flops = 6 * active + score_flops(backbone, l_dense + l_moe)
    return targets.deviations(flops, active, total)


def worst_deviation(backbone: Backbone, targets: Targets, d: Any, l_dense: Any, l_moe: Any, d_expert: Any) -> Any:
    """Largest relative deviation of M, N_a and N from their targets; elementwise over arrays."""
    return np.maximum.reduce([np.abs(one) for one in deviations(backbone, targets, d, l_dense, l_moe, d_expert)])


def check_tolerance(backbone: Backbone, targets: Targets, architecture: Architecture, rules: Rules) -> None:
    """Refuse an architecture that misses its targets.

    Raises:
        InfeasibleError: with the deviations and the nearest feasible width.
    """
    a = architecture
    off = deviations(backbone, targets, a.hidden_size, a.num_dense_layers, a.num_moe_layers, a.moe_ffn_hidden_size)
    if all(abs(one) <= most for one, most in zip(off, rules.tolerances, strict=True)):
        return
    widths = feasible_widths(backbone, targets, rules)
    near = (
        f"the nearest feasible width is {widths[np.argmin(np.abs(widths - a.hidden_size))]}"
        if len(widths)
        else ("no width is feasible")
    )
    raise InfeasibleError(
        f"hidden_size={a.hidden_size} rounds to M, N_a and N off by {', '.join(f'{one:+.1%}' for one in off)}, and the rules "
        f"allow {_percent(rules)}: {near}; or allow a larger rules.tolerance"
    )


def _within(backbone: Backbone, targets: Targets, d: Any, whole: tuple[Any, Any, Any], rules: Rules) -> Any:
    """Whether M, N_a and N are each within their tolerance; elementwise."""
    off = deviations(backbone, targets, d, *whole)
    m, active, total = (np.abs(one) <= most for one, most in zip(off, rules.tolerances, strict=True))
    return m & active & total


def _percent(rules: Rules) -> str:
    """The tolerances for people: 10%, or 10%, 5% and 10%."""
    texts = [f"{tolerance:.3g}" for tolerance in (100 * one for one in rules.tolerances)]
    return f"{texts[0]}%" if len(set(texts)) == 1 else f"{texts[0]}%, {texts[1]}% and {texts[2]}%"


def _ffn(backbone: Backbone, d: Any, d_expert: Any) -> Any:
    """d_d of the rounded architecture."""
    if backbone.ffn_aligned:
        return backbone.active_experts * d_expert
    return np.floor(np.asarray(backbone.ffn_ratio * d) + 0.5).astype(int)


def _pick(solution: Solution, index: Any) -> Solution:
    """Some of the points of a solution."""
    layers = np.broadcast_to(solution.num_layers, np.shape(solution.hidden_size))
    return Solution(
        hidden_size=solution.hidden_size[index],
        num_layers=layers[index],
        num_dense_layers=solution.num_dense_layers[index],
        num_moe_layers=solution.num_moe_layers[index],
        moe_ffn_hidden_size=solution.moe_ffn_hidden_size[index],
    )


def _round(solution: Solution, rules: Rules) -> tuple[Any, Any, Any]:
    """L_d, L_m, d_m of the rounded architecture, elementwise."""
    step = rules.moe_ffn_hidden_size_step
    dense = np.maximum(rules.min_dense_layers, np.floor(solution.num_dense_layers + 0.5)).astype(int)
    moe = np.maximum(1, np.floor(solution.num_moe_layers + 0.5)).astype(int)
    steps = np.clip(np.floor(solution.moe_ffn_hidden_size / step + 0.5), 1, WIDEST)
    expert = steps.astype(int) * step
    return dense, moe, expert

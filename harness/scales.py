"""Compute budgets and what is fixed at each: the paper's Tables 2 and 4, and a stated rule for every other budget.

At a budget that is not in the table (`scale_between`):

- M and D follow the stated power laws of C (section 4.2.1), or those through the table where none are stated;
- learning rate and batch size follow the power laws through the table (least squares in log-log; the paper prints the
  coefficients of its own laws only in Figure 12), or those of a ``laws.json``; the batch is rounded to whole steps;
- the attention width N_q d_qkv follows the power law through the table, rounded to the nearest power of two; d_qkv and
  N_q / N_kv are those of the nearest budget in the table (in log C), and N_q is kept within the stated limits
  (the paper: 2^2 to 2^7).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import ConfigError
from harness.laws import Laws

LEAST_BUDGET, MOST_BUDGET = 1e6, 1e32
"""FLOPs that a budget may have."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One compute budget and what the paper fixes at it (Tables 2 and 4)."""

    compute: float
    """C, FLOPs."""
    flops_per_token: float
    """M of Table 2, FLOPs."""
    grid_flops_per_token: float
    """M that phase 1 was built from; inferred where it differs from `flops_per_token`."""
    tokens: float
    """D of Table 2."""
    num_query_heads: int
    num_kv_heads: int
    head_dim: int
    learning_rate: float
    global_batch_size: int
    """Sequences."""
    extrapolated: bool = False
    """Not in the table: the rest follows from laws and rules."""

    @property
    def label(self) -> str:
        """``1e19``."""
        return budget_label(self.compute)


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """y = coefficient C^exponent."""

    coefficient: float
    exponent: float

    def __call__(self, compute: float) -> float:
        """y at `compute` FLOPs."""
        return float(self.coefficient * compute**self.exponent)


@dataclass(frozen=True, kw_only=True)
class Between:
    """The rule for budgets that are not in the table (``between`` of a backbone's configuration)."""

    batch_step: int
    """The batch is a multiple of it, sequences."""
    min_query_heads: int
    max_query_heads: int
    flops_per_token: PowerLaw | None = None
    """M_opt(C); None: through the table."""
    tokens: PowerLaw | None = None
    """D_opt(C); None: C / M."""

    def __post_init__(self) -> None:
        if self.batch_step < 1 or not 1 <= self.min_query_heads <= self.max_query_heads:
            raise ConfigError(
                f"between: batch_step={self.batch_step}, min_query_heads={self.min_query_heads}, "
                f"max_query_heads={self.max_query_heads}: all must be at least 1, and the least not above the most"
            )


def budget_label(compute: float) -> str:
    """A budget as people write it: 1e19, 2.5e20."""
    mantissa, exponent = f"{compute:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def scale_between(
    table: Sequence[Scale], rule: Between, compute: float, *, seq_length: int, laws: Laws | None = None
) -> Scale:
    """The budget `compute` (FLOPs), which is not in `table`, by the rule above; `seq_length` in tokens.

    Raises:
        ConfigError: the table has fewer than two budgets, through which no law can be drawn.
    """
    if len(table) < 2:
        raise ConfigError(
            f"scale={budget_label(compute)} is not in the backbone's table, and a law for it needs at least two budgets there"
        )
    nearest = min(table, key=lambda scale: abs(math.log(scale.compute / compute)))
    size = rule.flops_per_token or _through(table, [scale.flops_per_token for scale in table])
    flops = _fitted(laws, "classical", "flops_per_token", compute) or size(compute)
    tokens = _fitted(laws, "classical", "tokens", compute) or (rule.tokens(compute) if rule.tokens else compute / flops)
    rate = _fitted(laws, "learning_rate", "learning_rate", compute) or _through(
        table, [scale.learning_rate for scale in table]
    )(compute)
    batch = _through(table, [scale.global_batch_size for scale in table])(compute)
    if laws is not None and (fitted := laws.value("batch_size", "batch_size", compute)) is not None:
        batch = fitted / seq_length if laws.unit("batch_size").startswith("token") else fitted
    width = _through(table, [scale.num_query_heads * scale.head_dim for scale in table])(compute)
    heads = 2 ** round(math.log2(width)) // nearest.head_dim
    heads = min(rule.max_query_heads, max(rule.min_query_heads, heads))
    group = nearest.num_query_heads // nearest.num_kv_heads
    return Scale(
        compute=compute,
        flops_per_token=flops,
        grid_flops_per_token=flops,
        tokens=tokens,
        num_query_heads=heads,
        num_kv_heads=max(1, heads // group),
        head_dim=nearest.head_dim,
        learning_rate=float(f"{rate:.3g}"),  # the table's own precision
        global_batch_size=max(1, round(batch / rule.batch_step)) * rule.batch_step,
        extrapolated=True,
    )


def _fitted(laws: Laws | None, law_id: str, quantity: str, compute: float) -> float | None:
    return None if laws is None else laws.value(law_id, quantity, compute)


def _through(table: Sequence[Scale], values: Sequence[float]) -> PowerLaw:
    """The least-squares line in log-log through the table's values."""
    import numpy as np  # starts slowly, and launch.status wants no more of this module than a budget's name

    exponent, constant = np.polyfit(np.log([scale.compute for scale in table]), np.log(values), 1)
    return PowerLaw(coefficient=float(np.exp(constant)), exponent=float(exponent))

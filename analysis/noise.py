"""How far apart runs come out that differ only in their seed: the noise that laws are fitted against.

Runs are repeats of one another when everything planned is equal but the seed. Their variance is pooled over the groups,
each with its own mean, so k groups with n runs in all have n - k degrees of freedom.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

SAME = (
    "study",
    "compute",
    "flops_per_token",
    "tokens",
    "active_params",
    "total_params",
    "hidden_size",
    "num_layers",
    "num_dense_layers",
    "num_moe_layers",
    "ffn_hidden_size",
    "moe_ffn_hidden_size",
    "num_query_heads",
    "num_kv_heads",
    "head_dim",
    "num_experts",
    "top_k",
    "seq_length",
    "learning_rate",
    "global_batch_size",
    "train_iters",
    "recipe",
)
"""Columns that repeats share; those that a table lacks are passed over."""


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """Standard deviation of the final validation loss between seeds, in nats per token."""

    sd: float
    """Pooled standard deviation; NaN without repeats."""
    dof: int
    """Runs less groups; 0 without repeats."""
    groups: int
    """Configurations that were repeated."""
    runs: int
    """Runs of those configurations."""


def seed_noise(used: pd.DataFrame) -> dict[str, SeedNoise]:
    """Noise by study, and over all studies under ``pooled``; `used` holds the usable rows of `analysis.collect`.

    A run that is in two studies counts once in the pool.
    """
    noise = {str(study): _pool(rows, SAME) for study, rows in used.groupby("study", sort=True)}
    once = used.drop_duplicates("run_id")
    return {**noise, "pooled": _pool(once, [column for column in SAME if column != "study"])}


def _pool(rows: pd.DataFrame, same: Sequence[str]) -> SeedNoise:
    if "seed" not in rows.columns or rows.empty:
        return SeedNoise(sd=math.nan, dof=0, groups=0, runs=0)
    shared = [column for column in same if column in rows.columns]
    once = rows.drop_duplicates([*shared, "seed"])
    by_group = once.groupby(shared, sort=True, dropna=False)["final_validation_loss"].agg(["size", "var"])
    repeated = by_group[by_group["size"] > 1]
    groups, runs = len(repeated), int(repeated["size"].sum())
    dof = runs - groups
    squares = float((repeated["var"] * (repeated["size"] - 1)).sum())
    return SeedNoise(sd=math.sqrt(squares / dof) if dof else math.nan, dof=dof, groups=groups, runs=runs)

"""The rows that a law uses, and what the architecture behind a row fixes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fitting import Array
from analysis.laws.minima import Family, Minimum, find_minimum
from analysis.laws.options import FitOptions
from analysis.laws.points import LOSS
from analysis.laws.records import LeftOutRun
from analysis.noise import SeedNoise
from harness.accounting import count
from harness.architecture import Architecture, Backbone

TIE = 0.05
"""Sizes whose distances (in ln x) from the best one differ by less than this share are equally near."""

LEAST_SIZES = 4
"""The window is widened until it holds this many different sizes: one more than a parabola has coefficients."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What every law is fitted from."""

    table: pd.DataFrame
    """Of `analysis.collect.collect`."""
    noise: dict[str, SeedNoise]
    """Between seeds, by study and pooled."""
    options: FitOptions
    variant: bool = False
    """Whether this is the law fitted again: without what no one reads of a variant."""

    def study(self, *names: str) -> pd.DataFrame:
        """The rows of those studies, usable or not."""
        return self.table[self.table["study"].isin(names)]


def split(
    table: pd.DataFrame, needed: Sequence[str], bounds: dict[str, tuple[float, float]] | None = None
) -> tuple[pd.DataFrame, list[LeftOutRun]]:
    """The rows that a law can use, and the others: a value it needs is not between its bounds (0 and infinity)."""
    reasons = table["left_out"].astype(object).where(table["left_out"].notna(), None)
    for name in needed:
        low, high = (bounds or {}).get(name, (0.0, math.inf))
        column = pd.to_numeric(table[name], errors="coerce") if name in table else pd.Series(math.nan, table.index)
        wrong = reasons.isna() & ~((column > low) & (column < high))
        between = f"above {low:g}" if math.isinf(high) else f"between {low:g} and {high:.4g}"
        reasons[wrong] = [f"{name} is {value}, not {between}" for value in column[wrong]]
    out = reasons.notna()
    left_out = [
        LeftOutRun(run_id=str(run), reason=str(reason))
        for run, reason in zip(table["run_id"][out], reasons[out], strict=True)
    ]
    return table[~out], left_out


def fit_budgets(
    family: Family, used: pd.DataFrame, data: Data, choose: Callable[[pd.DataFrame], Array] | None = None
) -> list[Minimum]:
    """Each budget's minimum, by rising compute. Noise is the studies' own where one repeated seeds, else pooled.

    `choose` picks the rows of a budget that the curve is fitted to; None takes all.
    """
    repeated = [name for name in sorted(set(used["study"])) if data.noise[name].dof]
    seeds = data.noise[repeated[0]] if len(repeated) == 1 else data.noise["pooled"]
    seeds_of = f"study {repeated[0]}" if len(repeated) == 1 else "all studies" if repeated else "other studies"
    minima = []
    for _, rows in used.groupby("compute", sort=True):
        chosen = np.ones(len(rows), dtype=bool) if choose is None else np.asarray(choose(rows), dtype=bool)
        minima.append(find_minimum(family, rows[chosen], rows[~chosen], seeds, seeds_of, data.options))
    return minima


def near_minimum(x: Array, y: Array, window: float | None) -> Array:
    """Which points lie within a factor `window` of the x with the least mean y; shape (n,), bool.

    Where that leaves fewer than `LEAST_SIZES` different x, the nearest ones (in ln x, ties together) are taken instead.
    `window` None takes all.
    """
    sizes = np.unique(x)
    if window is None or len(sizes) <= LEAST_SIZES:
        return np.ones(len(x), dtype=bool)
    best = sizes[np.argmin([y[x == size].mean() for size in sizes])]
    distance = np.abs(np.log(x / best))
    nearest = np.sort(np.abs(np.log(sizes / best)))[LEAST_SIZES - 1]
    return np.asarray(distance <= max(np.log(window), nearest * (1 + TIE)))


def floats(rows: pd.DataFrame, name: str) -> Array:
    """A column as floats, shape (n,)."""
    return np.asarray(rows[name].to_numpy(dtype=np.float64))


def losses(rows: pd.DataFrame) -> Array:
    """Final validation losses, nats a token, shape (n,)."""
    return floats(rows, LOSS)


def backbone_of(row: pd.Series) -> Backbone | None:
    """The backbone of a row; None where its columns do not say, or where M recomputed from them is not the row's."""
    try:
        active = round(row["width_ratio"] * row["hidden_size"] / row["moe_ffn_hidden_size"])
        aligned = (
            row["ffn_hidden_size"] == active * row["moe_ffn_hidden_size"]
            and row["ffn_hidden_size"] % row["hidden_size"]
        )
        backbone = Backbone(
            num_query_heads=int(row["num_query_heads"]),
            num_kv_heads=int(row["num_kv_heads"]),
            head_dim=int(row["head_dim"]),
            num_experts=int(row["num_experts"]),
            top_k=int(row["top_k"]),
            num_shared_experts=active - int(row["top_k"]),
            seq_length=int(row["seq_length"]),
            **({"ffn_aligned": True} if aligned else {"ffn_ratio": row["ffn_hidden_size"] / row["hidden_size"]}),
        )
        architecture = Architecture(
            hidden_size=int(row["hidden_size"]),
            num_dense_layers=int(row["num_dense_layers"]),
            num_moe_layers=int(row["num_moe_layers"]),
            ffn_hidden_size=int(row["ffn_hidden_size"]),
            moe_ffn_hidden_size=int(row["moe_ffn_hidden_size"]),
        )
        same = math.isclose(count(backbone, architecture).flops_per_token, row["flops_per_token"], rel_tol=1e-9)
    except (KeyError, TypeError, ValueError):
        return None
    return backbone if same else None

"""Does the median proxy rank configurations as their best widths do (paper, section 4.3, Table 3, Figure 2)?"""

from collections.abc import Sequence

import pandas as pd

from analysis.fitting import Correlation, FitError, rank_agreement
from analysis.laws.budget import NAN, Estimate
from analysis.laws.minima import estimate
from analysis.laws.points import LOSS
from analysis.laws.records import Law, LeftOutRun, RankPair, Statement
from analysis.laws.rows import Data, backbone_of, split
from harness.errors import HarnessError
from harness.solver import Rules, Targets, proxy_width

CONFIGURATION = ("compute", "target_m_over_na", "target_n_over_na")

FEWEST = 3
"""Configurations that an order can be spoken of."""

AGREED = 0.7
"""A Spearman correlation whose interval reaches below this does not show that the proxy preserves ranks (ours)."""


def rank(data: Data) -> Law:
    """Loss at the median proxy against the least loss over widths, one pair a configuration (M/N_a, N/N_a).

    Where the study does not hold the median proxy itself, its nearest width stands in (three of the published ten).
    """
    rows = data.study("rank")
    used, left_out = split(rows, ["hidden_size", *CONFIGURATION])
    pairs, single = [], []
    for _, runs in used.groupby(list(CONFIGURATION), sort=True):
        if runs["hidden_size"].nunique() < 2:
            single += [
                LeftOutRun(run_id=str(run), reason="its configuration has one width only") for run in runs["run_id"]
            ]
        else:
            pairs.append(_pair(runs))
    flags = [] if len(pairs) >= FEWEST else [f"{len(pairs)} configurations with several widths: no order can be judged"]
    away = [pair for pair in pairs if pair.width_error]
    if away:
        worst = max(away, key=lambda pair: abs(pair.width_error))
        flags.append(
            f"{len(away)} of {len(pairs)} configurations lack their median proxy among the runs: the nearest width stands "
            f"in, up to {100 * worst.width_error:+.0f}% off"
        )
    statements = _statements(pairs)
    spearman = next((one for one in statements if one.id == "spearman"), None)
    if spearman and not spearman.holds:
        flags.append(
            f"the median proxy is not shown to preserve ranks: Spearman {spearman.estimate.value:.3f} "
            f"({spearman.estimate.low:.3f} to {spearman.estimate.high:.3f}) reaches below {AGREED}: optima of the ratios "
            "at the proxy width may not be those at the best width"
        )
    return Law(
        id="rank",
        studies=("rank",),
        title="Ranks at the proxy width",
        form="loss at the median proxy against the least loss over widths, for each (M/N_a, N/N_a)",
        unit="nats per token",
        x="hidden_size",
        x_label="loss at the median proxy width, nats per token",
        statements=tuple(statements),
        pairs=tuple(pairs),
        points_left_out=tuple(left_out + single),
        flags=tuple(flags),
        simulated=bool(len(used) and used["simulated"].any()),
    )


def _pair(runs: pd.DataFrame) -> RankPair:
    means = runs.groupby("hidden_size", sort=True)[LOSS].mean()
    by_width = {int(width): float(loss) for width, loss in zip(means.index.to_numpy(), means.to_numpy(), strict=True)}
    proxy = _proxy(runs)
    nearest = min(by_width, key=lambda width: (abs(width - proxy), width))
    best = min(by_width, key=lambda width: by_width[width])
    ordered = runs.sort_values("run_id", ascending=False)
    first = {int(width): str(run) for width, run in zip(ordered["hidden_size"], ordered["run_id"], strict=True)}
    return RankPair(
        m_over_na=float(runs["target_m_over_na"].iloc[0]),
        n_over_na=float(runs["target_n_over_na"].iloc[0]),
        proxy_run=first[nearest],
        proxy_loss=by_width[nearest],
        least_run=first[best],
        least_loss=by_width[best],
        width_error=float(nearest / proxy - 1),
    )


def _proxy(runs: pd.DataFrame) -> float:
    """The lower median of the feasible widths; of the runs' own widths where the table does not say enough."""
    row = runs.iloc[0]
    widths = sorted(runs["hidden_size"].unique())
    own = float(widths[(len(widths) - 1) // 2])
    if (backbone := backbone_of(row)) is None or "target_flops_per_token" not in runs:
        return own
    try:
        targets = Targets.from_ratios(
            backbone,
            flops_per_token=float(row["target_flops_per_token"]),
            m_over_na=float(row["target_m_over_na"]),
            n_over_na=float(row["target_n_over_na"]),
        )
        return float(proxy_width(backbone, targets, Rules()))
    except HarnessError:
        return own


def _statements(pairs: Sequence[RankPair]) -> list[Statement]:
    if len(pairs) < FEWEST:
        return []
    proxy, least = (
        pd.Series([getattr(pair, name) for pair in pairs]).to_numpy() for name in ("proxy_loss", "least_loss")
    )
    try:
        agreement = rank_agreement(proxy, least)
    except FitError:
        return []
    found = [
        _correlation(name, getattr(agreement, name.lower()), len(pairs)) for name in ("Pearson", "Spearman", "Kendall")
    ]
    return [
        *found,
        Statement(
            id="r_squared",
            text=f"R² of the least loss against the proxy's is {agreement.r_squared:.4f}, the slope {agreement.slope:.3f}.",
            estimate=Estimate(value=agreement.r_squared, low=NAN, high=NAN),
        ),
    ]


def _correlation(name: str, found: Correlation, number: int) -> Statement:
    value = estimate(found.value, found.interval)
    return Statement(
        id=name.lower(),
        text=f"{name}'s correlation of proxy and least loss is {value.value:.4f} ({value.low:.3f} to {value.high:.3f}) over "
        f"{number} configurations.",
        estimate=value,
        holds=value.low > AGREED if name == "Spearman" else None,
    )

"""Loss by width ratio (K + 1) d_m / d against compute, and extrapolated (paper, Appendix E, Figures 9 to 11)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.fitting import LEVEL, Array, OffsetPowerLawFit, PowerLawFit, fit_offset_power_law, fit_power_law
from analysis.laws.budget import NAN, NO_CURVE, Budget, Estimate
from analysis.laws.minima import estimate
from analysis.laws.points import LOSS, points_of
from analysis.laws.records import Law, Relation, Statement
from analysis.laws.relation import grid_of, held_out_of, prediction, relation_through
from analysis.laws.rows import Data, split
from analysis.text import flops


def width_ratio(data: Data) -> Law:
    """For each ratio both forms, log L = a + b log C and L = E + A C^B; how far apart the ratios are, measured and ahead."""
    rows = data.study("ratio")
    used, left_out = split(rows, ["width_ratio"])
    used = used.assign(ratio=_targets(used))
    relations: list[Relation] = []
    fits: dict[float, PowerLawFit] = {}
    for ratio, runs in used.groupby("ratio", sort=True):
        mean = runs.groupby("compute", sort=True)[LOSS].mean()
        if len(mean) < 2:
            continue
        compute, loss = mean.index.to_numpy(dtype=float), mean.to_numpy(dtype=float)
        power = fit_power_law(compute, loss)
        fits[float(ratio)] = power  # type: ignore[arg-type]
        symbol = f"L at ratio {ratio:g}"
        relations.append(
            relation_through(power, compute.tolist(), loss.tolist(), f"power_{ratio:g}", symbol, "nats per token")
        )
        if len(mean) > 3 and not data.variant:
            relations.append(_offset(compute, loss, f"offset_{ratio:g}", symbol))
    budgets = [_budget(float(rows["compute"].iloc[0]), rows) for _, rows in used.groupby("compute", sort=True)]
    flags = [flag for relation in relations for flag in relation.flags]
    ahead = _ahead(fits, relations, data)
    if len(ahead) == 2 and ahead[1].estimate.value not in ahead[0].estimate:
        flags.append("the two forms disagree about how far apart the ratios are ahead: do not extrapolate them")
    if not relations:
        flags.append(f"law not fitted: {len(budgets)} budgets, a law of C needs two")
    return Law(
        id="width_ratio",
        studies=("ratio",),
        title="Loss by width ratio (K+1) d_m / d",
        form="for each ratio: ln L = a + b ln C, and L = E + A C^B",
        unit="",
        x="ratio",
        x_label="(K+1) d_m / d, width of the active experts over the hidden size",
        per_budget=tuple(budgets),
        relations=tuple(relations),
        statements=(*_measured(budgets), *ahead),
        points_left_out=tuple(left_out),
        flags=tuple(dict.fromkeys(flags)),
        simulated=bool(len(used) and used["simulated"].any()),
    )


def _targets(used: pd.DataFrame) -> pd.Series:
    """The ratio that each run was planned for; to a quarter where the table does not say."""
    near = (used["width_ratio"] * 4).round() / 4
    if "free_target" not in used:
        return near
    planned = pd.to_numeric(used["free_target"], errors="coerce").where(used["free_quantity"] == "width_ratio")
    return planned.fillna(near)


def _budget(compute: float, rows: pd.DataFrame) -> Budget:
    points = points_of(rows.sort_values(["ratio", "run_id"]), "ratio")
    return Budget(
        compute=compute,
        status=NO_CURVE,
        why="no curve is fitted against the ratio: its losses are compared",
        points=points,
        sampled=(min(points.x), max(points.x)),
    )


def _offset(compute: Array, loss: Array, name: str, symbol: str) -> Relation:
    fit: OffsetPowerLawFit = fit_offset_power_law(compute, loss)
    intervals = fit.intervals
    budgets, grid = compute.tolist(), []
    for budget in grid_of(budgets):
        there = fit.predict(budget)
        grid.append(prediction(budget, there.value, there.law.low, there.law.high, budgets))
    return Relation(
        name=name,
        symbol=f"{symbol}, with offset",
        unit="nats per token",
        reference=fit.reference,
        at_reference=estimate(fit.at_reference, intervals["at_reference"]),
        exponent=estimate(fit.exponent, intervals["exponent"]),
        floor=fit.offset,
        floor_interval=(intervals["offset"].low, intervals["offset"].high),
        compute=tuple(compute.tolist()),
        values=tuple(loss.tolist()),
        grid=tuple(grid),
        method="profile",
        held_out=held_out_of(fit.held_out),
        flags=() if fit.status.value == "converged" else (f"{symbol}, with offset: {fit.status.value}",),
    )


def _measured(budgets: Sequence[Budget]) -> list[Statement]:
    found = []
    for budget in budgets:
        ratios, loss = np.array(budget.points.x), np.array(budget.points.loss)
        means = {ratio: loss[ratios == ratio].mean() for ratio in np.unique(ratios)}
        if len(means) < 2:
            continue
        best = min(means, key=lambda ratio: means[ratio])
        spread = 100 * (max(means.values()) / min(means.values()) - 1)
        found.append(
            Statement(
                id=f"spread_{budget.compute:g}",
                text=f"At {flops(budget.compute)} the ratios' losses differ by {spread:.2f}%, least at {best:g}.",
                estimate=Estimate(value=spread),
                unit="%",
            )
        )
    return found


def _ahead(fits: dict[float, PowerLawFit], relations: Sequence[Relation], data: Data) -> list[Statement]:
    """How far apart the best and the worst ratio are at `FitOptions.ahead`; by power laws with an interval for any pair."""
    ahead = data.options.ahead
    found = []
    if len(fits) > 1 and all(fit.dof for fit in fits.values()):
        best, worst = (pick(fits.values(), key=lambda fit: fit(ahead)) for pick in (min, max))
        variance = 0.0
        for fit in (best, worst):
            at = np.array([1.0, np.log(ahead / fit.law.reference)])
            variance += float(at @ fit.covariance @ at)
        pairs = (
            len(fits) * (len(fits) - 1) / 2
        )  # the best and the worst were picked: any pair could have been (Bonferroni)
        difference = float(np.log(worst(ahead) / best(ahead)))
        half = float(stdtrit(best.dof + worst.dof, 1 - (1 - LEVEL) / (2 * pairs))) * float(np.sqrt(variance))
        value, *ends = (
            100 * float(np.expm1(max(one, 0.0))) for one in (difference, difference - half, difference + half)
        )
        found.append(_statement("power", "power laws", value, (ends[0], ends[1]), ahead))
    offsets = [relation(ahead) for relation in relations if relation.name.startswith("offset_")]
    if len(offsets) > 1 and len(offsets) == len(fits):
        value = 100 * (max(offsets) / min(offsets) - 1)
        found.append(_statement("offset", "power laws with an offset", value, (NAN, NAN), ahead))
    return found


def _statement(form: str, words: str, value: float, ends: tuple[float, float], ahead: float) -> Statement:
    between = f" ({ends[0]:.2f} to {ends[1]:.2f})" if np.isfinite(ends).all() else ""
    return Statement(
        id=f"spread_ahead_{form}",
        text=f"Extrapolated to {flops(ahead)} by {words}, the ratios' losses differ by {value:.2f}%{between}.",
        estimate=Estimate(value=value, low=ends[0], high=ends[1]),
        unit="%",
    )

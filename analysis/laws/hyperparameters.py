"""Learning rate and batch size against compute: two parallel lines around the near-optimal settings (F.2, Figure 12)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.fitting import BandFit, FitError, FitStatus, fit_band
from analysis.laws.budget import NAN, NO_CURVE, Budget, Estimate
from analysis.laws.minima import estimate
from analysis.laws.points import LOSS, points_of
from analysis.laws.records import Law, LeftOutRun, Relation
from analysis.laws.relation import grid_of, held_out_of, prediction
from analysis.laws.rows import Data, split

LAWS = {
    "learning_rate": ("learning_rate", "learning rate", "", "Learning rate"),
    "batch_size": ("batch_tokens", "batch", "tokens", "Batch size"),
}
"""By law: its column and relation, symbol, unit, title."""


def learning_rate(data: Data) -> Law:
    """The band of near-optimal learning rates."""
    return _law(data, "learning_rate")


def batch_size(data: Data) -> Law:
    """The band of near-optimal batches, in tokens."""
    return _law(data, "batch_size")


def _law(data: Data, law_id: str) -> Law:
    name, symbol, unit, title = LAWS[law_id]
    used, left_out = split(data.study("hyperparameters"), ["learning_rate", "global_batch_size", "seq_length"])
    used = used.assign(batch_tokens=used["global_batch_size"] * used["seq_length"])
    near = data.options.near
    budgets = [_budget(rows, name, near) for _, rows in used.groupby("compute", sort=True)]
    x = np.array([value for budget in budgets for value in budget.points.x])
    compute = np.array([budget.compute for budget in budgets for _ in budget.points.x])
    relations: list[Relation] = []
    flags = [flag for budget in budgets for flag in budget.flags]
    if len(budgets) < 2:
        flags.append(f"law not fitted: {len(budgets)} budgets, a law of C needs two")
    else:
        try:
            fit = fit_band({"compute": compute}, x, unit=unit)
            relations = _relations(fit, [budget.compute for budget in budgets], name, symbol, unit)
            if fit.status is not FitStatus.CONVERGED:
                flags.append(_doubt(fit, symbol))
        except FitError as error:
            flags.append(f"law not fitted: {error}")
    return Law(
        id=law_id,
        studies=("hyperparameters",),
        title=title,
        form=f"settings with a loss within {100 * near:g}% of the least at their C lie between two parallel lines in log-log, "
        "as near to each other as can be; the law is the middle line, k C^e",
        unit=unit,
        x=name,
        x_label=f"{symbol}{f', {unit}' if unit else ''}",
        per_budget=tuple(budgets),
        relations=tuple(relations),
        points_left_out=tuple(sorted([*left_out, *_others(budgets, near)], key=lambda one: one.run_id)),
        flags=tuple(dict.fromkeys(flags)),
        simulated=bool(len(used) and used["simulated"].any()),
    )


def _doubt(fit: BandFit, symbol: str) -> str:
    if fit.status is FitStatus.NOT_IDENTIFIABLE:
        return f"{symbol}: other slopes give a band as narrow: the exponent is one choice of many, and has no interval"
    return f"{symbol}: the band is {fit.status.value}"


def _budget(rows: pd.DataFrame, name: str, near: float) -> Budget:
    """Near-optimal settings as points, the others outside."""
    least = float(rows[LOSS].min())
    close = rows[LOSS] <= least * (1 + near)
    points, others = (points_of(part, name) for part in (rows[close], rows[~close]))
    best = rows.iloc[int(rows[LOSS].argmin())]
    tried = sorted(rows[name].unique())
    flags = []
    for end, word in ((tried[0], "least"), (tried[-1], "largest")):
        if end in points.x and len(tried) > 1:
            flags.append(f"the {word} {name} tried is near-optimal: the band may reach beyond it")
    return Budget(
        compute=float(rows["compute"].iloc[0]),
        status=NO_CURVE,
        why=f"no curve is fitted: {len(points)} of {len(rows)} settings are within {100 * near:g}% of the least loss",
        points=points,
        outside=others,
        optimum=Estimate(value=float(best[name])),
        minimum_loss=Estimate(value=least),
        band=(min(points.x), max(points.x)),
        tolerance=near,
        sampled=(float(tried[0]), float(tried[-1])),
        flags=tuple(flags),
    )


def _others(budgets: Sequence[Budget], near: float) -> list[LeftOutRun]:
    return [
        LeftOutRun(run_id=run, reason=f"its loss is not within {100 * near:g}% of the least", usable=True)
        for budget in budgets
        for run in budget.outside.run_ids
    ]


def _relations(fit: BandFit, compute: Sequence[float], name: str, symbol: str, unit: str) -> list[Relation]:
    """The middle line with its intervals, and the two lines."""
    reference, budgets = fit.references["compute"], grid_of(compute)
    middle = [fit.predict({"compute": budget}) for budget in budgets]
    made = []
    for suffix, words, factor in (
        ("", "", 1.0),
        ("_low", ", lower line", 1 / fit.factor),
        ("_high", ", upper line", fit.factor),
    ):
        grid = []
        for budget, there in zip(budgets, middle, strict=True):
            low, high = (NAN, NAN) if suffix else (there.law.low, there.law.high)
            grid.append(prediction(budget, there.value * factor, low, high, compute))
        exponent, centre = fit.intervals["compute"], fit.intervals["centre"]
        made.append(
            Relation(
                name=f"{name}{suffix}",
                symbol=symbol + words,
                unit=unit,
                reference=reference,
                at_reference=Estimate(value=fit.centre * factor) if suffix else estimate(fit.centre, centre),
                exponent=Estimate(value=fit.exponents["compute"])
                if suffix
                else estimate(fit.exponents["compute"], exponent),
                compute=tuple(compute),
                grid=tuple(grid),
                method="" if suffix else exponent.method,
                held_out=None if suffix else held_out_of(fit.held_out),
            )
        )
    return made

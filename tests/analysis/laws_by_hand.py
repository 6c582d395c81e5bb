"""A table and laws made by hand (SIMULATED numbers from stated curves), for what reads laws: figures, report, sentences.

They need no fit: the curves are the truth itself, and the intervals are stated ones. So tests of the readers stay fast.
"""

import hashlib
import math

import numpy as np
import pandas as pd

from analysis.laws import (
    AT_THE_EDGE,
    NO_CURVE,
    RESOLVED,
    Budget,
    Estimate,
    Law,
    LawsFile,
    Points,
    Relation,
    Statement,
    Variant,
)
from analysis.laws.budget import CurveRecord
from analysis.laws.records import HeldOut, LeftOutRun, Prediction, RankPair, SeedNoiseRecord
from harness.accounting import count
from harness.architecture import Architecture, Backbone

BUDGETS = (1e18, 1e19, 1e20)
DENSITIES, EXPANSIONS = (7.0, 9.0, 12.0, 16.0), (12.0, 16.0, 20.0, 26.0)
BACKBONE = Backbone(num_query_heads=4, num_kv_heads=2, head_dim=64)


def run_id(*words: object) -> str:
    return hashlib.sha256(repr(words).encode()).hexdigest()[:12]


def rows(budgets: tuple[float, ...] = BUDGETS) -> pd.DataFrame:
    """Studies classical, grid, width, ratio, hyperparameters, rank; one run of each study is left out at the first budget."""
    made = []
    for c in budgets:
        least = 1.7 + 2.5 * (c / 1e18) ** -0.1
        size = 2.7e8 * (c / 1e18) ** 0.54
        for factor in (0.3, 0.6, 1.0, 1.7, 3.0):
            made.append(row("classical", c, size * factor, least + 0.03 * math.log(factor) ** 2, factor))
        for x in DENSITIES:
            for y in EXPANSIONS:
                loss = least + 0.3 / (x - 6) + 0.02 * x - 0.26 + 0.002 * ((y - 20) / 5) ** 2
                made.append(row("grid", c, size, loss, x, y, m_over_na=x, n_over_na=y))
        for d in (400, 600, 800, 1000, 1200):
            made.append(row("width", c, size, least + 1e-7 * (d - 800) ** 2, d, hidden_size=d))
        for ratio in (3.0, 4.0, 5.0):
            made.append(row("ratio", c, size, least + 0.002 * abs(ratio - 4), ratio))
        for rate in (5e-4, 1e-3, 2e-3):
            for batch in (32, 64):
                loss = least + 0.01 * math.log(rate / 1e-3) ** 2
                made.append(
                    row("hyperparameters", c, size, loss, rate, batch, learning_rate=rate, global_batch_size=batch)
                )
    for index in range(5):
        made.append(row("rank", budgets[0], 2.7e8, 2.5 + 0.05 * index, "proxy", index))
        made.append(row("rank", budgets[0], 2.7e8, 2.49 + 0.05 * index, "least", index))
    table = pd.DataFrame(made)
    table.loc[0, ["left_out", "state"]] = ["diverged: loss is NaN at step 12", "diverged"]
    table.loc[0, "final_validation_loss"] = math.nan
    return table


def row(study: str, compute: float, m: float, loss: float, *key: object, **changes: float) -> dict[str, object]:
    shape = Architecture(
        hidden_size=int(changes.get("hidden_size", 512)),
        num_dense_layers=1,
        num_moe_layers=3,
        ffn_hidden_size=1536,
        moe_ffn_hidden_size=64,
    )
    if "hidden_size" in changes:
        shape = Architecture(
            hidden_size=shape.hidden_size,
            num_dense_layers=1,
            num_moe_layers=3,
            ffn_hidden_size=3 * shape.hidden_size,
            moe_ffn_hidden_size=64,
        )
    counts = count(BACKBONE, shape)
    x, y = changes.get("m_over_na", 9.0), changes.get("n_over_na", 20.0)
    return {
        "run_id": run_id(study, compute, *key),
        "study": study,
        "compute": compute,
        "flops_per_token": m,
        "tokens": compute / m,
        "active_params": counts.active_params,
        "total_params": counts.total_params,
        "m_over_na": x,
        "n_over_na": y,
        "target_m_over_na": x,
        "target_n_over_na": y,
        "hidden_size": shape.hidden_size,
        "num_layers": 4,
        "num_dense_layers": 1,
        "num_moe_layers": 3,
        "ffn_hidden_size": shape.ffn_hidden_size,
        "moe_ffn_hidden_size": 64,
        "num_query_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 64,
        "num_experts": 288,
        "top_k": 8,
        "seq_length": 8192,
        "learning_rate": 1e-3,
        "global_batch_size": 64,
        "seed": 1,
        "target_flops_per_token": m,
        "realised_compute": compute,
        "megatron_flops": 1.4 * compute,
        "est_gpu_hours": 2.0,
        "wall_seconds": 60.0,
        "trained_tokens": compute / m,
        "final_validation_loss": loss,
        "state": "done",
        "left_out": None,
        "simulated": True,
        "versions": '{"moe-scaling-harness": "0.1.0"}',
        "data": None,
        **changes,
    }


def relation(
    name: str, symbol: str, at: float, exponent: float, budgets=BUDGETS, *, unit: str = "", floor: float = 0.0, **more
) -> Relation:
    reference = float(np.exp(np.mean(np.log(budgets))))

    def value(c: float) -> float:
        return floor + at * (c / reference) ** exponent

    grid = tuple(
        Prediction(
            compute=c,
            value=value(c),
            low=floor + (value(c) - floor) / 1.1,
            high=floor + (value(c) - floor) * 1.1,
            extrapolated=c > budgets[-1],
        )
        for c in (*budgets, budgets[-1] * 1e4)
    )
    return Relation(
        name=name,
        symbol=symbol,
        unit=unit,
        reference=reference,
        at_reference=Estimate(value=at, low=at / 1.1, high=at * 1.1),
        exponent=Estimate(value=exponent, low=exponent - 0.02, high=exponent + 0.02),
        floor=floor,
        compute=budgets,
        values=tuple(value(c) for c in budgets),
        grid=grid,
        **more,
    )


def points(table: pd.DataFrame, x: str, groups: str = "") -> Points:
    labels = tuple(f"{value:g}" for value in table[groups]) if groups else ("",) * len(table)
    return Points(
        run_ids=tuple(table["run_id"]),
        x=tuple(float(one) for one in table[x]),
        loss=tuple(table["final_validation_loss"]),
        group=labels,
    )


def curved(
    table: pd.DataFrame,
    study: str,
    x: str,
    optimum: float,
    *,
    kind: str,
    coefficients,
    constants,
    groups: str = "",
    edge: bool = False,
) -> tuple[Budget, ...]:
    made = []
    for c, here in table[(table["study"] == study) & table["left_out"].isna()].groupby("compute"):
        labels = (
            {f"{value:g}": 0.001 * index for index, value in enumerate(sorted(set(here[groups])))}
            if groups
            else {"": 0.0}
        )
        least = 1.7 + 2.5 * (float(c) / 1e18) ** -0.1
        curve = CurveRecord(
            kind=kind, coefficients=coefficients | {"c": least, "c0": least}, constants=constants, intercepts=labels
        )
        there = float(optimum) * (float(c) / 1e19) ** (0.54 if x == "flops_per_token" else 0)
        if x == "flops_per_token":
            curve = CurveRecord(kind=kind, coefficients=curve.coefficients, constants={"x0": there}, intercepts=labels)
        unresolved = edge and c == table["compute"].min()
        made.append(
            Budget(
                compute=float(c),
                status=AT_THE_EDGE if unresolved else RESOLVED,
                why="the loss falls over the whole range" if unresolved else "all inside",
                points=points(here, x, groups),
                curve=curve,
                optimum=Estimate(value=there, low=there * 0.95, high=math.inf if x == "hidden_size" else there * 1.05),
                minimum_loss=Estimate(value=least, low=least - 0.001, high=least + 0.001),
                band=(there * 0.9, there * 1.1),
                sampled=(float(here[x].min()), float(here[x].max())),
            )
        )
    return tuple(made)


def law(id: str, study: str, **more) -> Law:
    given = {
        "title": f"Law {id}",
        "form": "y = k C^e",
        "unit": "",
        "x": id,
        "x_label": id,
        "studies": (study,),
        "simulated": True,
    }
    return Law(id=id, **(given | more))


def laws_of(table: pd.DataFrame) -> LawsFile:
    """Every law, with relations wherever there are two budgets."""
    budgets = tuple(float(c) for c in sorted(table["compute"].unique()))

    def related(*made: Relation) -> tuple[Relation, ...]:
        return made if len(budgets) > 1 else ()

    def edges(name: str, symbol: str, at: float, exponent: float, floor: float = 0.0) -> tuple[Relation, ...]:
        return related(
            *(
                relation(name + suffix, symbol, at * factor, exponent, budgets, floor=floor)
                for suffix, factor in (("", 1), ("_low", 0.8), ("_high", 1.25))
            )
        )

    found = [
        law(
            "classical",
            "classical",
            title="Compute-optimal size and tokens",
            x="flops_per_token",
            x_label="M, training FLOPs per token",
            per_budget=curved(
                table,
                "classical",
                "flops_per_token",
                9.4e8,
                kind="parabola_in_log",
                coefficients={"c1": 0.0, "c2": 0.03},
                constants={"x0": 1.0},
            ),
            relations=related(
                relation(
                    "flops_per_token",
                    "M_opt",
                    9.4e8,
                    0.54,
                    budgets,
                    unit="FLOPs per token",
                    held_out=HeldOut(compute=budgets[-1], predicted=1.05, optimum=1.0),
                ),
                relation("tokens", "D_opt", 1.06e10, 0.46, budgets, unit="tokens"),
            ),
            points_left_out=(
                LeftOutRun(run_id=str(table["run_id"].iloc[0]), reason="diverged: loss is NaN at step 12"),
            ),
            variants=(
                Variant(
                    id="corrected",
                    text="losses moved",
                    relations=related(relation("flops_per_token", "M_opt", 9.6e8, 0.55, budgets)),
                    optima=tuple((compute, 1.0) for compute in budgets),
                ),
            ),
        ),
        law(
            "rank",
            "rank",
            x="hidden_size",
            pairs=tuple(
                RankPair(
                    m_over_na=9.0,
                    n_over_na=20.0,
                    proxy_run=run_id("rank", budgets[0], "proxy", i),
                    proxy_loss=2.5 + 0.05 * i,
                    least_run=run_id("rank", budgets[0], "least", i),
                    least_loss=2.49 + 0.05 * i,
                    width_error=0.0 if i else 0.02,
                )
                for i in range(5)
            ),
            statements=(
                Statement(
                    id="pearson",
                    text="Pearson's correlation is 1.",
                    estimate=Estimate(value=1.0, low=0.9, high=1.0),
                    holds=True,
                ),
            ),
        ),
        law(
            "n_over_na",
            "grid",
            per_budget=curved(
                table,
                "grid",
                "n_over_na",
                20.0,
                kind="parabola",
                coefficients={"c1": 0.0, "c2": 8e-5},
                constants={"x0": 20.0},
                groups="target_m_over_na",
            ),
            relations=edges("n_over_na", "(N/N_a)_opt", 20.0, 0.02),
        ),
        law(
            "m_over_na",
            "grid",
            per_budget=curved(
                table,
                "grid",
                "m_over_na",
                9.87,
                kind="floored_hyperbola",
                coefficients={"a": 0.3, "b": 0.02},
                constants={"floor": 6.0},
                groups="target_n_over_na",
                edge=True,
            ),
            relations=(
                *edges("m_over_na_minus_6", "(M/N_a)_opt", 3.0, -0.15, 6.0),
                *edges("m_over_na", "(M/N_a)_opt, plain power law", 9.0, -0.05),
            ),
            flags=("the form is in doubt",),
        ),
        law(
            "hidden_size",
            "width",
            per_budget=curved(
                table,
                "width",
                "hidden_size",
                800,
                kind="parabola",
                coefficients={"c1": 0.0, "c2": 1e-7},
                constants={"x0": 800.0},
            ),
            relations=edges("hidden_size", "d_opt", 800, 0.2),
        ),
        law(
            "width_ratio",
            "ratio",
            x="ratio",
            per_budget=ratios(table),
            relations=related(
                *(
                    relation(
                        f"{form}_{ratio:g}",
                        f"L at ratio {ratio:g}",
                        at,
                        -0.03 if form == "power" else -0.1,
                        budgets,
                        floor=floor,
                    )
                    for ratio in (3.0, 4.0, 5.0)
                    for form, at, floor in (("power", 2.5 + 0.01 * ratio, 0.0), ("offset", 0.8, 1.7 + 0.01 * ratio))
                )
            ),
        ),
        law(
            "learning_rate",
            "hyperparameters",
            x="learning_rate",
            per_budget=settings(table, "learning_rate"),
            relations=edges("learning_rate", "learning rate", 1e-3, -0.1),
        ),
        law(
            "batch_size",
            "hyperparameters",
            x="batch_tokens",
            per_budget=settings(table, "global_batch_size"),
            relations=edges("batch_tokens", "batch", 50, 0.1),
        ),
    ]
    there = set(table["study"])
    return LawsFile(
        laws=tuple(one for one in found if set(one.studies) <= there),
        missing={
            one.id: f"no run of study {one.studies[0]}: plan it" for one in found if not set(one.studies) <= there
        },
        data_hash="0" * 64,
        version="0.1.0",
        simulated=True,
        resamples=400,
        noise={
            "classical": SeedNoiseRecord(sd=1e-3, degrees_of_freedom=4, configurations=2, runs=6),
            "pooled": SeedNoiseRecord(sd=1e-3, degrees_of_freedom=4, configurations=2, runs=6),
        },
    )


def ratios(table: pd.DataFrame) -> tuple[Budget, ...]:
    rows = table[table["study"] == "ratio"].assign(ratio=[3.0, 4.0, 5.0] * int((table["study"] == "ratio").sum() // 3))
    return tuple(
        Budget(compute=float(c), status=NO_CURVE, why="compared", points=points(here, "ratio"))
        for c, here in rows.groupby("compute")
    )


def settings(table: pd.DataFrame, x: str) -> tuple[Budget, ...]:
    made = []
    for c, here in table[table["study"] == "hyperparameters"].groupby("compute"):
        near = here["final_validation_loss"] < here["final_validation_loss"].min() * 1.002
        best = here.loc[here["final_validation_loss"].idxmin()]
        made.append(
            Budget(
                compute=float(c),
                status=NO_CURVE,
                why="compared",
                points=points(here[near], x),
                outside=points(here[~near], x),
                tolerance=2e-3,
                optimum=Estimate(value=float(best[x])),
                minimum_loss=Estimate(value=float(best["final_validation_loss"])),
                band=(float(here[near][x].min()), float(here[near][x].max())),
            )
        )
    return tuple(made)

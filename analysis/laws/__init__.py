"""The paper's laws in terms of `analysis.fitting`: the classical one (section 4.2.1) and that of M/N_a (section 5.3).

laws, noise = fit_laws(table, Bootstrap(resamples=2000, seed=0))     # table: analysis.collect.collect
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.fitting import Array, Curve, FlooredHyperbola, ParabolaInLog
from analysis.minima import Bootstrap, Budget, find_minimum
from analysis.noise import SeedNoise, seed_noise
from analysis.relations import Relation, fit_relation
from analysis.text import flops

M_OVER_NA_FLOOR = 6.0
"""M/N_a of a model without attention scores; every architecture is above it (paper, Eq. 5)."""

WINDOW = 3.0
"""An IsoFLOP parabola is fitted to sizes within this factor of the size with the least loss: further out the loss bends
differently on both sides (capacity on one, steps on the other), and a parabola through all of it misses the minimum."""

TIE = 0.05
"""Sizes whose distances (in ln x) from the best one differ by less than this share are equally near."""

LEAST_SIZES = 4
"""The window is widened until it holds this many different sizes: one more than a parabola has coefficients."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """One law: its curve at each budget, and the power laws of the optima."""

    id: str
    """Key in laws.json."""
    study: str
    """Study whose runs it was fitted to."""
    title: str
    """For print."""
    form: str
    """The formulas, as text."""
    unit: str
    """Of the optimum."""
    x: str
    """Column that is the abscissa of the curves."""
    x_label: str
    """For print, with its unit."""
    budgets: tuple[Budget, ...]
    """By rising compute."""
    relations: tuple[Relation, ...]
    """Empty where fewer than two budgets are resolved."""
    points_left_out: tuple[tuple[str, str], ...]
    """Run id and reason."""
    flags: tuple[str, ...]
    """What a reader should know, in sentences."""
    simulated: bool
    """Whether any point is simulated."""

    @property
    def points_outside(self) -> list[tuple[str, str]]:
        """Run id and reason of usable runs that no curve was fitted to, because they are far from the minimum."""
        return [
            (str(run), f"outside the window: {self.x} = {value:.4g}, and the curve is fitted near the least loss")
            for budget in self.budgets
            for run, value in zip(budget.outside["run_id"], budget.outside[self.x], strict=True)
        ]

    @property
    def fitted(self) -> bool:
        """Whether there is a law at all."""
        return bool(self.relations)


def fit_laws(
    table: pd.DataFrame, bootstrap: Bootstrap, window: float | None = WINDOW
) -> tuple[list[Law], dict[str, SeedNoise]]:
    """Every law that `table` (of `analysis.collect.collect`) has a study for, and the noise between seeds.

    `window`: see `WINDOW`; None fits the parabolas to all sizes.
    """
    noise = seed_noise(table[table["left_out"].isna()])
    laws = []
    if len(rows := table[table["study"] == "classical"]):
        laws.append(fit_classical(rows, noise, bootstrap, window))
    if len(rows := table[table["study"] == "grid"]):
        laws.append(fit_m_over_na(rows, noise, bootstrap))
    return laws, noise


def fit_classical(
    table: pd.DataFrame, noise: dict[str, SeedNoise], bootstrap: Bootstrap, window: float | None = WINDOW
) -> Law:
    """M_opt(C) and D_opt(C) = C / M_opt from IsoFLOP curves, loss against ln M, M realised (paper, section 4.2.1)."""
    used, left_out = _split(table, ["flops_per_token"])
    near = f", within a factor {window:g} of the least loss" if window else ""
    budgets = _budgets(
        "classical",
        used,
        lambda rows: ParabolaInLog(_column(rows, "flops_per_token")),
        noise,
        bootstrap,
        lambda rows: near_minimum(_column(rows, "flops_per_token"), _column(rows, "final_validation_loss"), window),
    )
    compute, optimum, draws = _optima(budgets)
    relations: list[Relation] = []
    if len(compute) > 1:
        with np.errstate(divide="ignore"):
            tokens = compute / draws
        relations = [
            fit_relation("flops_per_token", "M_opt", "FLOPs per token", compute, optimum, draws),
            fit_relation("tokens", "D_opt", "tokens", compute, compute / optimum, tokens),
        ]
    return _law(
        budgets,
        relations,
        left_out,
        used,
        noise,
        id="classical",
        study="classical",
        title="Compute-optimal size and tokens",
        form=f"loss = c0 + c1 u + c2 u^2, u = ln(M / x0), at each C{near}; "
        "M_opt = k C^e; D_opt = C / M_opt = k' C^(1 - e)",
        unit="FLOPs per token",
        x="flops_per_token",
        x_label="M, training FLOPs per token",
    )


def fit_m_over_na(table: pd.DataFrame, noise: dict[str, SeedNoise], bootstrap: Bootstrap) -> Law:
    """The optimum of M/N_a against C, from loss = a/(x - 6) + b x + c with one c for each target N/N_a (section 5.3).

    Two power laws are given: of the excess M/N_a - 6, which stays above the bound at every C, and of M/N_a itself, the
    paper's form, which does not.
    """
    used, left_out = _split(table, ["m_over_na", "target_n_over_na"], above={"m_over_na": M_OVER_NA_FLOOR})

    def curve(rows: pd.DataFrame) -> Curve:
        return FlooredHyperbola(_column(rows, "m_over_na"), M_OVER_NA_FLOOR, _column(rows, "target_n_over_na"))

    budgets = _budgets("m_over_na", used, curve, noise, bootstrap)
    compute, optimum, draws = _optima(budgets)
    relations: list[Relation] = []
    flags: list[str] = []
    if len(compute) > 1:
        excess = fit_relation("m_over_na_minus_6", "(M/N_a)_opt", "", compute, optimum, draws, floor=M_OVER_NA_FLOOR)
        # The same resamples for both forms: those without a minimum have M/N_a = 6, which the plain form would accept.
        draws = np.where(draws > M_OVER_NA_FLOOR, draws, np.nan)
        plain = fit_relation("m_over_na", "(M/N_a)_opt, plain power law", "", compute, optimum, draws)
        relations = [excess, plain]
        flags += _crossing(plain)
    return _law(
        budgets,
        relations,
        left_out,
        used,
        noise,
        extra_flags=flags,
        id="m_over_na",
        study="grid",
        title="Optimal compute density M/N_a",
        form="loss = a / (x - 6) + b x + c_s, x = M/N_a, one c_s per N/N_a, at each C; x_opt = 6 + sqrt(a / b); "
        "x_opt - 6 = k C^e, and x_opt = k' C^e'",
        unit="",
        x="m_over_na",
        x_label="M/N_a, FLOPs per active parameter",
    )


def _column(rows: pd.DataFrame, name: str) -> Array:
    return np.asarray(rows[name].to_numpy(dtype=np.float64))


def _split(
    table: pd.DataFrame, needed: list[str], above: dict[str, float] | None = None
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The rows that a law can use, and run id and reason of the others."""
    reasons = table["left_out"].astype(object).where(table["left_out"].notna(), None)
    for name in needed:
        floor = (above or {}).get(name, 0.0)
        column = pd.to_numeric(table[name], errors="coerce") if name in table else pd.Series(math.nan, table.index)
        wrong = reasons.isna() & ~(column > floor)
        reasons[wrong] = [f"{name} is {value}, not above {floor:g}" for value in column[wrong]]
    out = reasons.notna()
    return table[~out], [
        (str(run), str(reason)) for run, reason in zip(table["run_id"][out], reasons[out], strict=True)
    ]


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


def _budgets(
    law: str,
    used: pd.DataFrame,
    make_curve: Callable[[pd.DataFrame], Curve],
    noise: dict[str, SeedNoise],
    bootstrap: Bootstrap,
    choose: Callable[[pd.DataFrame], Array] | None = None,
) -> list[Budget]:
    """Each budget's minimum, by rising compute. Noise is the study's own where it repeated seeds, else pooled.

    `choose` picks the rows of a budget that the curve is fitted to; None takes all.
    """
    study = str(used["study"].iloc[0]) if len(used) else ""
    own = noise.get(study)
    seeds, seeds_of = (own, f"study {study}") if own and own.dof else (noise["pooled"], "other studies")
    budgets = []
    for _, rows in used.groupby("compute", sort=True):
        chosen = np.asarray(np.ones(len(rows)) if choose is None else choose(rows), dtype=bool)
        budgets.append(
            find_minimum(
                law,
                float(rows["compute"].iloc[0]),
                rows[chosen],
                make_curve,
                outside=rows[np.logical_not(chosen)],
                seeds=seeds,
                seeds_of=seeds_of,
                bootstrap=bootstrap,
            )
        )
    return budgets


def _optima(budgets: list[Budget]) -> tuple[Array, Array, Array]:
    """Compute (n,), optimum (n,) and drawn optima (r, n) of the resolved budgets."""
    resolved = [budget for budget in budgets if budget.resolved and budget.resamples is not None]
    draws = [budget.resamples.optimum for budget in resolved if budget.resamples is not None]
    return (
        np.array([budget.compute for budget in resolved]),
        np.array([budget.fit.optimum for budget in resolved]),
        np.stack(draws, axis=1) if draws else np.empty((0, 0)),
    )


def _crossing(plain: Relation) -> list[str]:
    """Where the plain power law of M/N_a leaves what an architecture can have (paper notes, section 4)."""
    exponent = float(plain.law.exponent)
    if exponent >= 0:
        return []
    bound = plain.law.reference * (M_OVER_NA_FLOOR / float(plain.law.at_reference)) ** (1 / exponent)
    return [
        f"the plain power law of M/N_a falls below the bound 6 at {flops(bound)}, which no architecture can have: "
        "extrapolate with the law of M/N_a - 6"
    ]


def _law(
    budgets: list[Budget],
    relations: list[Relation],
    left_out: list[tuple[str, str]],
    used: pd.DataFrame,
    noise: dict[str, SeedNoise],
    *,
    extra_flags: list[str] | None = None,
    **texts: str,
) -> Law:
    resolved = sum(budget.resolved for budget in budgets)
    flags = [flag for relation in relations for flag in relation.flags] + (extra_flags or [])
    if not relations:
        flags.append(
            f"law not fitted: {resolved} of {len(budgets)} budgets have a resolved minimum, a law of C needs two"
        )
    elif resolved < len(budgets):
        flags.append(f"fitted to {resolved} of {len(budgets)} budgets: the others have no resolved minimum")
    if budgets and not noise["pooled"].dof:
        flags.append("no seeds were repeated: the noise is the scatter about each curve alone")
    simulated = bool(len(used) and used["simulated"].any())
    return Law(
        budgets=tuple(budgets),
        relations=tuple(relations),
        points_left_out=tuple(left_out),
        flags=tuple(flags),
        simulated=simulated,
        **texts,
    )

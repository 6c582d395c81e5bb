"""How often the intervals of a design hold, on known truths: ``python benchmarks/design_intervals.py [truth ...]``.

Each repetition draws the noise of all runs of the paper's programme anew and fits the laws. At each budget the exact losses of a
design's neighbours are held against their predicted intervals, and the truth's optima against those of the table. What is
allowed for beyond noise (`analysis.design.draws`) was chosen with the truths of `SEEN` before one's eyes; those of `UNSEEN` were
written down after that, and counted once.
"""

import argparse
import math
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.design.constraints import Limits
from analysis.design.draws import Chains
from analysis.design.neighbours import Wish, neighbours
from analysis.design.result import Design, design, settings_of
from analysis.laws import FitOptions, fit_laws
from benchmarks.design import RESAMPLES, STUDIES, again
from harness.cli import compose
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.settings import Settings
from harness.simulated.holistic import Holistic
from harness.simulated.power_law import PowerLaw
from tests.analysis.programme import programme

BUDGETS = (1e19, 3e19, 1e20, 1e21, 1e22, 1e24)

OPTIMA = ("flops_per_token", "m_over_na", "n_over_na", "hidden_size", "active_params", "total_params")


def _constants(**values: str) -> tuple[str, ...]:
    return tuple(f"train.truth.{name}={value}" for name, value in values.items())


SEEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "holistic": ("holistic", ()),
    "steep": (  # other exponents, stiffer curves, d that follows half-way
        "holistic",
        _constants(
            reducible="{value:0.9,at:1e18,exponent:-0.12}",
            m_over_na_stiffness="{value:0.02,at:1e18,exponent:-0.15}",
            n_over_na_stiffness="{value:0.02,at:1e18,exponent:-0.05}",
            hidden_size_stiffness="{value:0.25,at:1e18,exponent:-0.05}",
            hidden_size_elasticity="0.5",
        ),
    ),
    "smooth": (  # M/N_a and N/N_a go on as the law's forms have it, more or less
        "holistic",
        _constants(
            m_over_na_optimum="[[1e18,10.973],[1e19,9.35],[1e20,8.26],[1e22,7.03],[1e24,6.47]]",
            n_over_na_optimum="[[1e18,19.3],[1e20,21.3],[1e22,23.0],[1e24,24.4]]",
            hidden_size_elasticity="0.7",
        ),
    ),
    "noisy": (  # twice the noise, flatter d, which does not follow the feasible widths
        "holistic",
        _constants(
            noise="0.002",
            hidden_size_elasticity="0.0",
            hidden_size_stiffness="{value:0.1,at:1e18,exponent:-0.1}",
        ),
    ),
    "turning": (  # N/N_a falls, M/N_a levels off, other exponents of M and d
        "holistic",
        _constants(
            flops_per_token_optimum="{value:0.10385,at:1,exponent:0.5237}",
            m_over_na_optimum="[[1e18,10.5],[1e19,9.4],[1e20,8.9],[1e21,8.7],[1e24,8.5]]",
            m_over_na_stiffness="{value:0.012,at:1e18,exponent:-0.1}",
            n_over_na_optimum="[[1e18,23],[1e20,21],[1e24,18]]",
            hidden_size_optimum="{value:540,at:1e18,exponent:0.20}",
        ),
    ),
    "not_rank_preserving": ("not_rank_preserving", ()),
    "power_law": ("power_law", ()),  # of another form: ln^2 for both ratios, which do not move; d does not matter
    "late": (  # M/N_a turns up beyond the budgets, other exponents, d follows the feasible widths more than in proportion
        "holistic",
        _constants(
            reducible="{value:0.8,at:1e18,exponent:-0.06}",
            flops_per_token_optimum="{value:0.7055,at:1,exponent:0.48}",
            m_over_na_optimum="[[1e18,9.0],[1e20,8.0],[1e21,8.3],[1e24,9.5]]",
            n_over_na_optimum="[[1e18,18],[3e20,24],[1e22,25.5],[1e24,27]]",
            hidden_size_optimum="{value:480,at:1e18,exponent:0.24}",
            hidden_size_elasticity="1.3",
            hidden_size_stiffness="{value:0.08,at:1e18,exponent:0}",
        ),
    ),
    "loose": (  # more noise, flatter ratios, another law of d, which hardly follows
        "holistic",
        _constants(
            noise="0.0015",
            flops_per_token_optimum="{value:0.0213,at:1,exponent:0.56}",
            m_over_na_stiffness="{value:0.008,at:1e18,exponent:-0.05}",
            n_over_na_stiffness="{value:0.006,at:1e18,exponent:0}",
            hidden_size_optimum="{value:560,at:1e18,exponent:0.21}",
            hidden_size_elasticity="0.2",
            hidden_size_stiffness="{value:0.3,at:1e18,exponent:-0.2}",
        ),
    ),
    "early": (  # less noise, M/N_a levels off late, N/N_a falls
        "holistic",
        _constants(
            noise="0.0008",
            reducible="{value:0.7,at:1e18,exponent:-0.09}",
            flops_per_token_optimum="{value:0.1186,at:1,exponent:0.52}",
            m_over_na_optimum="[[1e18,12],[1e20,9],[3e20,8.8],[1e22,8.4],[1e24,8.2]]",
            m_over_na_stiffness="{value:0.01,at:1e18,exponent:-0.2}",
            n_over_na_optimum="[[1e18,20],[3e20,19],[1e24,16]]",
            n_over_na_stiffness="{value:0.015,at:1e18,exponent:0.02}",
            hidden_size_optimum="{value:530,at:1e18,exponent:0.215}",
            hidden_size_elasticity="0.8",
            hidden_size_stiffness="{value:0.12,at:1e18,exponent:-0.05}",
        ),
    ),
}
"""By name: the truth of configs/truth, and what of it is changed."""

UNSEEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "bent": (  # M/N_a and N/N_a bend beyond the budgets, other exponents
        "holistic",
        _constants(
            noise="0.0012",
            reducible="{value:0.85,at:1e18,exponent:-0.1}",
            flops_per_token_optimum="{value:0.0330,at:1,exponent:0.55}",
            m_over_na_optimum="[[1e18,10],[1e19,9.2],[3e20,7.8],[1e22,7.6],[1e24,7.2]]",
            m_over_na_stiffness="{value:0.012,at:1e18,exponent:-0.15}",
            n_over_na_optimum="[[1e18,21],[1e20,20.5],[1e24,23]]",
            hidden_size_optimum="{value:520,at:1e18,exponent:0.23}",
            hidden_size_elasticity="0.6",
            hidden_size_stiffness="{value:0.2,at:1e18,exponent:-0.12}",
        ),
    ),
    "gentle": (  # M/N_a falls slowly, N/N_a starts lower, d follows nearly in proportion
        "holistic",
        _constants(
            flops_per_token_optimum="{value:0.0792,at:1,exponent:0.53}",
            m_over_na_optimum="[[1e18,9.5],[3e20,8.5],[1e24,7.5]]",
            m_over_na_stiffness="{value:0.02,at:1e18,exponent:-0.3}",
            n_over_na_optimum="[[1e18,17],[3e20,21],[1e24,22]]",
            hidden_size_optimum="{value:505,at:1e18,exponent:0.228}",
            hidden_size_elasticity="0.9",
            hidden_size_stiffness="{value:0.13,at:1e18,exponent:-0.08}",
        ),
    ),
}

TRUTHS = SEEN | UNSEEN

type Truth = Holistic | PowerLaw


def exact(truth: Truth, experiment: Experiment) -> float:
    """The loss without noise, nats a token."""
    return replace(truth, noise=0.0).final_loss(experiment)


def optima(truth: Truth, found: Design) -> dict[str, float]:
    """The truth's best numbers at the design's budget, by the names of `OPTIMA`; d where it matters."""
    compute = found.compute
    if isinstance(truth, Holistic):
        best = {
            "flops_per_token": truth.flops_per_token_optimum(compute),
            "m_over_na": truth.m_over_na_optimum(compute),
            "n_over_na": truth.best_n_over_na(found.backbone, compute),
            "hidden_size": truth.hidden_size_optimum(compute),
        }
    else:
        best = {
            "flops_per_token": _size(truth, compute),
            "m_over_na": truth.m_over_na_optimum,
            "n_over_na": truth.n_over_na_optimum,
        }
    active = best["flops_per_token"] / best["m_over_na"]
    return best | {"active_params": active, "total_params": active * best["n_over_na"]}


def _size(truth: PowerLaw, compute: float) -> float:
    """M_opt: where A (M/6)^-alpha and B (C/M)^-beta fall and rise alike."""
    a, alpha = truth.flops_coefficient * 6**truth.flops_exponent, truth.flops_exponent
    b, beta = truth.tokens_coefficient, truth.tokens_exponent
    return float((alpha * a / (beta * b)) ** (1 / (alpha + beta)) * compute ** (beta / (alpha + beta)))


def least(truth: Truth, compute: float) -> float:
    """The loss at the best of everything, nats a token."""
    if isinstance(truth, Holistic):
        return truth.least_loss(compute)
    size = _size(truth, compute)
    by_size = truth.flops_coefficient * (size / 6) ** -truth.flops_exponent
    return float(truth.floor + by_size + truth.tokens_coefficient * (compute / size) ** -truth.tokens_exponent)


def losses_of_neighbours(truth: Truth, settings: Settings, found: Design) -> list[tuple[float, float, float, float]]:
    """Low, median and high of each neighbour's predicted excess loss, and the exact one, as shares."""
    run, rows = found.experiment, []
    for one in neighbours(found, settings, Limits(), Wish(within=10), 8).listed:  # also those far off the targets
        if one.excess is None:
            continue
        steps = round(run.training.train_iters * run.counts.flops_per_token / one.counts.flops_per_token)
        moved = replace(run, architecture=one.architecture, training=replace(run.training, train_iters=steps))
        loss = exact(truth, moved) / least(truth, float(moved.counts.flops_per_token) * moved.tokens) - 1
        rows.append((one.excess.low, one.excess.value, one.excess.high, loss))
    return rows


def count(name: str, repetitions: int, budgets: tuple[float, ...] = BUDGETS, first: int = 1) -> pd.DataFrame:
    """A row a budget: neighbours, those below and above their interval, medians in %, and optima held of those that there are.

    `first`: the seed of the first repetition.
    """
    base, words = TRUTHS[name]
    table, experiments, truth = programme(base, STUDIES, words)
    assert isinstance(truth, Holistic | PowerLaw)
    losses = {run_id: exact(truth, experiment) for run_id, experiment in experiments.items()}
    settings = settings_of(compose("design", ["compute=1e22"]))
    priced: dict[float, list[tuple[float, float, float, float]]] = {compute: [] for compute in budgets}
    held: dict[float, dict[str, list[bool]]] = {compute: {one: [] for one in OPTIMA} for compute in budgets}
    refused = dict.fromkeys(budgets, 0)
    for seed in range(first, first + repetitions):
        options = FitOptions(resamples=RESAMPLES, seed=seed)
        laws = fit_laws(again(table, losses, truth.noise, seed), options, variants=False)
        chains = Chains(laws)
        for compute in budgets:
            try:
                found = design(settings, laws, "refitted", compute, chains=chains)
            except HarnessError:
                refused[compute] += 1
                continue
            priced[compute] += losses_of_neighbours(truth, settings, found)
            for one, value in optima(truth, found).items():
                if found.optima[one].known and not found.optima[one].without:
                    held[compute][one].append(found.optima[one].low <= value <= found.optima[one].high)
    rows = []
    for compute in budgets:
        known = [row for row in priced[compute] if math.isfinite(row[0])]
        values = np.array(known or [(math.nan,) * 4])
        low, middle, high, true = np.median(values, axis=0)
        rows.append(
            {
                "budget": compute,
                "no design": refused[compute],
                "neighbours": len(known),
                "no interval": len(priced[compute]) - len(known),
                "below": int((values[:, 3] < values[:, 0]).sum()),
                "above": int((values[:, 3] > values[:, 2]).sum()),
                "low %": 100 * low,
                "median %": 100 * middle,
                "high %": 100 * high,
                "true %": 100 * true,
            }
            | {one: f"{sum(marks)}/{len(marks)}" for one, marks in held[compute].items()}
        )
    return pd.DataFrame(rows)


def main() -> None:
    """Print the counts of each truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truths", nargs="*", default=list(TRUTHS), help=", ".join(TRUTHS))
    parser.add_argument("--repetitions", type=int, default=30)
    own = parser.parse_args()
    for name in own.truths:
        print(f"\n{name}, {own.repetitions} repetitions")
        print(
            count(name, own.repetitions).to_string(index=False, float_format=lambda value: f"{value:.3g}"), flush=True
        )


if __name__ == "__main__":
    main()

"""Regret of the designs on a known truth: ``python benchmarks/design.py [--repetitions 50]``.

Each repetition draws the noise of all runs of the paper's programme anew, fits the laws as `analysis.refit` does, designs at
1e21, 1e22 and 1e24 FLOPs, and asks the truth (`harness/simulated/holistic.py`) for the exact loss of what was designed. Regret
is that loss over the least loss of the compute it spends, less 1. Printed beside it: the regret of laws fitted to the same
runs without noise (what is left is rounding, and the truth's not being of the laws' forms), and of the published laws; and
what the median consists of. How often predicted intervals hold is counted by benchmarks/design_intervals.py.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.design.published import PATH
from analysis.design.result import Design, design, settings_of
from analysis.laws import FitOptions, fit_laws, read_laws
from analysis.laws.records import LawsFile
from harness.cli import compose
from harness.errors import HarnessError
from harness.experiment import Experiment
from harness.simulated.holistic import Holistic
from tests.analysis.programme import programme

BUDGETS = (1e21, 1e22, 1e24)

STUDIES = ("classical", "1", "refine", "2", "hyperparameters")
"""Those whose laws a design needs."""

PARTS = ("M", "M/N_a", "N/N_a", "d", "rate and batch")

RESAMPLES = 200


def again(table: pd.DataFrame, losses: dict[str, float], noise: float, seed: int) -> pd.DataFrame:
    """The programme with the noise of another repetition."""
    rng = np.random.default_rng(seed)
    exact = np.array([losses[run_id] for run_id in table["run_id"]])
    return table.assign(final_validation_loss=exact + noise * rng.standard_normal(len(table)))


def parts(truth: Holistic, experiment: Experiment) -> list[float]:
    """What each of `PARTS` adds to the regret; they sum to it."""
    counts, backbone = experiment.counts, experiment.backbone
    flops = counts.flops_per_token
    spent = float(flops) * experiment.tokens
    least = truth.least_loss(spent)
    best = truth.best_hidden_size(backbone, spent, flops, counts.active_params, counts.total_params)
    height = truth.hidden_size_stiffness(spent) * (experiment.architecture.hidden_size / best - 1) ** 2
    found = [
        truth.classical_loss(spent, flops) - least,
        truth.m_over_na_penalty(spent, counts.m_over_na),
        truth.n_over_na_penalty(backbone, spent, counts.n_over_na),
        height,
    ]
    return [one / least for one in (*found, truth.exact_loss(experiment) - least - sum(found))]


def regrets(truth: Holistic, at: Callable[[float], Design]) -> np.ndarray:
    """Parts of the regret at each budget, shape (budgets, parts); NaN where no design was found."""
    found = []
    for compute in BUDGETS:
        try:
            found.append(parts(truth, at(compute).experiment))
        except HarnessError as error:
            print(f"  {compute:g}: {error}")
            found.append([float("nan")] * len(PARTS))
    return np.array(found)


def main() -> None:
    """Print median and 95% of the regret."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=50)
    own = parser.parse_args()
    settings = settings_of(compose("design", ["compute=1e22"]))
    table, experiments, truth = programme("holistic", STUDIES)
    assert isinstance(truth, Holistic)
    losses = {run_id: truth.exact_loss(experiment) for run_id, experiment in experiments.items()}

    def of(laws: LawsFile) -> np.ndarray:
        return regrets(truth, lambda compute: design(settings, laws, "refitted", compute))

    options = FitOptions(resamples=RESAMPLES)
    published, clean = of(read_laws(PATH)), of(fit_laws(again(table, losses, 1e-9, 0), options))
    begin = time.perf_counter()
    drawn = []
    for seed in range(1, own.repetitions + 1):
        laws = fit_laws(again(table, losses, truth.noise, seed), replace(options, seed=seed))
        drawn.append(of(laws))
        print(f"  {seed}: {', '.join(f'{100 * one:.3f}%' for one in drawn[-1].sum(axis=1))}", flush=True)
    spent = time.perf_counter() - begin
    print(f"\n{own.repetitions} repetitions of {len(table)} runs, noise {truth.noise:g} nats, {spent:.0f} s")
    heads = ("median", "95%", "worst", "no noise", "published")
    print(f"{'budget':>8s} {'designs':>8s}" + "".join(f"{head:>10s}" for head in heads) + "   medians of the parts")
    for row, compute in enumerate(BUDGETS):
        values = np.array([one[row] for one in drawn])
        values = values[np.isfinite(values).all(axis=1)]
        total = values.sum(axis=1)
        cells = [np.median(total), np.quantile(total, 0.95), total.max(), clean[row].sum(), published[row].sum()]
        shares = ", ".join(f"{name} {100 * np.median(values[:, part]):.3f}" for part, name in enumerate(PARTS))
        print(f"{compute:8.0e} {len(values):8d}" + "".join(f"{100 * cell:9.3f}%" for cell in cells) + f"   {shares}")


if __name__ == "__main__":
    main()

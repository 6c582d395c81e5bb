"""The paper's whole programme as a table of losses with known truth: planned by the planner; nothing is run."""

from functools import cache

import pandas as pd

from harness.cli import compose
from harness.experiment import Experiment
from harness.plan import plan
from harness.settings import job_options
from harness.simulated.truth import Truth
from harness.sweepwrite import columns

STUDIES = ("classical", "rank", "1", "refine", "2", "ratio", "hyperparameters")


@cache
def programme(
    truth: str = "holistic", studies: tuple[str, ...] = STUDIES, words: tuple[str, ...] = ()
) -> tuple[pd.DataFrame, dict[str, Experiment], Truth]:
    """Columns as of `analysis.collect.collect` (callers must not change them), experiments by run id, and the truth.

    `words`: further options, such as constants of the truth (train.truth.noise=0.002).
    """
    rows, experiments, known = [], {}, None
    for study in studies:
        scale = "1e18" if study == "rank" else "all"
        seeds = ["seeds=3"] if study in ("classical", "1") else []
        config = compose(
            "sweep", [f"phase={study}", f"scale={scale}", "train=simulated", f"truth={truth}", *seeds, *words]
        )
        simulation = job_options(config).simulation
        assert simulation is not None
        known = simulation.truth
        for row in plan(config).rows:
            experiment = row.point.experiment
            experiments[experiment.run_id] = experiment
            rows.append(columns(row) | {"final_validation_loss": known.final_loss(experiment), "data": None})
    table = pd.DataFrame(rows).assign(
        state="done", left_out=None, simulated=True, recipe="one", sweep="s", versions="{}", wall_seconds=1.0
    )
    for name in ("compute", "realised_compute", "flops_per_token", "megatron_flops_per_token", "tokens"):
        table[name] = table[name].astype(float)  # whole numbers beyond 64 bits make a column of objects
    table["free_target"] = table["free_target"].astype(str)
    table["trained_tokens"] = table["tokens"]
    table["megatron_flops"] = table["megatron_flops_per_token"] * table["tokens"]
    assert known is not None
    return table, experiments, known

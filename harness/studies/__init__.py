"""The paper's studies, each as a list of requests, by the name that ``phase=`` takes.

A study's numbers stand in ``configs/studies/``; `harness.studies.build` turns its requests into experiments.
"""

from typing import Any

from harness.errors import ConfigError, nearest
from harness.studies.classical import classical
from harness.studies.grid import grid, refine
from harness.studies.optima import at_optima, hyperparameters
from harness.studies.rank import rank
from harness.studies.study import Point, Request, Study

__all__ = ["STUDIES", "Point", "Request", "Study", "find_study"]

STUDIES = (
    Study(name="classical", label="classical", requests=classical),
    Study(name="rank", label="rank", requests=rank),
    Study(name="grid", label="phase1", requests=grid),
    Study(name="refine", label="refine", requests=refine),
    Study(name="width", label="phase2", requests=at_optima("width", "hidden_size")),
    Study(name="ratio", label="ratio", requests=at_optima("ratio", "width_ratio")),
    Study(
        name="dense_share",
        label="dense_share",
        requests=at_optima("dense_share", "dense_share"),
    ),
    Study(
        name="granularity",
        label="granularity",
        requests=at_optima("granularity", "granularity"),
    ),
    Study(name="hyperparameters", label="hyperparameters", requests=hyperparameters),
)

_BY_PHASE = {"1": STUDIES[2], "2": STUDIES[4]} | {study.name: study for study in STUDIES}


def find_study(phase: Any) -> Study:
    """The study that ``phase=`` names.

    Raises:
        ConfigError: there is none of that name; with the valid ones.
    """
    if (study := _BY_PHASE.get(str(phase))) is None:
        start = "phase is not set" if phase is None else f"phase={phase}: no such study"
        raise ConfigError(f"{start}; choose one of {', '.join(_BY_PHASE)}{nearest(phase, _BY_PHASE)}")
    return study

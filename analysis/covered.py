"""Fitted laws held against the truth that simulated their losses: what is covered, and what the studies cannot show.

    rows = compare(laws, clean, truth, budgets)      # clean: the same laws fitted to the same runs' losses without noise

Two differences are told apart. An interval speaks of noise: it should cover what the same runs give without noise (`Row.clean`).
What the runs give without noise may still not be the truth: a grid at the proxy width, with realised sizes off their targets,
finds the optimum of the runs that there are. No number of seeds shows that; the difference of `clean` and `truth` is its size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.laws import Estimate, FitOptions, LawsFile
from analysis.laws.points import LOSS
from harness.experiment import Experiment
from harness.simulated.truth import Truth, read_truth


@dataclass(frozen=True, kw_only=True)
class Row:
    """One coefficient."""

    law: str
    name: str
    """Relation and part, or statement."""
    truth: float | None
    """None where the truth has no closed form for it."""
    clean: float | None
    """Fitted to the same runs' losses without noise; None where that fit has none."""
    estimate: Estimate

    @property
    def covers_clean(self) -> bool | None:
        """Whether the interval holds what the runs give without noise; None where either is unknown."""
        return _covers(self.estimate, self.clean)

    @property
    def covers_truth(self) -> bool | None:
        """Whether the interval holds the truth."""
        return _covers(self.estimate, self.truth)


def _covers(estimate: Estimate, value: float | None) -> bool | None:
    known = value is not None and estimate.low == estimate.low and estimate.high == estimate.high
    return value in estimate if known and value is not None else None


def compare(
    laws: LawsFile, clean: LawsFile, truth: Truth, budgets: Sequence[float], options: FitOptions | None = None
) -> list[Row]:
    """A row for the exponent and the value at the reference of every relation, and for every statement.

    `budgets`: FLOPs, over which the truth's own laws are taken; `options`: with which `laws` were fitted.
    """
    true_laws = truth.laws(budgets)
    stated = truth.statements(budgets, (options or FitOptions()).flat_range)
    rows = []
    for law in laws.laws:
        other = clean.law(law.id)
        for relation in law.relations:
            line = true_laws.get(law.id, {}).get(relation.name)
            same = other.relation(relation.name) if other else None
            rows.append(
                Row(
                    law=law.id,
                    name=f"{relation.name} exponent",
                    truth=line.exponent if line else None,
                    clean=same.exponent.value if same else None,
                    estimate=relation.exponent,
                )
            )
            rows.append(
                Row(
                    law=law.id,
                    name=f"{relation.name} at {relation.reference:.3g}",
                    truth=line(relation.reference) - line.floor if line else None,
                    clean=same(relation.reference) - same.floor if same else None,
                    estimate=relation.at_reference,
                )
            )
        for statement in law.statements:
            said = other.statement(statement.id) if other else None
            rows.append(
                Row(
                    law=law.id,
                    name=statement.id,
                    truth=stated.get(law.id, {}).get(statement.id),
                    clean=said.estimate.value if said else None,
                    estimate=statement.estimate,
                )
            )
    return rows


def without_noise(table: pd.DataFrame, experiments: Mapping[str, Experiment], truth: Truth) -> pd.DataFrame:
    """`table` with the losses that the truth gives without noise (a thousandth of it is left, for fits that ask for some)."""
    silent = read_truth({**truth.describe(), "noise": truth.describe()["noise"] * 1e-3})
    exact = {run: silent.final_loss(experiment) for run, experiment in experiments.items()}
    return table.assign(**{LOSS: table["run_id"].map(exact)})


def counts(rows: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """How many intervals hold the noise-free value, and the truth, of those that can be judged."""
    found = {}
    for name in ("covers_clean", "covers_truth"):
        judged = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        found[name] = (sum(judged), len(judged))
    return found

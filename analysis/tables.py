"""Laws as pandas tables, for notebooks and for anyone at a prompt. Each takes None, a law that is not there, and gives no row.

table, laws = load("runs_root", "all");  coefficients(laws.law("m_over_na"));  minima(...);  ahead(..., [1e22, 1e24])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.collect import choose_sweeps, collect
from analysis.laws import FITS, FitOptions, Law, LawsFile, fit_laws
from harness.errors import HarnessError, nearest


def load(
    root: str | Path, sweep: str | Sequence[str] = "all", *, correct: bool = False, **options: Any
) -> tuple[pd.DataFrame, LawsFile]:
    """The runs of `sweep` (a name, a list, or ``all``) under `root`, and every law that they can be fitted to.

    `options` are fields of `analysis.laws.FitOptions`.

    Raises:
        HarnessError: there is no such sweep, or it holds no run.
    """
    root = Path(root)
    table = collect(root, choose_sweeps(root, sweep))
    return table, fit_laws(table, FitOptions(**options), correct=correct)


def find(laws: LawsFile, law_id: str) -> Law | None:
    """The law of that id; its form and flags are printed, or why there is none.

    Raises:
        HarnessError: there is no law of that name.
    """
    if law_id not in FITS:
        raise HarnessError(f"{law_id}: there is no such law; choose one of {', '.join(FITS)}{nearest(law_id, FITS)}")
    law = laws.law(law_id)
    print(
        *((law.form, *law.flags) if law else (f"no law {law_id}: {laws.missing.get(law_id, 'not in this file')}",)),
        sep="\n",
    )
    return law


def coefficients(law: Law | None) -> pd.DataFrame:
    """A row a relation: exponent and value at the reference budget with their intervals, the error without the largest budget."""
    rows = [
        {
            "relation": relation.name,
            "form": f"{relation.floor:g} + k C^e" if relation.floor else "k C^e",
            "exponent": relation.exponent.value,
            "exponent low": relation.exponent.low,
            "exponent high": relation.exponent.high,
            "at C": relation.reference,
            "value": relation(relation.reference),
            "budgets": len(relation.compute),
            "error without the largest": relation.held_out.relative_error if relation.held_out else None,
            "intervals": relation.method,
        }
        for relation in (law.relations if law else ())
    ]
    return pd.DataFrame(rows)


def minima(law: Law | None) -> pd.DataFrame:
    """A row a budget: its minimum, interval, band, and a spline's minimum as a cross-check."""
    rows = [
        {
            "C": budget.compute,
            "status": budget.status,
            "optimum": budget.optimum.value,
            "low": budget.optimum.low,
            "high": budget.optimum.high,
            "band low": budget.band[0],
            "band high": budget.band[1],
            "without a model": budget.model_free,
            "least loss": budget.minimum_loss.value,
            "runs": len(budget.points),
            "noise": budget.noise.sd if budget.noise else None,
        }
        for budget in (law.per_budget if law else ())
    ]
    return pd.DataFrame(rows)


def ahead(law: Law | None, budgets: Sequence[float]) -> pd.DataFrame:
    """A row a relation and budget: predicted value with its interval, and how far it is extrapolated."""
    rows = []
    for relation in law.relations if law else ():
        for compute in budgets:
            predicted = relation.predict(compute)
            rows.append(
                {
                    "relation": relation.name,
                    "C": compute,
                    "value": predicted.value,
                    "low": predicted.low,
                    "high": predicted.high,
                    "extrapolated by": relation.extrapolation(compute),
                }
            )
    return pd.DataFrame(rows)


def shifts(law: Law | None) -> pd.DataFrame:
    """A row a relation and variant: how far exponent and value move on corrected losses, and in real FLOPs."""
    rows = []
    for variant in law.variants if law else ():
        for relation in variant.relations:
            plain = law.relation(relation.name) if law else None
            if plain is None:
                continue
            rows.append(
                {
                    "relation": relation.name,
                    "variant": variant.id,
                    "exponent": relation.exponent.value,
                    "exponent as fitted": plain.exponent.value,
                    "at C": relation.reference,
                    "value": relation(relation.reference),
                    "same runs' nominal C": variant.nominal_reference,
                    "value as fitted": plain(variant.nominal_reference),
                }
            )
    return pd.DataFrame(rows)


def statements(law: Law | None) -> pd.DataFrame:
    """A row a statement."""
    return pd.DataFrame([{"statement": one.text, "holds": one.holds} for one in (law.statements if law else ())])

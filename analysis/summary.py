"""What the data say, in plain sentences: the words of the console and of the report."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.fitting import FlooredHyperbola
from analysis.laws import Law
from analysis.minima import Budget, claimed_level
from analysis.noise import SeedNoise
from analysis.relations import Relation
from analysis.text import count, flops, scientific, with_interval

FITTED_STUDIES = ("classical", "grid")
"""Studies that a law of this version uses."""


@dataclass(frozen=True, kw_only=True)
class LeftOutRun:
    """A run that no law could use."""

    run_id: str
    study: str
    compute: float
    reason: str


def law_sentences(law: Law) -> list[str]:
    """The law's findings: each power law, then each budget without a resolved minimum, then its flags."""
    sentences = [_relation_sentence(relation) for relation in law.relations]
    for relation in law.relations:
        if relation.left_out:
            error = 100 * relation.left_out.relative_error
            largest = flops(relation.left_out.predicted.compute)
            sentences.append(
                f"Without the largest budget ({largest}) the law of {relation.symbol} misses its optimum by "
                f"{error:+.1f}%."
            )
    for budget in law.budgets:
        if not budget.resolved:
            sentences.append(f"At {flops(budget.compute)} the minimum is {budget.status}: {budget.why}.")
        sentences += [f"At {flops(budget.compute)} {flag}." for flag in budget.flags]
    if not law.budgets:
        sentences.append("No run can be used.")
    return sentences + [f"{flag[0].upper()}{flag[1:]}." for flag in law.flags]


def _relation_sentence(relation: Relation) -> str:
    parts = relation.coefficients()
    symbol = f"{relation.symbol} − {relation.law.floor:g}" if relation.law.floor else relation.symbol
    exponent = _decimal(*parts[f"{relation.name}_exponent"])
    there = with_interval(*parts[f"{relation.name}_at_reference"])
    unit = f" {relation.unit}" if relation.unit else ""
    return f"{symbol} goes as C^{exponent} and is {there}{unit} at {flops(relation.law.reference)}."


def _decimal(value: float, low: float, high: float) -> str:
    return f"{value:.3f} ({low:.3f} to {high:.3f})"


def fitted_text(budget: Budget) -> str:
    """Where the fitted minimum lies and its interval, resolved or not; ``none`` where the curve has none."""
    digits = 4 if isinstance(budget.curve, FlooredHyperbola) else 3  # M/N_a moves in its third digit
    return with_interval(*budget.optimum, digits) if pd.notna(budget.fit.minimum) else "none"


def noise_sentences(noise: dict[str, SeedNoise]) -> list[str]:
    """Seed noise of each study and of all, with its degrees of freedom."""
    if not noise["pooled"].dof:
        return ["No configuration was repeated with another seed: only the scatter about the curves shows the noise."]
    return [
        f"{'All studies' if study == 'pooled' else f'Study {study}'}: "
        + (
            f"standard deviation between seeds {scientific(of.sd)} nats per token, from {count(of.runs, 'run')} of "
            f"{count(of.groups, 'configuration')} ({of.dof} degrees of freedom)."
            if of.dof
            else "no repeated seeds."
        )
        for study, of in noise.items()
        if study != "pooled" or sum(bool(other.dof) for other in noise.values()) > 2  # else the pool is one study
    ]


def left_out_runs(table: pd.DataFrame, laws: Sequence[Law]) -> list[LeftOutRun]:
    """Every run that was left out, by `analysis.collect` or by a law, once for each study, with its reason."""
    reasons = {(law.study, run): reason for law in laws for run, reason in law.points_left_out}
    out = []
    for row in table.to_dict("records"):
        reason = row["left_out"] if isinstance(row["left_out"], str) else reasons.get((row["study"], row["run_id"]))
        if reason:
            out.append(LeftOutRun(run_id=row["run_id"], study=row["study"], compute=row["compute"], reason=str(reason)))
    return out


def unused_studies(table: pd.DataFrame) -> list[str]:
    """Studies in `table` that no law of this version is fitted to."""
    return sorted(set(table["study"]) - set(FITTED_STUDIES))


def intervals_sentence(resamples: int) -> str:
    """How to read the intervals."""
    return (
        f"Ranges in brackets are {claimed_level()} intervals from {resamples:,} simulated repetitions of the runs; "
        "they hold the noise of the runs, not the doubt whether a formula is right."
    )

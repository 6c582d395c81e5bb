"""What the data say, in plain sentences: the words of the console and of the report.

five_sentences(table, laws)       what was run, what it took, the size, the shape, and what is in doubt
law_sentences(law)                one law's findings
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.laws import FITS, NO_CURVE, Budget, Law, LawsFile, Relation
from analysis.text import count, flops, scientific, with_interval

DIGITS = {"m_over_na": 4, "n_over_na": 4, "hidden_size": 4}
"""Significant digits of a law's optima; 3 elsewhere. M/N_a moves in its third digit."""


MOST_RELATIONS = 4
"""Relations of a law whose errors are told one by one."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A row of the table that was not used, and why."""

    run_id: str
    study: str
    compute: float
    reason: str
    usable: bool
    """Whether the run is sound, and only lies where no curve is fitted."""


def five_sentences(table: pd.DataFrame, laws: LawsFile) -> list[str]:
    """The summary: what was run, what it took, the compute-optimal size, the shape, and what is in doubt."""
    return [_what_was_run(table), _what_it_took(table), _size(laws), _shape(laws), _doubts(laws)]


def law_sentences(law: Law) -> list[str]:
    """The law's findings: each relation, its error at the largest budget, each budget without a resolved minimum."""
    relations = [relation for relation in law.relations if not relation.name.endswith(("_low", "_high"))]
    sentences = [relation_sentence(relation) for relation in relations]
    sentences += _held_out_sentences(relations)
    for budget in law.per_budget:
        if not budget.resolved and budget.status != NO_CURVE:
            sentences.append(f"At {flops(budget.compute)} the minimum is {budget.status}: {budget.why}.")
    if not law.per_budget and not law.pairs:
        sentences.append("No run can be used.")
    return sentences


def _held_out_sentences(relations: Sequence[Relation]) -> list[str]:
    """How well each relation foresees its largest budget; of many relations (one a width ratio) the worst."""
    held = [(relation, relation.held_out) for relation in relations if relation.held_out]
    if len(held) > MOST_RELATIONS:
        worst, out = max(held, key=lambda one: abs(one[1].relative_error))
        return [
            f"Without the largest budget ({flops(out.compute)}) these laws miss it by at most "
            f"{100 * abs(out.relative_error):.1f}% "
            f"({worst.symbol})."
        ]
    return [
        f"Without the largest budget ({flops(out.compute)}) the law of {relation.symbol} misses it by "
        f"{100 * out.relative_error:+.1f}%."
        for relation, out in held
    ]


def flag_sentences(law: Law, *, budgets: bool = True) -> list[str]:
    """What a reader should know about the law, and about its budgets unless told otherwise."""
    own = [f"{flag[0].upper()}{flag[1:]}." for flag in law.flags]
    theirs = [f"At {flops(budget.compute)} {flag}." for budget in law.per_budget for flag in budget.flags]
    return own + theirs if budgets else own


def relation_sentence(relation: Relation) -> str:
    """``M_opt goes as C^0.544 (0.530 to 0.560) and is 1.2×10⁹ (...) FLOPs per token at 1.73×10¹⁹ FLOPs.``"""
    symbol = f"{relation.symbol} − {relation.floor:.4g}" if relation.floor else relation.symbol
    e = relation.exponent
    between = f" ({_end(e.low)} to {_end(e.high)})" if not (math.isnan(e.low) or math.isnan(e.high)) else ""
    at = relation.at_reference
    there = with_interval(at.value, at.low, at.high)
    unit = f" {relation.unit}" if relation.unit else ""
    return f"{symbol} goes as C^{e.value:.3f}{between} and is {there}{unit} at {flops(relation.reference)}."


def optimum_text(law: Law, budget: Budget) -> str:
    """Where the fitted minimum lies and its interval, resolved or not; ``none`` where there is none."""
    best = budget.optimum
    return (
        with_interval(best.value, best.low, best.high, DIGITS.get(law.id, 3)) if math.isfinite(best.value) else "none"
    )


def noise_sentences(laws: LawsFile) -> list[str]:
    """Seed noise of each study and of all, with its degrees of freedom."""
    pooled = laws.noise.get("pooled")
    if pooled is None or not pooled.degrees_of_freedom:
        return ["No configuration was repeated with another seed: only the scatter about the curves shows the noise."]
    repeated = [study for study, of in laws.noise.items() if study != "pooled" and of.degrees_of_freedom]
    named = [*repeated, "pooled"] if len(repeated) > 1 else repeated  # with one study, the pool is that study
    return [
        f"{'All studies' if study == 'pooled' else f'Study {study}'}: standard deviation between seeds "
        f"{scientific(of.sd)} nats per "
        f"token, from {count(of.runs, 'run')} of {count(of.configurations, 'configuration')} "
        f"({of.degrees_of_freedom} degrees of freedom)."
        for study, of in ((study, laws.noise[study]) for study in named)
    ]


def left_out_runs(table: pd.DataFrame, laws: LawsFile) -> list[LeftOut]:
    """Every row that `analysis.collect` left out, or that no law used though one is fitted to its study; with the reason."""
    reasons: dict[tuple[str, str], tuple[str, bool]] = {}
    used: set[tuple[str, str]] = set()
    for law in laws.laws:
        used |= {(study, run) for study in law.studies for run in law.points_used}
        for run in law.points_left_out:
            for study in law.studies:
                reasons.setdefault((study, run.run_id), (run.reason, run.usable))
    out = []
    for run_id, study, compute, left_out in table[["run_id", "study", "compute", "left_out"]].itertuples(index=False):
        key = (str(study), str(run_id))
        if isinstance(left_out, str):
            reason, usable = left_out, False
        elif key in reasons and key not in used:
            reason, usable = reasons[key]
        else:
            continue
        out.append(LeftOut(run_id=key[1], study=key[0], compute=float(compute), reason=reason, usable=usable))
    return out


def unused_studies(table: pd.DataFrame) -> list[str]:
    """Studies in `table` that no law is fitted to."""
    return sorted(set(table["study"]) - {study for studies, _ in FITS.values() for study in studies})


def intervals_sentence(laws: LawsFile) -> str:
    """How to read the intervals."""
    return (
        f"Ranges in brackets are {100 * laws.interval_level:g}% intervals; they hold the noise of the runs, not "
        f"the doubt whether a "
        f"formula is right. What is simulated behind them was repeated {laws.resamples:,} times."
    )


def _what_was_run(table: pd.DataFrame) -> str:
    once = table.drop_duplicates("run_id")
    budgets = sorted(once["compute"].dropna().unique())
    where = (
        f"at {flops(budgets[0])}"
        if len(budgets) == 1
        else f"at {len(budgets)} budgets from {flops(budgets[0])} to {flops(budgets[-1])}"
    )
    unusable = int(once["left_out"].notna().sum())
    rest = "all can be used" if not unusable else f"{unusable} cannot be used"
    return f"{count(len(once), 'run')} of {_studies(once['study'].unique())} {where} were collected; {rest}."


def _studies(names: Iterable[object]) -> str:
    ordered = sorted(str(name) for name in names)
    return (
        f"the study {ordered[0]}" if len(ordered) == 1 else f"the studies {', '.join(ordered[:-1])} and {ordered[-1]}"
    )


def _what_it_took(table: pd.DataFrame) -> str:
    once = table.drop_duplicates("run_id")
    tokens, spent = (float(once[name].sum()) for name in ("trained_tokens", "realised_compute"))
    numbers = f"{scientific(tokens)} tokens and {flops(spent)}"
    if once["simulated"].any():
        return f"Nothing was trained: the losses are simulated, and stand for runs of {numbers} together."
    ours = once["megatron_flops"].sum() if "megatron_flops" in once else 0.0
    full = f" ({flops(float(ours))} with the output layer)" if ours > 0 else ""
    return f"They took {numbers}{full}."


def _size(laws: LawsFile) -> str:
    law = laws.law("classical")
    if law is None:
        return f"There is no law of the compute-optimal size: {laws.missing.get('classical', 'it was not fitted')}."
    size, tokens = law.relation("flops_per_token"), law.relation("tokens")
    if size is None or tokens is None:
        return f"There is no law of the compute-optimal size: {'; '.join(law.flags) or 'it was not fitted'}."
    return (
        f"The compute-optimal size M goes as C^{_bracketed(size)} and the tokens D as C^{_bracketed(tokens)}, with "
        f"M = {scientific(size(size.reference))} FLOPs per token at {flops(size.reference)}."
    )


def _shape(laws: LawsFile) -> str:
    found: dict[float, list[str]] = {}
    for law_id, symbol in (("m_over_na", "M/N_a"), ("n_over_na", "N/N_a"), ("hidden_size", "d")):
        law = laws.law(law_id)
        resolved = [budget for budget in law.per_budget if budget.resolved] if law else []
        if law and resolved:  # the largest budget that resolves it
            found.setdefault(resolved[-1].compute, []).append(f"{symbol} = {optimum_text(law, resolved[-1])}")
    if not found:
        return "No optimum of M/N_a, N/N_a or d is resolved at any budget."
    parts = [f"at {flops(compute)} for {' and '.join(found[compute])}" for compute in sorted(found, reverse=True)]
    return f"The loss is least {', '.join(parts)}."


def _doubts(laws: LawsFile) -> str:
    curved = [budget for law in laws.laws for budget in law.per_budget if budget.status != NO_CURVE]
    unresolved = sum(not budget.resolved for budget in curved)
    flags = sum(len(flag_sentences(law)) for law in laws.laws)
    minima = (
        f"{unresolved} of {count(len(curved), 'minimum').replace('minimums', 'minima')} are not resolved"
        if curved
        else "no minimum was looked for"
    )
    missing = f"; of the paper's {len(FITS)} laws {', '.join(laws.missing)} could not be fitted" if laws.missing else ""
    return f"In doubt: {minima}{missing}; the laws and their budgets carry {count(flags, 'warning')}, told with each."


def _bracketed(relation: Relation) -> str:
    e = relation.exponent
    return f"{e.value:.3f}" + ("" if math.isnan(e.low) or math.isnan(e.high) else f" ({_end(e.low)} to {_end(e.high)})")


def _end(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "open"

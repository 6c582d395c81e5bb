"""What the page's template shows of a law, of the runs, and of where it all comes from: plain values, ready to print."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.laws import NO_CURVE, Budget, Law, LawsFile, Relation, Variant
from analysis.summary import DIGITS, flag_sentences, law_sentences, optimum_text
from analysis.text import count, flops, scientific, with_interval

AHEAD = (10.0, 100.0)
"""Predictions are given at a law's budgets and at these multiples of the largest."""

HOLDS = {True: "shown", False: "contradicted", None: "no verdict"}
"""Of a statement."""


def law_section(law: Law) -> dict[str, Any]:
    """Everything about `law` but its plots."""
    return {
        "id": law.id,
        "title": law.title,
        "form": law.form,
        "x": law.x_label,
        "source": law.source,
        "studies": " and ".join(law.studies),
        "sentences": law_sentences(law),
        "statements": [{"text": one.text, "verdict": HOLDS[one.holds]} for one in law.statements],
        "flags": flag_sentences(law, budgets=False),  # theirs stand in the table of budgets
        "budgets": [_budget(law, budget) for budget in law.per_budget],
        "has_minima": any(budget.status != NO_CURVE or budget.optimum.value > 0 for budget in law.per_budget),
        "curved": any(budget.status != NO_CURVE for budget in law.per_budget),
        "predictions": [row for relation in law.relations for row in _predictions(law, relation)],
        "variants": [row for variant in law.variants for row in _shifts(law, variant)],
        "variant_texts": [f"{variant.id}: {variant.text}" for variant in law.variants],
        "used": len(law.points_used),
        "left_out": sum(not run.usable for run in law.points_left_out),
        "outside": sum(run.usable for run in law.points_left_out),
    }


def run_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each run and study, as the table of runs shows it."""
    return [_run(row) for row in table.to_dict("records")]


def hover_texts(table: pd.DataFrame) -> dict[str, dict[str, str]]:
    """By run id: what is shown when its point is hovered over, and where a click leads (empty: nowhere)."""
    found = {}
    for row in table.drop_duplicates("run_id").to_dict("records"):
        loss = row["final_validation_loss"]
        lines = [
            f"<b>{row['run_id']}</b>",
            f"loss {loss:.4f} nats/token" if pd.notna(loss) else "no loss",
            architecture_text(row),
        ]
        found[str(row["run_id"])] = {"text": "<br>".join(line for line in lines if line), "link": directory(row)}
    return found


def directory(row: Mapping[Any, Any]) -> str:
    """The run's directory, relative to the page; empty for runs of elsewhere, which have none."""
    place = row.get("place")
    return "" if isinstance(place, str) and place else f"runs/{row['run_id']}/"


def architecture_text(row: Mapping[Any, Any]) -> str:
    """What the table says of a run's model, in two lines; what it does not say is left out."""
    names = {
        "hidden_size": "d {:.0f}", "num_dense_layers": "{:.0f} dense", "num_moe_layers": "{:.0f} MoE layers",
        "moe_ffn_hidden_size": "d_m {:.0f}", "num_experts": "{:.0f} experts", "top_k": "top {:.0f}",
    }  # fmt: skip
    shape = [form.format(row[name]) for name, form in names.items() if pd.notna(row.get(name))]
    sizes = [
        f"{symbol} {scientific(float(row[name]))}"
        for name, symbol in (("flops_per_token", "M"), ("active_params", "N_a"), ("total_params", "N"), ("tokens", "D"))
        if pd.notna(row.get(name))
    ]
    ratios = [
        f"{symbol} {row[name]:.2f}"
        for name, symbol in (("m_over_na", "M/N_a"), ("n_over_na", "N/N_a"))
        if pd.notna(row.get(name))
    ]
    return "<br>".join(", ".join(line) for line in (shape, sizes, ratios) if line)


def spent_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """A row for each study, and one for all: runs, tokens, FLOPs, hours."""
    rows = [_spent(str(study), part.drop_duplicates("run_id")) for study, part in table.groupby("study", sort=True)]
    return [*rows, _spent("all, each run once", table.drop_duplicates("run_id"))]


def provenance(table: pd.DataFrame, laws: LawsFile, sources: Sequence[str]) -> list[tuple[str, str]]:
    """Name and value of what the page was made from."""
    once = table.drop_duplicates("run_id")
    lines = [
        ("Sources", ", ".join(sources)),
        ("Data hash (SHA-256 of runs, sizes and losses)", laws.data_hash or "none"),
        ("Harness", laws.version or "unknown"),
        ("Resamples", f"{laws.resamples:,}, seed {laws.seed}; {100 * laws.interval_level:g}% intervals"),
        (
            "Losses",
            "moved to their nominal budgets, to first order (correct=true)" if laws.corrected else "as recorded",
        ),
    ]
    for text in sorted({str(one) for one in once["versions"].dropna()} - {"{}"}):
        listed = ", ".join(f"{name} {version}" for name, version in sorted(json.loads(text).items()))
        lines.append((f"Versions ({count(int((once['versions'] == text).sum()), 'run')})", listed))
    digests = sorted({str(one) for one in once["data"].dropna()}) if "data" in once else []
    return [*lines, *(("Training data", digest) for digest in digests)]


def _budget(law: Law, budget: Budget) -> dict[str, Any]:
    digits = DIGITS.get(law.id, 3)
    best, low = budget.optimum, budget.minimum_loss
    noise = budget.noise
    band = [scientific(end, digits) for end in budget.band]
    return {
        "compute": flops(budget.compute),
        "status": budget.status,
        "why": "; ".join([budget.why, *budget.flags]),
        "runs": len(budget.points),
        "outside": len(budget.outside),
        "optimum": optimum_text(law, budget),
        "resolved": budget.resolved,
        "loss": with_interval(low.value, low.low, low.high, digits=4)
        if budget.resolved or budget.status == NO_CURVE
        else "–",
        "band": f"{band[0]} to {band[1]}"
        if (budget.resolved or budget.status == NO_CURVE) and best.value == best.value
        else "–",
        "noise": f"{scientific(noise.sd)}, {noise.source}, {noise.degrees_of_freedom} degrees of freedom"
        if noise
        else "not measured",
    }


def _predictions(law: Law, relation: Relation) -> list[dict[str, Any]]:
    budgets = [*relation.compute, *(factor * relation.compute[-1] for factor in AHEAD)]
    digits = 4 if law.id in (*DIGITS, "width_ratio") else 3
    rows = []
    for compute in budgets:
        predicted = relation.predict(compute)
        value = with_interval(predicted.value, predicted.low, predicted.high, digits)
        rows.append(
            {
                "symbol": relation.symbol,
                "compute": flops(compute),
                "value": f"{value} {relation.unit}".strip(),
                "extrapolated": predicted.extrapolated,
            }
        )
    return rows


def _shifts(law: Law, variant: Variant) -> list[dict[str, str]]:
    """How far each relation moves for the runs of one budget, the variant's largest: real FLOPs give it another C."""
    rows = []
    for relation in variant.relations:
        plain = law.relation(relation.name)
        if plain is None or not variant.optima:
            continue
        last, there = variant.optima[-1][0], relation(relation.compute[-1])
        rows.append(
            {
                "variant": variant.id,
                "symbol": plain.symbol,
                "exponent": f"{plain.exponent.value:.3f} → {relation.exponent.value:.3f}",
                "at": flops(last),
                "value": f"{scientific(plain(last), 4)} → {scientific(there, 4)}",
                "shift": f"{100 * (there / plain(last) - 1):+.1f}%",
            }
        )
    return rows


def _spent(name: str, once: pd.DataFrame) -> dict[str, str]:
    ran = once[once["trained_tokens"].notna()]
    return {
        "name": name,
        "runs": f"{len(once):,}",
        "usable": f"{int(once['left_out'].isna().sum()):,}",
        "tokens": scientific(float(ran["trained_tokens"].sum())),
        "compute": scientific(_sum(ran, "realised_compute")),
        "megatron": scientific(_sum(ran, "megatron_flops")),
        "gpu_hours": scientific(_sum(once, "est_gpu_hours")) if "est_gpu_hours" in once else "–",
        "wall": _hours(_sum(ran, "wall_seconds")),
    }


def _sum(rows: pd.DataFrame, name: str) -> float:
    return float(pd.to_numeric(rows[name], errors="coerce").sum()) if name in rows else float("nan")


def _run(row: Mapping[Any, Any]) -> dict[str, Any]:
    loss = row["final_validation_loss"]
    return {
        "run_id": str(row["run_id"]),
        "link": directory(row),
        "study": str(row["study"]),
        "compute": flops(row["compute"]),
        "m": scientific(row["flops_per_token"]),
        "tokens": scientific(row["tokens"]),
        "m_over_na": _two(row.get("m_over_na")),
        "n_over_na": _two(row.get("n_over_na")),
        "d": f"{row['hidden_size']:.0f}" if pd.notna(row.get("hidden_size")) else "–",
        "seed": f"{row['seed']:.0f}" if pd.notna(row.get("seed")) else "–",
        "loss": f"{loss:.4f}" if pd.notna(loss) else "–",
        "state": "left out" if isinstance(row["left_out"], str) else str(row["state"]),
    }


def _two(value: Any) -> str:
    return f"{value:.2f}" if pd.notna(value) else "–"


def _hours(seconds: float) -> str:
    if not seconds > 0:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"

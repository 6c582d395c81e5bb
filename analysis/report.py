"""report.html: one self-contained page of what was run, what it shows and what it does not show.

    write_report(path, report_page(table, laws, noise, figures, bootstrap, sweeps))

Figures are inlined; the page refers to nothing outside itself.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.laws import Law
from analysis.minima import Bootstrap
from analysis.noise import SeedNoise
from analysis.summary import (
    fitted_text,
    intervals_sentence,
    law_sentences,
    left_out_runs,
    noise_sentences,
    unused_studies,
)
from analysis.text import count, flops, scientific, with_interval
from harness.files import write_atomically

TEMPLATES = Path(__file__).parent / "templates"

CAPTIONS = {
    "isoflop": "Loss against model size at each budget. Circles are runs (repeated seeds share an abscissa), lines the "
    "fitted parabolas in log M, dotted where the minimum is "
    "not resolved; diamonds mark optima with their intervals, crosses runs outside the fitted window.",
    "classical_laws": "Compute-optimal size and tokens against compute, with the 95% band from runs to law.",
    "m_over_na": "Loss against M/N_a at each budget. Slices of N/N_a are shifted onto one curve by their intercepts.",
    "m_over_na_law": "Optimal M/N_a against compute. Grey bars: where the loss is within 0.1% of its least value.",
    "loss_curves": "Training loss against tokens, by study and budget, dark to light by rising M.",
}
"""Of each figure."""

FIGURES_OF = {"classical": ("isoflop", "classical_laws"), "m_over_na": ("m_over_na", "m_over_na_law")}
"""Figures in each law's section."""


def report_page(
    table: pd.DataFrame,
    laws: Sequence[Law],
    noise: dict[str, SeedNoise],
    figures: Mapping[str, Path],
    bootstrap: Bootstrap,
    sweeps: Sequence[str],
) -> str:
    """The page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = {
        name: {"data": base64.b64encode(path.read_bytes()).decode(), "caption": CAPTIONS[name]}
        for name, path in figures.items()
    }
    return environment.get_template("report.html.j2").render(
        sweeps=sweeps,
        simulated=bool(table["simulated"].any()),
        intervals=intervals_sentence(bootstrap.resamples),
        noise=noise_sentences(noise),
        laws=[_law(law, images) for law in laws],
        loss_curves=images.get("loss_curves"),
        runs=[_run(row) for row in table.to_dict("records")],
        left_out=left_out_runs(table, laws),
        unused=unused_studies(table),
        provenance=_provenance(table, sweeps, bootstrap),
        scientific=scientific,
        flops=flops,
    )


def write_report(path: Path, page: str) -> None:
    """Write the page to `path`, atomically."""
    write_atomically(path, page)


def _law(law: Law, images: dict[str, dict[str, str]]) -> dict[str, Any]:
    density = law.id == "m_over_na"
    return {
        "title": law.title,
        "form": law.form,
        "x": law.x_label,
        "sentences": law_sentences(law),
        "images": [images[name] for name in FIGURES_OF.get(law.id, ()) if name in images],
        "budgets": [
            {
                "compute": flops(budget.compute),
                "status": budget.status,
                "why": "; ".join([budget.why, *budget.flags]),
                "runs": len(budget.points),
                "optimum": fitted_text(budget),
                "resolved": budget.resolved,
                "loss": with_interval(*budget.minimum_loss, digits=4) if budget.resolved else "–",
                "band": f"{scientific(budget.fit.band[0])} to {scientific(budget.fit.band[1])}"
                if budget.resolved
                else "–",
                "noise": f"{scientific(budget.noise.sd)}, {budget.noise.source}, {budget.noise.dof} degrees of freedom"
                if budget.noise
                else "not measured",
            }
            for budget in law.budgets
        ],
        "predictions": [
            {
                "symbol": relation.symbol,
                "unit": relation.unit,
                "compute": flops(prediction.compute),
                "value": with_interval(prediction.value, prediction.low, prediction.high, digits=4 if density else 3),
                "extrapolated": prediction.extrapolated,
            }
            for relation in law.relations
            for budget in (*relation.compute.tolist(), 10 * float(relation.compute[-1]))
            for prediction in [relation.predict(budget)]
        ],
    }


def _run(row: Mapping[Any, Any]) -> dict[str, str]:
    return {
        "run_id": str(row["run_id"]),
        "study": str(row["study"]),
        "compute": flops(row["compute"]),
        "m": scientific(row["flops_per_token"]),
        "tokens": scientific(row["tokens"]),
        "m_over_na": f"{row['m_over_na']:.2f}",
        "n_over_na": f"{row['n_over_na']:.2f}",
        "seed": str(row.get("seed", "")),
        "loss": f"{row['final_validation_loss']:.4f}" if pd.notna(row["final_validation_loss"]) else "–",
        "state": str(row["state"]),
        "left_out": "left out" if isinstance(row["left_out"], str) else "",
    }


def _provenance(table: pd.DataFrame, sweeps: Sequence[str], bootstrap: Bootstrap) -> list[tuple[str, str]]:
    once = table.drop_duplicates("run_id")
    ran = once[once["trained_tokens"].notna()]
    versions = sorted({text for text in ran["versions"] if text != "{}"})
    lines = [
        ("Sweeps", ", ".join(sweeps)),
        ("Runs", f"{count(len(once), 'run')} planned, {count(len(ran), 'run')} with a result"),
        ("Tokens trained", scientific(float(ran["trained_tokens"].sum()))),
        ("Training FLOPs, by the paper's count", flops(float(ran["realised_compute"].sum()))),
        ("Training FLOPs, by Megatron's count", flops(float(ran["megatron_flops"].sum()))),
        ("Wall time, sum over runs", _hours(float(ran["wall_seconds"].sum()))),
        ("Bootstrap", f"{bootstrap.resamples:,} resamples, seed {bootstrap.seed}"),
    ]
    for text in versions:
        listed = ", ".join(f"{name} {version}" for name, version in sorted(json.loads(text).items()))
        runs = int((ran["versions"] == text).sum())
        lines.append((f"Versions ({count(runs, 'run')})", listed))
    return lines


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

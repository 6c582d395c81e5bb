"""laws.json: every law with its intervals, the points behind it, and what they do not show.

    {"schema": 1,
     "laws": [{id, form, unit, coefficients, per_budget, predictions, points_used, points_left_out, flags, ...}],
     "noise": {study: {sd, degrees_of_freedom, ...}}, "bootstrap": {...}, "simulated": false}

The same runs give the same bytes: no date, a seeded bootstrap, ten significant digits. Unknown or infinite: null.
"""

import math
from pathlib import Path
from typing import Any

from analysis.fitting import LEVEL
from analysis.laws import Law
from analysis.minima import Bootstrap, Budget
from analysis.noise import SeedNoise
from analysis.relations import Prediction, Relation
from harness.files import write_json

SCHEMA = 1
"""Version of the file."""

AHEAD = 10.0
"""Predictions are given at the law's budgets and at this multiple of the largest."""


def laws_document(laws: list[Law], noise: dict[str, SeedNoise], bootstrap: Bootstrap) -> dict[str, Any]:
    """The contents of laws.json."""
    return {
        "schema": SCHEMA,
        "simulated": any(law.simulated for law in laws),
        "interval_level": LEVEL,
        "bootstrap": {"resamples": bootstrap.resamples, "seed": bootstrap.seed},
        "noise": {
            study: {"sd": number(of.sd), "degrees_of_freedom": of.dof, "configurations": of.groups, "runs": of.runs}
            for study, of in noise.items()
        },
        "laws": [_law(law) for law in laws],
    }


def write_laws(path: Path, document: dict[str, Any]) -> None:
    """Write `document` to `path`, atomically."""
    write_json(path, document)


def number(value: float) -> float | None:
    """`value` to ten significant digits; None where it is NaN or infinite."""
    return float(f"{value:.10g}") if math.isfinite(value) else None


def _law(law: Law) -> dict[str, Any]:
    coefficients = {
        name: {"value": number(value), "low": number(low), "high": number(high)}
        for relation in law.relations
        for name, (value, low, high) in relation.coefficients().items()
    }
    return {
        "id": law.id,
        "study": law.study,
        "title": law.title,
        "form": law.form,
        "unit": law.unit,
        "fitted": law.fitted,
        "coefficients": coefficients,
        "reference_compute": number(law.relations[0].law.reference) if law.relations else None,
        "budgets_used": [number(budget.compute) for budget in law.budgets if budget.resolved] if law.fitted else [],
        "per_budget": [_budget(budget) for budget in law.budgets],
        "predictions": {relation.name: _predictions(relation) for relation in law.relations},
        "leave_largest_out": {
            relation.name: {
                **_prediction(relation.left_out.predicted),
                "optimum": number(relation.left_out.optimum),
                "relative_error": number(relation.left_out.relative_error),
            }
            for relation in law.relations
            if relation.left_out
        },
        "failed_resamples": law.relations[0].failed if law.relations else None,
        "points_used": sorted(run for budget in law.budgets for run in budget.points["run_id"]),
        "points_left_out": [
            {"run_id": run, "reason": reason} for run, reason in sorted([*law.points_left_out, *law.points_outside])
        ],
        "flags": list(law.flags),
        "simulated": law.simulated,
    }


def _budget(budget: Budget) -> dict[str, Any]:
    optimum, low, high = budget.optimum
    loss, loss_low, loss_high = budget.minimum_loss
    noise = budget.noise
    return {
        "compute": number(budget.compute),
        "status": budget.status,
        "why": budget.why,
        "optimum": number(optimum),
        "low": number(low),
        "high": number(high),
        "minimum_loss": {"value": number(loss), "low": number(loss_low), "high": number(loss_high)},
        "band": {
            "low": number(budget.fit.band[0]),
            "high": number(budget.fit.band[1]),
            "tolerance": budget.fit.tolerance,
        },
        "sampled": [number(end) for end in budget.fit.sampled],
        "fit": budget.fit.status.value,
        "coefficients": {
            name: number(float(value)) for name, value in zip(budget.curve.names, budget.fit.coefficients, strict=True)
        }
        | {name: number(value) for name, value in budget.curve.constants.items()},
        "residual_sd": number(budget.fit.residual_sd),
        "residual_degrees_of_freedom": budget.fit.dof,
        "noise": {"sd": number(noise.sd), "degrees_of_freedom": noise.dof, "source": noise.source} if noise else None,
        "failed_resamples": budget.resamples.failed if budget.resamples else None,
        "points": sorted(budget.points["run_id"]),
        "flags": list(budget.flags),
    }


def _predictions(relation: Relation) -> list[dict[str, Any]]:
    budgets = [float(compute) for compute in relation.compute]
    return [_prediction(relation.predict(compute)) for compute in [*budgets, AHEAD * budgets[-1]]]


def _prediction(prediction: Prediction) -> dict[str, Any]:
    return {
        "compute": number(prediction.compute),
        "value": number(prediction.value),
        "low": number(prediction.low),
        "high": number(prediction.high),
        "extrapolated": prediction.extrapolated,
    }

"""Sweeps and runs -> one tidy table, a row for each (run, study), with a reason for each run that cannot be used.

    table = collect(Path("runs_root"), ["phase1-1e19"])
    table[table.left_out.isna()]                             # what laws may use
    write_losses(table, Path("runs_root"))                   # losses.parquet and losses.csv

A run is used when its status is done, its final validation loss is finite, and it trained on the tokens planned.
"""

import hashlib
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError, nearest
from harness.files import canonical_json, read_json, write_atomically
from harness.simulated.marker import MARKER
from harness.sweepfile import SIMULATED, read_experiments, sweep_names
from harness.trunks import TRUNK

TEXT_COLUMNS = ("run_id", "study", "marks", "trunk")
"""Columns that stay text, whatever they look like: twelve hexadecimal digits may read as a number."""

PLANNED = ("compute", "flops_per_token", "tokens", "m_over_na", "n_over_na")
"""Numeric columns that a sweep's table must have, besides run_id and study."""

TARGETS = ("target_m_over_na", "target_n_over_na")
"""What a study asked for; equal values make a slice."""

RESULT_NUMBERS = (
    "final_validation_loss",
    "final_training_loss",
    "realised_compute",
    "megatron_flops",
    "wall_seconds",
    "tokens_per_second",
    "mfu",
)
"""Numbers taken from result.json; they replace a planned column of the same name."""

DECISIONS = (
    "architecture",
    ("backbone", "num_query_heads"),
    ("backbone", "num_kv_heads"),
    ("backbone", "head_dim"),
    ("training", "seed"),
    ("training", "train_iters"),
    ("training", "global_batch_size"),
    ("training", "learning_rate"),
    ("training", "min_learning_rate"),
    ("training", "warmup_iters"),
    ("training", "decay_iters"),
    ("training", "dataset_iters"),
    ("training", "trunk"),
)
"""What runs of one curve may differ in; all else of an experiment is its recipe."""


def choose_sweeps(root: Path, wanted: str | Sequence[Any] | None) -> list[str]:
    """The sweeps that ``sweep=`` means: a name, names separated by commas, a list, or ``all``.

    Raises:
        HarnessError: nothing was asked for, a name is unknown, or there is no sweep; the message lists those there.
    """
    there = sweep_names(root)
    if not there:
        raise HarnessError(f"{root}/sweeps holds no sweep: plan one (python -m harness.sweep), or give another root=")
    listed = f"sweeps under {root}: {', '.join(there)}"
    if isinstance(wanted, str):
        wanted = [part.strip() for part in wanted.split(",") if part.strip()]
    if not wanted:
        raise HarnessError(f"sweep= is missing: give a name, a list, or all\n{listed}")
    names = [str(name) for name in wanted]
    if names == ["all"]:
        return there
    for name in names:
        if name not in there:
            raise HarnessError(f"unknown sweep {name!r}{nearest(name, there)}\n{listed}")
    return sorted(set(names))


def collect(root: Path, sweeps: Sequence[str]) -> pd.DataFrame:
    """One row for each (run, study) of `sweeps` but trunks, sorted by study, compute, flops_per_token, n_over_na and run id.

    Added to the sweep's columns: ``sweep`` (names, joined by a comma), ``state``, ``left_out`` (the reason, or None),
    those of `RESULT_NUMBERS`, ``trained_tokens``, ``simulated``, ``versions`` (JSON) and ``recipe`` (hash of what the
    runs of one curve must share: data, backbone, initialisation ...; None without experiment.json).

    Raises:
        HarnessError: a sweep's table is unreadable, lacks a column, or holds no row; or some runs were trained and others
            simulated.
    """
    planned = pd.concat([_read_sweep(root, name) for name in sweeps], ignore_index=True)
    planned = planned[planned["study"] != TRUNK]  # the stable phase of its branches, and no point of any law
    rows = [_with_result(root, row) for row in _without_repeats(planned.to_dict("records"))]
    _refuse_mixture(rows)
    table = pd.DataFrame(rows)
    order = ["study", "compute", "flops_per_token", "n_over_na", "run_id"]
    return table.sort_values(order, kind="stable").reset_index(drop=True)


def write_losses(table: pd.DataFrame, root: Path) -> list[Path]:
    """Write losses.parquet and losses.csv under `root`, each atomically; returns their paths."""
    parquet, csv = root / "losses.parquet", root / "losses.csv"
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(parquet, buffer.getvalue())
    write_atomically(csv, table.to_csv(index=False))
    return [parquet, csv]


def _read_sweep(root: Path, name: str) -> pd.DataFrame:
    path = root / "sweeps" / f"{name}.csv"
    if path.with_suffix(".jsonl").exists() or path.with_suffix(".yaml").exists():
        read_experiments(root, name)  # part of a sweep must not pass for the whole
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(TEXT_COLUMNS, object))
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise HarnessError(f"{path} is not a table ({error}): plan the sweep again") from error
    missing = [column for column in ("run_id", "study", *PLANNED) if column not in table.columns]
    if missing:
        raise HarnessError(f"{path} lacks the columns {', '.join(missing)}: plan the sweep again with this version")
    if table.empty:
        raise HarnessError(f"{path} holds no experiment: plan the sweep again")
    for column in PLANNED:
        numbers = pd.to_numeric(table[column], errors="coerce")
        if numbers.isna().any() or (numbers <= 0).any():
            wrong = table.loc[numbers.isna() | (numbers <= 0), column].iloc[0]
            raise HarnessError(f"{path}: {column} holds {wrong!r}; it must be a positive number: plan the sweep again")
        table[column] = numbers
    for column in TARGETS:
        if column in table:  # a ratio recomputed from two numbers may differ in its last digit within one slice
            table[column] = pd.to_numeric(table[column], errors="coerce").round(9)
    return table.assign(sweep=name)


def _without_repeats(rows: list[dict[Any, Any]]) -> list[dict[Any, Any]]:
    """One row per (run, study). A repeat in another sweep is the same run; one that plans other numbers is left out."""
    kept: dict[tuple[str, str], dict[Any, Any]] = {}
    clashes = []
    for row in rows:
        first = kept.setdefault((row["run_id"], row["study"]), row)
        if first is row:
            continue
        different = [column for column in PLANNED if row[column] != first[column]]
        if different:
            column = different[0]
            reason = (
                f"duplicate of run id {row['run_id']} with another {column}: {row[column]:g}, not {first[column]:g}"
            )
            clashes.append({**row, "left_out": reason})
        elif row["sweep"] not in first["sweep"].split(", "):
            first["sweep"] = f"{first['sweep']}, {row['sweep']}"
    return [*kept.values(), *clashes]


def _with_result(root: Path, row: dict[Any, Any]) -> dict[Any, Any]:
    directory = root / "runs" / row["run_id"]
    state, trouble = _state(directory)
    result = read_json(directory / "result.json")
    held = result if isinstance(result, dict) else {}
    simulated = bool(held.get("simulated", False)) or (directory / MARKER).exists()
    reason = row.get("left_out") or trouble or _unusable(directory, held, row["tokens"])
    return {
        **row,
        "state": state,
        "left_out": reason,
        **{name: _number(held.get(name)) for name in RESULT_NUMBERS},
        "trained_tokens": _number(held.get("tokens")),
        "simulated": simulated,
        "marks": _marks(row.get("marks"), simulated),
        "versions": json.dumps(held.get("versions") or {}, sort_keys=True),
        "recipe": _recipe(directory),
    }


def _refuse_mixture(rows: Sequence[dict[Any, Any]]) -> None:
    """Refuse runs of which some were trained and others simulated: no law may rest on both."""
    begun = [row for row in rows if row["state"] != "planned"]
    simulated = [row["run_id"] for row in begun if row["simulated"]]
    trained = [row["run_id"] for row in begun if not row["simulated"] and math.isfinite(row["trained_tokens"])]
    if simulated and trained:
        raise HarnessError(
            f"{len(simulated)} runs are simulated ({simulated[0]}) and {len(trained)} were trained ({trained[0]}): no law is "
            "fitted to both; name sweeps of one kind (sweep=...)"
        )


def _marks(planned: Any, simulated: bool) -> Any:
    """The marks of a row, with that of a simulated run also where the plan did not know."""
    marks = planned.split(";") if isinstance(planned, str) and planned else []
    return ";".join([*marks, SIMULATED]) if simulated and SIMULATED not in marks else planned


def _state(directory: Path) -> tuple[str, str | None]:
    """The run's state, and why it cannot be used if the state alone says so."""
    if not directory.is_dir():
        return "planned", "not run yet"
    path = directory / "status.json"
    status = read_json(path)
    if status is None:
        return "unknown", "status.json is torn" if path.exists() else "status.json is missing"
    if not isinstance(status, dict) or not isinstance(state := status.get("state"), str):
        return "unknown", "status.json holds no state"
    if isinstance(schema := status.get("schema", 1), int) and schema > 1:
        return state, f"status.json is of schema {schema}, this version reads 1: update"
    if state == "done":
        return state, None
    attempts = status.get("attempts") or [{}]
    message = attempts[-1].get("message") if isinstance(attempts[-1], dict) else None
    words = {"queued": "not run yet" if not status.get("attempts") else "queued after a stop"}.get(state, state)
    return state, f"{words}: {message}" if message else words


def _unusable(directory: Path, result: dict[str, Any], tokens: float) -> str | None:
    """Why the result of a done run cannot be used, or None."""
    if not result:
        torn = (directory / "result.json").exists()
        return "result.json is torn" if torn else "result.json is missing"
    loss = result.get("final_validation_loss")
    if not math.isfinite(_number(loss)):
        return "no final validation loss" if loss is None else f"the final validation loss is {loss}"
    trained = _number(result.get("tokens"))
    if not math.isfinite(trained):
        return "result.json names no tokens"
    if trained < tokens:
        return f"ended early: {trained:,.0f} of {tokens:,.0f} tokens"
    if trained > tokens:
        return f"trained on {trained:,.0f} tokens, more than the {tokens:,.0f} planned"
    return None


def _number(value: Any) -> float:
    """`value` as a float; NaN where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _recipe(directory: Path) -> str | None:
    experiment = read_json(directory / "experiment.json")
    if not isinstance(experiment, dict):
        return None
    rest = {key: dict(value) if isinstance(value, dict) else value for key, value in experiment.items()}
    for key in DECISIONS:
        if isinstance(key, str):
            rest.pop(key, None)
        elif isinstance(rest.get(key[0]), dict):
            rest[key[0]].pop(key[1], None)
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()[:8]

"""Sweeps and runs -> one tidy table, a row for each (run, study), with a reason for each run that cannot be used.

    table = collect(Path("runs_root"), ["phase1-1e19"])
    table[table.left_out.isna()]                             # what laws may use
    write_losses(table, Path("runs_root"))                   # losses.parquet and losses.csv

A run is used when its status is done, its final validation loss is finite, its tokens and FLOPs are those planned to within 1%,
and its data is that of the others. Runs that were not planned here (W&B, TensorBoard, logs, CSV): `analysis.sources`.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.cache import Cache
from analysis.losses import TOLERANCE, LeftOutError, finish, number, off_plan, write_losses
from harness.errors import HarnessError, nearest
from harness.files import canonical_json, read_json
from harness.simulated.marker import MARKER
from harness.sweepfile import SIMULATED, read_experiments, sweep_names
from harness.trunks import TRUNK

__all__ = ["LeftOutError", "choose_sweeps", "collect", "write_losses"]

CACHE = ".collected.json"
"""File under the root with what was read; it may be removed at any time."""

TEXT_COLUMNS = ("run_id", "study", "marks", "trunk", "free_quantity", "free_target")
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


def collect(root: Path, sweeps: Sequence[str], *, strict: bool = False) -> pd.DataFrame:
    """One row for each (run, study) of `sweeps` but trunks, sorted by study, compute, flops_per_token, n_over_na and run id.

    Added to the sweep's columns: ``sweep`` (names, joined by a comma), ``state``, ``left_out`` (the reason, or None),
    those of `RESULT_NUMBERS`, ``trained_tokens``, ``simulated``, ``versions`` (JSON), ``recipe`` (hash of what the
    runs of one curve must share: data, backbone, initialisation ...; None without experiment.json) and ``data`` (digest of the
    data manifest). docs/collecting.md has all columns with units. What was read is kept in ``<root>/.collected.json``.

    Raises:
        HarnessError: a sweep's table is unreadable, lacks a column, or holds no row; or some runs were trained and others
            simulated.
        LeftOutError: `strict`, and a run cannot be used.
    """
    cache = Cache(root / CACHE)
    planned = pd.concat([_read_sweep(root, name, cache) for name in sweeps], ignore_index=True)
    planned = planned[planned["study"] != TRUNK]  # the stable phase of its branches, and no point of any law
    rows = [_with_result(root, row, cache) for row in _without_repeats(planned.to_dict("records"))]
    cache.save()
    return finish(rows, strict=strict)


def _read_sweep(root: Path, name: str, cache: Cache) -> pd.DataFrame:
    path = root / "sweeps" / f"{name}.csv"
    files = [path, path.with_suffix(".jsonl"), path.with_suffix(".yaml")]
    if any(file.exists() for file in files[1:]):  # part of a sweep must not pass for the whole
        cache.remember(f"sweep {name}", files, lambda: len(read_experiments(root, name)))
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


def _with_result(root: Path, row: dict[Any, Any], cache: Cache) -> dict[Any, Any]:
    directory = f"{root}/runs/{row['run_id']}"  # no Path: making them takes longer than asking for the files
    files = [f"{directory}/{name}" for name in ("status.json", "result.json", "experiment.json", MARKER)]
    # a directory without any of them differs from none, but no file of it shows that
    name = f"run {row['run_id']}" if os.path.isdir(directory) else f"no run {row['run_id']}"  # noqa: PTH112
    facts = cache.remember(name, files, lambda: _facts(Path(directory)))
    reason = row.get("left_out") or facts["trouble"] or _unusable(facts, row)
    simulated = facts["simulated"]
    return {
        **row,
        "state": facts["state"],
        "left_out": reason,
        **{name: number(facts["result"].get(name)) for name in RESULT_NUMBERS},
        "trained_tokens": number(facts["result"].get("tokens")),
        "simulated": simulated,
        "marks": _marks(row.get("marks"), simulated),
        "versions": facts["versions"],
        "recipe": facts["recipe"],
        "data": facts["data"],
    }


def _facts(directory: Path) -> dict[str, Any]:
    """What a run's directory says, as JSON values."""
    state, trouble = _state(directory)
    result = read_json(directory / "result.json")
    held = result if isinstance(result, dict) else {}
    experiment = read_json(directory / "experiment.json")
    data = experiment.get("data") if isinstance(experiment, dict) else None
    if not held and trouble is None:
        trouble = "result.json is torn" if (directory / "result.json").exists() else "result.json is missing"
    return {
        "state": state,
        "trouble": trouble,
        "result": {name: held.get(name) for name in (*RESULT_NUMBERS, "tokens")},
        "simulated": bool(held.get("simulated", False)) or (directory / MARKER).exists(),
        "versions": json.dumps(held.get("versions") or {}, sort_keys=True),
        "recipe": _recipe(experiment),
        "data": data.get("digest") if isinstance(data, dict) else None,
    }


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


def _unusable(facts: dict[str, Any], row: dict[Any, Any]) -> str | None:
    """Why the result of a done run cannot be used for `row`, which planned it, or None."""
    result = facts["result"]
    loss = result["final_validation_loss"]
    if not math.isfinite(number(loss)):
        return "no final validation loss" if loss is None else f"the final validation loss is {loss}"
    trained, tokens = number(result["tokens"]), row["tokens"]
    if not math.isfinite(trained):
        return "result.json names no tokens"
    if trained < tokens * (1 - TOLERANCE):
        return f"ended early: {trained:,.0f} of {tokens:,.0f} tokens"
    if trained > tokens * (1 + TOLERANCE):
        return f"trained on {trained:,.0f} tokens, more than the {tokens:,.0f} planned"
    by_megatron = number(row.get("megatron_flops_per_token"))
    return off_plan(
        number(result["realised_compute"]), row["flops_per_token"] * tokens, "FLOPs (M D) differ from the plan"
    ) or off_plan(number(result["megatron_flops"]), by_megatron * tokens, "Megatron's FLOPs differ from the plan")


def _recipe(experiment: Any) -> str | None:
    if not isinstance(experiment, dict):
        return None
    rest = {key: dict(value) if isinstance(value, dict) else value for key, value in experiment.items()}
    for key in DECISIONS:
        if isinstance(key, str):
            rest.pop(key, None)
        elif isinstance(rest.get(key[0]), dict):
            rest[key[0]].pop(key[1], None)
    return hashlib.sha256(canonical_json(rest).encode()).hexdigest()[:8]


def main() -> None:
    """Entry point of ``python -m analysis.collect``: see `analysis.collecting`."""
    from analysis.collecting import task
    from harness.cli import run

    run("collect", task)


if __name__ == "__main__":
    main()

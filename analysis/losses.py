"""How every collection ends: rows that must not stand beside the others are left out, kinds kept apart, the table written."""

import io
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import HarnessError
from harness.files import write_atomically

TOLERANCE = 0.01
"""A run whose tokens or FLOPs differ from the plan by more than this is left out."""

SHOWN = 5
"""Runs that an error names."""


class LeftOutError(HarnessError):
    """``strict=true``, and some runs cannot be used."""

    def __init__(self, rows: pd.DataFrame, total: int):
        """`rows`: those left out, of `total`."""
        self.rows = rows
        named = "\n".join(f"  {row.run_id}: {row.left_out}" for row in rows.head(SHOWN).itertuples())
        more = f"\n  ... and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        super().__init__(
            f"strict=true: {len(rows)} of {total} rows cannot be used; mend or remove these runs, or leave out strict=true\n"
            f"{named}{more}"
        )


def leave_out_other_data(rows: Sequence[dict[Any, Any]]) -> None:
    """Leave out trained, usable rows whose data (column ``data``) is not that of most of the others.

    Of two data sets with as many runs each, neither may stand: no run says which was meant.
    """
    judged = [row for row in rows if not row["left_out"] and not row["simulated"] and row.get("data")]
    ranked = Counter(row["data"] for row in judged).most_common()
    if len(ranked) < 2:
        return
    (most, count), (_, next_count) = ranked[:2]
    for row in judged:
        if count == next_count:
            row["left_out"] = f"trained on data {row['data']}; {len(ranked)} data sets, none of them that of most runs"
        elif row["data"] != most:
            row["left_out"] = f"trained on data {row['data']}, most others ({count}) on {most}"


def off_plan(trained: float, planned: float, what: str, unit: str = "") -> str | None:
    """Why a run that spent `trained` of `planned` cannot be used, or None; more than `TOLERANCE` off."""
    if not (math.isfinite(trained) and math.isfinite(planned)) or abs(trained / planned - 1) <= TOLERANCE:
        return None
    return f"{what}: {trained:,.0f} of {planned:,.0f}{unit} planned, {100 * (trained / planned - 1):+.1f}%"


def finish(rows: Sequence[dict[Any, Any]], *, strict: bool) -> pd.DataFrame:
    """The table of `rows`, sorted by study, compute, flops_per_token, n_over_na and run id.

    Raises:
        HarnessError: some runs were trained and others simulated.
        LeftOutError: `strict`, and a row is left out.
    """
    leave_out_other_data(rows)
    _refuse_mixture(rows)
    table = pd.DataFrame(rows)
    order = ["study", "compute", "flops_per_token", "n_over_na", "run_id"]
    table = table.sort_values(order, kind="stable").reset_index(drop=True)
    if strict and len(out := table[table["left_out"].notna()]):
        raise LeftOutError(out, len(table))
    return table


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


def write_losses(table: pd.DataFrame, root: Path) -> list[Path]:
    """Write losses.parquet and losses.csv under `root`, each atomically; returns their paths."""
    parquet, csv = root / "losses.parquet", root / "losses.csv"
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(parquet, buffer.getvalue())
    write_atomically(csv, table.to_csv(index=False))
    return [parquet, csv]


NEEDED = (
    "run_id",
    "study",
    "compute",
    "flops_per_token",
    "n_over_na",
    "realised_compute",
    "final_validation_loss",
    "left_out",
)
"""Columns without which no law can be fitted."""


def read_losses(path: Path, *, strict: bool = False) -> pd.DataFrame:
    """A table that `write_losses` wrote, .parquet or .csv, checked as one that was just collected.

    Raises:
        HarnessError: it is missing, unreadable, lacks a column, or mixes simulated and trained runs.
        LeftOutError: `strict`, and a row is left out.
    """
    if not path.is_file():
        raise HarnessError(f"losses={path}: there is no such file; write one (python -m analysis.collect source=...)")
    try:
        table = pd.read_csv(path, dtype={"run_id": object}) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"losses={path}: it cannot be read ({error}); a .parquet or .csv of analysis.collect is wanted"
        ) from error
    if missing := [name for name in NEEDED if name not in table]:
        raise HarnessError(f"losses={path}: no column {', '.join(missing)}; a table of analysis.collect is wanted")
    for name, value in (
        ("simulated", False),
        ("state", "done"),
        ("data", None),
        ("recipe", None),
        ("trained_tokens", math.nan),
    ):
        if name not in table:
            table[name] = value
    if table.empty:
        raise HarnessError(
            f"losses={path}: the table holds no run; collect some (python -m analysis.collect source=...)"
        )
    rows = table.to_dict("records")
    seen = set()
    for row in rows:
        row["left_out"] = row["left_out"] if isinstance(row["left_out"], str) else None
        key = (row["study"], row["run_id"])
        if key in seen and not row["left_out"]:
            row["left_out"] = "the table lists this run more than once for its study"
        seen.add(key)
    return finish(rows, strict=strict)


def number(value: Any) -> float:
    """`value` as a float; NaN where it is none."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan

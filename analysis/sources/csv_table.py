"""Any CSV of runs, a row each, by a mapping of our columns to its own.

    mapping = Mapping(columns={"final_validation_loss": "loss", "flops_per_token": "params"}, factors={"flops_per_token": 6})
    read_csv(path, mapping, Reading())

Rows that cannot be used are kept, with the reason.
"""

import csv
import math
from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.sources.table import EMPTY, MODEL, Reading
from harness.errors import ConfigError, HarnessError, nearest
from harness.files import canonical_json

NUMBERS = (
    *MODEL,
    *(
        "tokens",
        "compute",
        "final_validation_loss",
        "final_training_loss",
        "learning_rate",
        "global_batch_size",
        "train_iters",
        "seed",
    ),
    *EMPTY,
)
TEXTS = ("run_id", "study", "recipe", "data")
REQUIRED = ("flops_per_token", "tokens", "final_validation_loss")
"""What no law goes without."""

NATS = {"nats": 1.0, "bits": math.log(2)}
"""Units of a loss a token, in nats."""


@dataclass(frozen=True, kw_only=True)
class Mapping:
    """Which of a table's columns is which of ours."""

    columns: AbstractMapping[str, Any] = field(default_factory=dict)
    """Our column -> the name of theirs, or a number for all rows; None, or no entry: theirs of our name, if there is one."""
    factors: AbstractMapping[str, float] = field(default_factory=dict)
    """Our column -> what their numbers are multiplied by."""
    loss_unit: str = "nats"
    """Of both losses: nats or bits a token."""
    where: AbstractMapping[str, Any] = field(default_factory=dict)
    """Their column -> the value of the rows that are taken; the others are no part of the table."""

    def __post_init__(self) -> None:
        known = (*NUMBERS, *TEXTS)
        for option, names in (("columns", self.columns), ("factors", self.factors)):
            for name in names:
                if name not in known:
                    raise ConfigError(
                        f"{option}.{name} is no column of ours{nearest(name, known)} (docs/collecting.md lists them)"
                    )
        for name, factor in self.factors.items():
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
                raise ConfigError(f"factors.{name}={factor}: a number above 0 is wanted")
        if self.loss_unit not in NATS:
            raise ConfigError(
                f"loss_unit={self.loss_unit}: choose one of {', '.join(NATS)}{nearest(self.loss_unit, NATS)}"
            )


def read_csv(path: Path, mapping: Mapping, reading: Reading) -> list[dict[str, Any]]:
    """A row of the one table for each row of `path`. Rows with a number missing or out of range are left out, with it.

    Raises:
        ConfigError: a column that is named, or needed, is not there; with those that are.
        HarnessError: there is no such file, or no row in it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header, theirs = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise HarnessError(f"{path} is no CSV that can be read ({error})") from error
    if not theirs:
        raise HarnessError(f"{path} holds no row")
    given = {name: column for name, column in mapping.columns.items() if column is not None}
    source = {name: given.get(name, name if name in header else None) for name in (*NUMBERS, *TEXTS)}
    for name, column in source.items():
        if isinstance(column, str) and column not in header:
            raise ConfigError(
                f"columns.{name}={column}: no such column{nearest(column, header)} (there are {', '.join(header)})"
            )
    if missing := [name for name in REQUIRED if source[name] is None]:
        raise ConfigError(
            f"{path} has no column {', '.join(missing)}: say which it is, as in columns.{missing[0]}=NAME (there are "
            f"{', '.join(header)})"
        )
    for column in mapping.where:
        if column not in header:
            raise ConfigError(
                f"where.{column}: no such column{nearest(column, header)} (there are {', '.join(header)})"
            )
    rows: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for index, row in enumerate(theirs, start=1):
        if any(row[column] != str(value) for column, value in mapping.where.items()):
            continue
        found = _row(row, index, source, mapping, reading, path.stem)
        if found["left_out"] is None and (twin := first.setdefault(found["run_id"], index)) != index:
            found["left_out"] = f"duplicate of row {twin}: run id {found['run_id']}"
        rows.append(found)
    if not rows:
        raise HarnessError(
            f"{path} has no row with {', '.join(f'{name}={value}' for name, value in mapping.where.items())}"
        )
    return rows


def _row(
    theirs: dict[str, str], index: int, source: dict[str, Any], mapping: Mapping, reading: Reading, name: str
) -> dict[str, Any]:
    def number(column: str) -> float:
        of = source[column]
        try:
            value = math.nan if of is None else float(theirs[of] if isinstance(of, str) else of)
        except (TypeError, ValueError):
            value = math.nan
        unit = NATS[mapping.loss_unit] if column.endswith("_loss") else 1.0
        return value * mapping.factors.get(column, 1.0) * unit

    def text(column: str) -> str | None:
        of = source[column]
        return None if of is None else (theirs[of] if isinstance(of, str) else str(of))

    values = {column: number(column) for column in NUMBERS}
    if reading.loss == "training":
        values["final_validation_loss"] = values["final_training_loss"]
    if math.isnan(values["realised_compute"]):
        values["realised_compute"] = values["flops_per_token"] * values["tokens"]
    far = None
    if math.isnan(values["compute"]) or reading.budgets:
        given = values["compute"]
        values["compute"], far = reading.budget(values["realised_compute"] if math.isnan(given) else given)
    _fill_ratios(values)
    wrong = [column for column in REQUIRED if not (math.isfinite(values[column]) and values[column] > 0)]
    held = {column: theirs.get(str(source[column]), source[column]) for column in wrong}
    return {
        "run_id": text("run_id") or f"{name}-{index}",
        "study": text("study") or reading.study,
        **{column: values[column] for column in NUMBERS},
        "trunk": "",
        "marks": "simulated" if reading.simulated else "",
        "sweep": name,
        "state": "done",
        "left_out": f"{wrong[0]} is {held[wrong[0]]!r}: a number above 0 is wanted" if wrong else far,
        "trained_tokens": values["tokens"],
        "simulated": reading.simulated,
        "versions": "{}",
        "recipe": text("recipe"),
        "data": text("data"),
        "place": f"{name}, row {index}: {canonical_json(theirs) if None not in theirs else ''}"[:200],
    }


def _fill_ratios(values: dict[str, float]) -> None:
    """The ratios from the numbers that they are ratios of, and the slices from the ratios."""
    for ratio, above, below in (
        ("m_over_na", "flops_per_token", "active_params"),
        ("n_over_na", "total_params", "active_params"),
    ):
        if math.isnan(values[ratio]) and values[below]:
            values[ratio] = values[above] / values[below]
    if math.isnan(values["target_m_over_na"]):
        values["target_m_over_na"] = round(values["m_over_na"], 1)
    if math.isnan(values["target_n_over_na"]) and math.isfinite(values["n_over_na"]):
        values["target_n_over_na"] = float(round(values["n_over_na"]))

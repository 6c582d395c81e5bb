"""Rows of the collected table as the points of a curve."""

import pandas as pd

from analysis.laws.budget import HELD, Points

LOSS = "final_validation_loss"

SAME = 1e-6
"""Relative difference within which targets are one."""


def points_of(rows: pd.DataFrame, x: str, slices: tuple[str, ...] = ()) -> Points:
    """The rows as they are recorded, `x` their abscissa, with the slice that each belongs to."""
    return Points(
        run_ids=tuple(str(run) for run in rows["run_id"]),
        x=tuple(float(value) for value in rows[x]),
        loss=tuple(float(value) for value in rows[LOSS]),
        group=_groups(rows, slices),
    )


def held_by(rows: pd.DataFrame) -> dict[str, float]:
    """Of the targets, those that all rows share."""
    columns = {name: pd.to_numeric(rows[name], errors="coerce") for name in HELD if name in rows}
    return {
        name: float(column.iloc[0])
        for name, column in columns.items()
        if column.iloc[0] > 0 and (column / column.iloc[0] - 1).abs().max() < SAME
    }


def _groups(rows: pd.DataFrame, slices: tuple[str, ...]) -> tuple[str, ...]:
    """Label of each row's slice: its values, joined; empty without slices."""
    columns = [[_label(value) for value in rows[name]] for name in slices]
    return tuple(", ".join(values) for values in zip(*columns, strict=True)) if columns else ("",) * len(rows)


def _label(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)

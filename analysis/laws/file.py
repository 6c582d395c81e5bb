"""laws.json: every law with its intervals, the points behind it, and what they do not show.

    write_laws(path, LawsFile(...));  read_laws(path)

    {"schema": 2, "version": ..., "data_hash": ..., "simulated": false, "noise": {study: {...}},
     "laws": [{id, form, unit, coefficients, per_budget, relations, statements, points_used, points_left_out, flags, ...}]}

The keys are the fields of `analysis.laws.records` and `budget`; `coefficients`, `reference_compute`, `budgets_used`,
`points_used` and `fitted` repeat what relations and budgets say, for readers that want it flat. The same runs give the same
bytes: no date, a seeded bootstrap, ten significant digits. Unknown and infinite: null. A file that is read and written again is
the same file.
"""

import math
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from analysis.laws.records import Law, LawsFile
from harness.errors import HarnessError
from harness.files import read_json, write_json

SCHEMA = 2
"""Version of the file. 1, of the first laws, is not read: refit writes it anew in seconds."""


class LawsFileError(HarnessError):
    """A laws.json that cannot be read: missing, torn, of another version, or of another form."""


def write_laws(path: Path, laws: LawsFile) -> None:
    """Write `laws` to `path`, atomically."""
    write_json(path, document(laws))


def read_laws(path: Path) -> LawsFile:
    """The contents of `path`.

    Raises:
        LawsFileError: it is missing, torn, of a newer or the first version, or not of this form.
    """
    value = read_json(path)
    if value is None:
        what = "is torn or no JSON" if path.exists() else "does not exist"
        raise LawsFileError(f"{path} {what}; fit the laws (python -m analysis.refit sweep=...)")
    if not isinstance(value, dict) or not isinstance(value.get("laws"), list):
        raise LawsFileError(f"{path} is no laws file: it has no list 'laws' (python -m analysis.refit writes one)")
    schema = value.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema > SCHEMA:
        raise LawsFileError(f"{path} is of schema {schema!r}, this version reads {SCHEMA}: update the harness")
    if schema < SCHEMA:
        raise LawsFileError(
            f"{path} is of schema {schema}, this version reads {SCHEMA}: refit it (python -m analysis.refit sweep=...)"
        )
    try:
        return _build(LawsFile, value, "")  # type: ignore[no-any-return]
    except (TypeError, ValueError, KeyError) as error:
        raise LawsFileError(f"{path} is not of the form that analysis.refit writes: {error}") from error


def document(laws: LawsFile) -> dict[str, Any]:
    """The JSON value of `laws`."""
    rounded: LawsFile = _build(LawsFile, _plain(laws), "")  # what is derived must follow from what is written
    return {"schema": SCHEMA, **_plain(rounded), "laws": [_law(law) for law in rounded.laws]}


def number(value: float) -> float | None:
    """`value` to ten significant digits; None where it is NaN or infinite."""
    return float(f"{value:.10g}") if math.isfinite(value) else None


def _law(law: Law) -> dict[str, Any]:
    coefficients = {
        f"{relation.name}_{part}": _plain(getattr(relation, part))
        for relation in law.relations
        for part in ("exponent", "at_reference", "coefficient")
    }
    budgets = law.relations[0].compute if law.relations else ()
    return {
        **_plain(law),
        "fitted": law.fitted,
        "coefficients": coefficients,
        "reference_compute": number(law.relations[0].reference) if law.relations else None,
        "budgets_used": [number(compute) for compute in budgets],
        "points_used": law.points_used,
    }


def _plain(value: Any) -> Any:
    """A record as what JSON has."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return number(value)
    return value


@cache
def _types(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value` (of JSON) as a `kind`; `where` names it in errors."""
    if get_origin(kind) is UnionType:
        if value is None and NoneType in get_args(kind):
            return None
        return _build(next(part for part in get_args(kind) if part is not NoneType), value, where)
    if is_dataclass(kind):
        return _record(kind, value, where)
    if get_origin(kind) is tuple:
        return _tuple(get_args(kind), value, where)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise TypeError(f"{where} is {value!r}, a mapping is wanted")
        return {key: _build(get_args(kind)[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float:
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{where} is {value!r}, a number is wanted")
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{where} is {value!r}, {kind.__name__} is wanted")
    return value


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise TypeError(f"{where or 'the file'} is {value!r}, a mapping is wanted")
    given = {}
    for field in fields(kind):
        at = f"{where}.{field.name}" if where else field.name
        if field.name not in value:
            if field.default is MISSING and field.default_factory is MISSING:
                raise KeyError(f"{at} is missing")
            continue
        given[field.name] = _build(_types(kind)[field.name], value[field.name], at)
    return kind(**given)


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise TypeError(f"{where} is {value!r}, a list is wanted")
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_build(parts[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if len(value) != len(parts):
        raise TypeError(f"{where} has {len(value)} values, {len(parts)} are wanted")
    return tuple(
        _build(part, item, f"{where}[{index}]") for index, (part, item) in enumerate(zip(parts, value, strict=True))
    )

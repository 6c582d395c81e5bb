"""Values of a composed configuration as what the code works with: numbers within bounds, dataclasses field by field.

A wrong one is refused with its name as on the command line, the value, and what is wanted.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args

from omegaconf import DictConfig

from harness.errors import ConfigError, nearest


def build[T](kind: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping of the configuration.

    Raises:
        ConfigError: a key is missing or unknown, or a value is of the wrong kind; with the nearest valid one.
    """
    if not isinstance(values, Mapping | DictConfig):
        raise ConfigError(f"{where}={values}: a mapping is wanted, with {', '.join(_types(kind))}")  # type: ignore[arg-type]
    known = _types(kind)  # type: ignore[arg-type]
    built = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}.{key} is unknown{nearest(key, known)} (valid: {', '.join(known)})")
        wanted = known[key]
        right = type(value) is wanted and wanted is not float  # the common case, without a message to make ready
        built[key] = value if right else _convert(value, wanted, f"{where}.{key}")
    try:
        return kind(**built)
    except TypeError as error:
        missing = [field.name for field in fields(kind) if field.name not in built]  # type: ignore[arg-type]
        raise ConfigError(f"{where} lacks {', '.join(missing)}: {error}") from error


@cache
def _types(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass with their types."""
    return {field.name: field.type for field in fields(kind)}


def _convert(value: Any, kind: Any, name: str) -> Any:
    if isinstance(kind, UnionType):  # something or null
        if type(value) in get_args(kind):
            return value
        return None if value is None else _convert(value, get_args(kind)[0], name)
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            names = ", ".join(field.name for field in fields(kind))
            raise ConfigError(f"{name}={value}: a mapping of {names} is wanted, each of which may be null")
        return build(kind, value, name)  # type: ignore[arg-type]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}={value}: a finite number is wanted")
    if kind in (int, float, bool, str) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ConfigError(f"{name}={value!r}: a value of type {kind.__name__} is wanted")
    return value


def number(value: Any, name: str, low: float, high: float) -> float:
    """A number of the configuration between `low` and `high`.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name}={value}: a number between {low:g} and {high:g} is wanted")
    return float(value)


def whole(value: Any, name: str, low: int, high: int | None = None) -> int:
    """A whole number of the configuration of at least `low`, and of `high` at most where that is given.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= (value if high is None else high):
        bounds = f"of at least {low}" if high is None else f"between {low} and {high}"
        raise ConfigError(f"{name}={value}: a whole number {bounds} is wanted")
    return value

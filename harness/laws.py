"""Fitted laws, read back for planning: the optimum at a budget from a ``laws.json`` that `analysis.refit` wrote.

A law's own resolved optimum at the budget is preferred to its power law, as the paper does in section 6 (its six M/N_a do not
lie on one power law); elsewhere the power law holds.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.files import read_json

SCHEMA = 2
"""Newest version of the file that is read. A budget's optimum is a number in the first, a mapping with its value since then."""

FLOORS = {"m_over_na": 6.0}
"""Quantities whose power law is fitted above a bound, as ``<quantity>_minus_<bound>``."""

ALIASES = {"batch_size": "batch_tokens"}
"""Quantities whose coefficients are stored under another name."""

RESOLVED = "resolved"


@dataclass(frozen=True, kw_only=True)
class Laws:
    """The contents of a ``laws.json``."""

    path: Path
    document: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Laws":
        """Read `path`.

        Raises:
            ConfigError: it is missing, no laws file, or of a newer version.
        """
        value = read_json(path)
        if value is None:
            what = "is torn or no JSON" if path.exists() else "does not exist"
            raise ConfigError(f"laws={path}: the file {what}; fit one (python -m analysis.refit sweep=...)")
        if not isinstance(value, dict) or not isinstance(value.get("laws"), list):
            raise ConfigError(
                f"laws={path} is no laws file: it has no list 'laws' (python -m analysis.refit writes one)"
            )
        if not isinstance(schema := value.get("schema"), int) or schema > SCHEMA:
            raise ConfigError(
                f"laws={path} is of schema {schema!r}, this version reads up to {SCHEMA}: update the harness"
            )
        return cls(path=path, document=value)

    def value(self, law_id: str, quantity: str, compute: float) -> float | None:
        """The optimum of `quantity` at `compute` FLOPs by the law `law_id`; None where the file has none.

        Raises:
            ConfigError: the law is not of the form that `analysis.refit` writes, or gives no positive number.
        """
        try:
            value = self._value(law_id, quantity, compute)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise ConfigError(
                f"laws={self.path}: the law {law_id} is not of the form that analysis.refit writes ({error})"
            ) from error
        if value is not None and not (isinstance(value, float) and 0 < value < math.inf):
            raise ConfigError(f"laws={self.path}: the law {law_id} gives {quantity} = {value} at {compute:g} FLOPs")
        return value

    def _value(self, law_id: str, quantity: str, compute: float) -> float | None:
        if (law := self._law(law_id)) is None:
            return None
        main = law_id == quantity or quantity == "flops_per_token"  # what per_budget holds of the law
        for budget in law.get("per_budget") or [] if main else []:
            there = math.isclose(budget.get("compute") or 0.0, compute, rel_tol=1e-9)
            if there and budget.get("status") == RESOLVED and (optimum := _optimum(budget.get("optimum"))):
                return optimum
        coefficients, reference = law.get("coefficients") or {}, _number(law.get("reference_compute"))
        floor = FLOORS.get(quantity)
        forms = [(f"{quantity}_minus_{floor:g}", floor)] if floor is not None else []
        forms += [(name, 0.0) for name in (quantity, ALIASES.get(quantity)) if name is not None]
        for name, above in forms:
            at, exponent = (
                _number((coefficients.get(f"{name}_{part}") or {}).get("value"))
                for part in ("at_reference", "exponent")
            )
            if at is not None and exponent is not None and reference:
                return float(above + at * (compute / reference) ** exponent)
        return None

    def unit(self, law_id: str) -> str:
        """The unit of a law's optimum, as the file states it; empty for a ratio."""
        return str((self._law(law_id) or {}).get("unit") or "")

    def names(self) -> list[str]:
        """The ids of its laws."""
        return [str(law.get("id")) for law in self.document["laws"] if isinstance(law, dict)]

    def _law(self, law_id: str) -> dict[str, Any] | None:
        return next((law for law in self.document["laws"] if isinstance(law, dict) and law.get("id") == law_id), None)


def _optimum(value: Any) -> float | None:
    """A budget's optimum: a number, or since schema 2 ``{value, low, high}``."""
    return _number(value.get("value") if isinstance(value, dict) else value)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

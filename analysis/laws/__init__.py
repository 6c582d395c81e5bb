"""Each law of the paper in terms of `analysis.fitting`: fitted from collected losses, written to and read from laws.json.

    laws = fit_laws(table, FitOptions());  write_laws(root / "laws.json", laws);  read_laws(root / "laws.json")

`records` says what a law is; `curves`, `rank`, `width_ratio`, `hyperparameters` fit them; `correction` moves losses to their
budgets.
"""

from typing import TYPE_CHECKING, Any

from analysis.laws.budget import AT_THE_EDGE, NO_CURVE, NOT_RESOLVED, RESOLVED, Budget, Estimate, Points
from analysis.laws.file import LawsFileError, document, read_laws, write_laws
from analysis.laws.options import FitOptions
from analysis.laws.records import Law, LawsFile, Relation, Statement, Variant

if TYPE_CHECKING:
    from analysis.laws.fit import FITS, fit_laws

__all__ = [
    "AT_THE_EDGE", "FITS", "NOT_RESOLVED", "NO_CURVE", "RESOLVED", "Budget", "Estimate", "FitOptions", "Law", "LawsFile",
    "LawsFileError", "Points", "Relation", "Statement", "Variant", "document", "fit_laws", "read_laws", "write_laws",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Fits import pandas and scipy; whoever only reads laws should not wait for them."""
    if name in ("FITS", "fit_laws"):
        from analysis.laws import fit

        return getattr(fit, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

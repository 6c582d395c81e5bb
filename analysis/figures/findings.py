"""What figures are drawn from, and how they say that there is nothing to draw."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.laws import Law, LawsFile
from harness.errors import HarnessError


class NoFigureError(HarnessError):
    """There are no data for a figure; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A refit's table and laws."""

    table: pd.DataFrame
    """Of `analysis.collect.collect`."""
    laws: LawsFile
    root: Path | None = None
    """Holds runs/; None: nothing is read of single runs, and there are no loss curves."""

    @property
    def simulated(self) -> bool:
        """Whether any loss is simulated."""
        return bool(self.laws.simulated or self.table["simulated"].any())

    def law(self, law_id: str) -> Law:
        """The law of that id.

        Raises:
            NoFigureError: there is none.
        """
        law = self.laws.law(law_id)
        if law is None:
            raise NoFigureError(self.laws.missing.get(law_id, f"no law {law_id} in these laws"))
        return law

    def curves(self, law_id: str) -> Law:
        """The law of that id, which has budgets.

        Raises:
            NoFigureError: it has none.
        """
        law = self.law(law_id)
        if not law.per_budget:
            raise NoFigureError(f"the law {law_id} has no budget with usable runs")
        return law

    def related(self, law_id: str) -> Law:
        """The law of that id, which has a relation to compute.

        Raises:
            NoFigureError: it has none; with the law's own reason.
        """
        law = self.law(law_id)
        if not law.relations:
            raise NoFigureError("; ".join(law.flags) or f"the law {law_id} was not fitted")
        return law

    def usable(self, *studies: str) -> pd.DataFrame:
        """Runs of those studies with a loss that counts.

        Raises:
            NoFigureError: there is none.
        """
        rows = self.table[self.table["study"].isin(studies) & self.table["left_out"].isna()]
        if rows.empty:
            raise NoFigureError(f"no usable run of study {' or '.join(studies)}")
        return rows

"""The figures of the paper and of the report, from the collected table and the laws alone.

    draw("m_over_na", table, laws)              one figure, for a notebook or a script: .save("pdf"), .save("png")
    draw_figures(table, laws, root)             all of them, as PDF and PNG under <root>/figures

`registry.FIGURES` lists them: name, caption, the paper's number, law. One family a module: `curves`, `relations`, `rank`,
`region`, `maps`, `ratio`, `settings`, `loss_curves`. A figure whose data are not there is left out, and the reason returned.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib import rc_context

from analysis.figures.findings import Findings, NoFigureError
from analysis.figures.registry import FIGURES, FigureSpec
from analysis.figures.style import STYLE, Drawing
from analysis.laws import LawsFile
from harness.errors import ConfigError, nearest
from harness.files import write_atomically

__all__ = ["FIGURES", "Drawing", "DrawnFigures", "FigureSpec", "NoFigure", "NoFigureError", "draw", "draw_figures"]

KINDS = ("pdf", "png")
"""Files of each figure."""


@dataclass(frozen=True)
class NoFigure:
    """A figure that was not drawn; a notebook shows the reason."""

    reason: str

    def __repr__(self) -> str:
        return f"no figure: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class DrawnFigures:
    """The figures of a refit."""

    images: dict[str, Path]
    """PNG of each figure drawn, by name; the PDF lies beside it."""
    missing: dict[str, str]
    """Reason of each that was not."""

    @property
    def files(self) -> list[Path]:
        """Everything written."""
        return [path.with_suffix(f".{kind}") for path in self.images.values() for kind in KINDS]


def draw(name: str, table: pd.DataFrame, laws: LawsFile, root: Path | None = None) -> Drawing | NoFigure:
    """The figure `name` of `FIGURES`, or why there is none. `root` holds runs/, which only loss curves read.

    Raises:
        ConfigError: there is no figure of that name.
    """
    if name not in FIGURES:
        raise ConfigError(
            f"{name}: there is no such figure; choose one of {', '.join(FIGURES)}{nearest(name, FIGURES)}"
        )
    with rc_context(STYLE):
        try:
            return FIGURES[name].draw(Findings(table=table, laws=laws, root=root))
        except NoFigureError as error:
            return NoFigure(str(error))


def draw_figures(table: pd.DataFrame, laws: LawsFile, root: Path) -> DrawnFigures:
    """Draw what there are data for into ``<root>/figures``; a figure left from an earlier refit is removed."""
    directory = root / "figures"
    directory.mkdir(parents=True, exist_ok=True)
    images, missing = {}, {}
    for name in FIGURES:
        figure = draw(name, table, laws, root)
        path = directory / f"{name}.png"
        for kind in KINDS:
            if isinstance(figure, NoFigure):
                path.with_suffix(f".{kind}").unlink(missing_ok=True)
            else:
                write_atomically(path.with_suffix(f".{kind}"), figure.save(kind))
        if isinstance(figure, NoFigure):
            missing[name] = figure.reason
        else:
            images[name] = path
    return DrawnFigures(images=images, missing=missing)

"""How every figure looks: colours that colour-blind readers tell apart, log axes whose labels never collide."""

import io
import math
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis.text import SUPERSCRIPT

BLUE, ORANGE, GREEN, PURPLE, GREY, RED = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666", "#b00020"
"""Of Okabe and Ito's palette; red only warns."""

SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#56b4e9", "#e69f00", "#000000")
"""For what is told apart and has no order."""

MARKERS = "osv^Pp*hXd<>"
"""Slices differ by shape, since colour shows the budget."""

STYLE: dict[Any, Any] = {
    "figure.dpi": 130,
    "savefig.dpi": 130,
    "font.family": ["DejaVu Sans"],  # one family: matplotlib looks every other one up for each text
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titley": 1.0,  # else each measuring of a panel looks for ticks above it, which there are none of
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "harness",
}
"""Matplotlib settings."""


class Drawing(Figure):
    """A figure that notebooks show without pyplot, and that is laid out once, however often it is saved."""

    def save(self, kind: str) -> bytes:
        """The figure as ``png`` or ``pdf``, without date or program name: the same figure gives the same bytes."""
        with rc_context(STYLE):
            if engine := self.get_layout_engine():
                for spine in (spine for axes in self.axes for spine in axes.spines.values()):
                    spine.set_in_layout(False)  # inside its panel's ticks; measuring it takes as long as theirs
                engine.execute(self)  # once: it measures every text twice over
                self.set_layout_engine("none")
            buffer = io.BytesIO()
            nothing = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
            self.savefig(buffer, format=kind, metadata=nothing[kind])
        return buffer.getvalue()

    def _repr_png_(self) -> bytes:
        return self.save("png")


def page(width: float, height: float, *, simulated: bool) -> Drawing:
    """An empty figure of that size in inches, marked if any point on it is simulated."""
    figure = Drawing(figsize=(width, height), layout="constrained")
    if simulated:
        figure.suptitle("SIMULATED: no model was trained", x=0.995, ha="right", color=RED, fontsize=8, weight="bold")
    return figure


def budget_colours(number: int) -> list[Any]:
    """Colours from dark to light for rising budgets or sizes; viridis without its palest end."""
    return [colormaps["viridis"](0.88 * index / max(number - 1, 1)) for index in range(number)]


def panels(
    number: int, *, width: float = 3.4, height: float = 3.0, simulated: bool = False
) -> tuple[Drawing, list[Any]]:
    """A figure of `number` panels, at most three in a row, and its axes."""
    columns = 2 if number == 4 else min(number, 3)
    rows = math.ceil(number / columns)
    figure = page(max(width * columns, 4.6), height * rows, simulated=simulated)
    grid = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for spare in grid[number:]:
        spare.remove()
    return figure, grid[:number]


def legend_below(figure: Figure, axes: list[Any], *, columns: int = 4) -> None:
    """One legend for all panels, under them; each label once."""
    found: dict[str, Any] = {}
    for one in axes:
        for handle, label in zip(*one.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, fontsize=8)


def readable_log(axis: Any, *, giga: str = "G") -> None:
    """Label a logarithmic axis 100k, 200k, 500k, 1M ...: as many labels as its range has room for; parameters count in ``B``."""
    engineering = EngFormatter(sep="")
    _log_labels(axis, FuncFormatter(lambda value, _: engineering(value).replace("G", giga)))


def plain_log(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers: hidden sizes, losses."""
    _log_labels(axis, FuncFormatter(lambda value, _: f"{value:g}"))


def _log_labels(axis: Any, formatter: Any) -> None:
    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else 1.0
    if decades < 0.35:  # no two powers of ten, nor their simple multiples, lie in it
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_minor_locator(NullLocator())
    else:
        steps = (
            (1, 1.5, 2, 3, 4, 5, 7)
            if decades < 0.8
            else (1, 2, 5)
            if decades < 1.7
            else (1, 3)
            if decades < 3
            else (1,)
        )
        axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(NullFormatter())


def log_budgets(axes: Any, *, title: bool = True) -> None:
    """A logarithmic axis of compute, labelled 10¹⁸, 3×10¹⁸ ..."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 2.6 else (1,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(_power))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if title:
        axes.set_xlabel("C, training FLOPs")


def _power(value: float, _: object) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = value / 10**exponent
    power = f"10{str(exponent).translate(SUPERSCRIPT)}"
    return power if abs(mantissa - 1) < 1e-6 else f"{mantissa:.0f}×{power}"

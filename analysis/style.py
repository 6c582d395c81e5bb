"""How every figure looks: colours that colour-blind readers tell apart, and log axes whose labels never collide."""

import math
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from analysis.text import SUPERSCRIPT

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666"
"""Of Okabe and Ito's palette."""

MARKERS = "osv^Pp*hX"
"""Slices differ by shape, since colour shows the budget."""

STYLE: dict[Any, Any] = {
    "figure.dpi": 130,
    "savefig.dpi": 130,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "harness",
}
"""Matplotlib settings."""


def budget_colours(number: int) -> list[Any]:
    """Colours from dark to light for rising budgets or sizes; viridis without its palest end."""
    return [colormaps["viridis"](0.88 * index / max(number - 1, 1)) for index in range(number)]


def panels(number: int, *, width: float = 3.4, height: float = 3.0) -> tuple[Figure, list[Any]]:
    """A figure of `number` panels, at most three in a row, and its axes."""
    columns = 2 if number == 4 else min(number, 3)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(max(width * columns, 4.6), height * rows), layout="constrained")
    grid = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for spare in grid[number:]:
        spare.remove()
    return figure, grid[:number]


def readable_log(axis: Any) -> None:
    """Label a logarithmic axis 100k, 200k, 500k, 1M ...: as many labels as its range has room for."""
    low, high = axis.get_view_interval()
    decades = math.log10(high / low) if low > 0 else 1.0
    steps = (1, 2, 5) if decades < 1.7 else (1, 3) if decades < 3 else (1,)
    if decades < 0.8:
        steps = (1, 1.5, 2, 3, 4, 5, 7)  # type: ignore[assignment]
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(EngFormatter(sep=""))
    axis.set_minor_formatter(NullFormatter())


def log_budgets(axes: Any) -> None:
    """A logarithmic axis of compute, labelled 10¹⁸, 3×10¹⁸ ..."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3) if decades < 2.6 else (1,), numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(_power))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _power(value: float, _: object) -> str:
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = value / 10**exponent
    power = f"10{str(exponent).translate(SUPERSCRIPT)}"
    return power if abs(mantissa - 1) < 1e-6 else f"{mantissa:.0f}×{power}"

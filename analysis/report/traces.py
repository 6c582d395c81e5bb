"""Parts of plotly's JSON: laws, points that are runs, lines, axes; numbers rounded to what a screen can show."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from analysis.laws import Relation

Trace = dict[str, Any]

AHEAD = 100.0
"""How far beyond the largest budget laws are drawn."""


def law_traces(relation: Relation, colour: str, name: str, *, region: bool = True, hover: bool = False) -> list[Trace]:
    """The law as a line, dashed beyond its budgets, and with `region` its 95%."""
    compute, values = law_points(relation)
    last = relation.compute[-1]
    inside, beyond = compute <= last * (1 + 1e-9), compute >= last * (1 - 1e-9)
    traces: list[Trace] = []
    if region:
        predicted = [relation.predict(one) for one in compute]
        whole = [one for one in predicted if math.isfinite(one.low) and math.isfinite(one.high)]
        if whole:
            x = [one.compute for one in whole]
            red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
            traces.append(
                {
                    "type": "scatter", "mode": "lines", "x": [finite(one) for one in x + x[::-1]], "line": {"width": 0},
                    "y": [finite(one) for one in [one.high for one in whole] + [one.low for one in whole][::-1]],
                    "fill": "toself", "hoverinfo": "skip", "name": "95% of the law",
                    "fillcolor": f"rgba({red},{green},{blue},0.2)",
                }
            )  # fmt: skip
    traces.append(line_trace(compute[inside], values[inside], colour, "solid", hover=hover, name=name))
    traces.append(
        line_trace(
            compute[beyond], values[beyond], colour, "dash", hover=hover, name=f"{name}, extrapolated", showlegend=False
        )
    )
    return traces


def law_points(relation: Relation) -> tuple[Any, Any]:
    """Budgets, and the law at them."""
    first, last = relation.compute[0], relation.compute[-1]
    compute = np.concatenate([np.geomspace(first / 1.2, last, 40), np.geomspace(last, last * AHEAD, 20)[1:]])
    return compute, np.array([relation(float(one)) for one in compute])


def run_trace(ids: Sequence[str], x: Sequence[float], y: Any, marker: dict[str, Any], **more: Any) -> Trace:
    """Points that are runs."""
    return {
        "type": "scatter", "mode": "markers", "x": [finite(one) for one in x], "y": [finite(one) for one in y], "marker": marker,
        "customdata": list(ids), **more,
    }  # fmt: skip


def line_trace(
    x: Iterable[float], y: Iterable[float], colour: str, dash: str, *, hover: bool = False, **more: Any
) -> Trace:
    """A line; without `hover` the pointer passes through it to the runs."""
    line = {"color": colour, "dash": dash, "width": 2}
    points = {"x": [finite(one) for one in x], "y": [finite(one) for one in y]}
    shown = {"hovertemplate": "%{x:.4g}, %{y:.4g}<extra></extra>"} if hover else {"hoverinfo": "skip"}
    return {"type": "scatter", "mode": "lines", **points, "line": line, **shown, **more}


def axes(x: str, y: str, *, x_log: bool = False, y_log: bool = False) -> dict[str, Any]:
    """Titles and scales of both axes."""
    log = {"type": "log", "exponentformat": "power"}
    decades = log | {"dtick": 1 if x.startswith("C,") else "D2"}  # budgets span decades, sizes little more than one
    return {
        "xaxis": {"title": {"text": x}} | (decades if x_log else {}),
        "yaxis": {"title": {"text": y}} | (log if y_log else {}),
    }


def finite(value: float) -> float | None:
    """`value`, rounded to what a screen can show; None where plotly is to draw nothing."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def distance(value: float) -> float | None:
    """The length of an error bar to one side."""
    return finite(max(value, 0)) if math.isfinite(value) else None

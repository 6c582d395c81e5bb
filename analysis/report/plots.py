"""The interactive plots of the report, as plotly's own JSON: traces and layout, drawn by plotly.js in the page.

`plots_of(law)` gives each plot of a law. A trace whose points are runs has their ids as `customdata`: the page's script
adds what is shown on hover, and where a click leads.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from analysis.figures.ratio import forms_of
from analysis.figures.style import BLUE, GREEN, GREY, ORANGE, SERIES, budget_colours
from analysis.laws import Budget, Law, Relation
from analysis.report.traces import Trace, axes, distance, finite, law_points, law_traces, line_trace, run_trace
from analysis.text import flops

DARK = {
    BLUE: "#56b4e9", ORANGE: "#ff9e4a", GREEN: "#3fd0a4", GREY: "#a0a8b0", "#000000": "#ffffff",
    "#cc79a7": "#e8a3c8", "#56b4e9": "#9bd5f5", "#e69f00": "#f4c04e",
}  # fmt: skip
"""Colours on a dark page, by those on a light one."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One interactive plot."""

    name: str
    """Also the id of its element."""
    title: str
    alt: str
    """What is drawn, for those who cannot see it."""
    traces: list[Trace]
    layout: dict[str, Any]

    @property
    def has_runs(self) -> bool:
        """Whether some of its points are runs."""
        return any("customdata" in trace for trace in self.traces)


def plots_of(law: Law) -> list[Plot]:
    """The plots of `law` that there are data for."""
    found = []
    if law.id == "rank":
        found = [_rank(law)] if law.pairs else []
    elif law.id == "width_ratio":
        found = [_ratios(law)] if law.per_budget else []
    elif law.id in ("learning_rate", "batch_size"):
        found = [_settings(law)] if law.per_budget else []
    elif law.per_budget:
        found = [_curves(law), *_relations(law)]
    return found


def dark_colours(number: int) -> dict[str, str]:
    """By the colour of each of `number` budgets: the one on a dark page."""
    light, bright = budget_colours(number), budget_colours(2 * number)
    return {to_hex(one): to_hex(bright[number + index]) for index, one in enumerate(light)} | DARK


def _curves(law: Law) -> Plot:
    """Loss against the law's abscissa, every budget in one plot; a click on the legend hides one."""
    traces: list[Trace] = []
    for colour, budget in zip(budget_colours(len(law.per_budget)), law.per_budget, strict=True):
        traces += _budget(budget, to_hex(colour))
    logarithmic = law.x == "flops_per_token"
    shifted = any(budget.curve and len(budget.curve.intercepts) > 1 for budget in law.per_budget)
    loss = "loss shifted by its slice's offset, nats/token" if shifted else "validation loss, nats/token"
    return Plot(
        name=f"{law.id}-curves",
        title=f"Loss against {law.x_label}",
        alt=f"Loss against {law.x_label} for {len(law.per_budget)} budgets: runs, fitted curves and optima. "
        "The tables below have the numbers.",
        traces=traces,
        layout=axes(law.x_label, loss, x_log=logarithmic),
    )


def _budget(budget: Budget, colour: str) -> list[Trace]:
    name = flops(budget.compute)
    group: dict[str, Any] = {"legendgroup": name, "name": name}
    losses = budget.curve.shifted(budget.points) if budget.curve else budget.points.loss
    traces = [run_trace(budget.points.run_ids, budget.points.x, losses, {"color": colour, "size": 7}, **group)]
    if len(budget.outside):
        mark = {"color": colour, "size": 7, "symbol": "x-thin-open"}
        traces.append(
            run_trace(budget.outside.run_ids, budget.outside.x, budget.outside.loss, mark, showlegend=False, **group)
        )
    if budget.curve:
        x = np.geomspace(min(budget.points.x), max(budget.points.x), 80)
        dash = "solid" if budget.resolved else "dot"
        traces.append(line_trace(x, budget.curve(x), colour, dash, showlegend=False, **group))
    if budget.resolved:
        best = budget.optimum
        reach = {
            "type": "data",
            "symmetric": False,
            "array": [distance(best.high - best.value)],
            "arrayminus": [distance(best.value - best.low)],
        }
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": [finite(best.value)], "y": [finite(budget.minimum_loss.value)],
                "marker": {"color": colour, "size": 10, "symbol": "diamond"}, "error_x": reach, "showlegend": False,
                "hovertemplate": f"optimum at {name}<br>%{{x:.4g}}, loss %{{y:.4f}}<extra></extra>", **group,
            }
        )  # fmt: skip
    return traces


def _relations(law: Law) -> list[Plot]:
    """The optima against compute, one plot a relation that is no edge, edges in the plot of theirs."""
    plots = []
    for relation in law.relations:
        plain = relation.name == "m_over_na"  # the paper's form, in the plot of the other
        if relation.name.endswith(("_low", "_high")) or plain:
            continue
        traces = law_traces(relation, BLUE, "law of the optimum", hover=True)
        for suffix, word in (("_low", "lower edge"), ("_high", "upper edge")):
            if edge := law.relation(relation.name + suffix):
                traces += law_traces(edge, GREEN, f"{word} of the near-optimal band", region=False, hover=True)
        if law.id == "m_over_na" and (paper := law.relation("m_over_na")):
            traces.append(line_trace(*law_points(paper), ORANGE, "dot", name="power law of M/N_a itself"))
        traces.append(_optima(law, relation))
        y = f"{relation.symbol}{f', {relation.unit}' if relation.unit else ''}"
        plots.append(
            Plot(
                name=f"{law.id}-{relation.name}",
                title=f"{relation.symbol} against compute",
                alt=f"{relation.symbol} against training compute: optima of the budgets and the fitted law, "
                "dashed where extrapolated.",
                traces=traces,
                layout=axes("C, training FLOPs", y, x_log=True, y_log=law.id in ("classical", "hidden_size")),
            )
        )
    return plots


def _optima(law: Law, relation: Relation) -> Trace:
    resolved = [budget for budget in law.per_budget if budget.resolved]
    values = [[budget.optimum.value, budget.optimum.low, budget.optimum.high] for budget in resolved]
    if relation.name == "tokens":
        values = [
            [budget.compute / one for one in (v, high, low)]
            for budget, (v, low, high) in zip(resolved, values, strict=True)
        ]
    above = [distance(high - value) for value, _, high in values]
    below = [distance(value - low) for value, low, _ in values]
    return {
        "type": "scatter", "mode": "markers", "name": "optima, 95%", "x": [budget.compute for budget in resolved],
        "y": [finite(value) for value, _, _ in values], "marker": {"color": "#000000", "size": 8, "symbol": "diamond"},
        "error_y": {"type": "data", "symmetric": False, "array": above, "arrayminus": below},
        "hovertemplate": "%{y:.4g} at %{x:.3g} FLOPs<extra></extra>",
    }  # fmt: skip


def _rank(law: Law) -> Plot:
    proxy, least = ([getattr(pair, name) for pair in law.pairs] for name in ("proxy_loss", "least_loss"))
    ends = [min(*proxy, *least), max(*proxy, *least)]
    traces = [
        line_trace(ends, ends, GREY, "dot", name="equal"),
        run_trace(
            [pair.proxy_run for pair in law.pairs],
            proxy,
            least,
            {"color": BLUE, "size": 9},
            name="run at the median proxy",
        ),
    ]
    return Plot(
        name="rank-pairs",
        title="Median proxy against least loss",
        alt=f"Least loss over widths against the loss at the median proxy width, {len(law.pairs)} configurations.",
        traces=traces,
        layout=axes("loss at the median proxy width, nats/token", "least loss over widths, nats/token"),
    )


def _ratios(law: Law) -> Plot:
    form = "offset" if forms_of(law, "offset") else "power"
    relations = forms_of(law, form)
    traces: list[Trace] = []
    for index, ratio in enumerate(sorted({x for budget in law.per_budget for x in budget.points.x})):
        colour = SERIES[index % len(SERIES)]
        runs = [
            (run, budget.compute, loss)
            for budget in law.per_budget
            for run, x, loss in zip(budget.points.run_ids, budget.points.x, budget.points.loss, strict=True)
            if x == ratio
        ]
        group = {"legendgroup": f"{ratio:g}", "name": f"ratio {ratio:g}"}
        ids, compute, losses = zip(*runs, strict=True)
        traces.append(run_trace(ids, compute, losses, {"color": colour, "size": 7}, **group))
        if relation := relations.get(ratio):
            traces += [
                {**trace, **group, "showlegend": False} for trace in law_traces(relation, colour, "", region=False)
            ]
    return Plot(
        name="width_ratio-compute",
        title="Loss by width ratio against compute",
        alt="Loss against compute for each width ratio, with its law, dashed where extrapolated.",
        traces=traces,
        layout=axes("C, training FLOPs", "validation loss, nats/token", x_log=True, y_log=True),
    )


def _settings(law: Law) -> Plot:
    traces: list[Trace] = []
    near = 100 * law.per_budget[0].tolerance
    for part, mark, name in (
        ("outside", {"color": GREY, "size": 6, "symbol": "x-thin-open"}, "other settings"),
        ("points", {"color": BLUE, "size": 8}, f"within {near:g}% of the least loss"),
    ):
        ids, compute, values = [], [], []
        for budget in law.per_budget:
            points = getattr(budget, part)
            ids += points.run_ids
            values += points.x
            # Runs of one setting lie beside each other, or only the uppermost could be hovered over.
            compute += [budget.compute * math.exp(0.04 * (index % 7 - 3)) for index in range(len(points))]
        traces.append(run_trace(ids, compute, values, mark, name=name))
    for relation in law.relations:
        edge = relation.name.endswith(("_low", "_high"))
        traces += law_traces(relation, GREEN if edge else "#000000", relation.symbol, region=not edge)
    return Plot(
        name=f"{law.id}-settings",
        title=f"{law.title} against compute",
        alt=f"{law.x_label} of every run against compute, near-optimal ones marked, with the two parallel lines "
        "and the law between them.",
        traces=traces,
        layout=axes("C, training FLOPs (runs of a budget beside each other)", law.x_label, x_log=True, y_log=True),
    )

"""Loss by width ratio (K+1) d_m / d: against compute, and predicted against the ratio (Figures 9, 10 and 11)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.figures.findings import Findings, NoFigureError
from analysis.figures.style import GREY, MARKERS, RED, SERIES, Drawing, log_budgets, page, panels, plain_log
from analysis.laws import Law, Relation
from analysis.text import flops

AHEAD = (1e21, 3e21, 1e22, 3e22, 1e23)
"""Budgets of Figure 11, after the largest one that was run."""

FORMS = {"power": ("ln L = a + b ln C", GREY, "--"), "offset": ("L = E + A C^B", RED, "-")}
"""By the relations' prefix: formula, colour, line."""


def against_compute(findings: Findings) -> Drawing:
    """Loss against C for each ratio by L = E + A C^B (or the power law), and how far each ratio is from their mean (Figure 9)."""
    law = findings.related("width_ratio")
    form = "offset" if forms_of(law, "offset") else "power"
    relations = forms_of(law, form)
    figure = page(9.4, 4.0, simulated=findings.simulated)
    left, right = figure.subplots(1, 2)
    last = max(relation.compute[-1] for relation in relations.values())
    first = min(relation.compute[0] for relation in relations.values())
    compute = np.geomspace(first / 1.2, last * 33, 120)
    lines = {ratio: np.array([relation(one) for one in compute]) for ratio, relation in relations.items()}
    mean = np.mean(list(lines.values()), axis=0)
    for index, (ratio, relation) in enumerate(relations.items()):
        colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
        for inside, dashes in ((compute <= last, "-"), (compute >= last, "--")):
            left.plot(compute[inside], lines[ratio][inside], dashes, color=colour, linewidth=1)
            right.plot(compute[inside], 100 * (lines[ratio] / mean - 1)[inside], dashes, color=colour, linewidth=1)
        left.plot(relation.compute, relation.values, marker, color=colour, markersize=4, label=f"{ratio:g}")
        of_mean = np.interp(np.log(relation.compute), np.log(compute), mean)
        right.plot(
            relation.compute, 100 * (np.array(relation.values) / of_mean - 1), marker, color=colour, markersize=4
        )
    left.set_yscale("log")
    plain_log(left.yaxis)
    left.set_ylabel("final validation loss, nats per token")
    right.set_ylabel("loss over the mean of the ratios' laws, %")
    left.legend(title="(K+1) d_m / d", fontsize=8, ncols=2)
    for axes in (left, right):
        axes.axvline(last, color="black", linestyle=":", linewidth=1)
        log_budgets(axes)
    figure.supxlabel(
        f"{FORMS[form][0]}; dashed: extrapolated; dotted line: the largest budget that was run", fontsize=8
    )
    return figure


def predicted_where_run(findings: Findings) -> Drawing:
    """Loss against the ratio at each budget that was run: runs, and both forms' predictions (Figure 10)."""
    law = findings.related("width_ratio")
    return _predicted(findings, law, [budget.compute for budget in law.per_budget])


def predicted_ahead(findings: Findings) -> Drawing:
    """Loss against the ratio by both forms from the largest budget to far beyond it (Figure 11)."""
    law = findings.related("width_ratio")
    last = max(relation.compute[-1] for relation in law.relations)
    return _predicted(findings, law, [last, *(compute for compute in AHEAD if compute > last * 1.01)])


def _predicted(findings: Findings, law: Law, budgets: Sequence[float]) -> Drawing:
    if len(forms_of(law, "power")) < 2:
        raise NoFigureError("fewer than two width ratios have a law of compute")
    figure, grid = panels(len(budgets), width=3.2, height=2.5, simulated=findings.simulated)
    for axes, compute in zip(grid, budgets, strict=True):
        _panel(axes, law, compute)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def _panel(axes: Any, law: Law, compute: float) -> None:
    lowest, highest = np.inf, -np.inf
    for form, (words, colour, dashes) in FORMS.items():
        relations = forms_of(law, form)
        if len(relations) < 2:
            continue
        values = np.array([relation(compute) for relation in relations.values()])
        axes.plot(list(relations), values, dashes, marker="s", markersize=3, color=colour, label=words)
        lowest, highest = min(lowest, values.min()), max(highest, values.max())
    if budget := law.budget(compute):
        axes.plot(
            budget.points.x, budget.points.loss, "o", color="black", markersize=4, markerfacecolor="none", label="runs"
        )
        lowest, highest = min(lowest, *budget.points.loss), max(highest, *budget.points.loss)
    half = max(0.55 * (highest - lowest), 0.003 * lowest)  # never so close that noise looks like a finding
    middle = (lowest + highest) / 2
    axes.set_ylim(middle - 1.15 * half, middle + 1.15 * half)
    axes.axhspan(lowest, lowest * 1.005, color="#009e73", alpha=0.08, linewidth=0, label="within 0.5% of the least")
    axes.set_title(flops(compute), fontsize=9)
    axes.set_xlabel("(K+1) d_m / d")
    axes.set_ylabel("loss, nats/token", fontsize=8)


def forms_of(law: Law, form: str) -> dict[float, Relation]:
    """The relations of one form (``power`` or ``offset``) by ratio, rising."""
    start = f"{form}_"
    found = {float(one.name.removeprefix(start)): one for one in law.relations if one.name.startswith(start)}
    return dict(sorted(found.items()))

"""Every figure by name: what draws it, its caption, the paper's number, and the law that it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from analysis.figures import curves, maps, rank, ratio, region, relations, settings
from analysis.figures.findings import Findings
from analysis.figures.loss_curves import loss_curves
from analysis.figures.style import Drawing


@dataclass(frozen=True, kw_only=True)
class FigureSpec:
    """A figure that can be drawn."""

    draw: Callable[[Findings], Drawing]
    """Raises `NoFigureError` where there are no data for it."""
    title: str
    """In a few words."""
    caption: str
    """What is drawn, in sentences."""
    law: str
    """Id of the law; empty where it belongs to none."""
    paper: str = ""
    """Number of the paper's figure; empty for one of ours."""


FIGURES: dict[str, FigureSpec] = {
    "isoflop": FigureSpec(
        draw=curves.isoflop,
        title="Loss against model size",
        caption="Loss against M at each budget. Circles are runs (repeated seeds share an abscissa), lines the "
        "fitted parabolas in "
        "log M, dotted where the minimum is not resolved; diamonds mark optima with their intervals, crosses "
        "runs outside the fitted window.",
        law="classical",
    ),
    "classical_laws": FigureSpec(
        draw=relations.classical_laws,
        title="Compute-optimal size and tokens",
        caption="Compute-optimal M and D against compute, with the 95% region from runs to law; dashed where "
        "extrapolated.",
        law="classical",
    ),
    "rank": FigureSpec(
        draw=rank.proxy_against_least,
        title="Median proxy against least loss",
        caption="Loss at the median proxy width against the least loss over all widths, a point for each pair of "
        "ratios, with the least-squares line.",
        law="rank",
        paper="2",
    ),
    "region": FigureSpec(
        draw=region.feasible_region,
        title="Feasible region of (N_a, N)",
        caption="Least and greatest feasible hidden size, and their difference, over active and total parameters "
        "at the grid's largest budget.",
        law="",
        paper="3",
    ),
    "landscape": FigureSpec(
        draw=maps.landscape,
        title="Loss landscape",
        caption="Loss over (N_a, N) and over (M/N_a, N/N_a) at one budget (dots: runs; star: least loss; black "
        "line: the profile), and "
        "profiles along N/N_a at all budgets.",
        law="n_over_na",
        paper="4",
    ),
    "maps_sizes": FigureSpec(
        draw=maps.maps_over_sizes,
        title="Loss over (N_a, N)",
        caption="Loss over active and total parameters at each budget, percent over the least; star: least loss.",
        law="n_over_na",
        paper="7",
    ),
    "maps_ratios": FigureSpec(
        draw=maps.maps_over_ratios,
        title="Loss over (M/N_a, N/N_a)",
        caption="Loss over compute density and expansion ratio at each budget, percent over the least; black "
        "line: the profile.",
        law="n_over_na",
        paper="8",
    ),
    "profiles": FigureSpec(
        draw=maps.profiles,
        title="Profiles along N/N_a",
        caption="Loss along N/N_a at one M/N_a, percent over the least of the fitted curve; points: runs (mean "
        "over seeds).",
        law="n_over_na",
        paper="4c",
    ),
    "n_over_na": FigureSpec(
        draw=partial(curves.against_optimum, law_id="n_over_na"),
        title="Loss against N/N_a",
        caption="Loss against N/N_a at each budget. Slices of M/N_a are shifted onto one curve by their offsets.",
        law="n_over_na",
    ),
    "n_over_na_law": FigureSpec(
        draw=relations.n_over_na_law,
        title="Optimal N/N_a against compute",
        caption="Optimal N/N_a against compute with its 95% region; grey: the near-optimal band.",
        law="n_over_na",
    ),
    "m_over_na": FigureSpec(
        draw=partial(curves.against_optimum, law_id="m_over_na"),
        title="Loss against M/N_a",
        caption="Loss against M/N_a at each budget. Slices of N/N_a are shifted onto one curve by their offsets.",
        law="m_over_na",
        paper="5a",
    ),
    "m_over_na_law": FigureSpec(
        draw=relations.m_over_na_law,
        title="Optimal M/N_a against compute",
        caption="Optimal M/N_a against compute with its 95% region; grey: where the loss is near its least; "
        "dotted: the paper's plain power law.",
        law="m_over_na",
        paper="5b",
    ),
    "hidden_size": FigureSpec(
        draw=partial(curves.against_optimum, law_id="hidden_size"),
        title="Loss against d",
        caption="Loss against the hidden size at each budget, with the fitted parabola and its near-optimal band.",
        law="hidden_size",
        paper="6a",
    ),
    "hidden_size_law": FigureSpec(
        draw=relations.hidden_size_law,
        title="Optimal d against compute",
        caption="Optimal hidden size against compute with its 95% region, and the edges of the near-optimal band "
        "with theirs.",
        law="hidden_size",
        paper="6b",
    ),
    "width_ratio": FigureSpec(
        draw=ratio.against_compute,
        title="Loss by width ratio against compute",
        caption="Loss against compute for each width ratio, and its distance from the mean of the ratios' laws; "
        "dashed where extrapolated.",
        law="width_ratio",
        paper="9",
    ),
    "width_ratio_measured": FigureSpec(
        draw=ratio.predicted_where_run,
        title="Loss against width ratio, where run",
        caption="Loss against the width ratio at each budget that was run: runs, and the predictions of both forms.",
        law="width_ratio",
        paper="10",
    ),
    "width_ratio_ahead": FigureSpec(
        draw=ratio.predicted_ahead,
        title="Loss against width ratio, extrapolated",
        caption="Predicted loss against the width ratio by both forms, from the largest budget that was run to "
        "far beyond it.",
        law="width_ratio",
        paper="11",
    ),
    "learning_rate": FigureSpec(
        draw=settings.learning_rates,
        title="Near-optimal learning rates",
        caption="Learning rates against compute: near-optimal settings, the two parallel lines that enclose "
        "them, and the middle line.",
        law="learning_rate",
        paper="12a",
    ),
    "batch_size": FigureSpec(
        draw=settings.batch_sizes,
        title="Near-optimal batches",
        caption="Batches against compute: near-optimal settings, the two parallel lines that enclose them, and "
        "the middle line.",
        law="batch_size",
        paper="12b",
    ),
    "loss_curves": FigureSpec(
        draw=loss_curves,
        title="Loss curves",
        caption="Training loss against tokens, by study and budget, dark to light by rising M.",
        law="",
    ),
}
"""In the report's order within each law."""

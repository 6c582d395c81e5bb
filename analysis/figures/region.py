"""The feasible region of (N_a, N) at a budget: least, greatest and range of the hidden size d (Figure 3).

The widths are those of `harness.region`; here they are drawn with the runs of the study on them.
"""

from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.findings import Findings, NoFigureError
from analysis.figures.style import Drawing, page
from analysis.text import flops, scientific
from harness.accounting import active_params, idle_params
from harness.architecture import Backbone
from harness.errors import HarnessError
from harness.region import region
from harness.solver import MIN_M_OVER_NA, Rules

RESOLUTION = 64
"""Points along an axis."""

MOST_DENSITY = 20.0
"""M/N_a up to which the region is drawn, as `harness.region` does."""

MOST_SHARED = 4
"""Shared experts of a layer that are tried when the table is held against the accounting."""

NEEDED = (
    "num_query_heads", "num_kv_heads", "head_dim", "seq_length", "num_experts", "top_k", "hidden_size", "num_dense_layers",
    "num_moe_layers", "ffn_hidden_size", "moe_ffn_hidden_size", "active_params", "total_params", "flops_per_token",
)  # fmt: skip


def feasible_region(findings: Findings) -> Drawing:
    """Three panels over (N_a, N) at the largest budget of the grid; grey where no width is feasible."""
    rows = findings.usable("grid", "refine", "width", "rank")
    rows = rows[rows["study"] == ("grid" if (rows["study"] == "grid").any() else rows["study"].iloc[0])]
    rows = rows[rows["compute"] == rows["compute"].max()]
    backbone = backbone_of(rows)
    size = float(rows["target_flops_per_token"].median()) if "target_flops_per_token" in rows else float("nan")
    if not size > 0:
        size = float(rows["flops_per_token"].median())
    density = MIN_M_OVER_NA + np.geomspace(0.2, MOST_DENSITY - MIN_M_OVER_NA, RESOLUTION)
    expansion = np.linspace(2, backbone.max_n_over_na, RESOLUTION + 1)[:-1]
    try:
        found = region(backbone, float(rows["compute"].iloc[0]), size, density, expansion, Rules())
    except HarnessError as error:
        raise NoFigureError(f"the feasible region cannot be computed: {error}") from error
    if not found.count.any():
        raise NoFigureError(f"no width is feasible at M = {scientific(size)} FLOPs a token by the published rules")
    x, y = np.meshgrid(density, expansion)
    unit, word = (1e9, "billions") if size > 2e9 else (1e6, "millions") if size > 2e6 else (1e3, "thousands")
    active = size / x / unit
    figure = page(10.2, 3.7, simulated=findings.simulated)
    panels = (
        (found.least, "(a) least feasible d"),
        (found.greatest, "(b) greatest feasible d"),
        (found.greatest - found.least, "(c) range of d, greatest less least"),
    )
    for axes, (values, title) in zip(figure.subplots(1, 3), panels, strict=True):
        _panel(axes, figure, active, active * y, values)
        axes.plot(
            rows["active_params"] / unit,
            rows["total_params"] / unit,
            ".",
            color="white",
            markersize=5,
            markeredgecolor="black",
            markeredgewidth=0.5,
        )
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel(f"active parameters N_a, {word}")
        axes.set_ylabel(f"total parameters N, {word}")
    figure.supxlabel(
        f"C = {flops(found.compute)}, M = {scientific(size, 4)} FLOPs a token. Grey: no width is feasible. "
        f"Points: the study's runs.",
        fontsize=8,
    )
    return figure


def _panel(axes: Any, figure: Drawing, across: Any, up: Any, values: Any) -> None:
    from matplotlib.colors import PowerNorm

    axes.set_facecolor("0.88")
    axes.grid(visible=False)
    mesh = axes.pcolormesh(across, up, values, cmap="viridis", norm=PowerNorm(0.5), shading="nearest", rasterized=True)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    bar.ax.tick_params(labelsize=7)


def backbone_of(rows: pd.DataFrame) -> Backbone:
    """The backbone of the rows' models. What a table lacks (shared experts) is found by counting its first model again.

    Raises:
        NoFigureError: the table does not describe its models, or no backbone counts them as the table does.
    """
    if missing := [name for name in NEEDED if name not in rows or pd.isna(rows[name].iloc[0])]:
        raise NoFigureError(f"the table does not say {', '.join(missing)} of its models")
    model = {name: int(rows[name].iloc[0]) for name in NEEDED}
    # The bound of the vocabulary does not matter here: embeddings count neither in N nor in M.
    fixed = {
        name: model[name]
        for name in ("num_query_heads", "num_kv_heads", "head_dim", "seq_length", "num_experts", "top_k")
    }
    shape = [
        model[name]
        for name in ("hidden_size", "num_dense_layers", "num_moe_layers", "ffn_hidden_size", "moe_ffn_hidden_size")
    ]
    for shared in range(MOST_SHARED + 1):
        aligned = model["ffn_hidden_size"] == (model["top_k"] + shared) * model["moe_ffn_hidden_size"]
        backbone = Backbone(**fixed, num_shared_experts=shared, ffn_aligned=aligned, ffn_ratio=shape[3] / shape[0])  # type: ignore[arg-type]
        active = active_params(backbone, *shape)
        total = active + idle_params(backbone, shape[0], shape[2], shape[4])
        if (active, total) == (model["active_params"], model["total_params"]):
            return backbone
    raise NoFigureError(
        f"no backbone counts run {rows['run_id'].iloc[0]} as the table does (N_a = {model['active_params']:,})"
    )

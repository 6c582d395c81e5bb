"""The feasible region of architectures at a budget (the paper's Figure 3): ``python -m harness.region scale=3e20``.

For a lattice of (M/N_a, N/N_a) at the budget's M it finds all feasible widths by the rounding rules, and draws the least, the
greatest, and the width of their range, over (N_a, N) as the paper does and over the two ratios. Writes
``<root>/regions/region-<budget>[-<backbone>].png`` and ``.csv``.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from harness import cli
from harness.architecture import Backbone
from harness.cli import text
from harness.equations import MOST_FLOPS
from harness.errors import ConfigError, InfeasibleError
from harness.files import write_atomically
from harness.scales import Scale, budget_label
from harness.settings import Settings
from harness.solver import MIN_M_OVER_NA, Rules, Targets, feasible_widths_of, proxies_among
from harness.typed import whole

MOST_POINTS = 1000
"""Along an axis."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Feasible widths over a lattice of ratios; arrays of shape (n_over_na, m_over_na), NaN where there is none."""

    compute: float
    """Budget, FLOPs."""
    flops_per_token: float
    """M, FLOPs."""
    m_over_na: np.ndarray
    """Shape (m,), rising."""
    n_over_na: np.ndarray
    """Shape (n,), rising."""
    count: np.ndarray
    """Feasible widths."""
    least: np.ndarray
    greatest: np.ndarray
    proxy: np.ndarray
    """The width that stands for all."""


def region(
    backbone: Backbone, compute: float, flops: float, density: np.ndarray, expansion: np.ndarray, rules: Rules
) -> Region:
    """The feasible widths at M = `flops` for every pair of ratios, each of which must respect Eq. 5."""
    x, y = np.meshgrid(density, expansion)
    active = (flops / x).ravel()
    targets = Targets(flops_per_token=flops + 0 * active, active_params=active, total_params=active * y.ravel())
    widths, ends = feasible_widths_of(backbone, targets, rules)
    count = np.diff(ends)
    there = count > 0

    def at(index: np.ndarray) -> np.ndarray:
        values = np.full(len(count), np.nan)
        values[there] = widths[index[there]]
        return values.reshape(x.shape)

    proxy = proxies_among(widths, ends, rules)
    return Region(
        compute=compute,
        flops_per_token=flops,
        m_over_na=density,
        n_over_na=expansion,
        count=count.reshape(x.shape),
        least=at(ends[:-1]),
        greatest=at(ends[1:] - 1),
        proxy=np.where(there, proxy, np.nan).reshape(x.shape),
    )


def table(found: Region) -> str:
    """The region as CSV, a row for each point of the lattice; widths are empty where none is feasible."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(
        "compute flops_per_token m_over_na n_over_na active_params total_params feasible_widths min_hidden_size max_hidden_size "
        "hidden_size_range proxy_hidden_size".split()
    )
    for row, expansion in enumerate(found.n_over_na.tolist()):
        for column, density in enumerate(found.m_over_na.tolist()):
            active = found.flops_per_token / density
            count = int(found.count[row, column])
            least, greatest, proxy = (
                int(values[row, column]) if count else "" for values in (found.least, found.greatest, found.proxy)
            )
            spread = greatest - least if count else ""  # type: ignore[operator]
            numbers = (density, expansion, active, active * expansion)
            writer.writerow([found.compute, found.flops_per_token, *numbers, count, least, greatest, spread, proxy])
    return lines.getvalue()


def draw(found: Region, title: str) -> bytes:
    """Six panels as PNG: least, greatest and range of d, over (N_a, N) and over the ratios; grey where none is feasible."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import PowerNorm

    x, y = np.meshgrid(found.m_over_na, found.n_over_na)
    active = found.flops_per_token / x
    unit, name = (
        (1e9, "billions") if active.max() > 1e8 else (1e6, "millions") if active.max() > 1e5 else (1e3, "thousands")
    )
    planes = (
        (active / unit, active * y / unit, f"active parameters $N_a$ ({name})", f"total parameters $N$ ({name})"),
        (x, y, "compute density $M/N_a$", "expansion ratio $N/N_a$"),
    )
    panels = (
        (found.least, "smallest feasible $d$"),
        (found.greatest, "largest feasible $d$"),
        (found.greatest - found.least, "range of feasible $d$ (largest - smallest)"),
    )
    figure, axes = pyplot.subplots(2, 3, figsize=(15, 8.6), layout="constrained")
    for row, (across, up, across_label, up_label) in enumerate(planes):
        for column, (values, label) in enumerate(panels):
            axis = axes[row][column]
            axis.set_facecolor("0.88")
            mesh = axis.pcolormesh(across, up, values, cmap="viridis", norm=PowerNorm(0.5), shading="nearest")
            axis.set_xlabel(across_label)
            axis.set_ylabel(up_label)
            axis.set_title(f"({'abcdef'[3 * row + column]}) {label}", loc="left", fontsize=11)
            figure.colorbar(mesh, ax=axis, pad=0.01)
    figure.suptitle(f"{title}; grey: no width is feasible", fontsize=13)
    target = io.BytesIO()
    figure.savefig(target, dpi=110, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return target.getvalue()


def main(config: DictConfig) -> int:
    """Draw the region of each budget that `config` names."""
    settings = Settings(config)
    root = Path(text(config.root, "root")) / "regions"
    resolution = whole(config.resolution, "resolution", 2, MOST_POINTS)
    planned = []
    for scale in settings.choose_scales(config.scale):
        backbone = settings.backbone(scale)
        ends = [
            _ends(config.m_over_na, "m_over_na", 20.0),
            _ends(config.n_over_na, "n_over_na", backbone.max_n_over_na),
        ]
        _check_bounds(backbone, scale, ends)
        low, high = (end - MIN_M_OVER_NA for end in ends[0])
        density = MIN_M_OVER_NA + np.geomspace(low, high, resolution)  # dense where d varies most
        expansion = np.linspace(*ends[1], resolution)
        if not ((expansion > 1) & (expansion < backbone.max_n_over_na)).any():
            raise ConfigError(
                f"resolution={resolution}: no point of the axis of N/N_a lies inside its bounds; raise it"
            )
        axes = (
            density,
            expansion[(expansion > 1) & (expansion < backbone.max_n_over_na)],
        )  # the bounds are not reached
        planned.append((scale, backbone, axes))
    for scale, backbone, (density, expansion) in planned:
        flops = _flops(config.flops_per_token, scale)
        found = region(backbone, scale.compute, flops, density, expansion, settings.rules)
        suffix = "" if settings.backbone_name == "paper" else f"-{settings.backbone_name}"
        path = root / f"region-{budget_label(scale.compute)}{suffix}"
        title = f"Feasible widths at C = {budget_label(scale.compute)} FLOPs, M = {flops:.4g} FLOPs a token"
        picture = draw(found, title)
        root.mkdir(parents=True, exist_ok=True)
        write_atomically(path.with_name(path.name + ".csv"), table(found))
        write_atomically(path.with_name(path.name + ".png"), picture)
        print(_summary(found), f"written to {path}.png and .csv")
    return 0


def _summary(found: Region) -> str:
    feasible = int((found.count > 0).sum())
    start = (
        f"{budget_label(found.compute)}, M = {found.flops_per_token:.5g}: {feasible:,} of {found.count.size:,} points "
        "are feasible"
    )
    if not feasible:
        return f"{start};"
    return f"{start}, d from {np.nanmin(found.least):.0f} to {np.nanmax(found.greatest):.0f};"


def _flops(given: Any, scale: Scale) -> float:
    if given is None:
        return scale.flops_per_token
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= MOST_FLOPS:
        raise ConfigError(f"flops_per_token={given}: a positive number is wanted, {MOST_FLOPS:g} at most")
    return float(given)


def _ends(given: Any, name: str, bound: float) -> tuple[float, float]:
    """The two ends of an axis; null is the bound."""
    try:
        low, high = (bound if value is None else float(value) for value in given)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}={given}: the least and the greatest ratio in brackets are wanted") from None
    if not low < high < float("inf"):
        raise ConfigError(f"{name}={given}: the first must be less than the second")
    return low, high


def _check_bounds(backbone: Backbone, scale: Scale, ends: list[tuple[float, float]]) -> None:
    """Refuse an axis that begins outside Eq. 5's bounds."""
    (low, _), (least, most) = ends
    if low <= MIN_M_OVER_NA:
        raise InfeasibleError(f"m_over_na={low:g}: M/N_a is always above {MIN_M_OVER_NA:g}; begin higher")
    if least < 1 or most > backbone.max_n_over_na:
        raise InfeasibleError(
            f"n_over_na=[{least:g}, {most:g}] at {scale.label}: N/N_a lies between 1 and {backbone.max_n_over_na:.4g} "
            "((N_e + shared)/(K + shared)) on this backbone"
        )


if __name__ == "__main__":
    cli.run("region", main)

"""Loss at the median proxy width against the least loss over widths (Figure 2, Table 3)."""

import numpy as np

from analysis.figures.findings import Findings, NoFigureError
from analysis.figures.style import BLUE, GREY, ORANGE, Drawing, page


def proxy_against_least(findings: Findings) -> Drawing:
    """A point for each (M/N_a, N/N_a), the least-squares line, and the coefficients of agreement."""
    law = findings.law("rank")
    if not law.pairs:
        raise NoFigureError("; ".join(law.flags) or "the rank study has no configuration with a usable proxy")
    figure = page(5.4, 4.6, simulated=findings.simulated)
    axes = figure.subplots()
    proxy = np.array([pair.proxy_loss for pair in law.pairs])
    least = np.array([pair.least_loss for pair in law.pairs])
    exact = np.array([pair.width_error == 0 for pair in law.pairs])
    axes.plot(proxy[exact], least[exact], "o", color=BLUE, markersize=6, label="run at the median proxy")
    if (~exact).any():
        axes.plot(
            proxy[~exact],
            least[~exact],
            "o",
            color=BLUE,
            markersize=6,
            markerfacecolor="white",
            label="nearest width in its place",
        )
    ends = np.array([min(proxy.min(), least.min()), max(proxy.max(), least.max())])
    axes.plot(ends, ends, color=GREY, linestyle=":", linewidth=1, label="equal")
    if len(proxy) > 1 and np.ptp(proxy) > 0:
        slope, offset = np.polyfit(proxy, least, 1)
        axes.plot(ends, slope * ends + offset, color=ORANGE, label=f"least squares, slope {slope:.3f}")
    names = {"pearson": "Pearson r", "spearman": "Spearman ρ", "kendall": "Kendall τ", "r_squared": "R²"}
    lines = []
    for name, symbol in names.items():
        if statement := law.statement(name):
            e = statement.estimate
            between = f" ({e.low:.3f} to {e.high:.3f})" if np.isfinite([e.low, e.high]).all() else ""
            lines.append(f"{symbol} = {e.value:.4f}{between}")
    axes.text(0.98, 0.03, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", fontsize=8)
    axes.set_xlabel("loss at the median proxy width, nats per token")
    axes.set_ylabel("least loss over widths, nats per token")
    axes.legend(fontsize=8, loc="upper left")
    return figure

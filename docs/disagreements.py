"""Where the paper's text and its own tables disagree, each with its evidence: ``python docs/disagreements.py [name ...]``.

Every number printed is computed here, from the harness and from the published lists in ``tests/harness/``.
"""

import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.accounting import count, score_flops
from harness.architecture import Architecture
from harness.cli import compose
from harness.errors import InfeasibleError, nearest
from harness.scales import Scale
from harness.settings import Settings
from harness.solver import Rules, Targets, proxy_width, rounded
from harness.sweep import plan

LISTS = Path(__file__).resolve().parent.parent / "tests" / "harness"
SETTINGS = Settings(compose("sweep"))
SCALES = {scale.compute: scale for scale in SETTINGS.scales}
F4 = {1e18: 19, 3e18: 20, 1e19: 21, 3e19: 21, 1e20: 22, 3e20: 22}
"""N/N_a as section F.4 states them."""


def published(*tables: int) -> list[dict[str, str]]:
    """Rows of the published lists."""
    with (LISTS / "published_architectures.csv").open() as file:
        return [row for row in csv.DictReader(file) if int(row["table"]) in tables]


def comes_out(
    row: dict[str, str], flops: float, rules: Rules, n_over_na: float | None = None, proxy: bool = True
) -> bool:
    """Whether a published row is what the rules give at M = `flops`."""
    scale = SCALES[float(row["compute"])]
    backbone = SETTINGS.backbone(scale)
    expansion = float(row["n_over_na"]) if n_over_na is None else n_over_na
    targets = Targets.from_ratios(
        backbone, flops_per_token=flops, m_over_na=float(row["m_over_na"]), n_over_na=expansion
    )
    width = int(row["hidden_size"])
    try:
        if proxy and proxy_width(backbone, targets, rules) != width:
            return False
        a = rounded(backbone, targets, width, rules)
    except InfeasibleError:
        return False
    wanted = (row["num_dense_layers"], row["num_moe_layers"], row["moe_ffn_hidden_size"])
    found = (a.num_dense_layers, a.num_moe_layers, a.moe_ffn_hidden_size)
    return all(not text or int(text) == number for text, number in zip(wanted, found, strict=True))


def forward() -> Iterator[str]:
    """Table 1 calls M the FLOPs of the forward pass; it is forward and backward, with causal attention."""
    for row in published(18)[:1]:
        scale = SCALES[float(row["compute"])]
        backbone = SETTINGS.backbone(scale)
        d = int(row["hidden_size"])
        architecture = Architecture(
            hidden_size=d, ffn_hidden_size=3 * d, num_dense_layers=int(row["num_dense_layers"]),
            num_moe_layers=int(row["num_moe_layers"]), moe_ffn_hidden_size=int(row["moe_ffn_hidden_size"]),
        )  # fmt: skip
        counts = count(backbone, architecture)
        yield f"table 18, d = {d}: N_a = {counts.active_params:,}, L = {architecture.num_layers}"
        yield f"  forward alone, 2 N_a + 2 S N_q d_qkv L = {counts.flops_per_token / 3:.4g} FLOPs a token"
        yield f"  forward and backward, three times that   = {counts.flops_per_token:.4g}"
        scores = score_flops(backbone, architecture.num_layers)
        yield f"  of which attention scores {scores:.4g}: half of the full square, as causal attention needs"
        yield f"  Table 2: M = {scale.flops_per_token:.4g}, and C / D = {scale.compute / scale.tokens:.4g}"


def phase1_flops() -> Iterator[str]:
    """Phase 1 was not built from the M of Table 2, but from others up to 10% off."""
    for table, compute in ((9, 1e18), (11, 1e19), (13, 1e20)):
        rows, scale = published(table), SCALES[compute]
        hits = [
            sum(comes_out(row, flops, SETTINGS.rules) for row in rows)
            for flops in (scale.flops_per_token, scale.grid_flops_per_token)
        ]
        yield (
            f"table {table}: of {len(rows)} rows {hits[0]} come out with Table 2's M = {scale.flops_per_token / 1e9:.6g} "
            f"GFLOPs, {hits[1]} with M = {scale.grid_flops_per_token / 1e9:.6g} "
            f"({scale.grid_flops_per_token / scale.flops_per_token - 1:+.1%})"
        )
    rows = plan(compose("sweep", ["phase=1"])).rows
    off = [row.point.experiment.counts.flops_per_token / SCALES[row.point.compute].flops_per_token - 1 for row in rows]
    yield f"after rounding, single rows of the 216 are between {min(off):+.1%} and {max(off):+.1%} off Table 2"


def tolerance() -> Iterator[str]:
    """The text promises that M stays within 5%; the published proxies are medians of the widths within 10%."""
    rows = published(9, 11, 13, 15)
    for share in (0.05, 0.075, 0.10, 0.125):
        rules = replace(SETTINGS.rules, tolerance=share)
        hits = sum(comes_out(row, _flops(row), rules) for row in rows)
        yield f"tolerance {share:.1%}: {hits} of {len(rows)} published proxy architectures come out"


def expansion() -> Iterator[str]:
    """F.4 says that N/N_a was set to 19, 20, 21, 21, 22, 22; the rows of section 6 need 22 (17 at 1e18 in table 15)."""
    for table, stated in ((16, "21.985"), (18, "22"), (20, "22")):
        rows = published(table)
        by_text = F4[float(rows[0]["compute"])]
        hits = [
            sum(comes_out(row, _flops(row), SETTINGS.rules, n, proxy=False) for row in rows) for n in (by_text, None)
        ]
        yield f"table {table}: of {len(rows)} rows {hits[0]} come out with F.4's {by_text}, {hits[1]} with {stated}"
    rows = [row for row in published(15) if row["compute"] == "1e18"]
    hits = [sum(comes_out(row, _flops(row), SETTINGS.rules, n) for row in rows) for n in (19, 22, 17)]
    yield f"table 15, 1e18: of {len(rows)} rows {hits[0]} come out with 19, {hits[1]} with 22, {hits[2]} with 17"


def width_ratio() -> Iterator[str]:
    """Appendix E calls d_m/d = 3.0 to 3.5 the best; it means (K + 1) d_m / d."""
    for what, factor in (("(K + 1) d_m / d", 1), ("d_m / d", 9)):
        values = ",".join(str(factor * ratio) for ratio in (3, 3.5, 4, 4.5, 5))
        sweep = plan(compose("sweep", ["phase=ratio", f"values=[{values}]", "infeasible=skip"]))
        widths = [row.point.experiment.architecture.hidden_size for row in sweep.rows if row.point.compute == 3e20]
        yield (
            f"{what} in 3, 3.5, 4, 4.5, 5 at the six optima: {30 - len(sweep.skipped)} of 30 have an architecture; "
            f"d at 3e20 from {min(widths, default=0)} to {max(widths, default=0)}"
        )
    with (LISTS / "published_widths.csv").open() as file:
        tried = [int(row["hidden_size"]) for row in csv.DictReader(file) if row["table"] == "21"]
    yield f"table 21 has d from {min(tried)} to {max(tried)} at 3e20 around the optimum: only the first range lies in it"


def output_layer() -> Iterator[str]:
    """M leaves out the output layer, 6 d V a token: runs cost more than C, and runs of the same C do not cost the same."""
    rows = plan(compose("sweep", ["phase=2"])).rows
    for scale in SETTINGS.scales:
        experiments = sorted(
            (row.point.experiment for row in rows if row.point.compute == scale.compute),
            key=lambda experiment: experiment.architecture.hidden_size,
        )
        counts = [experiment.counts for experiment in experiments]
        shares = [c.megatron_flops_per_token / c.flops_per_token - 1 for c in counts]
        middle = experiments[len(shares) // 2].architecture.hidden_size
        yield (
            f"{scale.label}: 6 d V = {shares[len(shares) // 2]:.2f} M at the middle width of phase 2 (d = {middle}), "
            f"{min(shares):.2f} to {max(shares):.2f} over its widths"
        )


def table17() -> Iterator[str]:
    """One published row differs from the paper's own rule: table 17 prints d_m = 416 at d = 600."""
    for row in plan(compose("sweep", ["phase=2", "scale=3e18"])).rows:
        architecture = row.point.experiment.architecture
        if architecture.hidden_size == 600:
            yield (
                f"3e18, d = 600: L_d = {architecture.num_dense_layers}, L_m = {architecture.num_moe_layers}, "
                f"d_m = {architecture.moe_ffn_hidden_size} by the rules (kept)"
            )


def number_of_runs() -> Iterator[str]:
    """The text speaks of about 670 runs."""
    sizes = {
        phase: len(plan(compose("sweep", [f"phase={phase}"])).rows) for phase in ("rank", "1", "refine", "2", "ratio")
    }
    *lists, ratio = sizes.values()
    names = ", ".join(list(sizes)[:-1])
    total = sum(sizes.values())
    yield f"{' + '.join(map(str, lists))} = {sum(lists)} ({names}); with the {ratio} of Appendix E {total}"


def _flops(row: dict[str, str]) -> float:
    """The M that a table was built from."""
    scale: Scale = SCALES[float(row["compute"])]
    return scale.grid_flops_per_token if int(row["table"]) <= 14 else scale.flops_per_token


ITEMS: dict[str, Callable[[], Iterator[str]]] = {
    item.__name__: item
    for item in (forward, phase1_flops, tolerance, expansion, width_ratio, output_layer, table17, number_of_runs)
}


def main(names: list[str]) -> int:
    """Print the evidence for each of `names` (all where none is given)."""
    for name in names or ITEMS:
        if name not in ITEMS:
            print(f"error: {name}: no such item; there are {', '.join(ITEMS)}{nearest(name, ITEMS)}", file=sys.stderr)
            return 2
        print(f"{name}: {ITEMS[name].__doc__}")
        for line in ITEMS[name]():
            print(f"  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

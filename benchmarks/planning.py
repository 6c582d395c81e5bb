"""How long planning takes: ``python benchmarks/planning.py``.

Prints a table: the whole command for all 216 points of phase 1, cold, against Python's own start and against importing
hydra alone; and the solver over all feasible widths of the 216 points, against a plain Python loop over the same widths.
Absolute times are those of the machine; the ratios say more.
"""

import math
import subprocess
import sys
import tempfile
import time

from harness.accounting import count
from harness.cli import compose
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, rounded, solve, width_bounds

REPEATS = 5


def seconds(*words: str) -> float:
    """Least wall time of ``python <words>`` over a few starts."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return min(times)


def problems() -> list:
    """Backbone and targets of the 216 points."""
    settings = Settings(compose("sweep"))
    grid = settings.study("grid")
    return [
        (backbone, Targets.from_ratios(backbone, flops_per_token=scale.grid_flops_per_token, m_over_na=x, n_over_na=y))
        for scale in settings.scales
        for backbone in [settings.backbone(scale)]
        for x in grid["m_over_na"]
        for y in grid["n_over_na"]
    ], settings.rules


def plain_loop(backbone, targets, rules) -> list[int]:
    """The feasible widths, one at a time."""
    lower, upper = width_bounds(backbone, targets)
    found = []
    for width in range(8 * max(1, math.floor(lower / 8)), 8 * math.ceil(upper / 8) + 1, 8):
        solution = solve(backbone, targets, width)
        if solution.num_dense_layers >= 0 and solution.num_moe_layers > 0:
            counts = count(backbone, rounded(backbone, targets, width, rules))
            off = (
                counts.flops_per_token / targets.flops_per_token - 1,
                counts.active_params / targets.active_params - 1,
                counts.total_params / targets.total_params - 1,
            )
            if max(map(abs, off)) <= rules.tolerance:
                found.append(width)
    return found


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as root:
        command = seconds("-m", "harness.sweep", "phase=1", "scale=all", f"root={root}")
    rows = [
        ("python -m harness.sweep phase=1 scale=all (216 runs)", command, "budget 2 s"),
        (
            "python -c 'import hydra'",
            hydra := seconds("-c", "import hydra"),
            f"the command is {command / hydra:.1f} times it",
        ),
        ("python -c pass", seconds("-c", "pass"), ""),
    ]
    points, rules = problems()
    start = time.perf_counter()
    fast = [feasible_widths(*point, rules).tolist() for point in points]
    vectorised = time.perf_counter() - start
    start = time.perf_counter()
    slow = [plain_loop(*point, rules) for point in points]
    loop = time.perf_counter() - start
    assert fast == slow
    rows.append((f"solver, {sum(map(len, fast)):,} feasible widths of 216 points", vectorised, "budget 0.1 s"))
    rows.append(("the same in a plain Python loop", loop, f"{loop / vectorised:.0f} times the solver"))
    for name, value, remark in rows:
        print(f"{name:60s} {value:9.3f} s   {remark}")


if __name__ == "__main__":
    main()

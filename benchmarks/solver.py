"""How long solving and planning take: ``python benchmarks/solver.py``.

Prints a table: all feasible widths of the 216 points of phase 1 and of Figure 3's region, against a plain Python loop over the
same widths; 10,000 experiments planned and written by the command, cold, against the same command for one experiment; and all
216 runs. Each time is the least of a few repetitions, in CPU seconds (wall for commands too, where nothing else runs).
Absolute times are those of the machine; the ratios say more.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from harness.accounting import count
from harness.architecture import Backbone
from harness.cli import compose
from harness.settings import Settings
from harness.solver import Rules, Targets, feasible_widths, feasible_widths_of, rounded, solve, width_bounds

REPEATS = 5


def main() -> None:
    """Measure and print."""
    settings = Settings(compose("sweep"))
    groups = phase_1(settings)
    vectorised, fast = least(lambda: [all_at_once(backbone, points, settings.rules) for backbone, points in groups])
    single, alone = least(
        lambda: [
            [feasible_widths(backbone, point, settings.rules).tolist() for point in points]
            for backbone, points in groups
        ]
    )
    loop, slow = least(
        lambda: [[plain_loop(backbone, point, settings.rules) for point in points] for backbone, points in groups],
        repeats=1,
    )
    assert fast == slow == alone
    found = sum(len(widths) for group in fast for widths in group)
    print("| what | CPU s | remark |")
    print("|---|---|---|")
    line(f"all {found:,} feasible widths of the 216 points, points and widths at once", vectorised, "budget 0.1 s")
    line("the same, widths at once, a point at a time", single, f"{single / vectorised:.1f} times")
    line("the same, a plain Python loop", loop, f"{loop / vectorised:.0f} times")
    commands()


def commands() -> None:
    """Whole commands, from a cold start to the written sweep."""
    ratios = [f"{name}=[{','.join(f'{low + step * i:g}' for i in range(42))}]" for name, low, step in
              (("m_over_na", 6.5, 0.25), ("n_over_na", 8.0, 0.5))]  # fmt: skip
    big = ["-m", "harness.sweep", "phase=1", "infeasible=skip", *ratios]
    cpu_big, wall_big, runs = command(*big)
    cpu_one, wall_one, _ = command("-m", "harness.sweep", "phase=1", "scale=1e19", "m_over_na=9", "n_over_na=22")
    cpu_all, wall_all, all_runs = command("-m", "harness.sweep", "phase=1", "scale=all")
    cpu_hydra, wall_hydra, _ = command("-c", "import hydra")
    line(f"{runs:,} experiments planned, printed and written", cpu_big, f"wall {wall_big:.2f}, budget 5 s")
    line(
        f"the same, each beyond the first ({1e6 * (cpu_big - cpu_one) / (runs - 1):.0f} microseconds)",
        cpu_big - cpu_one,
        "",
    )
    line(f"phase=1 scale=all ({all_runs} runs)", cpu_all, f"wall {wall_all:.2f}, budget 2 s")
    line("one experiment", cpu_one, f"wall {wall_one:.2f}")
    line(
        "python -c 'import hydra'",
        cpu_hydra,
        f"wall {wall_hydra:.2f}; all 216 runs take {cpu_all / cpu_hydra:.1f} times it",
    )


def line(what: str, seconds: float, remark: str) -> None:
    """A row of the table."""
    print(f"| {what} | {seconds:.3f} | {remark} |", flush=True)


def least[T](task: Callable[[], T], repeats: int = REPEATS) -> tuple[float, T]:
    """Least CPU time of `task`, and what it returns."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = task()
        times.append(time.process_time() - start)
    return min(times), result


def command(*words: str, repeats: int = 3) -> tuple[float, float, int]:
    """Least CPU and wall time of ``python <words>``, and how many runs the sweep has that it wrote."""
    cpu, wall, runs = [], [], 0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as root:
            more = [f"root={root}", "name=it"] if words[0] == "-m" else []
            before, start = os.times(), time.perf_counter()
            subprocess.run([sys.executable, *words, *more], check=True, capture_output=True)
            wall.append(time.perf_counter() - start)
            after = os.times()
            cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
            if more:
                with open(f"{root}/sweeps/it.csv") as file:  # noqa: PTH123
                    runs = sum(1 for _ in file) - 1
    return min(cpu), min(wall), runs


def phase_1(settings: Settings) -> list[tuple[Backbone, list[Targets]]]:
    """The 216 points, by budget."""
    grid = settings.study("grid")
    return [
        (
            backbone,
            [
                Targets.from_ratios(backbone, flops_per_token=scale.grid_flops_per_token, m_over_na=x, n_over_na=y)
                for x in grid["m_over_na"]
                for y in grid["n_over_na"]
            ],
        )
        for scale in settings.scales
        for backbone in [settings.backbone(scale)]
    ]


def all_at_once(backbone: Backbone, points: list[Targets], rules: Rules) -> list[list[int]]:
    """The feasible widths of all points of a budget."""
    widths, ends = feasible_widths_of(backbone, Targets.stack(points), rules)
    return [part.tolist() for part in np.split(widths, ends[1:-1])]


def plain_loop(backbone: Backbone, targets: Targets, rules: Rules) -> list[int]:
    """The feasible widths of one point, one at a time."""
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


if __name__ == "__main__":
    main()

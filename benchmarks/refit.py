"""How long it takes to refit the paper's whole programme: ``python benchmarks/refit.py [resamples]``.

All studies of the paper are planned, their losses come from the truth `holistic` (nothing is trained), and the table is refitted
as `analysis.refit` does: every law, its variants, figures, report. Budget: 60 s on two cores that nobody else uses; processor
time of the one process, which others do not touch, is printed too.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from analysis.figures import draw_figures
from analysis.laws import FitOptions, fit_laws, write_laws
from analysis.report import report_page, write_report
from tests.analysis.programme import programme

BUDGET = 60.0
"""Seconds for everything."""


def timed[T](what: str, work: Callable[[], T]) -> T:
    """Do `work` and print what it took."""
    wall, cpu = time.perf_counter(), _cpu()
    done = work()
    print(f"{what:<34}{time.perf_counter() - wall:>9.2f} s{_cpu() - cpu:>9.2f} CPU-s")
    return done


def _cpu() -> float:
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


def main() -> None:
    """Print the table."""
    resamples = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    table, _, _ = timed("plan and price", programme)
    start = time.perf_counter()
    print(f"{len(table)} runs (SIMULATED), {resamples:,} resamples")
    laws = timed("laws and their variants", lambda: fit_laws(table, FitOptions(resamples=resamples)))
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        timed("laws.json", lambda: write_laws(root / "laws.json", laws))
        figures = timed("figures", lambda: draw_figures(table, laws, root))
        timed("report.html", lambda: write_report(root / "report.html", report_page(table, laws, figures, ["s"])))
    total = time.perf_counter() - start
    print(f"{'refit':<34}{total:>9.2f} s, {total / BUDGET:.0%} of the budget of {BUDGET:.0f} s")


if __name__ == "__main__":
    main()

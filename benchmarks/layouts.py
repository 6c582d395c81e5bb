"""How long layouts, estimates and measurements take: ``python benchmarks/layouts.py``.

Prints a table for 10,000 experiments, no two architectures alike: the search for a layout and the estimate, against computing
the run ids alone (the least that planning must do); and reading the results of 10,000 finished runs, at first and from the cache.
"""

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from harness.cli import compose
from harness.experiment import Experiment
from harness.layouts import _search
from harness.measured import read_measurements, save_measurements
from harness.resources import estimate, layout
from harness.settings import named_cluster
from harness.sweep import plan

COUNT = 10_000


def experiments() -> list[Experiment]:
    """Those of phase 1 over all budgets, each with experts of other widths until there are enough."""
    rows = plan(compose("sweep", ["phase=1"])).rows
    found = []
    for number in range(COUNT):
        experiment = rows[number % len(rows)].point.experiment
        architecture = experiment.architecture
        narrower = max(8, architecture.moe_ffn_hidden_size - 2 * (number // len(rows)))
        found.append(replace(experiment, architecture=replace(architecture, moe_ffn_hidden_size=narrower)))
    return found


def write_results(root: Path, all_experiments: list[Experiment]) -> None:
    """A result.json for each."""
    for number, experiment in enumerate(all_experiments):
        directory = root / "runs" / f"{number:012x}"
        directory.mkdir(parents=True)
        result = {
            "run_id": directory.name, "simulated": False, "device": "NVIDIA H100 80GB HBM3", "precision": "bf16",
            "recompute": "none", "tokens": 1, "megatron_flops": experiment.counts.megatron_flops_per_token,
            "tflops_per_gpu": 200.0,
        }  # fmt: skip
        (directory / "result.json").write_text(json.dumps(result, indent=2))


def main() -> None:
    """Measure and print."""
    cluster = named_cluster("h100")
    all_experiments = experiments()
    _search.cache_clear()
    rows = []

    def timed(name: str, work) -> object:
        start = time.perf_counter()
        value = work()
        rows.append((name, time.perf_counter() - start))
        return value

    timed("run ids", lambda: [experiment.run_id for experiment in all_experiments])
    layouts = timed("layouts, no two architectures alike", lambda: [layout(e, cluster) for e in all_experiments])
    timed("layouts again, as for further seeds", lambda: [layout(e, cluster) for e in all_experiments])
    counts = timed("parameters and FLOPs", lambda: [e.counts for e in all_experiments])
    jobs = list(zip(all_experiments, counts, layouts, strict=True))
    timed("estimates with memory by part", lambda: [estimate(*job, cluster) for job in jobs])
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        write_results(root, all_experiments)
        measured = timed("reading 10,000 results", lambda: read_measurements(root))
        timed("writing their cache", lambda: save_measurements(root, measured))
        measured = timed("reading them from the cache", lambda: read_measurements(root))
        timed("estimates from measurements", lambda: [estimate(*job, cluster, measured) for job in jobs])
    for name, seconds in rows:
        print(f"{name:40s} {seconds:8.3f} s   {seconds / rows[0][1]:6.2f} times the run ids")


if __name__ == "__main__":
    main()

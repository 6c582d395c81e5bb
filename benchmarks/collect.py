"""How long it takes to collect 10,000 runs, first and again: ``python benchmarks/collect.py [runs]``.

The root is generated: phase 1 planned for the paper's backbone with as many seeds as make at least so many runs; of these 90% are
done, 5% run, 3% failed, 2% are not begun. Each has the files of a trained one (status, result, experiment). Budget: 10 s for the
first collection, on two cores that nobody else uses; processor time, which others do not touch, is printed too. Files lie in the
system's cache.
"""

import csv
import json
import math
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from analysis.collect import CACHE, collect, write_losses
from harness.cli import compose
from harness.plan import plan
from harness.sweepfile import load_sweep
from harness.sweepwrite import write

REPEATS = 3

POINTS = 216
"""Of phase 1 at all scales."""

CHANGED = 100
"""Runs that change before the collection called "100 changed"."""


def generate(root: Path, count: int) -> list[str]:
    """A sweep ``many`` of `count` runs or a few more under `root`; the ids of those that are done."""
    options = [
        "phase=1",
        f"root={root}",
        "name=many",
        "studies.grid.repeat_at=all",
        f"seeds={math.ceil(count / POINTS)}",
    ]
    write(plan(compose("sweep", options)))
    with (root / "sweeps" / "many.csv").open(newline="") as file:
        many = list(csv.DictReader(file))
    experiments = {one.run_id: one.canonical() for one in load_sweep(root, "many").experiments}
    done = []
    for number, row in enumerate(many):
        kind = number % 100
        if kind >= 98:
            continue
        state = "done" if kind < 90 else "running" if kind < 95 else "failed"
        directory = root / "runs" / row["run_id"]
        directory.mkdir(parents=True)
        attempt = {
            "number": 1,
            "host": "h",
            "pid": 1,
            "command": "x" * 3000,
            "started": "2026-01-01T00:00:00+00:00",
            "message": None,
        }
        status = {"run_id": row["run_id"], "state": state, "attempts": [attempt], "schema": 1}
        (directory / "status.json").write_text(json.dumps(status, indent=2))
        (directory / "experiment.json").write_text(json.dumps(experiments[row["run_id"]], indent=2))
        if state == "done":
            done.append(row["run_id"])
            write_result(root, row, 2.5 + number / len(many))
    return done


def write_result(root: Path, row: dict[str, str], loss: float) -> None:
    """result.json of a run that is done."""
    tokens = int(row["tokens"])
    result = {
        "schema": 1, "final_validation_loss": loss, "final_training_loss": loss, "tokens": tokens,
        "realised_compute": float(row["flops_per_token"]) * tokens, "wall_seconds": 3600.0, "mfu": 0.4,
        "megatron_flops": float(row["megatron_flops_per_token"]) * tokens, "tokens_per_second": 1e6,
        "versions": {"megatron-core": "0.19.2", "torch": "2.6"}, "simulated": False,
    }  # fmt: skip
    (root / "runs" / row["run_id"] / "result.json").write_text(json.dumps(result, indent=2))


def main() -> None:
    """Generate, time, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        done = generate(root, count)

        def change() -> None:
            for run_id in done[:CHANGED]:
                path = root / "runs" / run_id / "result.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_seconds": time.perf_counter()}))

        cases: list[tuple[str, Callable[[], object]]] = [
            ("first", lambda: (root / CACHE).unlink(missing_ok=True)),
            ("nothing changed", lambda: None),
            (f"{CHANGED} changed", change),
        ]
        print(f"{count:,} runs, best of {REPEATS}\n{'collection':<18}{'wall, s':>9}{'processor, s':>14}")
        for what, prepare in cases:
            walls, processor = [], []
            for _ in range(REPEATS):
                prepare()
                start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
                table = collect(root, ["many"])
                walls.append(time.perf_counter() - start)
                after = resource.getrusage(resource.RUSAGE_SELF)
                processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            print(f"{what:<18}{min(walls):9.2f}{min(processor):14.2f}")
        start = time.perf_counter()
        written = write_losses(table, root)
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in [*written, root / CACHE])
        print(f"{'writing both':<18}{time.perf_counter() - start:9.2f}")
        print(f"{len(table):,} rows, {table.left_out.isna().sum():,} usable; {sizes}")


if __name__ == "__main__":
    main()

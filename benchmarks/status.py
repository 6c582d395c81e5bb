"""How long ``launch.status`` takes for 10,000 runs, from the start of the process: ``python benchmarks/status.py [runs]``.

The root is generated: a real sweep's table, its rows repeated under other run ids; of the runs 80% are done, 10% not begun, 5%
running under a live lease, 3% failed, 2% lost. Budget: 2 s, on two cores that nobody else uses; the processor time, which others
do not touch, is printed too.
"""

import csv
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.cli import compose
from harness.lease import Lease
from harness.plan import plan
from harness.sweepfile import table_text
from harness.sweepwrite import write

REPEATS = 3


def generate(root: Path, count: int) -> None:
    """A sweep ``many`` of `count` runs under `root`."""
    write(plan(compose("sweep", ["phase=1", f"root={root}", "name=one"])))
    with (root / "sweeps" / "one.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    many = [rows[number % len(rows)] | {"run_id": f"{number:012x}"} for number in range(count)]
    for path in (root / "sweeps").iterdir():
        path.unlink()
    (root / "sweeps" / "many.csv").write_text(table_text(many))
    for number, row in enumerate(many):
        kind = number % 100
        if kind < 80:
            put(root, row, "done", "done")
        elif kind < 85:
            put(root, row, "running", None, alive=True)
        elif kind < 88:
            put(root, row, "failed", "crash")
        elif kind < 90:
            put(root, row, "running", None)


def put(root: Path, row: dict[str, str], state: str, end: str | None, *, alive: bool = False) -> None:
    """The directory of one run."""
    directory = root / "runs" / row["run_id"]
    (directory / "logs").mkdir(parents=True)
    attempt = {
        "number": 1, "host": socket.gethostname(), "pid": os.getpid(), "command": "x" * 3000, "job_id": "1_2",
        "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T05:00:00+00:00" if end else None, "end": end,
        "first_step": 0, "last_step": 500, "exit_code": 0, "message": None if end != "crash" else "CUDA out of memory",
    }  # fmt: skip
    status = {"run_id": row["run_id"], "state": state, "attempts": [attempt], "schema": 1}
    (directory / "status.json").write_text(json.dumps(status, indent=2))
    metrics = {"step": 500, "lm_loss": 3.2, "tokens_per_s": 50000.0}
    (directory / "metrics.jsonl").write_text(f"{json.dumps(metrics)}\n" * 100)
    (directory / "logs" / "1.log").write_text("Traceback\nOutOfMemoryError: CUDA out of memory\n")
    if state == "done":
        (directory / "result.json").write_text(json.dumps({"final_validation_loss": 3.1, "simulated": False}))
    if alive:
        Lease(directory)._claim()  # as a process that lives on holds it: this one


def main() -> None:
    """Generate, time, print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        generate(root, count)
        for more in ([], ["--json"], ["--all"]):
            times, processor = [], []
            for _ in range(REPEATS):
                start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
                words = [sys.executable, "-m", "launch.status", f"root={root}", *more]
                done = subprocess.run(words, capture_output=True, text=True, check=True)
                times.append(time.perf_counter() - start)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            what = " ".join(more) or "table"
            print(
                f"{count:,} runs, {what}: {min(times):.2f} s, of the processor {min(processor):.2f} s (best of {REPEATS})"
            )
            if not more:
                print(done.stdout.splitlines()[0])


if __name__ == "__main__":
    main()

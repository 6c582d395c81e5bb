"""What a finished run leaves: result.json, from what Megatron itself counted."""

import contextlib
import math
import platform
import statistics
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from harness.files import write_json
from harness.megatron.branching import Branching
from harness.megatron.divergence import find_spikes
from harness.megatron.metrics import MetricsWriter, smoothed_final_loss
from harness.megatron.options import Program
from harness.megatron.throughput import throughput
from harness.rundir import RunDirectory

SCHEMA = 1
PACKAGES = ("megatron-core", "torch", "transformer-engine", "numpy", "moe-scaling-harness")


def write_result(
    run: RunDirectory, metrics: MetricsWriter, program: Program, shared: Branching | None = None
) -> dict[str, Any]:
    """Write result.json for a run whose training and validation came to their end, and return its contents.

    Losses are in nats a token; ``realised_compute`` is M D of the realised architecture, ``megatron_flops`` what
    Megatron's own function counts (with the output layer). Of a branch (`shared`) all of these are those of the whole run, its
    trunk's part included; ``first_step``, ``steps_trained`` and ``megatron_flops_spent`` are its own, as are its times.
    Losses are judged over both parts: a branch begins low, and that it does not fall far below that is no divergence.
    """
    from megatron.training import get_args
    from megatron.training.training import num_floating_point_operations

    args = get_args()
    rows, shared = run.metrics(), shared or Branching()
    whole = [*shared.earlier_rows(), *rows]
    steps = rows[-1]["step"] if rows else 0
    tokens = steps * args.global_batch_size * args.seq_length
    flops = float(num_floating_point_operations(args, args.global_batch_size)) * steps
    tokens_per_second = statistics.median(row["tokens_per_s"] for row in rows) if rows else None
    experiment = run.experiment() if (run.path / "experiment.json").exists() else None
    loss = metrics.validation_loss
    result = {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "final_validation_loss": loss if loss is not None and math.isfinite(loss) else None,
        "final_training_loss": smoothed_final_loss(whole),
        "first_training_loss": whole[0]["lm_loss"] if whole and whole[0]["step"] == 1 else None,
        "spikes": [asdict(s) for s in find_spikes(whole, nats=program.spike_nats, steps=program.spike_steps)],
        "steps": steps,
        "tokens": tokens,
        "realised_compute": experiment.counts.flops_per_token * tokens if experiment else None,
        "megatron_flops": flops,
        "trunk": shared.trunk.run_id if shared.trunk else None,
        "first_step": shared.branch_point,
        "steps_trained": steps - shared.branch_point,
        "megatron_flops_spent": flops * (steps - shared.branch_point) / steps if steps else 0.0,
        "wall_seconds": run.status().wall_seconds(),
        "tokens_per_second": tokens_per_second,
        **throughput(args, flops / tokens if tokens else None, tokens_per_second),
        "versions": _versions(),
        "simulated": False,
    }
    write_json(run.path / "result.json", result)
    return result


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions

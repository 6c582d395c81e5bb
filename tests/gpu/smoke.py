"""One small model of the paper's kind (288 experts, 8 chosen, 1 shared) trained, stopped, resumed and judged on one device.

The same program on a GPU (bf16, sequence 1024, Transformer Engine where it imports) and on a CPU (fp32, smaller).
"""

import dataclasses
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.architecture import Architecture, Backbone
from harness.experiment import Data, Experiment
from harness.megatron.argv import Paths, command, megatron_argv
from harness.megatron.options import JobOptions, Kernels
from harness.resources import Layout, estimate, layout
from harness.rundir import RunDirectory
from harness.settings import named_cluster
from tests import conftest


@dataclass(frozen=True, kw_only=True)
class Smoke:
    """What to train, and on what."""

    experiment: Experiment
    layout: Layout
    options: JobOptions
    cluster: str
    stop_at: int


def on_gpu(data: Data, kernels: Kernels) -> Smoke:
    backbone = Backbone(num_query_heads=8, num_kv_heads=4, head_dim=64, seq_length=1024, vocab_size=257)
    architecture = Architecture(
        hidden_size=512, num_dense_layers=1, num_moe_layers=3, ffn_hidden_size=1536, moe_ffn_hidden_size=128
    )
    experiment = dataclasses.replace(
        conftest.tiny_experiment(data, train_iters=100, global_batch_size=16, learning_rate=1e-3, min_learning_rate=1e-5,
                                 warmup_iters=10, decay_iters=20, init_std=0.02, precision="bf16"),
        backbone=backbone, architecture=architecture,
    )  # fmt: skip
    one = dataclasses.replace(layout(experiment, named_cluster("h100")), micro_batch_size=4, eval_micro_batch_size=4)
    return Smoke(experiment=experiment, layout=one, options=JobOptions(kernels=kernels), cluster="h100", stop_at=60)


def on_cpu(data: Data) -> Smoke:
    backbone = Backbone(num_query_heads=2, num_kv_heads=1, head_dim=16, seq_length=64, vocab_size=257, vocab_divisor=8)
    architecture = Architecture(
        hidden_size=32, num_dense_layers=1, num_moe_layers=1, ffn_hidden_size=96, moe_ffn_hidden_size=8
    )
    experiment = dataclasses.replace(
        conftest.tiny_experiment(data, train_iters=20, validation_sequences=16),
        backbone=backbone,
        architecture=architecture,
    )
    one = layout(experiment, named_cluster("cpu"))
    return Smoke(experiment=experiment, layout=one, options=JobOptions(), cluster="cpu", stop_at=12)


def train(smoke: Smoke, root: Path, data: Path) -> tuple[RunDirectory, str]:
    """Train until told to stop, resume to the end; the run and both console logs.

    Raises:
        AssertionError: a start did not end as it should, or the second did not go on where the first stopped.
    """
    run = RunDirectory(root, smoke.experiment.run_id)
    paths = Paths(run=run.path, data=data)
    run.create(smoke.experiment, command(smoke.experiment, smoke.layout, paths, smoke.options))
    flags = megatron_argv(smoke.experiment, smoke.layout, paths, smoke.options)
    words = ["-m", "harness.megatron.pretrain", "--run-dir", str(run.path), *flags, "--log-interval", "10"]
    first = conftest.command(*words, "--exit-interval", str(smoke.stop_at), timeout=1200)
    assert first.returncode == 75, first.stdout[-2000:] + first.stderr[-3000:]
    second = conftest.command(*words, timeout=1200)
    assert second.returncode == 0, second.stdout[-2000:] + second.stderr[-3000:]
    assert run.status().attempts[-1].first_step == smoke.stop_at
    return run, first.stdout + second.stdout


def losses_fall(run: RunDirectory, smoke: Smoke) -> None:
    """Also over the stop, where a resume that lost its optimizer or its place in the data would show."""
    rows = run.metrics()
    assert [row["step"] for row in rows] == list(range(1, smoke.experiment.training.train_iters + 1))
    first, last = rows[0]["lm_loss"], rows[-1]["lm_loss"]
    assert last < 0.8 * first, (first, last)
    before, after = rows[smoke.stop_at - 1]["lm_loss"], rows[smoke.stop_at]["lm_loss"]
    assert abs(after - before) < 0.1 * (first - last), (before, after)
    assert run.result() is not None


def report(run: RunDirectory, smoke: Smoke, log: str) -> str:
    """MFU, time and memory, measured beside what was predicted."""
    result: dict[str, Any] = run.result() or {}
    counts, cluster = smoke.experiment.counts, named_cluster(smoke.cluster)
    expected = estimate(smoke.experiment, counts, smoke.layout, cluster)
    measured = [float(found) for found in re.findall(r"max allocated: ([\d.]+)", log)]
    kernels = (
        "Transformer Engine" if smoke.options.transformer_engine and smoke.layout.gpus else "Megatron's local layers"
    )
    mfu = result.get("mfu")
    return "\n".join(
        [
            f"smoke run {run.run_id} on {_device()}, {kernels}: {counts.megatron_params / 1e6:.1f}M parameters",
            f"  loss       {result['first_training_loss']:.3f} -> {result['final_training_loss']:.3f}, "
            f"validation {result['final_validation_loss']:.3f}",
            f"  MFU        {'not defined here' if mfu is None else f'{mfu:.2%}'} (assumed for planning: {cluster.mfu:.0%})",
            f"  tokens/s   {result['tokens_per_second']:.4g}, a run of {expected.seconds:.0f} s predicted, "
            f"{result['wall_seconds']:.0f} s measured",
            f"  memory     {f'{max(measured) / 1e3:.2f} GB at most' if measured and smoke.layout.gpus else 'not counted here'} "
            f"({f'{expected.memory.total / 1e9:.2g} GB' if expected.memory else 'nothing'} predicted)",
        ]
    )


def _device() -> str:
    if not has_gpu():
        return "a CPU"
    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def has_gpu() -> bool:
    from launch.machine import visible_gpus

    return bool(visible_gpus())

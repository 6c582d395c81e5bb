"""What a run takes of a cluster: its layout and memory, for how long, and what that costs.

    layout(experiment, cluster)                           which GPUs, and how they share the work
    estimate(experiment, counts, run_layout, cluster)     GPU-hours, wall time, memory by part, money, disk

An estimate rests on what like runs were measured to reach (`harness.measured`), or else on an assumed utilisation.
"""

from dataclasses import dataclass

from harness.accounting import Counts
from harness.cluster import Cluster, Layout, LayoutChoice
from harness.experiment import Experiment
from harness.layouts import smallest_layout
from harness.measured import Achieved, Measurements
from harness.memory import Memory, checkpoint_bytes, memory

__all__ = ["Cluster", "Estimate", "Layout", "LayoutChoice", "Memory", "estimate", "layout"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take."""

    gpu_hours: float
    """GPU-hours, or core-hours on a machine without GPUs."""
    seconds: float
    """Wall time."""
    memory: Memory | None
    """Bytes a GPU, by part; None on a machine without GPUs."""
    cost: float | None
    """GPU-hours times the cluster's price; None where it has none."""
    checkpoint_bytes: float
    """One checkpoint with the optimizer, of a trunk one a branch point. While the next one is saved there is one more."""
    measured_on: int
    """Finished runs whose throughput it rests on; 0: on the cluster's assumed utilisation."""


def layout(experiment: Experiment, cluster: Cluster) -> Layout:
    """The smallest layout that fits and keeps the batch (`harness.layouts`); on a CPU one process.

    Raises:
        ConfigError: none fits, or a number that the user decided does not divide.
    """
    if cluster.gpus_per_node:
        return smallest_layout(experiment, cluster)
    training = experiment.training
    return Layout(
        gpus=0,
        gpus_per_node=0,
        tensor_parallel=1,
        pipeline_parallel=1,
        expert_parallel=1,
        micro_batch_size=training.global_batch_size,
        eval_micro_batch_size=next(
            size
            for size in range(min(64, training.validation_sequences), 0, -1)
            if training.validation_sequences % size == 0
        ),
    )


def estimate(
    experiment: Experiment, counts: Counts, run_layout: Layout, cluster: Cluster, measured: Measurements | None = None
) -> Estimate:
    """Time, memory, money and disk of a run, logits included (Megatron's own FLOP count); of a branch those of its decay.

    `measured`: what finished runs reached; the like ones take the place of `Cluster.mfu`.
    """
    training, devices = experiment.training, max(1, run_layout.gpus)
    achieved = measured and measured.like(
        gpu=cluster.gpu,
        precision=training.precision,
        recompute=run_layout.recompute,
        flops_per_token=counts.megatron_flops_per_token,
    )
    seconds = _training_seconds(experiment, counts, run_layout, cluster, achieved or None) + cluster.seconds_per_run
    hours = devices * seconds / 3600
    return Estimate(
        gpu_hours=hours,
        seconds=seconds,
        memory=(
            memory(
                experiment.backbone,
                experiment.architecture,
                training.precision,
                run_layout.parallel(training.global_batch_size, cluster.expert_imbalance, cluster.transformer_engine),
            )
            if run_layout.gpus
            else None
        ),
        cost=None if cluster.price_per_gpu_hour is None else hours * cluster.price_per_gpu_hour,
        checkpoint_bytes=checkpoint_bytes(counts.megatron_params, training.precision)
        * max(1, len(training.kept_steps)),
        measured_on=achieved.runs if achieved else 0,
    )


def _training_seconds(
    experiment: Experiment, counts: Counts, run_layout: Layout, cluster: Cluster, achieved: Achieved | None
) -> float:
    """Seconds of all steps. What was measured contains the cost of dispatch, recomputation and pipeline bubble already."""
    flops = counts.megatron_flops_per_token * experiment.own_tokens / max(1, run_layout.gpus)
    if achieved is not None:
        return flops / achieved.flops
    # the forward pass is a third of the FLOPs; Megatron's count does not contain what is computed again
    again = {"moe": counts.r_moe * counts.flops_per_token / counts.megatron_flops_per_token, "full": 1.0}
    work = 1 + again.get(run_layout.recompute, 0.0) / 3
    stages = run_layout.pipeline_parallel
    micro_batches = experiment.training.global_batch_size // (run_layout.data_parallel * run_layout.micro_batch_size)
    bubble = 1 + (stages - 1) / max(1, micro_batches)
    dispatch = experiment.training.own_iters * experiment.architecture.num_layers * cluster.seconds_per_layer_step
    return work * bubble * flops / (cluster.peak_flops * cluster.mfu) + dispatch

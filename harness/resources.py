"""What a run takes of a cluster: how many GPUs, how they share the work, and for how long.

An estimate before anything ran, from memory for weights and optimizer and an assumed model FLOPs utilisation.
"""

from dataclasses import dataclass

from harness.accounting import Counts
from harness.errors import ConfigError
from harness.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A kind of machine, from ``configs/cluster/``."""

    name: str
    gpus_per_node: int
    """0: a machine without GPUs."""
    gpu_memory: float
    """Bytes a GPU."""
    peak_flops: float
    """FLOP/s a GPU (a core, on a machine without GPUs), dense, at the precision of training."""
    mfu: float
    """Assumed share of the peak that training reaches, in `megatron_flops_per_token`."""
    max_gpus: int
    """Most GPUs that one run may take."""
    seconds_per_run: float
    """Start-up, validation and final checkpoint."""
    seconds_per_layer_step: float
    """Time that a layer costs in every step whatever its size: dispatch of kernels, which bounds tiny models."""

    def __post_init__(self) -> None:
        if not self.peak_flops > 0 or not 0 < self.mfu <= 1:
            raise ConfigError(
                f"cluster.peak_flops={self.peak_flops:g}, cluster.mfu={self.mfu:g}: the peak must be above 0, and the share "
                "of it that training reaches between 0 and 1"
            )
        for name in ("gpus_per_node", "gpu_memory", "max_gpus", "seconds_per_run", "seconds_per_layer_step"):
            if getattr(self, name) < 0:
                raise ConfigError(f"cluster.{name}={getattr(self, name)}: it must not be negative")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one run is spread over GPUs. `gpus` = 0 is one process on a CPU."""

    gpus: int
    gpus_per_node: int
    tensor_parallel: int
    pipeline_parallel: int
    expert_parallel: int
    micro_batch_size: int
    """Sequences a forward pass, in training."""
    eval_micro_batch_size: int
    """Sequences a forward pass, in validation."""

    @property
    def nodes(self) -> int:
        """Nodes, 1 on a CPU."""
        return max(1, -(-self.gpus // max(1, self.gpus_per_node)))

    @property
    def data_parallel(self) -> int:
        """Ranks that see different sequences."""
        return max(1, self.gpus) // (self.tensor_parallel * self.pipeline_parallel)

    @property
    def eval_batch_size(self) -> int:
        """Sequences of one validation step."""
        return self.eval_micro_batch_size * self.data_parallel


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take."""

    gpu_hours: float
    """GPU-hours, or core-hours on a machine without GPUs."""
    seconds: float
    """Wall time."""


BYTES_PER_PARAMETER = 2 + 4 + 12
"""bf16 weight, fp32 gradient, and fp32 master weight with two Adam moments, all sharded over the run's GPUs."""

STATE_SHARE = 0.6
"""Share of a GPU's memory that weights, gradients and optimizer may take; the rest is for activations."""


def layout(experiment: Experiment, cluster: Cluster) -> Layout:
    """The smallest layout whose weights, gradients and optimizer state fit, with experts spread over a node.

    Raises:
        ConfigError: none up to `cluster.max_gpus` fits or divides the batch.
    """
    training = experiment.training
    if cluster.gpus_per_node == 0:
        return Layout(
            gpus=0,
            gpus_per_node=0,
            tensor_parallel=1,
            pipeline_parallel=1,
            expert_parallel=1,
            micro_batch_size=training.global_batch_size,
            eval_micro_batch_size=_divisor(training.validation_sequences, 64),
        )
    state = BYTES_PER_PARAMETER * experiment.counts.megatron_params
    gpus = 1
    while gpus <= cluster.max_gpus:
        fits = state / gpus <= STATE_SHARE * cluster.gpu_memory
        divides = training.global_batch_size % gpus == 0 and training.validation_sequences % gpus == 0
        expert_parallel = _divisor(experiment.backbone.num_experts, min(gpus, cluster.gpus_per_node))
        if fits and divides and gpus % expert_parallel == 0:
            return Layout(
                gpus=gpus,
                gpus_per_node=min(gpus, cluster.gpus_per_node),
                tensor_parallel=1,
                pipeline_parallel=1,
                expert_parallel=expert_parallel,
                micro_batch_size=1,
                eval_micro_batch_size=1,
            )
        gpus *= 2
    raise ConfigError(
        f"run {experiment.run_id} needs {state / 1e9:.0f} GB for weights, gradients and optimizer: no power of two up to "
        f"cluster.max_gpus={cluster.max_gpus} GPUs of {cluster.gpu_memory / 1e9:.0f} GB holds it and divides the batch of "
        f"{training.global_batch_size}"
    )


def estimate(experiment: Experiment, counts: Counts, run_layout: Layout, cluster: Cluster) -> Estimate:
    """Time of the run at the cluster's assumed utilisation, logits included (Megatron's own FLOP count)."""
    devices = max(1, run_layout.gpus)
    flops = counts.megatron_flops_per_token * experiment.tokens
    seconds = flops / (devices * cluster.peak_flops * cluster.mfu) + cluster.seconds_per_run
    seconds += experiment.training.train_iters * experiment.architecture.num_layers * cluster.seconds_per_layer_step
    return Estimate(gpu_hours=devices * seconds / 3600, seconds=seconds)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`."""
    return next(divisor for divisor in range(min(most, number), 0, -1) if number % divisor == 0)

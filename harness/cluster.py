"""A described cluster, and a `Layout`: how one run is spread over its GPUs."""

from dataclasses import dataclass, field, fields

from harness.errors import ConfigError, nearest
from harness.memory import RECOMPUTE, Parallel


@dataclass(frozen=True, kw_only=True)
class LayoutChoice:
    """What of the layout the user decides (``cluster.layout``); null is searched for."""

    gpus: int | None = None
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    expert_parallel: int | None = None
    micro_batch_size: int | None = None
    """Sequences a forward pass."""
    recompute: str | None = None
    """One of `harness.memory.RECOMPUTE`."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name != "recompute" and value is not None and value < 1:
                raise ConfigError(
                    f"cluster.layout.{entry.name}={value}: it must be at least 1, or null to be searched for"
                )
        if self.recompute is not None and self.recompute not in RECOMPUTE:
            raise ConfigError(
                f"cluster.layout.recompute={self.recompute}: it must be {', '.join(RECOMPUTE)}, or null to be searched "
                f"for{nearest(self.recompute, RECOMPUTE)}"
            )

    def given(self) -> dict[str, int | str]:
        """What is decided, by name."""
        return {entry.name: value for entry in fields(self) if (value := getattr(self, entry.name)) is not None}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A kind of machine, from ``configs/cluster/``."""

    name: str
    gpu: str = ""
    """Type of the GPU, as a part of the name that its driver gives; measured runs are matched by it. ``cpu`` without GPUs."""
    gpus_per_node: int
    """0: a machine without GPUs."""
    nodes: int | None = None
    """Nodes that there are; null: as many as `max_gpus` needs."""
    gpu_memory: float
    """Bytes a GPU."""
    headroom: float = 0.1
    """Share of `gpu_memory` that a layout leaves free: CUDA context, NCCL and cuBLAS workspaces, fragmentation."""
    peak_flops: float
    """FLOP/s a GPU (a core, on a machine without GPUs), dense, at the precision of training."""
    mfu: float
    """Assumed share of the peak that training reaches, in `megatron_flops_per_token`; measured runs take its place."""
    max_gpus: int
    """Most GPUs that one run may take."""
    micro_batch_tokens: int = 8192
    """Most tokens of a forward pass. The auxiliary loss balances each micro-batch by itself, so the runs of a study should
    have the same."""
    expert_imbalance: float = 1.25
    """Tokens that the busiest expert-parallel rank receives, over the mean: memory is planned for it."""
    price_per_gpu_hour: float | None = None
    """In any currency; null: no money in the bill."""
    seconds_per_run: float
    """Start-up, validation and final checkpoint."""
    seconds_per_layer_step: float
    """Time that a layer costs in every step whatever its size: dispatch of kernels, which bounds tiny models."""
    layout: LayoutChoice = field(default_factory=LayoutChoice)
    """What of the layout is decided."""
    transformer_engine: bool = True
    """Whether jobs use it (``megatron.transformer_impl``): without it the optimizer is not sharded, and the grouped GEMM whose
    activations ``selective`` recomputes is not there."""

    def __post_init__(self) -> None:
        if not self.peak_flops > 0 or not 0 < self.mfu <= 1:
            raise ConfigError(
                f"cluster.peak_flops={self.peak_flops:g}, cluster.mfu={self.mfu:g}: the peak must be above 0, and the share "
                "of it that training reaches between 0 and 1"
            )
        for name in ("gpus_per_node", "gpu_memory", "max_gpus", "seconds_per_run", "seconds_per_layer_step"):
            if getattr(self, name) < 0:
                raise ConfigError(f"cluster.{name}={getattr(self, name)}: it must not be negative")
        if not 0 <= self.headroom < 1:
            raise ConfigError(
                f"cluster.headroom={self.headroom:g}: a share of the memory, at least 0 and below 1, is wanted"
            )
        if self.price_per_gpu_hour is not None and self.price_per_gpu_hour < 0:
            raise ConfigError(f"cluster.price_per_gpu_hour={self.price_per_gpu_hour:g}: it must not be negative")
        if self.gpus_per_node == 0:
            if given := self.layout.given():
                name, value = next(iter(given.items()))
                raise ConfigError(f"cluster.layout.{name}={value}: cluster {self.name} has no GPUs to lay a run out on")
            return
        if self.gpu_memory == 0 or self.max_gpus == 0 or (self.nodes is not None and self.nodes < 1):
            raise ConfigError(
                f"cluster.gpu_memory={self.gpu_memory:g}, cluster.max_gpus={self.max_gpus}, cluster.nodes={self.nodes}: each "
                "must be above 0 on a cluster with GPUs"
            )
        if self.micro_batch_tokens < 1 or self.expert_imbalance < 1:
            raise ConfigError(
                f"cluster.micro_batch_tokens={self.micro_batch_tokens}, cluster.expert_imbalance={self.expert_imbalance:g}: "
                "both must be at least 1"
            )

    def can_recompute(self, level: str) -> bool:
        """Whether jobs can recompute so (`harness.megatron.parallel.RECOMPUTE`)."""
        return self.transformer_engine or level != "selective"

    @property
    def usable_memory(self) -> float:
        """Bytes a GPU that a layout may fill."""
        return self.gpu_memory * (1 - self.headroom)

    @property
    def gpu_counts(self) -> tuple[int, ...]:
        """Numbers of GPUs that a run can take: any within a node, then whole nodes."""
        most = self.max_gpus if self.nodes is None else min(self.max_gpus, self.nodes * self.gpus_per_node)
        within = range(1, min(self.gpus_per_node, most) + 1)
        return (*within, *range(2 * self.gpus_per_node, most + 1, self.gpus_per_node))


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
    recompute: str = "none"
    """What the backward pass computes again, one of `harness.memory.RECOMPUTE`."""

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

    def parallel(self, global_batch_size: int, expert_imbalance: float, sharded_optimizer: bool = True) -> Parallel:
        """What memory depends on, for a batch of `global_batch_size` sequences."""
        return Parallel(
            data_parallel=self.data_parallel,
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            expert_parallel=self.expert_parallel,
            micro_batch_size=self.micro_batch_size,
            recompute=self.recompute,
            micro_batches=max(1, global_batch_size // (self.data_parallel * self.micro_batch_size)),
            expert_imbalance=expert_imbalance,
            sharded_optimizer=sharded_optimizer,
        )

    def __str__(self) -> str:
        """``8 GPUs: DP 8, EP 8, micro-batch 1``, with what is not the plain case."""
        if self.gpus == 0:
            return "one process on a CPU"
        parts = [f"DP {self.data_parallel}"]
        parts += [
            f"{name} {value}"
            for name, value in (
                ("EP", self.expert_parallel),
                ("TP", self.tensor_parallel),
                ("PP", self.pipeline_parallel),
            )
            if value > 1
        ]
        parts.append(f"micro-batch {self.micro_batch_size}")
        if self.recompute != "none":
            parts.append(f"recompute {self.recompute}")
        return f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}: {', '.join(parts)}"

"""What a user may choose about a run's job without changing its experiment: Megatron's device options, logs, checkpoints.

`MegatronOptions` and `LoggingOptions` are ``configs/megatron/`` and ``configs/logging/``; `Program` is what the training program
takes besides Megatron's flags; `JobOptions` is all of it together.
"""

from dataclasses import dataclass, field

from harness.errors import ConfigError, nearest
from harness.megatron.flags import ExtraFlags, read_extra
from harness.simulated.options import Simulation

KEEP = ("none", "last", "all")
"""What is left of a run's checkpoints when it is done."""

CHOICES = {
    "dispatcher": ("alltoall", "deepep", "hybridep", "allgather"),
    "attention_backend": ("auto", "flash", "fused", "unfused"),
    "transformer_impl": ("auto", "transformer_engine", "local"),
    "rerun_mode": ("disabled", "validate_results", "report_stats"),
    "mode": ("offline", "online", "disabled"),
    "keep_checkpoints": KEEP,
}
"""Valid words, by field of the classes below."""


def _check_choices(options: object, where: str) -> None:
    for name, choices in CHOICES.items():
        value = getattr(options, name, choices[0])
        if value not in choices:
            raise ConfigError(f"{where}.{name}={value}: choose one of {', '.join(choices)}{nearest(value, choices)}")


@dataclass(frozen=True, kw_only=True)
class MegatronOptions:
    """Device options (``megatron.*``); none of them changes the experiment, except through the loss flags of `extra`."""

    transformer_impl: str = "auto"
    """``transformer_engine``, ``local`` (Megatron's own layers with torch's fused attention), or ``auto``."""
    attention_backend: str = "auto"
    """Transformer Engine's: ``auto`` lets it take the fastest that fits (cuDNN's fused one or flash on Hopper)."""
    dispatcher: str = "alltoall"
    """``alltoall`` (NCCL), ``deepep`` or ``hybridep`` (the flex dispatcher; their packages must be installed), ``allgather``."""
    router_fusion: bool = True
    """Top-k and auxiliary loss in one kernel (Transformer Engine 2.7 or newer)."""
    shared_expert_overlap: bool = True
    """Compute the shared expert while tokens travel, where experts are spread over GPUs (not with `dispatcher` allgather)."""
    overlap: bool = True
    """Reduce gradients and gather parameters while computing."""
    rerun_mode: str = "disabled"
    """Of Megatron's rerun state machine. ``validate_results`` runs a step with a NaN again to tell broken hardware from
    divergence, and stops the job for another start on other nodes; a divergence then ends as ``rerun``, never as ``diverged``."""
    async_save: bool = False
    """Write checkpoints from a process of their own while training goes on (GPUs only)."""
    checkpoint_minutes: float = 30.0
    """Wall time between checkpoints; 0: only when told to stop and at the end."""
    log_interval: int = 100
    """Steps between lines of the console log; metrics.jsonl has every step."""
    manual_gc_interval: int = 100
    """Steps between garbage collections of runs on several GPUs, at the same step on all of them."""
    timeout_minutes: int = 30
    """Longest silence of a collective before the job is ended."""
    num_workers: int = 4
    """Processes that read data, a GPU."""
    spike_nats: float = 0.5
    """A loss spike: the loss, averaged over `spike_steps`, is this far above the least that it was."""
    spike_steps: int = 10
    """Steps that the loss is averaged over to see spikes."""
    extra: str = ""
    """More of Megatron's flags, as on its command line."""

    def __post_init__(self) -> None:
        _check_choices(self, "megatron")
        for name in ("checkpoint_minutes", "spike_nats"):
            if getattr(self, name) < 0:
                raise ConfigError(f"megatron.{name}={getattr(self, name)}: it must not be negative")
        for name in ("log_interval", "manual_gc_interval", "timeout_minutes", "spike_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"megatron.{name}={getattr(self, name)}: it must be at least 1")
        if self.num_workers < 0:
            raise ConfigError(f"megatron.num_workers={self.num_workers}: it must not be negative")
        read_extra(self.extra)

    @property
    def extra_flags(self) -> ExtraFlags:
        """`extra`, split into what may change the loss and what cannot."""
        return read_extra(self.extra)


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Weights & Biases (``logging.wandb.*``)."""

    mode: str = "disabled"
    """``offline`` (files in the run's directory, for ``wandb sync``), ``online`` or ``disabled``."""
    project: str = "moe-scaling"
    entity: str | None = None
    """Team or user; None: the account's own."""

    def __post_init__(self) -> None:
        _check_choices(self, "logging.wandb")
        if self.mode != "disabled" and not self.project:
            raise ConfigError("logging.wandb.project is empty: name one, or logging.wandb.mode=disabled")


@dataclass(frozen=True, kw_only=True)
class LoggingOptions:
    """Where metrics go besides metrics.jsonl (``logging.*``)."""

    tensorboard: bool = False
    """TensorBoard files in the run's directory."""
    wandb: Wandb = field(default_factory=Wandb)


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """What a machine has installed; the default is NVIDIA's PyTorch image."""

    transformer_engine: bool = True
    apex: bool = True
    """Its fused accumulation of weight gradients, which the output layer uses."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What ``python -m harness.megatron.pretrain`` takes besides Megatron's flags."""

    keep_checkpoints: str = "none"
    """``none``: removed when the run is done; ``last``; ``all``: none is ever removed."""
    checkpoint_minutes: float = 0.0
    tensorboard: bool = False
    spike_nats: float = MegatronOptions.spike_nats
    spike_steps: int = MegatronOptions.spike_steps
    dataset_iters: int = 0
    """This and the next three: `harness.megatron.branching`; where there is an experiment.json, they may be left out."""
    branch_points: str = ""
    trunk: str = ""
    branch_point: int = 0

    def __post_init__(self) -> None:
        _check_choices(self, "launch")

    def flags(self) -> list[str]:
        """As command-line words; what is at its default is left out."""
        default = Program()
        words = []
        for name, value in vars(self).items():
            if value != getattr(default, name):
                words += [f"--{name.replace('_', '-')}"] + ([] if value is True else [_word(value)])
        return words


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Everything about a job that its experiment and layout leave open."""

    megatron: MegatronOptions = MegatronOptions()
    logging: LoggingOptions = LoggingOptions()
    kernels: Kernels = Kernels()
    keep_checkpoints: str = "none"
    sweep: str | None = None
    """Its name groups the runs in W&B."""
    simulation: Simulation | None = None
    """In the place of Megatron (``train=simulated``); None: Megatron."""

    @property
    def program(self) -> Program:
        """The training program's own options."""
        return Program(
            keep_checkpoints=self.keep_checkpoints,
            checkpoint_minutes=self.megatron.checkpoint_minutes,
            tensorboard=self.logging.tensorboard,
            spike_nats=self.megatron.spike_nats,
            spike_steps=self.megatron.spike_steps,
        )

    @property
    def transformer_engine(self) -> bool:
        """Whether layers are Transformer Engine's."""
        chosen = self.megatron.transformer_impl
        return chosen == "transformer_engine" or (chosen == "auto" and self.kernels.transformer_engine)

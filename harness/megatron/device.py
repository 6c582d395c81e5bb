"""The flags that follow from the machine: kernels, parallelism, overlap. None of them is part of an experiment.

Three variants: NVIDIA GPUs with Transformer Engine (what clusters have), GPUs without it (Megatron's local layers with torch's
fused attention), and a CPU.
"""

from harness.errors import ConfigError
from harness.experiment import Training
from harness.megatron.flags import flag
from harness.megatron.options import JobOptions, MegatronOptions
from harness.megatron.parallel import parallel_flags
from harness.resources import Layout

LOCAL_SPEC = ("--spec", "harness.megatron.local_attention", "decoder_spec")
"""Megatron's local layers with torch's fused attention."""

TE_ONLY = {
    "--moe-permute-fusion": "the fused permutation is a kernel of Transformer Engine; the config refuses it without",
    "--moe-router-fusion": "likewise the fused top-k and auxiliary loss",
    "--moe-grouped-gemm": "the grouped GEMM of Megatron 0.19 is Transformer Engine's; locally experts run one after another",
    "--use-distributed-optimizer": "without Transformer Engine's or Apex' Adam its state does not load again",
    "--dist-ckpt-optim-fully-reshardable": "of the distributed optimizer",
    "--overlap-param-gather": "part of the distributed optimizer",
    "--transformer-impl": "transformer_engine itself",
    "--attention-backend": "a choice among Transformer Engine's attentions",
}
"""Flags of the Transformer Engine variant that a machine without it cannot take -> why."""

WITHOUT_TE = (
    ("--transformer-impl", "local"),
    ("--attention-backend", "unfused"),
    LOCAL_SPEC,
    ("--no-persist-layer-norm",),
    ("--no-rope-fusion",),
    ("--no-masked-softmax-fusion",),
)
"""What stands in their place."""


def device_flags(training: Training, layout: Layout, options: JobOptions) -> list[str]:
    """Flags of `layout` on a machine with the kernels of `options`.

    Raises:
        ConfigError: the batch does not divide, or the precision is not for this device.
    """
    batch = layout.micro_batch_size * layout.data_parallel
    if training.global_batch_size % batch:
        raise ConfigError(
            f"global_batch_size={training.global_batch_size} is not a multiple of micro-batch {layout.micro_batch_size} x "
            f"{layout.data_parallel} data-parallel ranks = {batch}"
        )
    common = [
        *parallel_flags(layout),
        "--no-create-attention-mask-in-dataloader",
    ]
    if layout.gpus == 0:
        if training.precision != "fp32":
            raise ConfigError(
                f"training.precision={training.precision} on a CPU: use fp32 (bf16 is 7 times slower there)"
            )
        return [*common, *_cpu()]
    gpu = _transformer_engine(training, layout, options) if options.transformer_engine else _local(layout, options)
    return [*common, *gpu]


def environment(layout: Layout, options: JobOptions) -> dict[str, str]:
    """Environment variables of every process of the run."""
    variables = {}
    if layout.gpus == 0:
        variables["OMP_NUM_THREADS"] = "1"  # threads made tiny runs 6 to 30 times slower
    else:
        # experts receive other numbers of tokens in each step: whole segments would fragment
        variables["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    if layout.tensor_parallel > 1:
        variables["CUDA_DEVICE_MAX_CONNECTIONS"] = (
            "1"  # Megatron asserts it: collectives before the GEMMs that hide them
        )
    wandb = options.logging.wandb
    if wandb.mode != "disabled":
        variables["WANDB_MODE"] = wandb.mode
        if options.sweep:
            variables["WANDB_RUN_GROUP"] = options.sweep
    return variables


def _cpu() -> list[str]:
    return [
        *flag("moe-token-dispatcher-type", "alltoall"),
        *flag("distributed-backend", "gloo"),
        *(word for words in WITHOUT_TE for word in words),
        "--no-gradient-accumulation-fusion",
        "--no-bias-swiglu-fusion",
        *flag("ckpt-format", "torch"),  # one process: 0.02 s a save, where torch_dist starts writers for 3 s
        *flag("rerun-mode", "disabled"),  # telling a broken GPU from a bad result is for GPUs
        *flag("num-workers", "0"),
    ]


def _gpu(layout: Layout, options: JobOptions) -> list[str]:
    """What both GPU variants have."""
    megatron = options.megatron
    return [
        *flag("distributed-backend", "nccl"),
        *flag("distributed-timeout-minutes", megatron.timeout_minutes),
        *_dispatcher(layout, megatron),
        *(["--overlap-grad-reduce"] if megatron.overlap else []),
        *([] if options.kernels.apex else ["--no-gradient-accumulation-fusion"]),
        "--cross-entropy-loss-fusion",
        *flag("cross-entropy-fusion-impl", "native"),  # Megatron 0.19 refuses te for its instability
        *flag("ckpt-format", "torch_dist"),
        *flag("rerun-mode", megatron.rerun_mode),
        *(["--async-save", "--use-persistent-ckpt-worker", "--async-strategy", "mcore"] if megatron.async_save else []),
        *(["--manual-gc", "--manual-gc-interval", f"{megatron.manual_gc_interval}"] if layout.gpus > 1 else []),
        *flag("num-workers", megatron.num_workers),
        "--log-throughput",
        "--log-memory-to-tensorboard",
    ]


def _transformer_engine(training: Training, layout: Layout, options: JobOptions) -> list[str]:
    megatron = options.megatron
    return [
        *_gpu(layout, options),
        *flag("transformer-impl", "transformer_engine"),
        *flag("attention-backend", megatron.attention_backend if training.precision == "bf16" else "unfused"),
        "--use-distributed-optimizer",
        "--dist-ckpt-optim-fully-reshardable",  # a run may go on with another layout, or on another cluster
        *(["--overlap-param-gather"] if megatron.overlap else []),
        "--moe-grouped-gemm",
        "--moe-permute-fusion",
        *(["--moe-router-fusion"] if megatron.router_fusion else []),
    ]


def _local(layout: Layout, options: JobOptions) -> list[str]:
    return [*_gpu(layout, options), *(word for words in WITHOUT_TE for word in words)]


def _dispatcher(layout: Layout, megatron: MegatronOptions) -> list[str]:
    kind = megatron.dispatcher
    overlap = megatron.shared_expert_overlap and layout.expert_parallel > 1 and kind != "allgather"
    flex = kind in ("deepep", "hybridep")
    return [
        *flag("moe-token-dispatcher-type", "flex" if flex else kind),
        *(["--moe-flex-dispatcher-backend", kind] if flex else []),
        *(["--moe-shared-expert-overlap"] if overlap else []),
    ]

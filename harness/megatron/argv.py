"""An experiment as Megatron flags (megatron-core 0.19, ``megatron.training.arguments``).

`megatron_argv` is the whole mapping; `command` makes of it what a person pastes. What an experiment determines is the
same on every machine; what follows from the machine (kernels, parallelism, paths) is in `_device`, `Layout`, `_paths`.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.architecture import Architecture, Backbone
from harness.data.manifest import Part, read_parts
from harness.errors import ConfigError
from harness.experiment import Experiment, Training
from harness.megatron.parallel import parallel_flags
from harness.resources import Layout

PROGRAM = "harness.megatron.pretrain"

NEVER = 10**9
"""An interval that no run reaches: Megatron wants some value even where nothing is to happen at intervals."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where a run reads and writes."""

    run: Path
    data: Path


def megatron_argv(experiment: Experiment, layout: Layout, paths: Paths) -> list[str]:
    """Every flag of the run, in groups: model, training, validation, device, files."""
    return [
        *experiment_flags(experiment),
        *_validation(experiment.training, layout),
        *_device(experiment.training, layout),
        *_paths(paths),
    ]


def experiment_flags(experiment: Experiment) -> list[str]:
    """The flags that the experiment alone determines: the same on every machine."""
    return [
        *_model(experiment.backbone, experiment.architecture),
        *_training(experiment.training),
        *_load_balancing(experiment.backbone, experiment.training),
    ]


def command(experiment: Experiment, layout: Layout, paths: Paths, python: str = "python") -> str:
    """The run as a shell command of several lines, complete and ready to paste; `python` is the interpreter."""
    argv = megatron_argv(experiment, layout, paths)
    if layout.gpus == 0:
        start = f"OMP_NUM_THREADS=1 {shlex.quote(python)} -m {PROGRAM}"
    elif layout.nodes == 1:
        start = (
            f"{shlex.quote(python)} -m torch.distributed.run --standalone --nproc-per-node={layout.gpus} -m {PROGRAM}"
        )
    else:
        start = (
            f"{shlex.quote(python)} -m torch.distributed.run --nnodes={layout.nodes} --nproc-per-node={layout.gpus_per_node} "
            f"--rdzv-backend=c10d --rdzv-endpoint=$MASTER_ADDR:$MASTER_PORT -m {PROGRAM}"
        )
    lines = [start, f"--run-dir {shlex.quote(str(paths.run))}"]
    for word in argv:  # a flag and its values on one line
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return " \\\n    ".join(lines) + "\n"


def group_flags(flags: list[str]) -> dict[str, list[str]]:
    """``--flag value ...`` words as a mapping from each flag to its values."""
    grouped: dict[str, list[str]] = {}
    values: list[str] = []
    for word in flags:
        if word.startswith("--"):
            values = grouped[word] = []
        else:
            values.append(word)
    return grouped


def _model(backbone: Backbone, architecture: Architecture) -> list[str]:
    experts = architecture.moe_ffn_hidden_size
    return [
        *_flag("num-layers", architecture.num_layers),
        *_flag("hidden-size", architecture.hidden_size),
        *_flag("ffn-hidden-size", architecture.ffn_hidden_size),
        *_flag("num-attention-heads", backbone.num_query_heads),
        "--group-query-attention",
        *_flag("num-query-groups", backbone.num_kv_heads),
        *_flag("kv-channels", backbone.head_dim),
        *_flag("seq-length", backbone.seq_length),
        *_flag("max-position-embeddings", backbone.seq_length),
        *_flag("position-embedding-type", "rope"),
        *_flag("rotary-base", int(backbone.rotary_base)),
        "--swiglu",
        "--disable-bias-linear",
        *_flag("normalization", "RMSNorm"),
        *_flag("norm-epsilon", backbone.norm_epsilon),
        *(["--qk-layernorm"] if backbone.qk_norm else []),
        "--untie-embeddings-and-output-weights",
        *_flag("vocab-size", backbone.vocab_size),
        *_flag("make-vocab-size-divisible-by", backbone.vocab_divisor),
        *_flag("attention-dropout", 0.0),
        *_flag("hidden-dropout", 0.0),
        *_flag("num-experts", backbone.num_experts),
        *_flag("moe-layer-freq", f"([0]*{architecture.num_dense_layers}+[1]*{architecture.num_moe_layers})"),
        *_flag("moe-ffn-hidden-size", experts),
        *_flag("moe-router-topk", backbone.top_k),
        *(
            _flag("moe-shared-expert-intermediate-size", experts * backbone.num_shared_experts)
            if backbone.num_shared_experts
            else []
        ),
        *_flag("moe-router-score-function", backbone.router_score_function),
        *_flag("moe-router-dtype", "fp32"),
    ]


def _training(training: Training) -> list[str]:
    return [
        *_flag("train-iters", training.train_iters),
        *_flag("global-batch-size", training.global_batch_size),
        *_flag("lr", training.learning_rate),
        *_flag("min-lr", training.min_learning_rate),
        *_flag("lr-decay-style", "WSD"),
        *_flag("lr-decay-iters", training.train_iters),
        *_flag("lr-warmup-iters", training.warmup_iters),
        *_flag("lr-wsd-decay-iters", training.decay_iters),
        *_flag("lr-wsd-decay-style", training.decay_style),
        *_flag("optimizer", "adam"),
        *_flag("adam-beta1", training.adam_beta1),
        *_flag("adam-beta2", training.adam_beta2),
        *_flag("adam-eps", training.adam_epsilon),
        *_flag("weight-decay", training.weight_decay),
        *_flag("clip-grad", training.clip_grad),
        *_flag("init-method-std", training.init_std),
        *_flag("seed", training.seed),
    ]


def _load_balancing(backbone: Backbone, training: Training) -> list[str]:
    kind = training.load_balancing
    if kind == "none":
        return _flag("moe-router-load-balancing-type", "none")
    if kind == "expert_bias":
        if backbone.router_score_function != "sigmoid":
            raise ConfigError(
                f"load_balancing=expert_bias needs router_score_function=sigmoid, not {backbone.router_score_function}"
            )
        return [
            *_flag("moe-router-load-balancing-type", "none"),
            "--moe-router-enable-expert-bias",
            *_flag("moe-router-bias-update-rate", 1e-3),
        ]
    return [
        *_flag("moe-router-load-balancing-type", kind),
        *_flag("moe-aux-loss-coeff", training.aux_loss_coeff),  # Megatron's default of 0 balances nothing
    ]


def _validation(training: Training, layout: Layout) -> list[str]:
    """Once, at the end, over the same sequences for every run: whole batches of the fixed validation set."""
    batch = layout.eval_batch_size
    if training.validation_sequences % batch:
        raise ConfigError(
            f"training.validation_sequences={training.validation_sequences} is not a multiple of the validation batch "
            f"{batch} ({layout.eval_micro_batch_size} sequences x {layout.data_parallel} data-parallel ranks)"
        )
    return [
        *_flag("eval-iters", training.validation_sequences // batch),
        *_flag("eval-interval", NEVER),
        *_flag("eval-global-batch-size", batch),
        *_flag("eval-micro-batch-size", layout.eval_micro_batch_size),
    ]


def _device(training: Training, layout: Layout) -> list[str]:
    batch = layout.micro_batch_size * layout.data_parallel
    if training.global_batch_size % batch:
        raise ConfigError(
            f"global_batch_size={training.global_batch_size} is not a multiple of micro-batch {layout.micro_batch_size} x "
            f"{layout.data_parallel} data-parallel ranks = {batch}"
        )
    common = [
        *parallel_flags(layout),
        *_flag("moe-token-dispatcher-type", "alltoall"),
        "--no-create-attention-mask-in-dataloader",
    ]
    if layout.gpus == 0:
        if training.precision != "fp32":
            raise ConfigError(
                f"training.precision={training.precision} on a CPU: use fp32 (bf16 is 7 times slower there)"
            )
        return [
            *common,
            *_flag("distributed-backend", "gloo"),
            *_flag("transformer-impl", "local"),
            *_flag("attention-backend", "unfused"),
            *_flag("spec", "harness.megatron.cpu", "decoder_spec"),
            "--no-persist-layer-norm",
            "--no-gradient-accumulation-fusion",
            "--no-rope-fusion",
            "--no-masked-softmax-fusion",
            "--no-bias-swiglu-fusion",
            *_flag("ckpt-format", "torch"),  # one process: 0.02 s a save, where torch_dist starts writers for 3 s
            *_flag("rerun-mode", "disabled"),  # telling a broken GPU from a bad result is for GPUs
            *_flag("num-workers", 0),
        ]
    return [
        *common,
        *_flag("distributed-backend", "nccl"),
        *_flag("transformer-impl", "transformer_engine"),
        *_flag("attention-backend", "auto"),
        *(["--bf16"] if training.precision == "bf16" else []),
        "--use-distributed-optimizer",
        "--overlap-grad-reduce",
        "--overlap-param-gather",
        "--moe-grouped-gemm",
        "--moe-permute-fusion",
        *_flag("ckpt-format", "torch_dist"),
        *_flag("cross-entropy-fusion-impl", "native"),  # Megatron 0.19 refuses te for its instability
        "--cross-entropy-loss-fusion",
        *_flag("num-workers", 4),
    ]


def _paths(paths: Paths) -> list[str]:
    return [
        *_flag("tokenizer-type", "NullTokenizer"),  # the data is tokenised already; only the vocabulary's size matters
        *data_flags(paths.data),
        *_flag("save-interval", NEVER),
        "--exit-signal-handler",
        *_flag("log-interval", 100),
        *_flag("tensorboard-log-interval", 1),
    ]


def data_flags(dataset: Path) -> list[str]:
    """The two parts of a dataset; of a blend, those of its datasets with their weights."""
    return blend_flags(read_parts(dataset)) or [
        *_flag("train-data-path", dataset / "train"),
        *_flag("valid-data-path", dataset / "validation"),
    ]


def blend_flags(parts: Sequence[Part]) -> list[str]:
    """Both parts of each dataset of a blend, the training as the validation parts by weight; no flags without parts."""
    if not parts:
        return []
    return [
        *_flag("train-data-path", *(word for part in parts for word in (part.weight, part.path / "train"))),
        *_flag("valid-data-path", *(word for part in parts for word in (part.weight, part.path / "validation"))),
    ]


def run_directory_flags(run: Path) -> list[str]:
    """Where a run's own files go; the training program adds them, so that they always follow its ``--run-dir``."""
    return [
        *_flag("save", run / "checkpoints"),
        *_flag("load", run / "checkpoints"),
        *_flag("data-cache-path", run / "cache"),
    ]


def _flag(name: str, *values: object) -> list[str]:
    return [f"--{name}", *(repr(value) if isinstance(value, float) else str(value) for value in values)]

"""An experiment as Megatron flags (megatron-core 0.19, ``megatron.training.arguments``).

`megatron_argv` is the whole mapping; `command` makes of it what a person pastes. What an experiment determines is the
same on every machine (`experiment_flags`); what follows from the machine is in `harness.megatron.device`.
"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError
from harness.experiment import Experiment, Training
from harness.megatron.device import device_flags, environment
from harness.megatron.fileflags import data_flags
from harness.megatron.flags import clashes, flag, flat, group_flags, megatron_flags
from harness.megatron.options import JobOptions
from harness.resources import Layout
from harness.simulated.options import command_text

PROGRAM = "harness.megatron.pretrain"

NEVER = 10**9
"""An interval that no run reaches: Megatron wants some value even where nothing is to happen at intervals."""


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where a run reads and writes."""

    run: Path
    data: Path


def megatron_argv(experiment: Experiment, layout: Layout, paths: Paths, options: JobOptions | None = None) -> list[str]:
    """Every flag of the run, in groups: model, training, validation, device, files.

    Raises:
        ConfigError: a batch does not divide, or an extra flag contradicts what the experiment sets.
    """
    options = options or JobOptions()
    flags = [
        *experiment_flags(experiment),
        *_vocabulary(experiment.backbone, layout),
        *_validation(experiment.training, layout),
        *device_flags(experiment.training, layout, options),
        *_paths(paths),
        *_logs(experiment, options),
    ]
    extra = group_flags(options.megatron.extra_flags.device)
    return _with_extra(flags, extra) if extra else flags


def _with_extra(flags: list[str], extra: dict[str, list[str]]) -> list[str]:
    """`flags` with those of `extra` in the place of any that set the same argument."""
    grouped = group_flags(flags)
    for _, replaced in clashes(extra, grouped):
        del grouped[replaced]
    return flat(grouped | extra)


def experiment_flags(experiment: Experiment) -> list[str]:
    """The flags that the experiment alone determines: the same on every machine.

    Raises:
        ConfigError: one of ``megatron.extra`` sets what the experiment sets otherwise.
    """
    flags = [
        *_model(experiment.backbone, experiment.architecture),
        *_training(experiment.training),
        *_load_balancing(experiment.backbone, experiment.training),
    ]
    if not experiment.training.extra_flags:
        return flags
    extra = shlex.split(experiment.training.extra_flags)
    for name, ours in clashes(group_flags(extra), group_flags(flags)):
        raise ConfigError(
            f"megatron.extra: {name} sets {megatron_flags()[name].dest!r}, which the experiment sets ({ours}): use the options "
            "of backbone and training (python -m harness.sweep --help lists them)"
        )
    return [*flags, *extra]


def command(
    experiment: Experiment, layout: Layout, paths: Paths, options: JobOptions | None = None, python: str = "python"
) -> str:
    """The run as a shell command of several lines, complete and ready to paste; `python` is the interpreter."""
    options = options or JobOptions()
    if options.simulation is not None:
        return command_text(simulation_words(options, paths.run), python)
    python = shlex.quote(python)
    if layout.gpus == 0:
        start = f"{python} -m {PROGRAM}"
    elif layout.nodes == 1:
        start = f"{python} -m torch.distributed.run --standalone --nproc-per-node={layout.gpus} -m {PROGRAM}"
    else:
        start = (
            f"{python} -m torch.distributed.run --nnodes={layout.nodes} --nproc-per-node={layout.gpus_per_node} "
            f"--rdzv-backend=c10d --rdzv-endpoint=$MASTER_ADDR:$MASTER_PORT -m {PROGRAM}"
        )
    variables = "".join(f"{name}={shlex.quote(value)} " for name, value in environment(layout, options).items())
    lines = [variables + start, f"--run-dir {shlex.quote(str(paths.run))}"]
    program = replace(options.program, **branch_options(experiment, paths.run))
    for word in [*program.flags(), *megatron_argv(experiment, layout, paths, options)]:
        if word.startswith("--"):  # a flag and its values on one line
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    note = (
        ""
        if layout.gpus == 0 or options.transformer_engine
        else "# Megatron's local layers, without Transformer Engine\n"
    )
    return note + " \\\n    ".join(lines) + "\n"


def simulation_words(options: JobOptions, run: Path) -> list[str]:
    """The arguments of ``python -m harness.simulated`` for the run in directory `run`."""
    assert options.simulation is not None
    return options.simulation.words(
        run, keep_checkpoints=options.keep_checkpoints, checkpoint_minutes=options.megatron.checkpoint_minutes
    )


def branch_options(experiment: Experiment, run: Path) -> dict[str, Any]:
    """The training program's options for a trunk or a branch in directory `run` (its trunk lies beside it)."""
    training = experiment.training
    return {
        "dataset_iters": training.dataset_iters,
        "branch_points": ",".join(map(str, training.kept_steps)),
        "trunk": str(run.parent / training.trunk) if training.trunk else "",
        "branch_point": training.first_iters,
    }


def _model(backbone: Backbone, architecture: Architecture) -> list[str]:
    experts = architecture.moe_ffn_hidden_size
    return [
        *flag("num-layers", architecture.num_layers),
        *flag("hidden-size", architecture.hidden_size),
        *flag("ffn-hidden-size", architecture.ffn_hidden_size),
        *flag("num-attention-heads", backbone.num_query_heads),
        "--group-query-attention",
        *flag("num-query-groups", backbone.num_kv_heads),
        *flag("kv-channels", backbone.head_dim),
        *flag("seq-length", backbone.seq_length),
        *flag("max-position-embeddings", backbone.seq_length),
        *flag("position-embedding-type", "rope"),
        *flag("rotary-base", int(backbone.rotary_base)),
        "--swiglu",
        "--disable-bias-linear",
        *flag("normalization", "RMSNorm"),
        *flag("norm-epsilon", backbone.norm_epsilon),
        *(["--qk-layernorm"] if backbone.qk_norm else []),
        "--untie-embeddings-and-output-weights",
        *flag("vocab-size", backbone.vocab_size),
        *flag("attention-dropout", 0.0),
        *flag("hidden-dropout", 0.0),
        *flag("num-experts", backbone.num_experts),
        *flag("moe-layer-freq", f"([0]*{architecture.num_dense_layers}+[1]*{architecture.num_moe_layers})"),
        *flag("moe-ffn-hidden-size", experts),
        *flag("moe-router-topk", backbone.top_k),
        *(
            flag("moe-shared-expert-intermediate-size", experts * backbone.num_shared_experts)
            if backbone.num_shared_experts
            else []
        ),
        *flag("moe-router-score-function", backbone.router_score_function),
        *flag("moe-router-dtype", "fp32"),
    ]


def _training(training: Training) -> list[str]:
    return [
        *flag("train-iters", training.train_iters),
        *flag("global-batch-size", training.global_batch_size),
        *flag("lr", training.learning_rate),
        *flag("min-lr", training.min_learning_rate),
        *flag("lr-decay-style", "WSD"),
        *flag("lr-decay-iters", training.dataset_iters if training.branch_points else training.train_iters),
        *flag("lr-warmup-iters", training.warmup_iters),
        *flag("lr-wsd-decay-iters", training.decay_iters),
        *flag("lr-wsd-decay-style", training.decay_style),
        *flag("optimizer", "adam"),
        *flag("adam-beta1", training.adam_beta1),
        *flag("adam-beta2", training.adam_beta2),
        *flag("adam-eps", training.adam_epsilon),
        *flag("weight-decay", training.weight_decay),
        *flag("clip-grad", training.clip_grad),
        *flag("init-method-std", training.init_std),
        *flag("seed", training.seed),
        *(["--bf16"] if training.precision == "bf16" else []),
    ]


def _load_balancing(backbone: Backbone, training: Training) -> list[str]:
    """What keeps experts evenly used; docs/load-balancing.md says what each does in Megatron 0.19."""
    kind = training.load_balancing
    z_loss = flag("moe-z-loss-coeff", training.z_loss_coeff) if training.z_loss_coeff else []
    if kind == "none":
        return [*flag("moe-router-load-balancing-type", "none"), *z_loss]
    if kind == "expert_bias":
        if backbone.router_score_function != "sigmoid":
            raise ConfigError(
                f"load_balancing=expert_bias needs router_score_function=sigmoid, not {backbone.router_score_function}"
            )
        return [
            *flag("moe-router-load-balancing-type", "none"),
            "--moe-router-enable-expert-bias",
            *flag("moe-router-bias-update-rate", training.expert_bias_update_rate),
            *z_loss,
        ]
    return [
        *flag("moe-router-load-balancing-type", kind),
        *flag("moe-aux-loss-coeff", training.aux_loss_coeff),  # Megatron's default of 0 balances nothing
        *z_loss,
    ]


def _vocabulary(backbone: Backbone, layout: Layout) -> list[str]:
    """Megatron pads to a multiple of this flag times the tensor-parallel size; the padded size must not depend on it."""
    tensor_parallel, padded = layout.tensor_parallel, backbone.padded_vocab_size
    if padded % tensor_parallel:
        raise ConfigError(
            f"the vocabulary, padded to {padded} rows, does not divide by tensor parallel size {tensor_parallel}: choose a "
            f"backbone.vocab_divisor that is a multiple of {tensor_parallel}"
        )
    even = backbone.vocab_divisor % tensor_parallel == 0
    return flag("make-vocab-size-divisible-by", (backbone.vocab_divisor if even else padded) // tensor_parallel)


def _validation(training: Training, layout: Layout) -> list[str]:
    """Once, at the end, over the same sequences for every run: whole batches of the fixed validation set."""
    batch = layout.eval_batch_size
    if training.validation_sequences % batch:
        raise ConfigError(
            f"training.validation_sequences={training.validation_sequences} is not a multiple of the validation batch "
            f"{batch} ({layout.eval_micro_batch_size} sequences x {layout.data_parallel} data-parallel ranks)"
        )
    return [
        *flag("eval-iters", training.validation_sequences // batch),
        *flag("eval-interval", NEVER),
        *flag("eval-global-batch-size", batch),
        *flag("eval-micro-batch-size", layout.eval_micro_batch_size),
    ]


def _paths(paths: Paths) -> list[str]:
    return [
        *flag("tokenizer-type", "NullTokenizer"),  # the data is tokenised already; only the vocabulary's size matters
        *data_flags(paths.data),
        *flag("save-interval", NEVER),  # the training program saves by wall time
        "--exit-signal-handler",
    ]


def _logs(experiment: Experiment, options: JobOptions) -> list[str]:
    wandb = options.logging.wandb
    return [
        *flag("log-interval", options.megatron.log_interval),
        *flag("tensorboard-log-interval", 1),
        *(flag("wandb-project", wandb.project) if wandb.mode != "disabled" else []),
        *(flag("wandb-exp-name", readable_name(experiment)) if wandb.mode != "disabled" else []),
        *(flag("wandb-entity", wandb.entity) if wandb.mode != "disabled" and wandb.entity else []),
    ]


def readable_name(experiment: Experiment) -> str:
    """A run's name for people, as in W&B: ``M8.79e+08-D1.07e+10-d2344-L1+4-dm192-s1``."""
    architecture, counts = experiment.architecture, experiment.counts
    return (
        f"M{counts.flops_per_token:.3g}-D{experiment.tokens:.3g}-d{architecture.hidden_size}"
        f"-L{architecture.num_dense_layers}+{architecture.num_moe_layers}-dm{architecture.moe_ffn_hidden_size}"
        f"-s{experiment.training.seed}"
    )

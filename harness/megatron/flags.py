"""Megatron's flags by name, without importing Megatron: what an extra flag may be, and whether it can change the loss.

``megatron_flags.json`` is read off the real parser by ``python -m harness.megatron.list_flags``; a test holds them together.
"""

import functools
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, nearest

FILE = "megatron_flags.json"

LOSS_NEUTRAL = {
    "logging and profiling only read": (
        "--log- --timing- --tensorboard- --no-log- --disable-log- --wandb- --moe-per-layer-logging --profile "
        "--use-pytorch-profiler --pytorch-profiler- --record-memory-history --memory-snapshot-path --nvtx-ranges "
        "--no-barrier-with-level-1-timing --straggler- --disable-straggler- "
        "--logging-level"
    ),
    "checkpoints are copies of the state": (
        "--async-save --async-strategy --async-ckpt- --use-persistent-ckpt-worker --ckpt-format --no-ckpt-fully-parallel-save "
        "--ckpt-fully-parallel- --ckpt-assume-constant-structure --dist-ckpt-workers --dist-ckpt-optim-fully-reshardable "
        "--dist-ckpt-strictness --verify-integrity --auto-detect-ckpt-format"
    ),
    "when and how a process stops": (
        "--exit- --rerun-mode --error-injection- --distributed-timeout- --no-flight-recorder- --disable-flight-recorder- "
        "--enable-ft-package --calc-ft-timeouts --inprocess-"
    ),
    "when the host collects garbage and reads data": (
        "--manual-gc --no-manual-gc-eval --disable-manual-gc-eval --num-workers --no-mmap-bin-files --num-dataset-builder-threads"
    ),
    "which kernel, buffer, stream or process group does the same arithmetic": (
        "--attention-backend --transformer-impl --no-persist-layer-norm --no-gradient-accumulation-fusion "
        "--no-rope-fusion --no-masked-softmax-fusion --no-bias-swiglu-fusion --no-bias-dropout-fusion --cross-entropy- "
        "--moe-grouped-gemm --moe-permute-fusion --moe-router-fusion --moe-token-dispatcher-type --moe-flex-dispatcher- "
        "--moe-enable-deepep --moe-deepep-num-sms --moe-hybridep-num- --moe-shared-expert-overlap --distributed-backend "
        "--use-distributed-optimizer --overlap- --delay-wgrad-compute --ddp-bucket-size --ddp-num-buckets "
        "--ddp-pad-buckets-for-high-nccl-busbw --tp-comm- --no-tp-comm- --disable-tp-comm- --nccl- --use-sharp "
        "--high-priority-stream-groups --no-align- --disable-align- --sequence-parallel "
        "--disable-gloo-process-groups --no-create-attention-mask-in-dataloader"
    ),
    "recomputing or offloading activations gives the same ones": (
        "--recompute- --moe-layer-recompute --distribute-saved-activations --fine-grained-activation-offloading "
        "--offload-modules --cpu-offloading- --empty-unused-memory-level"
    ),
}
"""Why -> flags (a trailing dash: all that begin so) that cannot change a loss beyond rounding, so no part of a run id."""

LAYOUT = frozenset(
    "--micro-batch-size --tensor-model-parallel-size --pipeline-model-parallel-size --expert-model-parallel-size "
    "--context-parallel-size --expert-tensor-parallel-size --make-vocab-size-divisible-by --eval-iters --eval-interval "
    "--eval-global-batch-size --eval-micro-batch-size --num-layers-per-virtual-pipeline-stage "
    "--num-virtual-stages-per-pipeline-rank --decoder-first-pipeline-num-layers --decoder-last-pipeline-num-layers "
    "--account-for-embedding-in-pipeline-split --account-for-loss-in-pipeline-split --pipeline-model-parallel-layout".split()
)
"""How a run is spread over GPUs: decided with the bill, not by extra flags."""

FILES = frozenset(
    "--save --load --save-interval --data-cache-path --tokenizer-type --train-data-path --valid-data-path --data-path "
    "--test-data-path --mock-data --split --tensorboard-dir --wandb-project --wandb-exp-name --wandb-save-dir "
    "--wandb-entity".split()
)
"""Where a run reads and writes: decided by its directory, its dataset and the ``logging`` options."""


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One of Megatron's flags."""

    name: str
    """As on the command line, ``--lr``."""
    dest: str
    """The argument that it sets: flags of one `dest` contradict each other."""
    values: int | str
    """How many words follow: a number, ``+`` (at least one) or ``*``."""
    type: str
    """``int``, ``float`` or ``str``: what the words must be."""
    choices: tuple[str, ...] = ()
    """Valid words, where Megatron lists them."""


@functools.cache
def megatron_flags() -> dict[str, Flag]:
    """Every flag of the pinned Megatron by name."""
    content = json.loads(Path(__file__).with_name(FILE).read_text(encoding="utf-8"))
    return {
        name: Flag(name=name, dest=dest, values=values, type=kind, choices=tuple(choices))
        for name, (dest, values, kind, choices) in content["flags"].items()
    }


def flag(name: str, *values: object) -> list[str]:
    """``--name value ...`` as words; floats in full."""
    return [f"--{name}", *(repr(value) if isinstance(value, float) else str(value) for value in values)]


def group_flags(words: Iterable[str]) -> dict[str, list[str]]:
    """``--flag value ...`` (or ``--flag=value``) words as a mapping from each flag to its values; the last one counts."""
    grouped: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            values = grouped[name] = [value] if equals else []
        else:
            values.append(word)
    return grouped


def flat(grouped: dict[str, list[str]]) -> list[str]:
    """The words of a mapping, the inverse of `group_flags`."""
    return [word for name, values in grouped.items() for word in (name, *values)]


def is_neutral(name: str) -> bool:
    """Whether the flag cannot change the loss (`LOSS_NEUTRAL`)."""
    return any(_among(name, entries) for entries in LOSS_NEUTRAL.values())


REFUSED = {
    "changes the model, so that M, N_a, N and Megatron's FLOPs would be counted wrongly; the harness has no option for it yet": (
        "--mtp- --multi-latent-attention --hybrid- --is-hybrid-model --mamba- --experimental-attention-variant --heterogeneous- "
        "--moe-layer-freq --use-megatron-fsdp --encoder- --decoder- --add-qkv-bias --tie- --moe-latent-size --engram-"
    ),
    "changes the number of steps, the batch or the schedule: use training.* and the backbone's scales": (
        "--train-samples --lr-warmup-fraction --lr-warmup-samples --lr-decay-samples --lr-wsd-decay-samples --rampup-batch-size "
        "--decrease-batch-size-if-needed --skip-train --eval- --full-validation --step-batch-size-schedule"
    ),
    "is the precision: use training.precision": "--fp16 --fp8- --fp4- --bf16",
    "breaks the resuming of a run": (
        "--finetune --no-save-optim --no-save-rng --no-load-optim --no-load-rng --ckpt-step --load --save"
    ),
    "is recomputation, which is part of the layout: use cluster.layout.recompute": "--recompute- --moe-layer-recompute",
}
"""Why a flag is not for ``megatron.extra`` -> such flags (a name, or a beginning that ends in ``-``)."""


def _among(name: str, entries: str) -> bool:
    return any(name == entry or (entry.endswith("-") and name.startswith(entry)) for entry in entries.split())


def clashes(names: Iterable[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of a flag of `names` and a flag of `others` that set the same argument of Megatron."""
    known = megatron_flags()
    by_dest = {known[name].dest: name for name in others if name in known}
    return [(name, by_dest[known[name].dest]) for name in names if name in known and known[name].dest in by_dest]


@dataclass(frozen=True, kw_only=True)
class ExtraFlags:
    """``megatron.extra``, checked and split."""

    experiment: str
    """Those that may change the loss, sorted: part of the run id."""
    device: tuple[str, ...]
    """Those that cannot; they replace what the harness would set."""


@functools.cache
def read_extra(text: str) -> ExtraFlags:
    """Check ``megatron.extra`` against Megatron's flags and split it.

    Raises:
        ConfigError: an unknown flag (with the closest real ones), a wrong number or kind of values, or a flag that is not for
            extra: the layout's, a file's. (Flags that the experiment itself sets are refused where it is known, in `argv`.)
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"megatron.extra={text!r}: {error}") from None
    if words and not words[0].startswith("--"):
        raise ConfigError(f"megatron.extra={text!r}: a Megatron flag is wanted first, such as --log-params-norm")
    grouped = group_flags(words)
    for name, values in grouped.items():
        _check(name, values)
        for why, entries in REFUSED.items():
            if _among(name, entries):
                raise ConfigError(f"megatron.extra: {name} {why}")
    known = megatron_flags()
    dests = [known[name].dest for name in grouped]
    if twice := next((name for name in grouped if dests.count(known[name].dest) > 1), None):
        raise ConfigError(
            f"megatron.extra: {twice} and another flag set the same argument {known[twice].dest!r}; keep one"
        )
    return ExtraFlags(
        experiment=shlex.join(flat({name: grouped[name] for name in sorted(grouped) if not is_neutral(name)})),
        device=tuple(flat({name: values for name, values in grouped.items() if is_neutral(name)})),
    )


def _check(name: str, values: list[str]) -> None:
    known = megatron_flags().get(name)
    if known is None:
        raise ConfigError(f"megatron.extra: Megatron has no flag {name}{nearest(name, megatron_flags())}")
    if name in LAYOUT:
        raise ConfigError(f"megatron.extra: {name} follows from the layout on the cluster: use the options of cluster")
    if name in FILES:
        raise ConfigError(f"megatron.extra: {name} follows from the run's directory, data.path or the logging options")
    least, most = {"+": (1, 10**6), "*": (0, 10**6), "?": (0, 1)}.get(str(known.values), (known.values, known.values))
    if not int(least) <= len(values) <= int(most):
        wanted = {"+": "at least one value", "*": "values", "?": "at most one value", "0": "no value"}
        raise ConfigError(
            f"megatron.extra: {name} takes {wanted.get(str(known.values), f'{known.values} value(s)')}, "
            f"not {' '.join(values) or 'none'}"
        )
    for value in values:
        if known.choices and value not in known.choices:
            raise ConfigError(
                f"megatron.extra: {name} {value}: choose one of {', '.join(known.choices)}{nearest(value, known.choices)}"
            )
        if known.type in ("int", "float"):
            try:
                {"int": int, "float": float}[known.type](value)
            except ValueError:
                raise ConfigError(f"megatron.extra: {name} {value}: a number ({known.type}) is wanted") from None

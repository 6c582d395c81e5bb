"""The composed configuration as typed objects: the backbone's budgets, a training recipe, the cluster, the dataset."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.architecture import Backbone
from harness.cli import CONFIGS, text
from harness.data.manifest import read_manifest
from harness.errors import ConfigError, nearest
from harness.experiment import Data, Training
from harness.megatron.options import JobOptions, LoggingOptions, MegatronOptions, Wandb
from harness.resources import Cluster
from harness.solver import Rules

GROUPS = ("backbone", "scales", "studies", "training", "data", "cluster", "rules", "megatron", "logging")
"""Parts of the configuration that planning needs whole."""

MOST_SEEDS = 1000

TOKEN_RULES = ("fixed", "compute")

HEADS = ("num_query_heads", "num_kv_heads", "head_dim")
"""Fields of a `Backbone` that vary with the budget (Table 4)."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One compute budget and what the paper fixes at it (Tables 2 and 4)."""

    compute: float
    """C, FLOPs."""
    flops_per_token: float
    """M of Table 2, FLOPs."""
    grid_flops_per_token: float
    """M that phase 1 was built from; inferred where it differs from `flops_per_token`."""
    tokens: float
    """D of Table 2."""
    num_query_heads: int
    num_kv_heads: int
    head_dim: int
    learning_rate: float
    global_batch_size: int
    """Sequences."""

    @property
    def label(self) -> str:
        """``1e19``."""
        return budget_label(self.compute)


def budget_label(compute: float) -> str:
    """A budget as people write it: 1e19, 2.5e20."""
    mantissa, exponent = f"{compute:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


class Settings:
    """Everything that planning reads of the configuration."""

    def __init__(self, config: DictConfig):
        """`config`: composed from ``configs/sweep.yaml``."""
        for group in GROUPS:
            if config.get(group) is None:
                raise ConfigError(f"{group}=null: choose one of its values, or leave it out")
        self.config = config
        self.backbone_name: str = config.backbone.name
        self.scales = tuple(_build(Scale, entry, "scales") for entry in config.scales)
        self.rules = _build(Rules, config.rules, "rules")
        self.cluster = _build(Cluster, config.cluster, "cluster")
        self.job = job_options(config)
        self.data_path = Path(text(config.data.path, "data.path")) if config.data.path is not None else None
        self.data: Data | None = read_manifest(self.data_path) if self.data_path else None
        self.first_seed = _whole(config.seed, "seed", 0, 2**31 - 1)
        seeds = config.studies.get("seeds", 1) if config.seeds is None else config.seeds
        self.seeds = _whole(seeds, "seeds", 1, MOST_SEEDS)
        if config.training.tokens not in TOKEN_RULES:
            raise ConfigError(
                f"training.tokens={config.training.tokens}: it must be fixed (D of Table 2) or compute (C / M)"
            )
        if not self.scales:
            raise ConfigError(f"backbone={self.backbone_name} has no budget (scales=[])")

    def study(self, name: str) -> Any:
        """The backbone's settings of a study, as plain values."""
        if name not in self.config.studies:
            raise ConfigError(f"backbone={self.backbone_name} states nothing for study {name!r} (studies.{name})")
        numbers = OmegaConf.to_container(self.config.studies, resolve=True)[name]  # type: ignore[index, call-overload]
        if not isinstance(numbers, dict):
            raise ConfigError(f"studies.{name}={numbers}: the study's settings are wanted")
        return numbers

    def choose_scales(self, chosen: Any) -> tuple[Scale, ...]:
        """The budgets that ``scale=`` names: one, a list, or ``all``.

        Raises:
            ConfigError: a value is no number, or no budget of this backbone; with the valid ones.
        """
        if chosen == "all":
            return self.scales
        wanted = list(chosen) if isinstance(chosen, Iterable) and not isinstance(chosen, str) else [chosen]
        if not wanted:
            raise ConfigError("scale=[]: name at least one budget")
        found = {scale.compute: scale for value in wanted for scale in [self._scale(value)]}
        return tuple(found[compute] for compute in sorted(found))

    def _scale(self, value: Any) -> Scale:
        labels = [scale.label for scale in self.scales]
        try:
            compute = float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"scale={value}: a budget in FLOPs is wanted, of backbone={self.backbone_name} one of "
                f"{', '.join(labels)}, or a list of them in brackets, or all{nearest(value, [*labels, 'all'])}"
            ) from None
        for scale in self.scales:
            if math.isclose(scale.compute, compute, rel_tol=1e-9):
                return scale
        raise ConfigError(
            f"scale={budget_label(compute) if 0 < compute < math.inf else value}: backbone={self.backbone_name} has "
            f"{', '.join(labels)}; heads, learning rate and batch of other budgets are not known"
        )

    def backbone(self, heads: Scale | dict[str, int]) -> Backbone:
        """The backbone with the heads of a budget, or of a shape."""
        values = {key: value for key, value in self.config.backbone.items() if key != "name"}
        chosen = {name: heads[name] if isinstance(heads, dict) else getattr(heads, name) for name in HEADS}
        return _build(Backbone, values | chosen, "backbone")

    def training(self, scale: Scale, backbone: Backbone, *, tokens: float, hidden_size: int, seed: int) -> Training:
        """The recipe at a budget, for `tokens` training tokens rounded to whole steps of whole batches."""
        recipe = OmegaConf.to_container(self.config.training)
        assert isinstance(recipe, dict)
        per_width = recipe.pop("learning_rate_times_width", None)
        peak = scale.learning_rate
        if per_width is not None:
            peak = _number(per_width, "training.learning_rate_times_width", 1e-12, 1e30) / hidden_size
        floor = _number(recipe.pop("min_learning_rate_share", 0.0), "training.min_learning_rate_share", 0, 1)
        batch_tokens = scale.global_batch_size * backbone.seq_length
        iterations = round(tokens / batch_tokens)
        if iterations < 1:
            raise ConfigError(
                f"{tokens:.4g} tokens are less than one batch of {scale.global_batch_size} x {backbone.seq_length}: "
                "lower the batch or raise the budget"
            )
        warmup, decay = (_phase(recipe, name, iterations, batch_tokens) for name in ("warmup", "decay"))
        recipe.pop("tokens", None)
        return _build(
            Training,
            {
                "train_iters": iterations,
                "global_batch_size": scale.global_batch_size,
                "learning_rate": peak,
                "min_learning_rate": peak * floor,
                "warmup_iters": max(1, warmup),
                "decay_iters": decay,
                "seed": seed,
                "extra_flags": self.job.megatron.extra_flags.experiment,
                **recipe,
            },
            "training",
        )

    def tokens(self, scale: Scale, flops_per_token: float) -> float:
        """D of a run: the budget's, or C / realised M (``training.tokens``)."""
        return scale.tokens if self.config.training.tokens == "fixed" else scale.compute / flops_per_token


def job_options(config: DictConfig, sweep: str | None = None) -> JobOptions:
    """The options of `config` that no experiment contains; a sweep planned before there were any has the defaults.

    Raises:
        ConfigError: one of them cannot be used.
    """
    megatron, logging = config.get("megatron") or {}, config.get("logging") or {}
    values = {key: value for key, value in logging.items() if key != "wandb"}
    wandb = _build(Wandb, logging.get("wandb") or {}, "logging.wandb")
    return JobOptions(
        megatron=_build(MegatronOptions, megatron, "megatron"),
        logging=_build(LoggingOptions, values | {"wandb": wandb}, "logging"),
        sweep=sweep,
    )


def _phase(recipe: dict[Any, Any], name: str, iterations: int, batch_tokens: int) -> int:
    """Steps of the warm-up or the decay: its tokens where they are given, else its share of all steps."""
    share = _number(recipe.pop(f"{name}_share", 0.0), f"training.{name}_share", 0, 1)
    tokens = recipe.pop(f"{name}_tokens", None)
    if tokens is None:
        return round(share * iterations)
    return round(_number(tokens, f"training.{name}_tokens", 0, 1e18) / batch_tokens)


def _number(value: Any, name: str, low: float, high: float) -> float:
    """A number of the configuration between `low` and `high`, or a ConfigError that says so."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name}={value}: a number between {low:g} and {high:g} is wanted")
    return float(value)


def _whole(value: Any, name: str, low: int, high: int) -> int:
    """Likewise for a whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(f"{name}={value}: a whole number between {low} and {high} is wanted")
    return value


def named_cluster(name: str) -> Cluster:
    """The cluster of ``configs/cluster/<name>.yaml``."""
    return _build(Cluster, OmegaConf.load(CONFIGS / "cluster" / f"{name}.yaml"), "cluster")


def _build[T](kind: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping of the configuration.

    Raises:
        ConfigError: a key is missing or unknown, or a value is of the wrong kind; with the nearest valid one.
    """
    known = {field.name: field.type for field in fields(kind)}  # type: ignore[arg-type]
    built = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}.{key} is unknown{nearest(key, known)} (valid: {', '.join(known)})")
        built[key] = _convert(value, known[key], f"{where}.{key}")
    try:
        return kind(**built)
    except TypeError as error:
        missing = [field.name for field in fields(kind) if field.name not in built]  # type: ignore[arg-type]
        raise ConfigError(f"{where} lacks {', '.join(missing)}: {error}") from error


def _convert(value: Any, kind: Any, name: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}={value}: a finite number is wanted")
    if kind in (int, float, bool, str) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ConfigError(f"{name}={value!r}: a value of type {kind.__name__} is wanted")
    return value

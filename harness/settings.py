"""The composed configuration as typed objects: the backbone's budgets, a training recipe, the cluster, the dataset."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.accounting import count
from harness.architecture import Architecture, Backbone
from harness.cli import CONFIGS, text
from harness.data.manifest import read_manifest
from harness.errors import ConfigError, nearest
from harness.experiment import Data, Training
from harness.laws import Laws
from harness.limits import Limit
from harness.megatron.options import JobOptions, LoggingOptions, MegatronOptions, Wandb
from harness.resources import Cluster
from harness.rules import Rules
from harness.scales import LEAST_BUDGET, MOST_BUDGET, Between, Scale, scale_between
from harness.simulated.options import Simulation
from harness.simulated.truth import read_truth
from harness.typed import build, number, whole

GROUPS = ("backbone", "scales", "between", "studies", "training", "data", "cluster", "rules")
"""Parts of the configuration that planning needs whole."""

MOST_SEEDS = 1000

TOKEN_RULES = ("fixed", "compute")

ON_INFEASIBLE = ("refuse", "skip")

MOST_WIDTHS = 100_000

HEADS = ("num_query_heads", "num_kv_heads", "head_dim")
"""Fields of a `Backbone` that vary with the budget (Table 4)."""


class Settings:
    """Everything that planning reads of the configuration."""

    def __init__(self, config: DictConfig):
        """`config`: composed from ``configs/sweep.yaml``."""
        for group in GROUPS:
            if config.get(group) is None:
                raise ConfigError(f"{group}=null: choose one of its values, or leave it out")
        self.config = config
        self.backbone_name: str = config.backbone.name
        if not OmegaConf.is_list(config.scales):
            raise ConfigError(f"scales={config.scales}: a list of budgets is wanted")
        self.scales = tuple(_scale(entry) for entry in config.scales)
        self.between = build(Between, config.between, "between")
        self.laws = Laws.read(Path(text(config.laws, "laws"))) if config.get("laws") is not None else None
        self.rules = build(Rules, config.rules, "rules")
        self.cluster = read_cluster(config.cluster)
        self.limit = build(Limit, config.get("limit") or {}, "limit")
        self.job = job_options(config)
        self.cluster = replace(self.cluster, transformer_engine=self.job.transformer_engine)
        self.data_path = Path(text(config.data.path, "data.path")) if config.data.path is not None else None
        self.data: Data | None = read_manifest(self.data_path) if self.data_path else None
        self.first_seed = whole(config.get("seed", 1), "seed", 0, 2**31 - 1)
        seeds = config.studies.get("seeds", 1) if config.get("seeds") is None else config.seeds
        self.seeds = whole(seeds, "seeds", 1, MOST_SEEDS)
        widths = config.get("num_widths")
        self.num_widths = None if widths is None else whole(widths, "num_widths", 1, MOST_WIDTHS)
        self.infeasible: str = config.get("infeasible", "refuse")
        self.share_trunk = (config.get("wsd") or {}).get("share_trunk", False)
        if not isinstance(self.share_trunk, bool):
            raise ConfigError(f"wsd.share_trunk={self.share_trunk}: true or false is wanted")
        if self.infeasible not in ON_INFEASIBLE:
            raise ConfigError(
                f"infeasible={self.infeasible}: it must be refuse or skip{nearest(self.infeasible, ON_INFEASIBLE)}"
            )
        self._studies: Any = OmegaConf.to_container(config.studies, resolve=True)
        self._recipe: Any = OmegaConf.to_container(config.training, resolve=True)
        self._trainings: dict[tuple[Any, ...], Training] = {}
        self._built: dict[tuple[Any, ...], Backbone] = {}
        self._backbone: dict[str, Any] = {str(key): value for key, value in config.backbone.items() if key != "name"}
        if config.training.tokens not in TOKEN_RULES:
            raise ConfigError(
                f"training.tokens={config.training.tokens}: it must be fixed (D of Table 2) or compute (C / M)"
            )
        if not self.scales:
            raise ConfigError(f"backbone={self.backbone_name} has no budget (scales=[])")

    def study(self, name: str) -> dict[str, Any]:
        """The settings of a study (``studies.<name>``), as plain values."""
        if name not in self._studies:
            raise ConfigError(
                f"backbone={self.backbone_name} states nothing for study {name!r}: add studies.{name} (configs/studies/)"
            )
        numbers = self._studies[name]
        if not isinstance(numbers, dict):
            raise ConfigError(f"studies.{name}={numbers}: the study's settings are wanted")
        return numbers

    def marks(self, study: str, scale: Scale) -> tuple[str, ...]:
        """The marks that a study's rows carry; those of the table's budgets say nothing about others."""
        return () if scale.extrapolated else tuple(self.study(study).get("marks") or ())

    def choose_scales(self, chosen: Any, study: str | None = None) -> tuple[Scale, ...]:
        """The budgets that ``scale=`` names: one, a list, or ``all`` (those that the study states, or the backbone's).

        Raises:
            ConfigError: a value is no positive number; with the backbone's own budgets.
        """
        if chosen == "all":
            stated = self.study(study).get("budgets") if study is not None else None
            return self.scales if stated is None else tuple(self._scale(value) for value in stated)
        wanted = list(chosen) if isinstance(chosen, Iterable) and not isinstance(chosen, str) else [chosen]
        if not wanted:
            raise ConfigError("scale=[]: name at least one budget")
        found = {scale.compute: scale for value in wanted for scale in [self._scale(value)]}
        return tuple(found[compute] for compute in sorted(found))

    def _scale(self, value: Any) -> Scale:
        """One budget: of the table, or by the rule for others."""
        labels = [scale.label for scale in self.scales]
        try:
            if isinstance(value, bool):
                raise TypeError
            compute = float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"scale={value}: a budget in FLOPs is wanted, of backbone={self.backbone_name} one of "
                f"{', '.join(labels)}, or another, or a list of them in brackets, or all{nearest(value, [*labels, 'all'])}"
            ) from None
        if not LEAST_BUDGET <= compute <= MOST_BUDGET:
            raise ConfigError(
                f"scale={value}: a budget in FLOPs must be finite and between {LEAST_BUDGET:g} and {MOST_BUDGET:g}, as in "
                f"scale={labels[0]}"
            )
        for scale in self.scales:
            if math.isclose(scale.compute, compute, rel_tol=1e-9):
                return scale
        return scale_between(
            self.scales, self.between, compute, seq_length=int(self._backbone["seq_length"]), laws=self.laws
        )

    def backbone(self, heads: Scale | dict[str, int]) -> Backbone:
        """The backbone with the heads of a budget, or of a shape, where ``backbone.*`` does not fix them itself."""
        by_budget = heads if isinstance(heads, dict) else {name: getattr(heads, name) for name in HEADS}
        values = dict(self._backbone)
        queries, head_dim, group = (values.pop(name, None) for name in ("num_query_heads", "head_dim", "gqa_ratio"))
        queries = (
            by_budget["num_query_heads"] if queries is None else whole(queries, "backbone.num_query_heads", 1, 2**20)
        )
        if group is None:
            group = by_budget["num_query_heads"] // by_budget["num_kv_heads"]
        group = whole(group, "backbone.gqa_ratio", 1, 2**20)
        if queries % group:
            near = min((n for n in range(1, queries + 1) if queries % n == 0), key=lambda n: abs(n - group))
            raise ConfigError(
                f"num_query_heads={queries} is not a multiple of gqa_ratio={group} (query heads a key/value head): choose "
                f"backbone.gqa_ratio={near}, or other heads"
            )
        values["num_query_heads"], values["num_kv_heads"] = queries, queries // group
        values["head_dim"] = by_budget["head_dim"] if head_dim is None else head_dim
        key = tuple(values.values())
        if key not in self._built:
            self._built[key] = build(Backbone, values, "backbone")
        return self._built[key]

    def training(
        self,
        scale: Scale,
        backbone: Backbone,
        *,
        tokens: float,
        hidden_size: int,
        seed: int,
        learning_rate_factor: float = 1.0,
        global_batch_size: int | None = None,
    ) -> Training:
        """The recipe at a budget, for `tokens` training tokens rounded to whole steps of whole batches.

        `learning_rate_factor` and `global_batch_size` (sequences; None: the budget's) vary it.
        """
        recipe = dict(self._recipe)
        batch = global_batch_size or scale.global_batch_size
        per_width = recipe.pop("learning_rate_times_width", None)
        width = hidden_size if per_width is not None else None
        key = (scale, backbone.seq_length, tokens, width, seed, learning_rate_factor, batch)
        if key in self._trainings:  # thousands of rows of a grid share one
            return self._trainings[key]
        peak = scale.learning_rate
        if per_width is not None:
            peak = number(per_width, "training.learning_rate_times_width", 1e-12, 1e30) / hidden_size
        if learning_rate_factor != 1:
            peak *= learning_rate_factor
        floor = number(recipe.pop("min_learning_rate_share", 0.0), "training.min_learning_rate_share", 0, 1)
        batch_tokens = batch * backbone.seq_length
        iterations = round(tokens / batch_tokens)
        if iterations < 1:
            raise ConfigError(
                f"{tokens:.4g} tokens are less than one batch of {batch} x {backbone.seq_length}: "
                "lower the batch or raise the budget"
            )
        warmup, decay = (_phase(recipe, name, iterations, batch_tokens) for name in ("warmup", "decay"))
        recipe.pop("tokens", None)
        self._trainings[key] = build(
            Training,
            {
                "train_iters": iterations,
                "global_batch_size": batch,
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
        return self._trainings[key]

    def tokens(
        self, scale: Scale, backbone: Backbone, architecture: Architecture, *, spend_budget: bool = False
    ) -> float:
        """D of a run: the budget's (``training.tokens=fixed``), or C / realised M (``compute``, or `spend_budget`)."""
        if self._recipe["tokens"] == "fixed" and not spend_budget:
            return scale.tokens
        return scale.compute / count(backbone, architecture).flops_per_token


def _scale(entry: Any) -> Scale:
    """A row of the table of budgets."""
    scale = build(Scale, entry, "scales")
    for name in ("compute", "flops_per_token", "grid_flops_per_token", "tokens", "learning_rate", "global_batch_size"):
        if not getattr(scale, name) > 0:
            raise ConfigError(f"scales.{name}={getattr(scale, name)}: it must be above 0")
    return scale


def job_options(config: DictConfig, sweep: str | None = None) -> JobOptions:
    """The options of `config` that no experiment contains; a sweep planned before there were any has the defaults.

    Raises:
        ConfigError: one of them cannot be used.
    """
    megatron, logging = config.get("megatron") or {}, config.get("logging") or {}
    values = {key: value for key, value in logging.items() if key != "wandb"}
    wandb = build(Wandb, logging.get("wandb") or {}, "logging.wandb")
    return JobOptions(
        megatron=build(MegatronOptions, megatron, "megatron"),
        logging=build(LoggingOptions, values | {"wandb": wandb}, "logging"),
        sweep=sweep,
        simulation=_simulation(config.get("train")),
    )


def _simulation(train: Any) -> Simulation | None:
    """The option group ``train``; None for Megatron, which a sweep planned before there was a choice has."""
    name = "megatron" if train is None else train.get("name")
    if name == "megatron":
        if "truth" in (train or {}):
            raise ConfigError("truth= is the loss formula of a simulated run: add train=simulated, or leave it out")
        return None
    if name != "simulated":
        raise ConfigError(f"train.name={name}: choose train=megatron or train=simulated")
    if "truth" not in train:
        there = sorted(path.stem for path in (CONFIGS / "truth").glob("*.yaml") if path.stem != name)
        raise ConfigError(f"truth= names no truth: choose one of {', '.join(there)}, or leave it out")
    values: Any = OmegaConf.to_container(train, resolve=True)
    given = {key: value for key, value in values.items() if key != "name"}
    return build(Simulation, given | {"truth": read_truth(given.get("truth"))}, "train")


def _phase(recipe: dict[Any, Any], name: str, iterations: int, batch_tokens: int) -> int:
    """Steps of the warm-up or the decay: its tokens where they are given, else its share of all steps."""
    share = number(recipe.pop(f"{name}_share", 0.0), f"training.{name}_share", 0, 1)
    tokens = recipe.pop(f"{name}_tokens", None)
    if tokens is None:
        return round(share * iterations)
    return round(number(tokens, f"training.{name}_tokens", 0, 1e18) / batch_tokens)


def named_cluster(name: str) -> Cluster:
    """The cluster of ``configs/cluster/<name>.yaml``, a file that builds on no other."""
    values: Any = OmegaConf.load(CONFIGS / "cluster" / f"{name}.yaml")
    del values["defaults"]
    return read_cluster(values)


def read_cluster(config: Any) -> Cluster:
    """A composed ``cluster``; how jobs are asked of its Slurm is the launcher's (`launch.options`).

    Raises:
        ConfigError: it cannot be used.
    """
    if not isinstance(config, Mapping | DictConfig):
        return build(Cluster, config, "cluster")  # which refuses it
    return build(Cluster, {key: value for key, value in config.items() if key != "slurm"}, "cluster")

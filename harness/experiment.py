"""One experiment: everything that determines a run's loss, and nothing else; its canonical form and its run id.

No cluster, path, date, sweep or list position enters an experiment, so the same experiment planned twice is one run.
Changing a default that affects the loss changes run ids: raise `SCHEMA` then; golden ids guard it. A field that is added
later is declared with `later`, so that the ids of all earlier runs stay.
"""

import hashlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

from harness.accounting import Counts, count
from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError, RunError, nearest
from harness.files import canonical_json

SCHEMA = 1
"""Version of the canonical form."""


def later(default: Any) -> Any:
    """A field added after runs were made: at `default`, which means what all runs did before, it leaves their id as it was."""
    return field(default=default, metadata={"later": True})


TINY = 1e-12
"""Stands for "above 0" in `RANGES`."""

CHOICES = {
    "decay_style": ("exponential", "linear", "cosine", "minus_sqrt"),
    "load_balancing": ("aux_loss", "seq_aux_loss", "global_aux_loss", "expert_bias", "none"),
    "precision": ("bf16", "fp32"),
}
"""What Megatron knows, by field of `Training`."""

RANGES = {
    "learning_rate": (TINY, 1e30),
    "warmup_iters": (0, 1e12),
    "decay_iters": (0, 1e12),
    "seed": (0, 2**31 - 1),
    "validation_sequences": (1, 1e12),
    "epochs": (TINY, 1e6),
    "init_std": (TINY, 1e3),
    "aux_loss_coeff": (0, 1e6),
    "z_loss_coeff": (0, 1e6),
    "expert_bias_update_rate": (0, 1e6),
    "adam_beta1": (0, 1 - TINY),
    "adam_beta2": (0, 1 - TINY),
    "adam_epsilon": (1e-30, 1),
    "weight_decay": (0, 1e6),
    "clip_grad": (0, 1e12),
}
"""Least and greatest value, by field of `Training`; a divergent learning rate is allowed, a negative one is not."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which tokens: the identity of a prepared dataset (see `harness.data`), not where it lies."""

    name: str
    """What people call it."""
    digest: str
    """Hash over the dataset's documents in order, tokenizer and split; of a blend, over its parts' and their weights."""
    tokenizer: str
    """Name of the tokenizer."""
    vocab_size: int
    """Size of its vocabulary, with the end-of-document token."""
    train_tokens: int
    """Tokens of the training part; of a blend, how many it gives until its first part runs out."""
    validation_tokens: int
    """Tokens of the one fixed validation part; of a blend likewise."""
    blend: str = later("")
    """Of a blend: weight and digest of each part, ``0.7 x 1a148e2b2e6e7f52 + 0.3 x 9c0f...``."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained. WSD schedule: linear warm-up, constant, decay to `min_learning_rate` (paper, 3.4)."""

    train_iters: int
    """Optimizer steps."""
    global_batch_size: int
    """Sequences a step."""
    learning_rate: float
    """Peak, of the stable phase."""
    min_learning_rate: float
    """At the end of the decay."""
    warmup_iters: int
    """Steps of the linear warm-up."""
    decay_iters: int
    """Steps of the final decay."""
    decay_style: str
    """Shape of the decay: exponential, linear, cosine or minus_sqrt."""
    seed: int
    """Initial weights and data order."""
    validation_sequences: int
    """Sequences of the fixed validation set that the final loss is the mean over, from its start."""
    epochs: float
    """How often the training part may be walked through; more tokens than that are refused."""
    init_std: float
    """Standard deviation of initial weights."""
    load_balancing: str
    """``aux_loss``, ``seq_aux_loss``, ``global_aux_loss``, ``expert_bias`` (aux-free) or ``none``: docs/load-balancing.md."""
    aux_loss_coeff: float
    """Coefficient of the auxiliary loss."""
    precision: str
    """``bf16`` or ``fp32``."""
    adam_beta1: float = 0.9
    """AdamW."""
    adam_beta2: float = 0.95
    """AdamW."""
    adam_epsilon: float = 1e-8
    """AdamW."""
    weight_decay: float = 0.1
    """AdamW, decoupled; not on norms."""
    clip_grad: float = 1.0
    """Norm that gradients are clipped to."""
    smaller_vocabulary: bool = later(False)
    """The data may use far less than the model's vocabulary (a trial of a large model on bytes); refused otherwise."""
    z_loss_coeff: float = later(0.0)
    """Coefficient of the router's z-loss (mean squared log-sum-exp of its logits); 0: none."""
    expert_bias_update_rate: float = later(1e-3)
    """Step of each expert's bias a batch, with `load_balancing` = ``expert_bias``."""
    extra_flags: str = later("")
    """Further Megatron flags that may change the loss (from ``megatron.extra``)."""
    dataset_iters: int = later(0)
    """Steps' worth of samples that the dataset is asked for, as its order depends on that; 0: `train_iters`."""
    trunk: str = later("")
    """Of a branch: run id of the trunk whose checkpoint it goes on from, where its own decay begins (docs/branches.md)."""
    branch_points: str = later("")
    """Of a trunk: the steps that it keeps a checkpoint of, rising, separated by spaces; the last one is `train_iters`."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise ConfigError(
                    f"training.{name}={value}: choose one of {', '.join(choices)}{nearest(value, choices)}"
                )
        for name, (low, high) in RANGES.items():
            if not low <= (number := getattr(self, name)) <= high:
                least = "above 0" if low == TINY else f"at least {low:g}"
                most = "below 1" if high == 1 - TINY else f"at most {high:g}"
                raise ConfigError(f"training.{name}={number}: it must be {least} and {most}")
        if not 0 <= self.min_learning_rate <= self.learning_rate:
            raise ConfigError(
                f"the learning rate ends at {self.min_learning_rate:g}, and its peak is {self.learning_rate:g}: "
                "training.min_learning_rate_share must lie between 0 and 1"
            )
        if self.train_iters < 1 or self.global_batch_size < 1:
            raise ConfigError(
                f"train_iters={self.train_iters}, global_batch_size={self.global_batch_size}: both must be at least 1 "
                "(a token budget smaller than one batch gives no step)"
            )
        if self.warmup_iters + self.decay_iters > self.train_iters:
            raise ConfigError(
                f"warm-up ({self.warmup_iters}) and decay ({self.decay_iters}) take more than the "
                f"{self.train_iters} steps of the run: lower training.warmup_share or training.decay_share (or warmup_tokens, "
                "decay_tokens)"
            )
        if self.trunk or self.branch_points or self.dataset_iters:
            self._check_sharing()

    def _check_sharing(self) -> None:
        if 0 < self.dataset_iters < self.train_iters:
            raise ConfigError(
                f"training.dataset_iters={self.dataset_iters}: the run itself takes samples for {self.train_iters} steps; the "
                "dataset must be asked for as many, or 0"
            )
        if self.trunk and (self.branch_points or not self.decay_iters):
            raise ConfigError(
                f"a branch of trunk {self.trunk} needs a decay of its own (decay_iters={self.decay_iters}), and has no branch "
                f"points ({self.branch_points or 'none'})"
            )
        if self.branch_points:
            try:
                points = self.kept_steps
            except ValueError:
                points = ()
            rising = all(low < high for low, high in zip((0, *points), points, strict=False))
            if not points or not rising or points[-1] != self.train_iters or self.decay_iters:
                raise ConfigError(
                    f"training.branch_points={self.branch_points!r}: rising whole numbers above 0 are wanted, the last one the "
                    f"trunk's train_iters ({self.train_iters}), and no decay (decay_iters={self.decay_iters})"
                )

    @property
    def kept_steps(self) -> tuple[int, ...]:
        """Of a trunk: its branch points; empty for any other run."""
        return tuple(int(word) for word in self.branch_points.split())

    @property
    def stable_iters(self) -> int:
        """Steps of the warm-up and the stable phase, after which the decay begins."""
        return self.train_iters - self.decay_iters

    @property
    def first_iters(self) -> int:
        """Steps that are another run's: of a branch those of its trunk, of any other run 0."""
        return self.stable_iters if self.trunk else 0

    @property
    def own_iters(self) -> int:
        """Steps that the run itself trains."""
        return self.train_iters - self.first_iters


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One point of a study, ready to train."""

    backbone: Backbone
    architecture: Architecture
    training: Training
    data: Data | None
    """None: planned before the data was prepared; launchers refuse such a run."""

    @cached_property
    def counts(self) -> Counts:
        """Parameters and FLOPs per token."""
        return count(self.backbone, self.architecture)

    @property
    def batch_tokens(self) -> int:
        """Tokens a step."""
        return self.training.global_batch_size * self.backbone.seq_length

    @property
    def tokens(self) -> int:
        """D, training tokens: whole steps of whole batches."""
        return self.training.train_iters * self.batch_tokens

    @property
    def own_tokens(self) -> int:
        """Tokens that the run itself trains on: all of D, but of a branch those of its decay."""
        return self.training.own_iters * self.batch_tokens

    def canonical(self) -> dict[str, Any]:
        """The experiment as plain JSON values; `from_canonical` inverts it."""
        return {
            "schema": SCHEMA,
            "backbone": plain(self.backbone),
            "architecture": plain(self.architecture),
            "training": plain(self.training),
            "data": None if self.data is None else plain(self.data),
        }

    @cached_property
    def canonical_text(self) -> str:
        """The one JSON text of the canonical form."""
        return canonical_json(self.canonical())

    @cached_property
    def run_id(self) -> str:
        """12 hexadecimal digits of the SHA-256 of the canonical form."""
        return hashlib.sha256(self.canonical_text.encode()).hexdigest()[:12]

    @classmethod
    def from_canonical(cls, value: dict[str, Any]) -> Self:
        """Read a canonical form.

        Raises:
            RunError: it was written by a newer version, or by none of ours.
        """
        schema = value.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise RunError(
                f"an experiment of schema {schema!r}, but this version reads up to {SCHEMA}: update the harness"
            )
        try:
            return cls(
                backbone=_build(Backbone, value["backbone"]),
                architecture=_build(Architecture, value["architecture"]),
                training=_build(Training, value["training"]),
                data=None if value["data"] is None else _build(Data, value["data"]),
            )
        except (KeyError, TypeError) as error:
            raise RunError(f"not an experiment of schema {schema}: {error}") from error


def plain(part: Backbone | Architecture | Training | Data) -> dict[str, Any]:
    """The fields of a part, without those added later that stand at their default."""
    later_ones = _LATER.get(type(part))
    if later_ones is None:
        later_ones = _LATER[type(part)] = {f.name: f.default for f in fields(part) if f.metadata.get("later")}
    value = dict(vars(part))  # the parts are flat: a copy of the fields, in order
    for name, default in later_ones.items():
        if value[name] == default:
            del value[name]
    return value


_LATER: dict[type, dict[str, Any]] = {}
"""By class: fields added later, with their defaults."""


def _build[T](kind: type[T], value: dict[str, Any]) -> T:
    """A dataclass from a mapping, with floats restored where JSON turned them into integers."""
    floats = {field.name for field in fields(kind) if field.type is float}  # type: ignore[arg-type]
    return kind(**{name: float(item) if name in floats else item for name, item in value.items()})

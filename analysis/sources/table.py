"""Records of any source -> the rows of the one table (docs/collecting.md), with a reason for each that cannot be used."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.losses import off_plan
from analysis.sources import megatron_model
from analysis.sources.record import Record
from harness.accounting import count
from harness.errors import ConfigError

LOSSES = ("validation", "training")

FAR = 0.25
"""A run whose compute is further than this from every stated budget belongs to none."""

EMPTY = dict.fromkeys(("realised_compute", "megatron_flops", "wall_seconds", "tokens_per_second", "mfu"), math.nan)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a foreign source does not say, and the user does."""

    study: str = "classical"
    """The study that its runs are taken for: a law is fitted to its own study."""
    loss: str = "validation"
    """What laws are fitted to: ``validation``, or ``training`` (mean of the last steps) where nothing else was recorded."""
    budgets: tuple[float, ...] = ()
    """Nominal budgets, FLOPs; a run belongs to the nearest. None: its own compute to two digits."""
    simulated: bool = False
    """Whether the losses are no measurements; such a table bears the mark, and is never fitted together with real ones."""

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ConfigError(f"loss={self.loss}: choose one of {', '.join(LOSSES)}")
        if not all(budget > 0 for budget in self.budgets):
            raise ConfigError(f"budgets={list(self.budgets)}: budgets in FLOPs, above 0, are wanted")

    def budget(self, compute: float) -> tuple[float, str | None]:
        """The nominal budget of a run that spent `compute`, and why it belongs to none of those stated."""
        if not (math.isfinite(compute) and compute > 0):
            return math.nan, "its compute is unknown"
        if not self.budgets:
            return float(f"{compute:.1e}"), None
        nearest = min(self.budgets, key=lambda budget: abs(math.log(budget / compute)))
        if abs(compute / nearest - 1) > FAR:
            return nearest, f"it spent {compute:.3g} FLOPs, further than {100 * FAR:.0f}% from every budget stated"
        return nearest, None


def rows_of(records: Sequence[Record], reading: Reading, source: str) -> list[dict[str, Any]]:
    """A row a record, sorted by run id; of equal runs the first that can be used is."""
    rows: list[dict[str, Any]] = []
    first: dict[str, str] = {}
    for record in sorted(records, key=lambda record: record.run_id):
        row = _row(record, reading, source)
        same = megatron_model.identity(record.arguments)
        if row["left_out"] is None and first.setdefault(same, record.run_id) != record.run_id:
            row["left_out"] = f"duplicate of {first[same]}: all arguments of Megatron are the same"
        rows.append(row)
    return rows


def _row(record: Record, reading: Reading, source: str) -> dict[str, Any]:
    arguments = record.arguments
    try:
        model, unknown = _model_columns(arguments), None
    except megatron_model.UnknownModelError as error:
        model, unknown = dict.fromkeys(MODEL, math.nan), str(error)
    batch = _tokens_a_step(arguments)
    planned, trained = batch * _number(arguments.get("train_iters")), batch * record.last_step
    compute = model["flops_per_token"] * trained
    nominal, far = reading.budget(model["flops_per_token"] * planned)
    final = record.final_validation_loss if reading.loss == "validation" else record.final_training_loss
    return {
        "run_id": record.run_id,
        "study": reading.study,
        "compute": nominal,
        **model,
        "tokens": planned,
        "learning_rate": _number(arguments.get("lr")),
        "global_batch_size": _number(arguments.get("global_batch_size")),
        "train_iters": _number(arguments.get("train_iters")),
        "seed": _number(arguments.get("seed")),
        "trunk": "",
        "marks": "simulated" if reading.simulated else "",
        "sweep": source,
        "state": "running" if record.trouble == "running" else "done" if trained >= planned else "failed",
        "left_out": record.trouble or unknown or _unusable(record, final, trained, planned, reading.loss) or far,
        "final_validation_loss": final,
        "final_training_loss": record.final_training_loss,
        **EMPTY,
        "realised_compute": compute,
        "megatron_flops": model["megatron_flops_per_token"] * trained,
        "trained_tokens": trained,
        "simulated": reading.simulated,
        "versions": "{}",
        "recipe": megatron_model.recipe(arguments)[:8],
        "data": megatron_model.data(arguments),
        "place": record.place,
    }


def _unusable(record: Record, final: float, trained: float, planned: float, loss: str) -> str | None:
    if not record.training:
        return "it recorded no training loss"
    last = record.training[record.last_step]
    if not math.isfinite(last):
        return f"diverged: lm loss is {last} at step {record.last_step}"
    if math.isfinite(planned) and trained < planned and off_plan(trained, planned, "") is not None:
        return f"ended early: {trained:,.0f} of {planned:,.0f} tokens"
    if (reason := off_plan(trained, planned, "tokens differ from the plan")) is not None:
        return reason
    if not math.isfinite(planned):
        return "Megatron's arguments name no train_iters, global_batch_size or seq_length"
    if math.isfinite(final):
        return None
    if not record.validation:
        return "no validation loss was recorded (loss=training takes that of the training)"
    step = max(record.validation)
    if step < record.last_step:
        return f"its last validation is of step {step:,} of {record.last_step:,} (loss=training takes that of the training)"
    return f"the final {loss} loss is {final}"


MODEL = (
    "flops_per_token active_params total_params m_over_na n_over_na hidden_size num_layers num_dense_layers num_moe_layers "
    "ffn_hidden_size moe_ffn_hidden_size num_query_heads num_kv_heads head_dim num_experts top_k seq_length embedding_params "
    "megatron_params megatron_flops_per_token target_m_over_na target_n_over_na r_attention r_dense r_moe"
).split()
"""Columns that the model alone decides."""


def _model_columns(arguments: Mapping[str, Any]) -> dict[str, Any]:
    backbone, architecture = megatron_model.model(arguments)
    counts = count(backbone, architecture)
    columns = vars(counts) | vars(architecture) | vars(backbone)
    columns |= {
        "m_over_na": counts.m_over_na,
        "n_over_na": counts.n_over_na,
        "num_layers": architecture.num_layers,
        "target_m_over_na": round(counts.m_over_na, 1),  # slices: what was aimed at is not written down
        "target_n_over_na": float(round(counts.n_over_na)),
    }
    return {name: columns[name] for name in MODEL}


def _tokens_a_step(arguments: Mapping[str, Any]) -> float:
    return _number(arguments.get("global_batch_size")) * _number(arguments.get("seq_length"))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan

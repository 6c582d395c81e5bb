"""What any source of Megatron runs says about one of them."""

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

SHARE, LEAST_STEPS = 0.05, 10
"""The steps that a final training loss is the mean over (as `harness.megatron.metrics.smoothed_final_loss`)."""

TRAINING = "lm loss"
"""Megatron's name of the training loss; `harness.megatron.metrics.VALIDATION` is that of the other."""

ARGUMENTS = (
    "hidden_size ffn_hidden_size moe_ffn_hidden_size num_layers moe_layer_freq num_attention_heads num_query_groups "
    "group_query_attention kv_channels num_experts moe_router_topk moe_shared_expert_intermediate_size seq_length vocab_size "
    "padded_vocab_size make_vocab_size_divisible_by qk_layernorm swiglu train_iters global_batch_size lr min_lr seed "
    "lr_decay_style lr_wsd_decay_style lr_wsd_decay_iters lr_warmup_iters optimizer adam_beta1 adam_beta2 adam_eps weight_decay "
    "clip_grad init_method_std moe_router_load_balancing_type moe_aux_loss_coeff moe_z_loss_coeff moe_router_score_function "
    "bf16 fp16 position_embedding_type rotary_base norm_epsilon data_path train_data_path save"
).split()
"""Megatron's arguments that a record keeps."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One run. Losses are in nats a token, as Megatron logs them."""

    run_id: str
    """Unique within its source."""
    place: str
    """File, directory or address, for people."""
    arguments: Mapping[str, Any]
    """Those of `ARGUMENTS` that were found, as plain values."""
    training: Mapping[int, float]
    """Loss by step."""
    validation: Mapping[int, float] = field(default_factory=dict)
    """Loss by step."""
    trouble: str | None = None
    """Why it cannot be used, as far as its source knows: a torn file, a run that goes on."""

    @property
    def last_step(self) -> int:
        """The last step with a training loss; 0 without any."""
        return max(self.training, default=0)

    @property
    def final_training_loss(self) -> float:
        """Mean of those recorded in the last 5% of the steps, at least 10 steps, as of our own runs; NaN without any."""
        first = self.last_step - max(LEAST_STEPS, round(SHARE * self.last_step))
        losses = [loss for step, loss in self.training.items() if step > first]
        return sum(losses) / len(losses) if losses else math.nan

    @property
    def final_validation_loss(self) -> float:
        """That of the last step; NaN where none was made after it."""
        step = max(self.validation, default=-1)
        return self.validation[step] if step >= self.last_step else math.nan

    def plain(self) -> dict[str, Any]:
        """As JSON values; `from_plain` inverts it."""
        return {
            "run_id": self.run_id,
            "place": self.place,
            "arguments": dict(self.arguments),
            "training": [[step, loss] for step, loss in self.training.items()],
            "validation": [[step, loss] for step, loss in self.validation.items()],
            "trouble": self.trouble,
        }

    @classmethod
    def from_plain(cls, value: Mapping[str, Any]) -> Self:
        """Of `plain`."""
        series = {name: dict(value[name]) for name in ("training", "validation")}
        return cls(**{**value, **series})


def argument(text: str) -> Any:
    """A Megatron argument from its printed form: number, truth value, None or list where it is one, else the text."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()


def kept(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `ARGUMENTS`."""
    return {name: arguments[name] for name in ARGUMENTS if name in arguments}


def merged(records: list[Record]) -> Record:
    """Attempts of one run, in order: of a step that several made, the last counts."""
    last = records[-1]
    training = {step: loss for record in records for step, loss in record.training.items()}
    validation = {step: loss for record in records for step, loss in record.validation.items()}
    arguments = {name: value for record in records for name, value in record.arguments.items()}
    return Record(
        run_id=last.run_id,
        place=last.place,
        arguments=arguments,
        training=training,
        validation=validation,
        trouble=last.trouble,
    )

"""How each family of public MoEs writes its shape into config.json (Hugging Face): names of fields, and what they leave unsaid.

The same field means different things in different families (`intermediate_size` is an expert's width in Mixtral and a dense
layer's in Qwen), and what is absent has another default in each. Listed families are held by tests/analysis/design against the
parameters of the model that Transformers builds from the same file; others are read by the names of their fields, which is said.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class Dense(Enum):
    """Which layers are dense: the fields that say so."""

    NONE = ()
    """No layer is."""
    FIRST = ("first_k_dense_replace", "moe_layer_freq")
    """So many at the bottom, and where the second does not divide the layer's index."""
    STEP = ("mlp_only_layers", "decoder_sparse_step")
    """Those listed, and where the second does not divide the layer's number, which is the index and 1."""
    RANGE = ("moe_layer_start_index", "moe_layer_end_index", "moe_layer_interval")
    """Those outside the range, and where the last does not divide the layer's number."""


LATENT = ("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
"""Fields of multi-head latent attention."""


class HeadNorms(Enum):
    """Norms of queries and keys."""

    NONE = "none"
    EACH = "one of a head's size each"
    ALL = "over all heads together"
    OPTIONAL = "one of a head's size each where `use_qk_norm` is true"


@dataclass(frozen=True, kw_only=True)
class Family:
    """Where a family's configuration says what; the names are keys of config.json."""

    experts: str
    """Number of routed experts."""
    top_k: str = "num_experts_per_tok"
    expert_width: str = "moe_intermediate_size"
    shared_experts: str | None = None
    """Number of shared experts as wide as a routed one; None: the family has no such field."""
    shared_width: str | None = None
    """Width of all shared experts together."""
    shared_gate: bool = False
    """Whether the shared expert's output is weighted by a projection to one number."""
    dense: Dense = Dense.NONE
    latent: bool = False
    """Whether attention is by `LATENT`."""
    states_head_dim: bool = False
    """Heads are not hidden_size / num_attention_heads wide, so that `head_dim` must be there."""
    head_norms: HeadNorms = HeadNorms.NONE
    bias: str | None = None
    """Whether attention projections have biases."""
    bias_unsaid: bool = False
    """... where the field is absent."""
    bias_of_output: bool = True
    """Whether the output projection then has one too."""
    tied_unsaid: bool = False
    """Whether the two embeddings are one table where `tie_word_embeddings` is absent."""

    @property
    def shape_fields(self) -> set[str]:
        """The fields that say which layers and experts there are, and whether attention is latent."""
        named = {self.experts, self.top_k, self.shared_experts, self.shared_width} - {None}
        return {*named, *self.dense.value, *(LATENT if self.latent else ())}


MIXTRAL = Family(experts="num_local_experts", expert_width="intermediate_size")
QWEN2 = Family(
    experts="num_experts",
    shared_width="shared_expert_intermediate_size",
    shared_gate=True,
    dense=Dense.STEP,
    bias="qkv_bias",
    bias_unsaid=True,
    bias_of_output=False,
)
QWEN3 = Family(
    experts="num_experts", dense=Dense.STEP, states_head_dim=True, head_norms=HeadNorms.EACH, bias="attention_bias"
)
OLMOE = Family(experts="num_experts", expert_width="intermediate_size", head_norms=HeadNorms.ALL, bias="attention_bias")
DEEPSEEK = Family(
    experts="n_routed_experts",
    shared_experts="n_shared_experts",
    dense=Dense.FIRST,
    latent=True,
    bias="attention_bias",
)
DOTS = replace(DEEPSEEK, latent=False, head_norms=HeadNorms.EACH)
GLM4 = replace(DEEPSEEK, latent=False, states_head_dim=True, head_norms=HeadNorms.OPTIONAL, bias_of_output=False)
ERNIE = Family(
    experts="moe_num_experts",
    top_k="moe_k",
    shared_experts="moe_num_shared_experts",
    dense=Dense.RANGE,
    tied_unsaid=True,
)
MINIMAX_M2 = replace(MIXTRAL, states_head_dim=True, head_norms=HeadNorms.ALL)
GRANITE = replace(MIXTRAL, bias="attention_bias")

FAMILIES = {
    "mixtral": MIXTRAL,
    "qwen2_moe": QWEN2,
    "qwen3_moe": QWEN3,
    "qwen3_vl_moe_text": QWEN3,
    "olmoe": OLMOE,
    "deepseek": replace(DEEPSEEK, latent=False),
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": DEEPSEEK,
    "kimi_k2": DEEPSEEK,
    "glm4_moe": GLM4,
    "glm4v_moe_text": GLM4,
    "dots1": DOTS,
    "ernie4_5_moe": ERNIE,
    "minimax_m2": MINIMAX_M2,
    "granitemoe": GRANITE,
    "granitemoeshared": replace(GRANITE, shared_width="shared_intermediate_size"),
}
"""By ``model_type``."""

SHAPE_FIELDS = set().union(
    *(family.shape_fields for family in FAMILIES.values()), {"num_shared_experts", "mlp_layer_types"}
)
"""Of any family: a field of another one makes a configuration doubtful."""

EXPERTS = sorted({family.experts for family in FAMILIES.values()})
"""Fields that say how many routed experts there are, of any family."""

TOP_K = ("num_experts_per_tok", "moe_k", "moe_topk", "num_experts_per_token")

NO_ATTENTION = ("mamba", "ssm", "linear_", "rwkv", "attn_layer_", "hybrid_")
"""Beginnings of fields of models whose layers do not all have attention."""

SHAPES = re.compile("moe|expert|interleave|dense|share|mlp|ffn")
"""Parts of names of fields that may say which layers, experts or widths there are."""

HARMLESS = re.compile(
    "rout|aux|loss|dropout|jitter|capacity|score|scoring|norm_topk|group|bias|precision|dtype|ep_size"
)
"""Parts of names of fields that do not, though they have such a part: how tokens are routed, and how it is trained."""

NEXT_TOKENS = "nextn"
"""In names of fields of layers for predicting further tokens, which are not counted."""


def by_fields(config: Mapping[str, Any]) -> Family | str:
    """A family that is not listed, by what its fields are called; or why that leaves a doubt about its layers or experts."""
    experts = [key for key in EXPERTS if config.get(key)]
    chosen = [key for key in TOP_K if config.get(key) is not None]
    for several in (experts, chosen):
        if len(several) > 1:
            return f"has both {' and '.join(several)}"
    if odd := sorted(key for key in config if key.startswith(NO_ATTENTION)):
        return f"has layers that are no attention ({odd[0]})"

    def first(*keys: str) -> str | None:
        return next((key for key in keys if config.get(key) is not None), None)

    family = Family(
        experts=experts[0],
        top_k=chosen[0] if chosen else TOP_K[0],
        expert_width=first("moe_intermediate_size") or "intermediate_size",
        shared_experts=first("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
        shared_width=first("shared_expert_intermediate_size", "shared_intermediate_size"),
        dense=next((kind for kind in Dense if first(*kind.value)), Dense.NONE),
        latent="kv_lora_rank" in config,
    )
    known = {*family.shape_fields, family.expert_width, "intermediate_size"}
    for key, value in sorted(config.items()):
        if value and key not in known and SHAPES.search(key) and not HARMLESS.search(key) and NEXT_TOKENS not in key:
            return f"says {key}={value!r}, which may say what its layers and experts are"
    return family

"""A public MoE's config.json (Hugging Face) in this project's accounting: M, N_a, N, and what its makers count besides.

    read_model(Path("config.json")).total_params

Read are the families that write their experts as Mixtral, Qwen-MoE, OLMoE, DeepSeek (also Kimi) and GLM-4.5 do; attention
is multi-head, grouped-query, or latent (MLA), whose low-rank projections are counted as they are. The paper's N_a and N
leave out embeddings, routers and norms; `all_params` and `all_active_params` count them, as makers mostly do. Layers for
predicting further tokens (MTP) belong to neither. tests/analysis/design/test_public.py holds twelve models against their
makers' numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.files import read_json

EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")
"""Names of the number of routed experts."""


@dataclass(frozen=True, kw_only=True)
class PublicModel:
    """What counts of a public model."""

    name: str
    hidden_size: int
    num_dense_layers: int
    num_moe_layers: int
    ffn_hidden_size: int
    moe_ffn_hidden_size: int
    num_experts: int
    top_k: int
    shared_width: int
    """FFN width of the shared experts together."""
    attention_params: int
    """Of a layer, projections."""
    score_width: int
    """Head size of queries and of values, summed over heads: both 'N_q d_qkv' of a plain model together."""
    other_params: int
    """Of all layers: norms and biases."""
    vocab_size: int
    tied: bool

    @property
    def num_layers(self) -> int:
        """L."""
        return self.num_dense_layers + self.num_moe_layers

    @property
    def active_params(self) -> int:
        """N_a of the paper."""
        expert = 3 * self.hidden_size * (self.top_k * self.moe_ffn_hidden_size + self.shared_width)
        dense = 3 * self.hidden_size * self.ffn_hidden_size
        return self.attention_params * self.num_layers + dense * self.num_dense_layers + expert * self.num_moe_layers

    @property
    def total_params(self) -> int:
        """N of the paper."""
        idle = 3 * self.hidden_size * self.moe_ffn_hidden_size * (self.num_experts - self.top_k)
        return self.active_params + idle * self.num_moe_layers

    @property
    def embedding_params(self) -> int:
        """One table, or two."""
        return self.hidden_size * self.vocab_size * (1 if self.tied else 2)

    @property
    def all_params(self) -> int:
        """With embeddings, routers, norms and biases."""
        router = self.hidden_size * self.num_experts * self.num_moe_layers
        return self.total_params + self.embedding_params + router + self.other_params

    @property
    def all_active_params(self) -> int:
        """Likewise, without the idle experts."""
        return self.all_params - (self.total_params - self.active_params)

    def flops_per_token(self, seq_length: int) -> int:
        """M = 6 N_a + 3 S (query and value widths) L: forward and backward, causal."""
        return 6 * self.active_params + 3 * seq_length * self.score_width * self.num_layers

    @property
    def max_n_over_na(self) -> float:
        """Bound of N/N_a, if every active parameter were an expert's."""
        shared = self.shared_width / self.moe_ffn_hidden_size
        return (self.num_experts + shared) / (self.top_k + shared)


def read_model(path: Path) -> PublicModel:
    """The model of a config.json, named by its file or directory.

    Raises:
        ConfigError: it is missing, torn, of a dense model, or lacks a number.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise ConfigError(
            f"compare={path}: {'no JSON object' if path.exists() else 'it does not exist'}; a config.json of "
            f"Hugging Face is wanted"
        )
    name = path.parent.name if path.stem == "config" and path.parent.name else path.stem
    return model_of(name, config.get("text_config") or config, str(path))


def model_of(name: str, config: dict[str, Any], where: str) -> PublicModel:
    """The model of a parsed config.json.

    Raises:
        ConfigError: it is of a dense model, or lacks a number.
    """

    def number(*keys: str, default: int | None = None) -> int:
        for key in keys:
            value = config.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
            if value is not None:
                raise ConfigError(f"compare={where}: {key}={value!r}, a whole number is wanted")
        if default is None:
            raise ConfigError(f"compare={where}: it has no {' or '.join(keys)}; a config.json of a MoE is wanted")
        return default

    experts = number(*EXPERTS, default=0)
    if experts < 2:
        raise ConfigError(
            f"compare={where}: a dense model (none of {', '.join(EXPERTS)}): a Mixture of Experts is wanted"
        )
    d, layers = number("hidden_size"), number("num_hidden_layers")
    width = number("moe_intermediate_size", "intermediate_size")
    dense = _dense_layers(config, layers, number)
    attention, scores, norms = _attention(config, d, number)
    return PublicModel(
        name=name,
        hidden_size=d,
        num_dense_layers=dense,
        num_moe_layers=layers - dense,
        ffn_hidden_size=number("intermediate_size", default=width),
        moe_ffn_hidden_size=width,
        num_experts=experts,
        top_k=number("num_experts_per_tok"),
        shared_width=number("shared_expert_intermediate_size", default=number("n_shared_experts", default=0) * width),
        attention_params=attention,
        score_width=scores,
        other_params=(norms + 2 * d) * layers + d,
        vocab_size=number("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def _dense_layers(config: dict[str, Any], layers: int, number: Any) -> int:
    step = number("decoder_sparse_step", "moe_layer_freq", default=1)
    first, listed = number("first_k_dense_replace", default=0), config.get("mlp_only_layers") or []
    moe = [at for at in range(layers) if at >= first and at not in listed and (at + 1) % max(1, step) == 0]
    return layers - len(moe)


def _attention(config: dict[str, Any], d: int, number: Any) -> tuple[int, int, int]:
    """Parameters of a layer's projections, width of its scores, and parameters of its norms and biases."""
    heads = number("num_attention_heads")
    if (latent := config.get("kv_lora_rank")) is not None:
        rope, nope, value = number("qk_rope_head_dim"), number("qk_nope_head_dim"), number("v_head_dim")
        rank = number("q_lora_rank", default=0)
        queries = (d + heads * (nope + rope)) * rank if rank else d * heads * (nope + rope)
        keys = d * (latent + rope) + latent * heads * (nope + value)
        return queries + keys + heads * value * d, heads * (nope + rope + value), rank + latent
    size = number("head_dim", default=d // heads)
    groups = number("num_key_value_heads", default=heads)
    bias = (heads + 2 * groups) * size if config.get("attention_bias") or config.get("qkv_bias") else 0
    return 2 * d * size * (heads + groups), 2 * heads * size, bias + _head_norms(config, heads, groups, size)


def _head_norms(config: dict[str, Any], heads: int, groups: int, size: int) -> int:
    """Norms of queries and keys: one a head size (Qwen3, GLM), or over all heads (OLMoE)."""
    kind = config.get("model_type")
    if kind == "olmoe":
        return (heads + groups) * size
    return 2 * size if kind == "qwen3_moe" or config.get("use_qk_norm") else 0

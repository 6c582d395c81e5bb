"""What a model is: the `Backbone` that a study holds fixed, and the `Architecture` that it varies.

Names follow the paper's section 3 and Table 1; the symbol stands in each field's docstring.
"""

from dataclasses import dataclass

from harness.errors import ConfigError

MOST = {
    "num_query_heads": 2**16, "num_kv_heads": 2**16, "head_dim": 2**16, "seq_length": 2**30, "num_experts": 2**20,
    "top_k": 2**20, "num_shared_experts": 2**16, "ffn_ratio": 1e4, "vocab_size": 2**30, "vocab_divisor": 2**30,
}  # fmt: skip
"""Largest values, far beyond any model: more is a slip of the pen, and counts stay within 64-bit integers."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What all models of a study at one budget have in common (paper, section 3.4 and Table 4)."""

    num_query_heads: int
    """N_q."""
    num_kv_heads: int
    """N_kv; divides N_q (grouped-query attention)."""
    head_dim: int
    """d_qkv; independent of the hidden size (N_q d_qkv != d in general)."""
    seq_length: int = 8192
    """S, tokens."""
    num_experts: int = 288
    """N_e, routed experts of a MoE layer."""
    top_k: int = 8
    """K, routed experts that a token visits."""
    num_shared_experts: int = 1
    """Experts that every token visits, each as wide as a routed one."""
    ffn_ratio: float = 3.0
    """gamma = d_d / d, width of a dense layer's FFN over the hidden size."""
    ffn_aligned: bool = False
    """d_d = (K + shared) d_m instead, as wide as the active experts together (Appendix A); `ffn_ratio` is then unused."""
    vocab_size: int = 152064
    """V, with the end-of-document token."""
    vocab_divisor: int = 128
    """The embedding tables are padded to a multiple of this many rows."""
    qk_norm: bool = False
    """RMSNorm on each head's queries and keys."""
    rotary_base: float = 10000.0
    """RoPE base."""
    norm_epsilon: float = 1e-5
    """RMSNorm epsilon."""
    router_score_function: str = "softmax"
    """``softmax`` or ``sigmoid`` over the routed experts."""

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            if not getattr(self, name) <= most:
                raise ConfigError(f"backbone.{name} is {getattr(self, name):g}: it must be at most {most:g}")
        for name in ("num_query_heads", "num_kv_heads", "head_dim", "seq_length", "num_experts", "top_k", "vocab_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"backbone.{name} is {getattr(self, name)}: it must be at least 1")
        for name in ("ffn_ratio", "rotary_base", "norm_epsilon", "vocab_divisor"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"backbone.{name} is {getattr(self, name)}: it must be above 0")
        if self.num_shared_experts < 0:
            raise ConfigError(f"backbone.num_shared_experts is {self.num_shared_experts}: it must be at least 0")
        if self.num_query_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_query_heads={self.num_query_heads} is not a multiple of num_kv_heads={self.num_kv_heads}: "
                "each key/value head serves the same number of query heads"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim={self.head_dim} is odd: rotary embedding pairs its dimensions")
        if self.top_k > self.num_experts:
            raise ConfigError(f"top_k={self.top_k} is more than num_experts={self.num_experts}")
        if self.router_score_function not in ("softmax", "sigmoid"):
            raise ConfigError(f"router_score_function={self.router_score_function!r}: it must be softmax or sigmoid")

    @property
    def active_experts(self) -> int:
        """K + shared: expert FFNs that a token passes in a MoE layer."""
        return self.top_k + self.num_shared_experts

    @property
    def idle_experts(self) -> int:
        """N_e - K: routed experts of a layer that a token does not visit."""
        return self.num_experts - self.top_k

    @property
    def max_n_over_na(self) -> float:
        """Upper bound of N/N_a, (N_e + shared)/(K + shared): reached if every active parameter were an expert's."""
        return (self.num_experts + self.num_shared_experts) / self.active_experts

    @property
    def padded_vocab_size(self) -> int:
        """V rounded up to a multiple of `vocab_divisor`, rows of each embedding table (without tensor parallelism)."""
        return -(-self.vocab_size // self.vocab_divisor) * self.vocab_divisor


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One model's free numbers; with a `Backbone` they determine it entirely. Dense layers come first."""

    hidden_size: int
    """d."""
    num_dense_layers: int
    """L_d."""
    num_moe_layers: int
    """L_m."""
    ffn_hidden_size: int
    """d_d, width of a dense layer's FFN."""
    moe_ffn_hidden_size: int
    """d_m, width of one expert."""

    @property
    def num_layers(self) -> int:
        """L = L_d + L_m."""
        return self.num_dense_layers + self.num_moe_layers

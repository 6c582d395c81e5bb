"""Parameters and FLOPs of an architecture (paper, Appendix A and Eq. 3, as corrected in docs/paper.md).

The paper's counts leave out embeddings, the router and norms; `M` is forward and backward together. Each formula works
on numbers and, elementwise, on numpy arrays of them, so that the solver prices every width of a study at once.
"""

from dataclasses import dataclass

from harness.architecture import Architecture, Backbone


def attention_params[Number](backbone: Backbone, hidden_size: Number) -> Number:
    """P_attn = 2 d d_qkv (N_q + N_kv), parameters of one layer's query, key, value and output projections."""
    return 2 * hidden_size * backbone.head_dim * (backbone.num_query_heads + backbone.num_kv_heads)  # type: ignore


def score_flops[Number](backbone: Backbone, num_layers: Number) -> Number:
    """6 S N_q d_qkv L, training FLOPs per token of causal attention's scores and weighted sums."""
    return 6 * backbone.seq_length * backbone.num_query_heads * backbone.head_dim * num_layers  # type: ignore


def active_params[Number](
    backbone: Backbone, d: Number, l_dense: Number, l_moe: Number, d_ffn: Number, d_expert: Number
) -> Number:
    """N_a = P_attn L + 3 d d_d L_d + 3 d d_m (K+1) L_m (Eq. 3)."""
    attention = attention_params(backbone, d) * (l_dense + l_moe)  # type: ignore
    return attention + 3 * d * d_ffn * l_dense + 3 * d * d_expert * backbone.active_experts * l_moe  # type: ignore


def idle_params[Number](backbone: Backbone, d: Number, l_moe: Number, d_expert: Number) -> Number:
    """N - N_a = 3 d d_m (N_e - K) L_m (Eq. 3)."""
    return 3 * d * d_expert * backbone.idle_experts * l_moe  # type: ignore


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What an architecture costs. Parameters are counts, FLOPs are training FLOPs (forward and backward) per token."""

    active_params: int
    """N_a."""
    total_params: int
    """N."""
    flops_per_token: int
    """M = 6 N_a + 6 S N_q d_qkv L."""
    embedding_params: int
    """Input and output tables, untied: 2 d V_padded."""
    megatron_params: int
    """What Megatron allocates: N with embeddings, routers and norms."""
    megatron_flops_per_token: int
    """What Megatron counts: M + 6 d V_padded."""
    r_attention: float
    """Share of M spent in attention, projections and scores (r_a)."""
    r_dense: float
    """Share of M spent in dense FFNs (r_d)."""
    r_moe: float
    """Share of M spent in experts (r_m)."""

    @property
    def m_over_na(self) -> float:
        """M/N_a, compute density; always above 6."""
        return self.flops_per_token / self.active_params

    @property
    def n_over_na(self) -> float:
        """N/N_a, expansion ratio."""
        return self.total_params / self.active_params


def count(backbone: Backbone, architecture: Architecture) -> Counts:
    """Count `architecture` on `backbone`, exactly (integers)."""
    d, layers = architecture.hidden_size, architecture.num_layers
    l_dense, l_moe = architecture.num_dense_layers, architecture.num_moe_layers
    d_ffn, d_expert = architecture.ffn_hidden_size, architecture.moe_ffn_hidden_size
    active = active_params(backbone, d, l_dense, l_moe, d_ffn, d_expert)
    total = active + idle_params(backbone, d, l_moe, d_expert)
    scores = score_flops(backbone, layers)
    flops = 6 * active + scores
    embedding = 2 * d * backbone.padded_vocab_size
    norms = (2 * layers + 1) * d + (2 * backbone.head_dim * layers if backbone.qk_norm else 0)
    return Counts(
        active_params=active,
        total_params=total,
        flops_per_token=flops,
        embedding_params=embedding,
        megatron_params=total + embedding + norms + d * backbone.num_experts * l_moe,
        megatron_flops_per_token=flops + 6 * d * backbone.padded_vocab_size,
        r_attention=(6 * attention_params(backbone, d) * layers + scores) / flops,
        r_dense=18 * d * d_ffn * l_dense / flops,
        r_moe=18 * d * d_expert * backbone.active_experts * l_moe / flops,
    )

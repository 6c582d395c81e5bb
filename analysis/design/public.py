"""A public MoE in this project's accounting: M, N_a, N, and what its makers count besides.

Attention is multi-head, grouped-query, or latent (MLA), whose low-rank projections are counted as they are. The paper's N_a and N
leave out embeddings, routers and norms; `all_params` and `all_active_params` count them, as makers mostly do. Layers for
predicting further tokens (MTP) belong to neither. `analysis.design.config_json` reads the model from its makers' file, and
tests/analysis/design/test_public.py holds twelve models against their makers' numbers.
"""

from dataclasses import dataclass


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
    notes: tuple[str, ...] = ()
    """What was assumed of its file, in sentences."""

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

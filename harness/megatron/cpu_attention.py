"""Megatron's local core attention computed by torch's fused kernel (for `harness.megatron.cpu.decoder_spec`)."""

from typing import Any

import torch
from megatron.core.transformer.dot_product_attention import DotProductAttention
from torch.nn.functional import scaled_dot_product_attention


class FusedAttention(DotProductAttention):  # type: ignore[misc]
    """Causal grouped-query attention without dropout, for packed-free batches.

    Takes and returns what Megatron's class does: query [S, B, N_q, d_qkv], key and value [S, B, N_kv, d_qkv], result
    [S, B, N_q d_qkv]. The difference to the unfused class is rounding (tests compare both).
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.config.attention_dropout:
            raise ValueError(f"attention dropout {self.config.attention_dropout}: this attention has none; use 0")

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Attend causally."""
        # [S, B, heads, dim] -> [B, heads, S, dim]
        query, key, value = (tensor.permute(1, 2, 0, 3) for tensor in (query, key, value))
        context = scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=self.softmax_scale, enable_gqa=True
        )
        return context.permute(2, 0, 1, 3).flatten(start_dim=2)

"""Megatron's local layers with torch's fused attention: the value of ``--spec harness.megatron.local_attention decoder_spec``.

Used where Transformer Engine is not: on a CPU the unfused softmax(QK)V was the largest single cost of a step, and on a GPU it
holds S x S scores, which torch's flash kernel does not.
"""

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


def decoder_spec(config: Any, vp_stage: int | None = None) -> Any:
    """Megatron's own local decoder block with `FusedAttention` in the place of the unfused one."""
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec

    block = get_gpt_decoder_block_spec(
        config.transformer,
        use_transformer_engine=False,
        normalization=config.transformer.normalization,
        qk_l2_norm=config.transformer.qk_l2_norm,
        vp_stage=vp_stage,
    )
    for layer in block.layer_specs:
        layer.submodules.self_attention.submodules.core_attention = FusedAttention
    return block

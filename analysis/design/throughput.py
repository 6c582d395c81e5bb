"""How fast an architecture trains compared with another one: a roofline over its GEMMs with part-filled tiles.

Nothing here is measured, and only ratios mean anything. Each GEMM of a micro-batch takes the longer of its FLOPs over the
GPU's peak and the bytes of its operands over the memory's bandwidth. Its sides are first rounded up to whole tiles: rows and
columns to 128 (a thread block's tile of an H100's GEMM), the inner side to 64. A width off the tiles pays for the part that it
does not use; that is all that this model knows of hardware-friendly widths. Not in it: launches, communication, pipeline
bubbles, load imbalance, the optimizer, and everything that a real kernel does better or worse. `benchmarks/gemm_shapes.py`
has the same work without tiles, GEMM by GEMM.
"""

from dataclasses import dataclass

from harness.architecture import Architecture, Backbone
from harness.cluster import Cluster, Layout

TILE_ROWS, TILE_COLUMNS, TILE_INNER = 128, 128, 64

BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12, "A100": 2.04e12, "B200": 8.0e12}
"""Bytes a second of the memory, of the makers' data sheets, by ``cluster.gpu``."""

FLOPS_PER_BYTE = 295.0
"""Peak over bandwidth of a GPU that is not listed: the H100's."""

BF16, FP32 = 2, 4


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the roofline knows of a GPU and its share of the work."""

    peak: float
    """FLOP/s."""
    bandwidth: float
    """Bytes a second."""
    expert_parallel: int
    tensor_parallel: int
    tokens: int
    """Of a micro-batch."""

    @classmethod
    def of(cls, cluster: Cluster, layout: Layout | None, seq_length: int) -> "Machine":
        """From the cluster and the design's layout; without one, experts on one GPU and a sequence a micro-batch."""
        return cls(
            peak=cluster.peak_flops,
            bandwidth=BANDWIDTH.get(cluster.gpu, cluster.peak_flops / FLOPS_PER_BYTE),
            expert_parallel=layout.expert_parallel if layout else 1,
            tensor_parallel=layout.tensor_parallel if layout else 1,
            tokens=seq_length * (layout.micro_batch_size if layout and layout.gpus else 1),
        )

    def gemm(self, rows: float, inner: float, columns: float) -> float:
        """Seconds of a GEMM with its two gradients."""
        padded = _up(rows, TILE_ROWS) * _up(inner, TILE_INNER) * _up(columns, TILE_COLUMNS)
        moved = 3 * rows * (inner + columns) * BF16 + inner * columns * (2 * BF16 + 2 * FP32)
        return max(6 * padded / self.peak, moved / self.bandwidth)

    def seconds_per_token(self, backbone: Backbone, model: Architecture) -> float:
        """Seconds of a GPU for a token, all layers and the output layer."""
        tokens, d, tensor = self.tokens, model.hidden_size, self.tensor_parallel
        query = backbone.num_query_heads * backbone.head_dim / tensor
        values = backbone.num_kv_heads * backbone.head_dim / tensor
        scores = 7 * backbone.seq_length * query * tokens / self.peak
        attention = self.gemm(tokens, d, query + 2 * values) + self.gemm(tokens, query, d) + scores
        d_ffn = model.ffn_hidden_size / tensor
        dense = self.gemm(tokens, d, 2 * d_ffn) + self.gemm(tokens, d_ffn, d)
        width, routed = model.moe_ffn_hidden_size, tokens * backbone.top_k
        local = backbone.num_experts / self.expert_parallel
        each = routed / local
        experts = local * (self.gemm(each, d, 2 * width) + self.gemm(each, width, d))
        shared = width * backbone.num_shared_experts / tensor
        if shared:
            experts += self.gemm(tokens, d, 2 * shared) + self.gemm(tokens, shared, d)
        passes = (8 * routed * (d + width) + 16 * tokens * d) * BF16 / self.bandwidth
        moe = experts + passes + self.gemm(tokens, d, backbone.num_experts)
        output = self.gemm(tokens, d, backbone.padded_vocab_size / tensor)
        total = model.num_layers * attention + model.num_dense_layers * dense + model.num_moe_layers * moe + output
        return total / tokens


def _up(number: float, step: int) -> float:
    return -(-number // step) * step

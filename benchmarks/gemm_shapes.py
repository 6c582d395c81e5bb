"""What bounds the MFU at the 1e19 optimum, from GEMM shapes and bytes alone: ``python benchmarks/gemm_shapes.py``.

Takes the architecture of the paper's table 18 (M/N_a = 9.23, N/N_a = 22, the lower median of its widths) and prints, for one
micro-batch, every GEMM with its FLOPs (forward and backward), the least bytes that it moves, and the time that a roofline gives:
the longer of FLOPs over the peak and bytes over the bandwidth. Nothing here was measured; the assumptions are printed with it.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.accounting import count
from harness.architecture import Architecture, Backbone

TABLE = Path(__file__).parent.parent / "tests/harness/published_architectures.csv"

BF16, FP32 = 2, 4

ASSUMPTIONS = """\
Assumptions: {name}: {peak:.4g} dense bf16 FLOP/s, {bandwidth:.4g} B/s; every GEMM reaches the peak or the bandwidth;
weights, inputs and outputs each cross the memory once a GEMM in bf16, weight gradients are read and written in fp32; tokens are
spread evenly over experts; the router's GEMM has bf16 inputs and fp32 outputs (Transformer Engine); causal flash attention at the
peak, recomputing scores once; activations and logits cross the memory as often as listed; no time for kernel launches,
communication, load imbalance, or the part-filled tiles of small GEMMs."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """A GPU's data sheet."""

    name: str = "H100 SXM 80 GB"
    peak: float = 989.5e12
    bandwidth: float = 3.35e12


@dataclass(frozen=True, kw_only=True)
class Work:
    """Something that a micro-batch does `times` times on one GPU, forward and backward together."""

    name: str
    times: int
    shape: str
    flops: float
    bytes: float

    def seconds(self, device: Device) -> float:
        """Of all `times`, at the roofline."""
        return self.times * max(self.flops / device.peak, self.bytes / device.bandwidth)


def gemm(name: str, times: int, rows: float, inner: int, columns: int) -> Work:
    """``[rows, inner] x [inner, columns]`` with its two gradients."""
    activations = rows * (inner + columns)
    moved = 3 * activations * BF16 + inner * columns * (2 * BF16 + 2 * FP32)
    shape = f"{rows:,.0f} x {inner} x {columns}"
    return Work(name=name, times=times, shape=shape, flops=6 * rows * inner * columns, bytes=moved)


def passes(name: str, times: int, elements: float, number: float, size: int = BF16) -> Work:
    """`number` reads or writes of a tensor."""
    return Work(name=name, times=times, shape=f"{elements:,.0f} x {number:g}", flops=0, bytes=elements * number * size)


def works(
    backbone: Backbone, model: Architecture, expert_parallel: int, micro_batch: int, steps: int
) -> Iterator[Work]:
    """All work of one micro-batch on one of `expert_parallel` GPUs; `steps`: micro-batches an optimizer step."""
    tokens, d = micro_batch * backbone.seq_length, model.hidden_size
    layers, dense, moe = model.num_layers, model.num_dense_layers, model.num_moe_layers
    query, values = backbone.num_query_heads * backbone.head_dim, backbone.num_kv_heads * backbone.head_dim
    experts = backbone.num_experts // expert_parallel
    routed = tokens * backbone.top_k  # rows that arrive at a GPU, all ranks having the same number of tokens
    each = routed / experts
    width, padded = model.moe_ffn_hidden_size, backbone.padded_vocab_size
    yield gemm("attention in", layers, tokens, d, query + 2 * values)
    yield gemm("attention out", layers, tokens, query, d)
    scores = 7 * backbone.seq_length * query * tokens  # causal: half of two products forward, five backward
    yield Work(
        name="attention scores", times=layers, shape="flash, causal", flops=scores, bytes=10 * tokens * query * BF16
    )
    yield gemm("dense FFN in", dense, tokens, d, 2 * model.ffn_hidden_size)
    yield gemm("dense FFN out", dense, tokens, model.ffn_hidden_size, d)
    yield gemm("router", moe, tokens, d, backbone.num_experts)
    yield gemm("expert in", moe * experts, each, d, 2 * width)
    yield gemm("expert out", moe * experts, each, width, d)
    yield gemm("shared expert in", moe, tokens, d, 2 * width)
    yield gemm("shared expert out", moe, tokens, width, d)
    yield gemm("output layer", 1, tokens, d, padded)
    yield passes("norms and residuals", layers, tokens * d, 2 * 5 + 2 * 3)
    yield passes("SwiGLU", moe, (routed + tokens) * width, 8)
    yield passes("SwiGLU, dense", dense, tokens * model.ffn_hidden_size, 8)
    yield passes("to experts and back", moe, routed * d, 8)
    yield passes("logits and their loss", 1, tokens * padded, 6)
    counts = count(backbone, model)
    state = (counts.total_params + counts.embedding_params) / expert_parallel  # the distributed optimizer shards it
    # gradient read, zeroed; master weight and two moments read and written; bf16 weight written
    yield passes("optimizer, its share", 1, state / steps, 4 + 4 + 24 + 2, 1)


def published() -> tuple[Backbone, Architecture]:
    """Table 18's lower median width at the 1e19 optimum."""
    with TABLE.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "18" and row["compute"] == "1e19"]
    row = sorted(rows, key=lambda row: int(row["hidden_size"]))[(len(rows) - 1) // 2]
    backbone = Backbone(num_query_heads=8, num_kv_heads=4, head_dim=64)  # Table 4 at 1e19
    d = int(row["hidden_size"])
    return backbone, Architecture(
        hidden_size=d,
        num_dense_layers=int(row["num_dense_layers"]),
        num_moe_layers=int(row["num_moe_layers"]),
        ffn_hidden_size=3 * d,
        moe_ffn_hidden_size=int(row["moe_ffn_hidden_size"]),
    )


def bound(all_works: list[Work], useful: float, device: Device) -> float:
    """Most MFU that the roofline leaves, `useful` being Megatron's FLOPs of the micro-batch."""
    return useful / device.peak / sum(work.seconds(device) for work in all_works)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expert-parallel", type=int, default=1)
    parser.add_argument("--micro-batch", type=int, default=1, help="sequences")
    own = parser.parse_args()
    device, (backbone, model) = Device(), published()
    counts = count(backbone, model)
    print(
        f"{model}\nM {counts.flops_per_token:.4g}, with the output layer {counts.megatron_flops_per_token:.4g} FLOPs a token;",
        end="",
    )
    print(f" M/N_a {counts.m_over_na:.3f}, N/N_a {counts.n_over_na:.2f}, N {counts.total_params:.4g}\n")
    print(ASSUMPTIONS.format(**vars(device)))
    global_batch = 128

    def of(expert_parallel: int, micro_batch: int) -> tuple[list[Work], float]:
        steps = max(1, global_batch // (micro_batch * expert_parallel))
        useful = counts.megatron_flops_per_token * micro_batch * backbone.seq_length
        return list(works(backbone, model, expert_parallel, micro_batch, steps)), useful

    all_works, useful = of(own.expert_parallel, own.micro_batch)
    total = sum(work.seconds(device) for work in all_works)
    print(
        f"\nOne micro-batch of {own.micro_batch} x {backbone.seq_length} tokens, experts over {own.expert_parallel} GPU(s):"
    )
    heads = f"{'TFLOP':>7s} {'GB':>7s} {'FLOP/B':>7s} {'bound by':>9s} {'ms':>7s} {'share':>6s}"
    print(f"{'':22s} {'times':>6s} {'rows x inner x columns':>24s} {heads}")
    for work in all_works:
        compute_bound = work.flops / device.peak > work.bytes / device.bandwidth
        print(
            f"{work.name:22s} {work.times:6d} {work.shape:>24s} {work.times * work.flops / 1e12:7.3f} "
            f"{work.times * work.bytes / 1e9:7.2f} {work.flops / work.bytes:7.0f} {'FLOPs' if compute_bound else 'bytes':>9s} "
            f"{work.seconds(device) * 1e3:7.3f} {work.seconds(device) / total:6.1%}"
        )
    print(f"{'total':22s} {'':6s} {'':24s} {useful / 1e12:7.3f} useful {'':17s} {total * 1e3:7.3f}")
    print("\nBound on the MFU by micro-batch (rows) and GPUs that experts are spread over (columns):")
    sizes, spreads = (1, 2, 4), (1, 2, 4, 8)
    print("         " + "".join(f"{spread:>8d}" for spread in spreads))
    for size in sizes:
        print(f"{size:8d} " + "".join(f"{bound(*of(spread, size), device):8.1%}" for spread in spreads))


if __name__ == "__main__":
    main()

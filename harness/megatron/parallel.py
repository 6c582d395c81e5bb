"""The flags that follow from a `Layout`: batch, parallelism and recomputation."""

from harness.resources import Layout

RECOMPUTE = {
    "none": (),
    "selective": ("--recompute-granularity", "selective", "--recompute-modules", "layernorm", "moe_act"),
    "moe": ("--recompute-granularity", "selective", "--recompute-modules", "moe"),
    "full": ("--recompute-granularity", "full", "--recompute-method", "uniform", "--recompute-num-layers", "1"),
}
"""Flags by `Layout.recompute`."""


def parallel_flags(layout: Layout) -> list[str]:
    """Flags of a layout, on any device."""
    flags = [
        *("--micro-batch-size", str(layout.micro_batch_size)),
        *("--tensor-model-parallel-size", str(layout.tensor_parallel)),
        *("--pipeline-model-parallel-size", str(layout.pipeline_parallel)),
        *("--expert-model-parallel-size", str(layout.expert_parallel)),
    ]
    if layout.tensor_parallel > 1:
        # an expert is too narrow to be cut: each rank holds whole experts (Megatron's default would be TP)
        flags += ["--expert-tensor-parallel-size", "1", "--sequence-parallel"]
    return [*flags, *RECOMPUTE[layout.recompute]]

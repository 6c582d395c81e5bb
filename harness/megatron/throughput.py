"""What a run got out of its device: achieved FLOP/s and memory, for result.json and for later bills (`harness.measured`)."""

from typing import Any

PEAK_BF16_FLOPS = {"H100": 989.5e12, "H200": 989.5e12, "A100": 312e12, "B200": 2250e12}
"""Dense bf16 FLOP/s by a part of the device's name (NVIDIA's data sheets, SXM)."""


def throughput(args: Any, flops_per_token: float | None, tokens_per_second: float | None) -> dict[str, Any]:
    """Entries of result.json.

    Args:
        args: Megatron's.
        flops_per_token: in Megatron's count, with the output layer.
        tokens_per_second: of the whole run, over the median step.

    Returns:
        device (``cpu`` or the GPU's name), gpus, precision, recompute (one of `harness.memory.RECOMPUTE`), tflops_per_gpu
        (achieved; of each process on a CPU), mfu (None where the device's peak is not known), peak_memory_bytes (the most that
        torch allocated on this rank's GPU; None on a CPU).
    """
    import torch

    on_gpu = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    achieved = flops_per_token * tokens_per_second / args.world_size if flops_per_token and tokens_per_second else None
    peak = next((peak for part, peak in PEAK_BF16_FLOPS.items() if part in device), None)
    return {
        "device": device,
        "gpus": args.world_size if on_gpu else 0,
        "precision": "bf16" if args.bf16 else "fp32",
        "recompute": _recompute(args),
        "tflops_per_gpu": achieved / 1e12 if achieved else None,
        "mfu": achieved / peak if achieved and peak else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
    }


def _recompute(args: Any) -> str:
    if args.recompute_granularity is None:
        return "none"
    return "moe" if "moe" in (args.recompute_modules or ()) else str(args.recompute_granularity)

"""Megatron flags through Megatron's real parser, in a process of its own: ``python -m harness.megatron.parsed < request.json``.

    parse(flags, world_size)   ->   {"parameters": {...}} or {"error": "..."}

The request is ``{"flags": [...], "world_size": n}``; nothing is trained and no GPU is needed.
"""

import json
import os
import subprocess
import sys
from typing import Any

SHOWN = (
    "num_layers", "hidden_size", "ffn_hidden_size", "moe_ffn_hidden_size", "num_attention_heads", "num_query_groups",
    "kv_channels", "seq_length", "num_experts", "moe_router_topk", "train_iters", "global_batch_size", "micro_batch_size",
    "lr", "lr_decay_style", "tensor_model_parallel_size", "pipeline_model_parallel_size", "expert_model_parallel_size",
)  # fmt: skip
"""Arguments that are given back."""


def parse(flags: list[str], world_size: int) -> dict[str, Any]:
    """What Megatron reads from `flags` on `world_size` GPUs: some of its arguments, and its FLOPs a token; or why it refuses."""
    request = json.dumps({"flags": flags, "world_size": max(1, world_size)})
    done = subprocess.run(
        [sys.executable, "-m", "harness.megatron.parsed"], input=request, capture_output=True, text=True, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        return {"error": " ".join(last) or f"exit code {done.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def main() -> None:
    """Parse the request on standard input."""
    request = json.load(sys.stdin)
    os.environ |= {"WORLD_SIZE": str(request["world_size"]), "LOCAL_RANK": "0"}
    os.environ["RANK"] = "100000"  # never the last one, which would start W&B
    from harness.megatron import environment

    environment.preload()
    sys.argv = ["pretrain", *request["flags"]]
    from megatron.training.arguments import parse_and_validate_args
    from megatron.training.training import num_floating_point_operations

    args = parse_and_validate_args()
    flops = num_floating_point_operations(args, 1) / args.seq_length
    print(json.dumps({"parameters": {name: getattr(args, name) for name in SHOWN}, "flops_per_token": flops}))


if __name__ == "__main__":
    main()

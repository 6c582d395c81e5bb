"""What Megatron says of layouts: ``python -m tests.megatron.probe_layouts '[[1e18, 0, {"gpus": 8, ...}], ...]'``.

For each (budget, row of phase 1, layout): through the real argument parser, ``num_floating_point_operations`` and
``theoretical_memory_usage``; from a real ``GPTModel`` on the meta device, the parameters of every pipeline stage. Process groups
of any size without other processes come from torch's fake backend.
"""

import io
import json
import os
import sys
from contextlib import redirect_stdout

from harness.megatron import environment

environment.preload()

import torch  # noqa: E402
from megatron.core import parallel_state  # noqa: E402
from megatron.core.process_groups_config import ProcessGroupCollection  # noqa: E402
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed  # noqa: E402
from megatron.training import global_vars, theoretical_memory_usage  # noqa: E402
from megatron.training.argument_utils import gpt_config_from_args  # noqa: E402
from megatron.training.arguments import parse_and_validate_args  # noqa: E402
from megatron.training.models.gpt import GPTModelBuilder  # noqa: E402
from megatron.training.training import num_floating_point_operations  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402

from harness.cli import compose  # noqa: E402
from harness.megatron.argv import megatron_argv  # noqa: E402
from harness.resources import Layout  # noqa: E402
from harness.sweep import plan, run_paths  # noqa: E402

WITHOUT_GPU = {
    "transformer_impl": "local", "gradient_accumulation_fusion": False, "apply_rope_fusion": False, "spec": None,
    "moe_permute_fusion": False, "moe_grouped_gemm": False, "no_persist_layer_norm": True, "sequence_parallel": False,
    "masked_softmax_fusion": False, "bias_swiglu_fusion": False, "cross_entropy_loss_fusion": False,
    "perform_initialization": False, "use_cpu_initialization": True, "init_model_with_meta_device": False,
    "recompute_granularity": None, "recompute_method": None, "recompute_num_layers": None,
}  # fmt: skip


def stage_params(args, layout: Layout, stage: int) -> tuple[int, int]:
    """Parameters of one rank of a pipeline stage: (all but the routed experts, its routed experts)."""
    rank = stage * (layout.gpus // layout.pipeline_parallel)
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=rank, world_size=layout.gpus)
    parallel_state.initialize_model_parallel(
        layout.tensor_parallel,
        layout.pipeline_parallel,
        expert_model_parallel_size=layout.expert_parallel,
        expert_tensor_parallel_size=1,
        create_gloo_process_groups=False,
    )
    model_parallel_cuda_manual_seed(1)
    for name, value in WITHOUT_GPU.items():
        setattr(args, name, value)
    real = torch.empty
    with torch.device("meta"):
        config = gpt_config_from_args(args)
        config.finalize()
        torch.empty = lambda *a, **k: real(*a, **(k | {"device": "meta"}))
        groups = ProcessGroupCollection.use_mpu_process_groups()
        model = GPTModelBuilder(config).build_model(groups, stage == 0, stage == layout.pipeline_parallel - 1)
        torch.empty = real
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    experts = sum(size for name, size in sizes.items() if ".experts." in name and "shared" not in name)
    parallel_state.destroy_model_parallel()
    torch.distributed.destroy_process_group()
    return sum(sizes.values()) - experts, experts


def main() -> None:
    """Print one JSON line a layout, after the word ROW."""
    os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0"
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # Megatron asks for it where TP > 1
    sweep = plan(compose("sweep", ["phase=1", "scale=all"]))
    for compute, number, values in json.loads(sys.argv[1]):
        experiment = [row.point.experiment for row in sweep.rows if row.point.compute == compute][number]
        layout = Layout(**{"gpus_per_node": min(8, values["gpus"]), "eval_micro_batch_size": 1} | values)
        os.environ["WORLD_SIZE"] = str(layout.gpus)
        paths = run_paths(sweep.root, experiment.run_id, None)
        sys.argv = ["pretrain", *megatron_argv(experiment, layout, paths)]
        args = parse_and_validate_args()
        micro_batches = args.global_batch_size // (args.data_parallel_size * args.micro_batch_size)
        with redirect_stdout(io.StringIO()):
            row = {
                "flops": num_floating_point_operations(args, 1) / args.seq_length,
                "states": theoretical_memory_usage.compute_weight_and_optimizer_memory(args),
                "activations": theoretical_memory_usage.compute_activation_memory(args, micro_batches),
                "activations_without_sp": theoretical_memory_usage.compute_activation_memory_without_sp(
                    args, micro_batches
                ),
                "recompute": [args.recompute_granularity, args.recompute_modules],
                "expert_tensor_parallel": args.expert_tensor_parallel_size,
                "params": [stage_params(args, layout, stage) for stage in range(layout.pipeline_parallel)],
            }
        print("ROW", json.dumps(row))
        global_vars.unset_global_variables()


if __name__ == "__main__":
    main()

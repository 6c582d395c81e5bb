"""The emitted flags, held against Megatron's own parser, model and accounting."""

import json

import pytest

from tests.conftest import command

CHECK = """
import json, os, sys
os.environ["WORLD_SIZE"], os.environ["RANK"], os.environ["LOCAL_RANK"] = "1", "0", "0"
from harness.megatron import environment
environment.preload()
import torch
from harness.cli import compose
from harness.megatron.argv import Paths, megatron_argv
from harness.resources import layout
from harness.sweep import plan, run_paths
from megatron.training import global_vars
from megatron.training.arguments import parse_and_validate_args
from megatron.training.argument_utils import gpt_config_from_args
from megatron.training.training import num_floating_point_operations
from megatron.core import parallel_state
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
parallel_state.initialize_model_parallel()
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed
model_parallel_cuda_manual_seed(1)
from megatron.core.process_groups_config import ProcessGroupCollection

for overrides, picks in json.loads(sys.argv[1]):
  sweep = plan(compose("sweep", overrides))
  for row in [sweep.rows[index % len(sweep.rows)] for index in picks]:
    experiment = row.point.experiment
    os.environ["WORLD_SIZE"] = str(max(1, row.layout.gpus))
    sys.argv = ["pretrain", *megatron_argv(experiment, row.layout, run_paths(sweep.root, row.run_id, sweep.data_path))]
    args = parse_and_validate_args()
    flops = num_floating_point_operations(args, 1) / args.seq_length
    # on the meta device, with the kernels that need no GPU: the parameters are the same
    for name, value in {"transformer_impl": "local", "gradient_accumulation_fusion": False, "apply_rope_fusion": False,
                        "moe_permute_fusion": False, "moe_grouped_gemm": False, "no_persist_layer_norm": True,
                        "expert_model_parallel_size": 1, "masked_softmax_fusion": False, "spec": None,
                        "bias_swiglu_fusion": False, "cross_entropy_loss_fusion": False, "perform_initialization": False,
                        "recompute_granularity": None,
                        "use_cpu_initialization": True, "init_model_with_meta_device": False}.items():
        setattr(args, name, value)
    with torch.device("meta"):
        config = gpt_config_from_args(args)
        config.finalize()
        from megatron.training.models.gpt import GPTModelBuilder
        torch.empty, real = (lambda *a, **k: real(*a, **(k | {"device": "meta"}))), torch.empty
        model = GPTModelBuilder(config).build_model(ProcessGroupCollection.use_mpu_process_groups(), True, True)
        torch.empty = real
    parameters = {name: p.numel() for name, p in model.named_parameters()}
    rest = sum(n for name, n in parameters.items()
               if "embedding" in name or "output_layer" in name or "router" in name or "norm" in name)
    print("ROW", json.dumps({"id": row.run_id, "flops": flops, "expected_flops": experiment.counts.megatron_flops_per_token,
          "parameters": sum(parameters.values()), "expected_parameters": experiment.counts.megatron_params,
          "counted": sum(parameters.values()) - rest, "expected_counted": experiment.counts.total_params}))
    global_vars.unset_global_variables()
"""


PUBLISHED = [  # of all six budgets: 12 of phase 1, 12 of phase 2 (its ends, the row d = 600 of table 17), 6 of 5.3, 5 of 4.3
    (["phase=1"], [0, 35, 36, 71, 72, 107, 108, 143, 144, 179, 180, 215]),
    (["phase=2"], [0, 53, 54, 63, 93, 94, 133, 134, 176, 177, 219, 257]),
    (["phase=refine"], [0, 13, 20, 28, 35, 48]),
    (["phase=rank"], [0, 40, 80, 120, 143]),
]
OTHER_STUDIES = [
    (["phase=ratio"], [0, 12, 29]),
    (["phase=dense_share"], [0, 41]),
    (["phase=granularity"], [0, 41]),
    (["phase=hyperparameters"], [0, 149]),
    (["phase=classical"], [0, 14, 29]),
    (["phase=2", "scale=2e19", "m_over_na=8.9", "n_over_na=22", "num_widths=2"], [0]),  # between the table's budgets
]
DEMO = [  # processes of their own: Megatron keeps the attention backend in the environment
    (["phase=1", "backbone=demo"], [0, 23]),
    (["phase=2", "backbone=demo"], [0, 9]),
    (["phase=classical", "backbone=demo"], [0, 15, -1]),
]
OTHER_BACKBONES = [
    (["phase=1", "scale=1e19", "backbone.num_experts=64", "backbone.top_k=4", "n_over_na=8", "backbone.gqa_ratio=4",
      "backbone.num_shared_experts=2", "backbone.ffn_ratio=4.5", "backbone.seq_length=4096"], [2]),
    (["phase=1", "scale=1e19", "backbone.num_shared_experts=0", "backbone.ffn_aligned=true", "n_over_na=20",
      "backbone.head_dim=96"], [1]),
    (["phase=1", "scale=1e18", "training.load_balancing=expert_bias", "backbone.router_score_function=sigmoid"], [3]),
    (["phase=1", "scale=1e18", "training.load_balancing=none", "backbone.qk_norm=true"], [3]),
]  # fmt: skip


@pytest.mark.parametrize(
    "cases",
    [PUBLISHED, OTHER_STUDIES, DEMO, OTHER_BACKBONES],
    ids=["published", "other studies", "demo", "other backbones"],
)
def test_megatron_accepts_the_flags_and_counts_as_we_do(cases):
    done = command("-c", CHECK, json.dumps(cases))
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line.removeprefix("ROW ")) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    assert len(rows) == sum(len(picks) for _, picks in cases)
    for row in rows:
        assert row["flops"] == row["expected_flops"]
        assert row["parameters"] == row["expected_parameters"]
        assert row["counted"] == row["expected_counted"]


def test_at_least_thirty_published_architectures_are_built():
    assert sum(len(picks) for _, picks in PUBLISHED) >= 30

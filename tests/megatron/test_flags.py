"""The emitted flags, held against Megatron's own parser, model and accounting."""

import json

import pytest

from harness.megatron.flags import FILE
from harness.studies import STUDIES
from tests.conftest import REPOSITORY, command

CHECK = """
import json, os, sys
os.environ["WORLD_SIZE"], os.environ["LOCAL_RANK"] = "1", "0"
os.environ["RANK"] = "100000"  # never the last one, which would start W&B
from harness.megatron import environment
environment.preload()
import torch
from harness.cli import compose
from harness.megatron.argv import megatron_argv
from harness.megatron.device import TE_ONLY, WITHOUT_TE
from harness.megatron.flags import flat, group_flags
from harness.settings import job_options
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
    paths = run_paths(sweep.root, row.run_id, sweep.data_path)
    emitted = group_flags(megatron_argv(experiment, row.layout, paths, job_options(sweep.config)))
    sys.argv = ["pretrain", *flat(emitted)]
    args = parse_and_validate_args()
    flops = num_floating_point_operations(args, 1) / args.seq_length
    global_vars.unset_global_variables()
    # the config and the model on the meta device, with the kernels that need no GPU: the parameters are the same
    emitted = {name: values for name, values in emitted.items()
               if name not in TE_ONLY and not name.startswith("--recompute")} | {w[0]: [*w[1:]] for w in WITHOUT_TE}
    emitted |= {"--no-gradient-accumulation-fusion": [], "--expert-model-parallel-size": ["1"]}
    del emitted["--spec"]
    sys.argv = ["pretrain", *flat(emitted)]
    args = parse_and_validate_args()
    for name, value in {"perform_initialization": False, "use_cpu_initialization": True}.items():
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
QUICK = [  # of the same lists: one of each budget, with few layers, and the row d = 600 of table 17
    (["phase=1"], [0, 36, 72, 108, 144, 180]),
    (["phase=2"], [53, 63]),
    (["phase=rank"], [0]),
]
OTHER_STUDIES = [
    (["phase=ratio"], [0, 12, 29]),
    (["phase=dense_share"], [0, 41]),
    (["phase=granularity"], [0, 41]),
    (["phase=hyperparameters"], [0, 149]),
    (["phase=classical"], [0, 14, 29]),
    (["phase=classical", "wsd.share_trunk=true"], [1, 2]),  # a trunk, a branch
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
    [
        QUICK,
        DEMO,
        pytest.param(OTHER_BACKBONES, marks=pytest.mark.slow),
        pytest.param(PUBLISHED, marks=pytest.mark.slow),  # 288 experts a layer are many modules: minutes
        pytest.param(OTHER_STUDIES, marks=pytest.mark.slow),
    ],
    ids=["nine published", "demo", "other backbones", "published", "other studies"],
)
def test_megatron_accepts_the_flags_and_counts_as_we_do(cases):
    done = command("-c", CHECK, json.dumps(cases), timeout=1500)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line.removeprefix("ROW ")) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    assert len(rows) == sum(len(picks) for _, picks in cases)
    for row in rows:
        assert row["flops"] == row["expected_flops"]
        assert row["parameters"] == row["expected_parameters"]
        assert row["counted"] == row["expected_counted"]


def test_at_least_thirty_published_architectures_are_built():
    assert sum(len(picks) for _, picks in PUBLISHED) >= 30


PARSE = """
import dataclasses, os, sys
os.environ["RANK"], os.environ["LOCAL_RANK"] = "100000", "0"  # never the last one, which would start W&B
from harness.megatron import environment
environment.preload()
from harness.cli import compose
from harness.megatron.agreement import padded_vocabulary
from harness.megatron.argv import megatron_argv
from harness.megatron.device import environment as variables
from harness.megatron.flags import group_flags
from harness.megatron.options import Kernels
from harness.settings import job_options
from harness.studies import STUDIES
from harness.sweep import plan, run_paths
from megatron.training import global_vars
from megatron.training.arguments import parse_and_validate_args

def check(row, sweep, options, layout, label):
    experiment = row.point.experiment
    os.environ["WORLD_SIZE"] = str(max(1, layout.gpus))
    os.environ.update(variables(layout, options))
    flags = megatron_argv(experiment, layout, run_paths(sweep.root, row.run_id, None), options)
    sys.argv = ["pretrain", *flags]
    args = parse_and_validate_args()
    assert args.padded_vocab_size == experiment.backbone.padded_vocab_size == padded_vocabulary(group_flags(flags))
    assert abs(args.train_iters * args.global_batch_size * args.seq_length - experiment.tokens) == 0
    assert args.data_parallel_size == layout.data_parallel
    global_vars.unset_global_variables()
    print("CHECKED", label, row.run_id)

VARIANTS = ([], ["megatron.dispatcher=deepep", "megatron.async_save=true"], ["megatron.transformer_impl=local"],
            ["megatron.extra='--moe-z-loss-coeff 1e-3 --log-params-norm'", "megatron.overlap=false"],
            ["training.load_balancing=global_aux_loss", "megatron.dispatcher=hybridep"])
for study in STUDIES:
    for backbone in ("paper", "demo"):
        sweep = plan(compose("sweep", [f"phase={study.name}", "scale=all", f"backbone={backbone}"]))
        spread = sweep.rows[:: max(1, len(sweep.rows) // 5)]
        for row in spread:
            check(row, sweep, job_options(sweep.config, "s"), row.layout, f"{study.name} {backbone}")
for overrides in VARIANTS:
    sweep = plan(compose("sweep", ["phase=1", "scale=3e19", "m_over_na=9", *overrides]))
    for row in sweep.rows[:2]:
        for kernels in (Kernels(), Kernels(apex=False)):
            options = dataclasses.replace(job_options(sweep.config, "s"), kernels=kernels)
            check(row, sweep, options, row.layout, overrides)
row = sweep.rows[0]
for tensor, pipeline, expert, gpus in ((2, 1, 8, 16), (4, 1, 8, 32), (8, 1, 1, 8), (1, 2, 8, 32), (1, 1, 32, 32)):
    layout = dataclasses.replace(row.layout, gpus=gpus, gpus_per_node=8, tensor_parallel=tensor, pipeline_parallel=pipeline,
                                 expert_parallel=expert)
    check(row, sweep, job_options(sweep.config, "s"), layout, f"TP {tensor} PP {pipeline} EP {expert}")
"""


@pytest.mark.slow
def test_every_study_and_variant_passes_megatrons_parser():
    done = command("-c", PARSE, timeout=600)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-3000:]
    checked = [line for line in done.stdout.splitlines() if line.startswith("CHECKED")]
    studies = {line.split()[1] for line in checked}
    assert studies >= {study.name for study in STUDIES}
    assert len(checked) >= 40


def test_the_list_of_flags_is_the_real_parsers():
    done = command("-c", "from harness.megatron.list_flags import text; print('LIST'); print(text(), end='')")
    assert done.returncode == 0, done.stderr[-2000:]
    listed = (REPOSITORY / "harness/megatron" / FILE).read_text()
    assert done.stdout.partition("LIST\n")[2] == listed, "run: python -m harness.megatron.list_flags"

"""The search for a layout and the memory it rests on; tests/megatron holds the same formulas against Megatron."""

import re
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.architecture import Architecture
from harness.cli import compose
from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.layouts import order
from harness.memory import RECOMPUTE, memory, stages
from harness.resources import Cluster, Layout, LayoutChoice, layout
from harness.settings import named_cluster
from harness.shapes import divisors
from harness.sweep import plan
from tests.conftest import REPOSITORY, tiny_experiment

H100 = named_cluster("h100")


@cache
def phase1() -> tuple:
    return plan(compose("sweep", ["phase=1"])).rows


def small_cluster(**changes) -> Cluster:
    """One whose memory makes tiny models need several GPUs."""
    values = {"gpu_memory": 2.0e6, "gpus_per_node": 4, "max_gpus": 16, "headroom": 0.0, "micro_batch_tokens": 128}
    return replace(H100, **(values | changes))


def experiment_of(
    *, batch=16, validation=64, layers=(1, 3), hidden=32, expert=16, experts=8, precision="bf16"
) -> Experiment:
    experiment = tiny_experiment(None, global_batch_size=batch, validation_sequences=validation, precision=precision)
    backbone = replace(
        experiment.backbone, num_query_heads=4, num_kv_heads=2, head_dim=8, num_experts=experts, vocab_size=256
    )
    architecture = Architecture(
        hidden_size=hidden,
        num_dense_layers=layers[0],
        num_moe_layers=layers[1],
        ffn_hidden_size=3 * hidden,
        moe_ffn_hidden_size=expert,
    )
    return replace(experiment, backbone=backbone, architecture=architecture)


EXPERIMENTS = st.builds(
    experiment_of,
    batch=st.sampled_from([4, 6, 12, 16, 20]),
    validation=st.sampled_from([12, 64, 240]),
    layers=st.sampled_from([(1, 1), (1, 3), (2, 4), (2, 3), (4, 2)]),
    hidden=st.sampled_from([16, 32, 64]),
    expert=st.sampled_from([8, 16, 48]),
    experts=st.sampled_from([4, 6, 8]),
    precision=st.sampled_from(["bf16", "fp32"]),
)
CLUSTERS = st.builds(
    small_cluster,
    gpu_memory=st.floats(2.5e5, 4.0e6),
    gpus_per_node=st.sampled_from([1, 4, 6]),
    max_gpus=st.sampled_from([1, 4, 12]),
    micro_batch_tokens=st.sampled_from([32, 128]),
)


def everything(experiment: Experiment, cluster: Cluster) -> list[Layout]:
    """Every layout that divides, by trying all numbers; written without the search's own parts."""
    backbone, architecture, training = experiment.backbone, experiment.architecture, experiment.training
    counts = [n for n in range(1, cluster.max_gpus + 1) if n <= cluster.gpus_per_node or n % cluster.gpus_per_node == 0]
    found = []
    for gpus, tensor, pipeline, micro, recompute in product(
        counts, (1, 2, 4, 8), range(1, architecture.num_layers + 1), range(1, training.global_batch_size + 1), RECOMPUTE
    ):
        data = gpus // (tensor * pipeline)
        whole = [
            (gpus, tensor * pipeline),
            (backbone.num_query_heads, tensor),
            (backbone.num_kv_heads, tensor),
            (architecture.ffn_hidden_size, tensor),
            (architecture.moe_ffn_hidden_size * backbone.num_shared_experts, tensor),
            (backbone.seq_length, tensor),
            (backbone.padded_vocab_size, backbone.vocab_divisor * tensor),
            (architecture.num_layers, pipeline),
            (training.global_batch_size, micro * max(1, data)),
            (training.validation_sequences, max(1, data)),
        ]
        fits_a_pass = micro == 1 or micro * backbone.seq_length <= cluster.micro_batch_tokens
        if any(total % part for total, part in whole) or tensor > cluster.gpus_per_node or not fits_a_pass:
            continue
        found += [
            Layout(
                gpus=gpus,
                gpus_per_node=min(gpus, cluster.gpus_per_node),
                tensor_parallel=tensor,
                pipeline_parallel=pipeline,
                expert_parallel=expert,
                micro_batch_size=micro,
                eval_micro_batch_size=1,
                recompute=recompute,
            )
            for expert in range(1, gpus + 1)
            if backbone.num_experts % expert == 0 and (data * tensor) % expert == 0
        ]
    return found


def needed(experiment: Experiment, candidate: Layout, cluster: Cluster):
    parallel = candidate.parallel(experiment.training.global_batch_size, cluster.expert_imbalance)
    return memory(experiment.backbone, experiment.architecture, experiment.training.precision, parallel)


@settings(max_examples=60, deadline=None)
@given(experiment=EXPERIMENTS, cluster=CLUSTERS)
def test_the_layout_is_the_first_that_fits_of_all_there_are(experiment, cluster):
    all_layouts = everything(experiment, cluster)
    fitting = [one for one in all_layouts if needed(experiment, one, cluster).total <= cluster.usable_memory]
    if fitting:
        assert layout(experiment, cluster) == min(fitting, key=order)
    else:
        least = min(needed(experiment, one, cluster).total for one in all_layouts)
        with pytest.raises(ConfigError, match="no layout of up to") as error:
            layout(experiment, cluster)
        said = re.search(r"needs ([\d.]+) ([kMG])B a GPU", str(error.value))
        assert float(said[1]) * {"k": 1e3, "M": 1e6, "G": 1e9}[said[2]] == pytest.approx(least, rel=0.006)


@settings(max_examples=100, deadline=None)
@given(experiment=EXPERIMENTS, data=st.data())
def test_parts_are_not_negative_and_more_gpus_never_need_more(experiment, data):
    cluster = small_cluster(max_gpus=4)
    one = data.draw(st.sampled_from(everything(experiment, cluster)))
    whole = needed(experiment, one, cluster)
    assert all(count >= 0 for count in whole.parts().values())
    assert whole.total == pytest.approx(sum(whole.parts().values()))
    twice = replace(one, gpus=2 * one.gpus, gpus_per_node=2 * one.gpus)
    assert needed(experiment, twice, cluster).total <= whole.total
    if one.recompute == "none":
        assert needed(experiment, replace(one, recompute="selective"), cluster).total <= whole.total


def test_every_layout_of_the_published_studies_divides_and_fits():
    for row in phase1():
        experiment, chosen = row.point.experiment, row.layout
        training = experiment.training
        numbers = divisors(experiment.backbone, experiment.architecture, training.global_batch_size, H100)
        for name, valid in numbers.items():
            assert getattr(chosen, name) in valid
        assert training.global_batch_size % (chosen.data_parallel * chosen.micro_batch_size) == 0
        assert training.validation_sequences % chosen.eval_batch_size == 0
        assert chosen.data_parallel * chosen.tensor_parallel % chosen.expert_parallel == 0
        assert row.estimate.memory.total <= H100.usable_memory
        assert (chosen.tensor_parallel, chosen.pipeline_parallel) == (1, 1)  # experts and data suffice for all 216


def test_counts_of_gpus_need_not_be_powers_of_two():
    assert H100.gpu_counts[:11] == (1, 2, 3, 4, 5, 6, 7, 8, 16, 24, 32)
    assert replace(H100, nodes=3).gpu_counts[-1] == 24
    assert {row.layout.gpus for row in phase1()} & {3, 6}


def test_dense_layers_fill_the_first_stages():
    assert stages(3, 8, 4) == ((2, 0), (1, 1), (0, 2), (0, 2))


def test_the_published_architectures_get_the_layouts_that_people_read():
    lines = []
    for compute, density, expansion in [
        (compute, density, expansion)
        for compute in (1e18, 3e18, 1e19, 3e19, 1e20, 3e20)
        for density, expansion in ((9, 22), (17, 30))
    ]:
        row = next(
            row
            for row in phase1()
            if row.point.compute == compute
            and round(row.point.targets.flops_per_token / row.point.targets.active_params) == density
            and round(row.point.targets.total_params / row.point.targets.active_params) == expansion
        )
        architecture = row.point.experiment.architecture
        parts = "  ".join(f"{name} {count / 1e9:.1f}" for name, count in row.estimate.memory.parts().items())
        lines.append(
            f"C {compute:.0e}  M/N_a {density}  N/N_a {expansion}  d {architecture.hidden_size}  layers "
            f"{architecture.num_dense_layers}+{architecture.num_moe_layers}  d_m {architecture.moe_ffn_hidden_size}  parameters "
            f"{row.point.experiment.counts.megatron_params / 1e9:.2f}G\n"
            f"    {row.layout}; {row.estimate.gpu_hours:.0f} GPU-hours, checkpoint "
            f"{row.estimate.checkpoint_bytes / 1e9:.1f} GB\n"
            f"    {row.estimate.memory.total / 1e9:.1f} GB a GPU: {parts}\n"
        )
    golden = REPOSITORY / "tests/harness/golden_layouts.txt"
    assert "".join(lines) == golden.read_text(encoding="utf-8")


def forced(**choice) -> Cluster:
    return replace(H100, layout=LayoutChoice(**choice))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"expert_parallel": 7}, r"cluster.layout.expert_parallel=7: it must divide 288 experts; nearest: 6 or 8"),
        ({"tensor_parallel": 3}, r"tensor_parallel=3: it must divide 8 query and 4 key/value heads.*nearest: 2 or 4"),
        ({"tensor_parallel": 8}, r"tensor_parallel=8: .*nearest: 4"),
        ({"pipeline_parallel": 2}, r"pipeline_parallel=2: it must divide 5 layers; nearest: 1 or 5"),
        ({"micro_batch_size": 3}, r"micro_batch_size=3: it must divide the batch of 128.*nearest: 1"),
        ({"gpus": 12}, r"gpus=12: a run takes 1 to 8 GPUs of a node or whole nodes.*nearest: 8 or 16"),
        ({"gpus": 7}, r"no layout with cluster.layout.gpus=7 divides: .*batch of 128.*ranks that do: .*4, 8"),
        (
            {"gpus": 4, "expert_parallel": 8},
            r"no layout with cluster.layout.gpus=4, cluster.layout.expert_parallel=8 divides",
        ),
    ],
)
def test_a_number_that_does_not_divide_is_named_with_its_rule_and_the_nearest(choice, message):
    with pytest.raises(ConfigError, match=message):
        layout(phase1()[72].point.experiment, forced(**choice))


def test_what_is_decided_is_kept_and_the_rest_is_searched():
    experiment = phase1()[72].point.experiment
    chosen = layout(experiment, forced(tensor_parallel=2, recompute="full"))
    assert (chosen.tensor_parallel, chosen.recompute, chosen.gpus) == (2, "full", 2)
    assert layout(experiment, forced(gpus=8, expert_parallel=2)).data_parallel == 8


def test_the_nearest_miss_says_what_it_lacks():
    largest = max((row.point.experiment for row in phase1()), key=lambda e: e.counts.megatron_params)
    with pytest.raises(
        ConfigError, match=r"up to 1 GPU of h100 fits: the best \(1 GPU: .*\) needs \d+ GB a GPU, and 72 GB"
    ):
        layout(largest, replace(H100, max_gpus=1))


@pytest.mark.parametrize(
    "change",
    [
        {"headroom": 1.0},
        {"gpu_memory": 0.0},
        {"max_gpus": 0},
        {"nodes": 0},
        {"expert_imbalance": 0.5},
        {"price_per_gpu_hour": -1.0},
    ],
)
def test_a_cluster_that_cannot_be_is_refused(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(H100, **change)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cluster.layout.recompute=ful"], "recompute=ful: .*did you mean 'full'"),
        (["cluster.layout.gpus=0"], "layout.gpus=0: it must be at least 1"),
        (["cluster.layout.gpus=two"], "layout.gpus='two': a value of type int"),
        (["backbone=demo", "cluster.layout.gpus=2"], "cluster cpu has no GPUs"),
        (["cluster.layout=null"], "cluster.layout=None: a mapping of gpus, tensor_parallel"),
        (["cluster.layout=8"], "cluster.layout=8: a mapping of gpus"),
        (["limit.gpu_hours=-1"], "limit.gpu_hours=-1"),
    ],
)
def test_mistakes_in_the_cluster_are_told(words, message):
    with pytest.raises(ConfigError, match=message):
        plan(compose("sweep", ["phase=1", "scale=all", *words]))


def test_without_transformer_engine_the_optimizer_is_not_shared_out_and_the_grouped_gemm_is_not_recomputed():
    """Megatron refuses ``moe_act`` without the grouped GEMM; and each rank then holds 18 bytes of every parameter it has."""
    words = ["phase=1", "scale=[1e20,3e20]"]
    rows = {te: plan(compose("sweep", [*words, *more])).rows for te, more in
            ((True, []), (False, ["megatron.transformer_impl=local"]))}  # fmt: skip
    assert "selective" in {row.layout.recompute for row in rows[True]}
    assert "selective" not in {row.layout.recompute for row in rows[False]}
    for row in rows[False]:
        memory = row.estimate.memory
        assert memory.total <= 72e9
        assert memory.weights + memory.gradients + memory.optimizer == pytest.approx(
            9 * memory.weights
        )  # 2 + 4 + 12 bytes
    with pytest.raises(ConfigError, match="needs Transformer Engine"):
        plan(compose("sweep", [*words, "megatron.transformer_impl=local", "cluster.layout.recompute=selective"]))

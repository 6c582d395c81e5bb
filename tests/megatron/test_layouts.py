"""Memory and FLOPs of layouts, held against Megatron's parser, its own estimates and the parameters of a real model.

``theoretical_memory_usage`` and `harness.memory` agree to the byte on weights, gradients and optimizer. Its activations are those
of another model: every layer counts as a dense one of ordinary attention (18 d + 4 d_d bytes a token with dropout masks, from
arXiv 2205.05198), so the K copies of each token, the experts' and the router's tensors are not in it, recomputation changes
nothing, and logits are 4 bytes (2 without sequence parallelism) where the bf16 logits and their fp32 copy are 6.
docs/resources.md has the numbers of these layouts.
"""

import json

import pytest

from harness.cli import compose
from harness.memory import RECOMPUTE, rank_params, stage_memory, state_bytes
from harness.resources import Layout
from harness.sweep import plan
from tests.conftest import command

pytestmark = pytest.mark.slow  # a model of a rank for each: a minute

LAYOUTS = [
    # budget, row of phase 1, and gpus, TP, PP, EP, micro-batch, recomputation
    (1e18, 0, 1, 1, 1, 1, 1, "none"),
    (1e18, 14, 8, 2, 1, 8, 2, "selective"),
    (1e18, 20, 9, 1, 9, 1, 1, "none"),
    (3e18, 3, 2, 1, 1, 2, 1, "none"),
    (3e18, 20, 8, 2, 2, 4, 1, "moe"),
    (3e18, 35, 4, 4, 1, 4, 5, "full"),
    (1e19, 0, 8, 1, 1, 8, 1, "none"),
    (1e19, 14, 16, 1, 4, 4, 2, "selective"),
    (1e19, 27, 8, 4, 2, 4, 1, "full"),
    (3e19, 3, 8, 1, 1, 4, 1, "moe"),
    (3e19, 35, 32, 2, 1, 32, 1, "none"),
    (1e20, 0, 16, 1, 2, 8, 1, "selective"),
    (1e20, 3, 16, 1, 1, 8, 1, "full"),
    (1e20, 27, 12, 4, 3, 4, 1, "none"),
    (3e20, 0, 6, 1, 1, 6, 1, "none"),
    (3e20, 3, 96, 1, 8, 12, 1, "none"),
    (3e20, 14, 12, 4, 3, 4, 2, "moe"),
    (3e20, 35, 64, 2, 2, 16, 1, "selective"),
]
FIELDS = ("gpus", "tensor_parallel", "pipeline_parallel", "expert_parallel", "micro_batch_size", "recompute")


@pytest.fixture(scope="module")
def held():
    """(experiment, layout, what Megatron says) of each layout."""
    asked = [[compute, row, dict(zip(FIELDS, values, strict=True))] for compute, row, *values in LAYOUTS]
    done = command("-m", "tests.megatron.probe_layouts", json.dumps(asked))
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line.removeprefix("ROW ")) for line in done.stdout.splitlines() if line.startswith("ROW ")]
    assert len(said) == len(LAYOUTS)
    experiments = [row.point for row in plan(compose("sweep", ["phase=1"])).rows]
    return [
        (
            [point.experiment for point in experiments if point.compute == compute][row],
            Layout(gpus_per_node=min(8, values["gpus"]), eval_micro_batch_size=1, **values),
            megatron,
        )
        for (compute, row, values), megatron in zip(asked, said, strict=True)
    ]


def test_the_layouts_cover_every_budget_and_every_kind():
    assert len({compute for compute, *_ in LAYOUTS}) == 6
    assert {values[-1] for values in LAYOUTS} == set(RECOMPUTE)
    assert {values[3] > 1 for values in LAYOUTS} == {values[4] > 1 for values in LAYOUTS} == {True, False}


def test_flops_are_megatrons(held):
    for experiment, _, megatron in held:
        assert megatron["flops"] == experiment.counts.megatron_flops_per_token


def test_recomputation_and_whole_experts_reach_megatron(held):
    flags = {
        "none": [None, None],
        "selective": ["selective", ["layernorm", "moe_act"]],
        "moe": ["selective", ["moe"]],
        "full": ["full", None],
    }
    for _, layout, megatron in held:
        granularity, modules = megatron["recompute"]
        assert [granularity, modules if granularity == "selective" else None] == flags[layout.recompute]
        assert megatron["expert_tensor_parallel"] == 1


def test_every_stage_holds_the_parameters_of_a_real_model(held):
    for experiment, layout, megatron in held:
        parallel = layout.parallel(experiment.training.global_batch_size, 1.0)
        ours = [
            rank_params(experiment.backbone, experiment.architecture, parallel, stage)
            for stage in range(layout.pipeline_parallel)
        ]
        assert [list(pair) for pair in ours] == megatron["params"], (experiment.architecture, layout)


def test_weights_gradients_and_optimizer_are_megatrons(held):
    """Megatron spreads the blocks evenly over the stages, and prices one with an embedding; ours are the real stages."""
    for experiment, layout, megatron in held:
        parallel = layout.parallel(experiment.training.global_batch_size, 1.0)
        stages = layout.pipeline_parallel
        ours = sum(
            sum(state_bytes(experiment.backbone, experiment.architecture, "bf16", parallel, stage))
            for stage in range(stages)
        )
        table = experiment.architecture.hidden_size * experiment.backbone.padded_vocab_size / layout.tensor_parallel
        embedding = table * (6 + 12 / layout.data_parallel)
        theirs = megatron["states"] if stages == 1 else stages * (megatron["states"] - embedding) + 2 * embedding
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_megatrons_activations_are_those_of_a_dense_model(held):
    """Their formula, term by term: no experts, no router, nothing of recomputation, logits of 4 bytes."""
    for experiment, layout, megatron in held:
        if layout.pipeline_parallel > 1:
            continue
        backbone, architecture = experiment.backbone, experiment.architecture
        tokens = layout.micro_batch_size * backbone.seq_length / layout.tensor_parallel
        d, vocabulary = architecture.hidden_size, backbone.padded_vocab_size
        layers = architecture.num_layers * (18 * d + 4 * architecture.ffn_hidden_size)
        theirs = tokens * (layers + d + 4 * (d + vocabulary) + 8)
        assert megatron["activations"] == pytest.approx(theirs, rel=1e-12)
        parallel = layout.parallel(experiment.training.global_batch_size, 1.0)
        ours = stage_memory(backbone, architecture, "bf16", parallel, 0)
        assert ours.logits == pytest.approx(1.5 * tokens * 4 * vocabulary)

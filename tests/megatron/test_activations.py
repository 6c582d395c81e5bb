"""The bytes that a layer keeps for its backward pass, against what autograd keeps in Megatron's own modules."""

import json
from dataclasses import replace

import pytest

from harness.architecture import Architecture
from harness.experiment import Experiment
from harness.memory import layer_activation_bytes
from tests.conftest import tiny_experiment
from tests.megatron.forked import python

BATCH = 2


def small_experiment() -> Experiment:
    """One dense and one MoE layer, no two widths alike."""
    experiment = tiny_experiment(None)
    backbone = replace(
        experiment.backbone, seq_length=128, num_experts=16, top_k=4, num_query_heads=4, num_kv_heads=2, head_dim=32,
        qk_norm=False, router_score_function="softmax", vocab_size=1024, vocab_divisor=128,
    )  # fmt: skip
    architecture = Architecture(
        hidden_size=160, num_dense_layers=1, num_moe_layers=1, ffn_hidden_size=480, moe_ffn_hidden_size=64
    )
    return replace(experiment, backbone=backbone, architecture=architecture)


def test_a_layer_keeps_what_the_formula_says():
    done = python("-m", "tests.megatron.probe_activations")
    assert done.returncode == 0, done.stderr[-3000:]
    kept = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("KEPT")).removeprefix("KEPT"))
    experiment = small_experiment()
    backbone, architecture = experiment.backbone, experiment.architecture
    element, d = 2, architecture.hidden_size
    norm_inputs = 2 * element * d  # the two norms' own; their outputs are the inputs of what was measured
    rows = 4 * (
        2 * backbone.num_experts + 1
    )  # the map of Transformer Engine's permutation, which is not installed here
    dense, moe = layer_activation_bytes(backbone, architecture, element, "none", 1.0)
    assert dense == norm_inputs + kept["attention"] + kept["dense"]
    assert moe == pytest.approx(
        norm_inputs + rows + kept["attention"] + kept["moe"], rel=1e-3
    )  # a histogram of experts
    _, again = layer_activation_bytes(backbone, architecture, element, "moe", 1.0)
    assert again == norm_inputs + kept["attention"] + kept["moe_recomputed"]
    # the softmax in fp32 is kept of the logits; the 2 bytes more of the formula live only at the peak
    assert kept["cross_entropy"] == pytest.approx(4 * backbone.padded_vocab_size, rel=0.01)

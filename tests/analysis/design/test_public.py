"""The accounting on public MoEs, against the counts that their makers publish (the facts of their config.json in models/)."""

from pathlib import Path

import pytest

from analysis.design.public import model_of, read_model
from harness.accounting import count
from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError

MODELS = Path(__file__).parent / "models"

# name: (total, active) in billions as the makers print them, and the difference that is allowed, relative, with its reason
MAKERS = {
    "mixtral-8x7b": (46.7, 12.9, 0.003),
    "mixtral-8x22b": (141, 39, 0.005),
    "olmoe-1b-7b": (6.92, 1.28, 0.003),
    "qwen1.5-moe-a2.7b": (14.3, 2.7, 0.005),
    "qwen3-30b-a3b": (30.5, 3.3, 0.02),  # 3.35: they cut off where others round
    "qwen3-235b-a22b": (235, 22, 0.01),
    "deepseek-v2-lite": (15.7, 2.4, 0.025),  # 2.45
    "deepseek-v2": (236, 21, 0.01),
    "deepseek-v3": (671, 37, 0.011),  # without its layer for further tokens (685 with it)
    "kimi-k2": (1000, 32, 0.03),  # printed as 1T
    "glm-4.5": (355, 32, 0.008),  # 355 counts a layer for further tokens (4.0) and no embeddings (1.6)
    "glm-4.5-air": (106, 12, 0.016),  # 12.18
}

WITHOUT_INPUT_TABLE = {"deepseek-v2-lite", "deepseek-v2", "deepseek-v3", "kimi-k2"}
"""Their number of active parameters leaves out the input embedding, of which a token reads one row."""

WITHOUT_EMBEDDINGS = {"glm-4.5", "glm-4.5-air"}
"""... and both tables."""


def active(name, model):
    if name in WITHOUT_EMBEDDINGS:
        return model.all_active_params - model.embedding_params
    return model.all_active_params - (model.embedding_params // 2 if name in WITHOUT_INPUT_TABLE else 0)


@pytest.mark.parametrize("name", MAKERS)
def test_counts_are_those_of_the_makers(name):
    model = read_model(MODELS / f"{name}.json")
    total, active_params, off = MAKERS[name]
    assert model.all_params / 1e9 == pytest.approx(total, rel=off)
    assert active(name, model) / 1e9 == pytest.approx(active_params, rel=off)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("olmoe-1b-7b", 6_919_161_856), ("glm-4.5-air", 106_852_245_504)],  # as other repositories count them
)
def test_counts_are_exact_where_the_weights_say_so(name, parameters):
    assert read_model(MODELS / f"{name}.json").all_params == parameters


@pytest.mark.parametrize(("name", "billions"), [("qwen3-30b-a3b", 29.9), ("qwen3-235b-a22b", 234)])
def test_non_embedding_counts_are_those_of_the_makers(name, billions):
    model = read_model(MODELS / f"{name}.json")
    assert (model.all_params - model.embedding_params) / 1e9 == pytest.approx(billions, rel=2e-3)


def test_one_of_our_own_architectures_is_counted_as_the_harness_does():
    backbone = Backbone(num_query_heads=8, num_kv_heads=4, head_dim=64, vocab_size=152064)
    architecture = Architecture(
        hidden_size=952, num_dense_layers=2, num_moe_layers=11, ffn_hidden_size=2856, moe_ffn_hidden_size=232
    )
    config = {
        "model_type": "ours", "hidden_size": 952, "intermediate_size": 2856, "moe_intermediate_size": 232,
        "num_hidden_layers": 13,
        "first_k_dense_replace": 2, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "n_routed_experts": 288,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "vocab_size": 152064,
    }  # fmt: skip
    model, counts = model_of("ours", config, "ours"), count(backbone, architecture)
    assert model.active_params == counts.active_params
    assert model.total_params == counts.total_params
    assert model.flops_per_token(8192) == counts.flops_per_token
    assert model.all_params == counts.megatron_params
    assert model.max_n_over_na == pytest.approx(backbone.max_n_over_na)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("{", "no JSON object"), ('{"hidden_size": 8}', "a dense model"),
     ('{"num_experts": 8, "hidden_size": 8}', "no num_hidden_layers"),
     ('{"num_experts": 8, "hidden_size": "x"}', "hidden_size='x'")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_model(path)

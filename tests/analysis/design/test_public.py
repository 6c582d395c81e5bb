"""The accounting on public MoEs, against the counts that their makers publish (the facts of their config.json in models/)."""

import json
from pathlib import Path

import pytest

from analysis.design.config_json import model_of, read_model
from analysis.design.families import FAMILIES
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
    "deepseek-moe-16b": (16.4, 2.8, 0.011),  # 2.83
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


ABSENT = object()

EXPERTS = {
    "mixtral-8x7b": "num_local_experts",
    "olmoe-1b-7b": "num_experts",
    "qwen1.5-moe-a2.7b": "num_experts",
    "qwen3-30b-a3b": "num_experts",
    "deepseek-v3": "n_routed_experts",
    "kimi-k2": "n_routed_experts",
    "glm-4.5": "n_routed_experts",
}
"""Field with the number of experts."""


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
        "model_type": "glm4_moe", "hidden_size": 952, "intermediate_size": 2856, "moe_intermediate_size": 232,
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


def config_of(name, **changes):
    """A model's configuration with other values; ABSENT takes a field away."""
    config = json.loads((MODELS / f"{name}.json").read_text()) | changes
    return {key: value for key, value in config.items() if value is not ABSENT}


def counted(name, **changes):
    return model_of(name, config_of(name, **changes), "config.json")


@pytest.mark.parametrize(("name", "experts"), EXPERTS.items())
@pytest.mark.parametrize("value", [ABSENT, None])
def test_a_moe_without_its_number_of_experts_is_no_dense_model(name, experts, value):
    with pytest.raises(
        ConfigError, match=rf"is a Mixture of Experts, and its number of experts, {experts}, is (null|absent)"
    ):
        counted(name, **{experts: value})
    other = "num_experts" if experts != "num_experts" else "n_routed_experts"
    with pytest.raises(ConfigError, match=f"{other} is there, and means nothing in this family"):
        counted(name, **{experts: value, other: 64})


@pytest.mark.parametrize("name", MAKERS)
def test_no_number_that_is_counted_is_guessed(name):
    """Without any one of its fields a model is refused by that field's name, or counted all the same."""
    whole, config = read_model(MODELS / f"{name}.json"), config_of(name)
    refused = set()
    for key in config:
        try:
            without = counted(name, **{key: ABSENT})
        except ConfigError as error:
            assert key in str(error)  # noqa: PT017
            refused.add(key)
        else:
            assert bool(without.notes) == (key == "model_type")
            assert (without.active_params, without.total_params) == (whole.active_params, whole.total_params)
            assert (without.flops_per_token(8192), without.tied) == (whole.flops_per_token(8192), whole.tied)
    assert {"hidden_size", "num_hidden_layers", "vocab_size", "num_experts_per_tok"} <= refused


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mixtral-8x7b", {"model_type": "llama", "num_local_experts": ABSENT}, "'llama' is a dense model or no family"),
        ("mixtral-8x7b", {"model_type": "jamba", "attn_layer_period": 8}, r"no attention \(attn_layer_period\)"),
        ("mixtral-8x7b", {"model_type": "else", "num_experts": 8}, "has both num_experts and num_local_experts"),
        ("mixtral-8x7b", {"model_type": "else", "moe_k": 2}, "has both num_experts_per_tok and moe_k"),
        ("mixtral-8x7b", {"model_type": "llama4_text", "interleave_moe_layer_step": 2}, "says interleave_moe_layer_step=2"),
        ("mixtral-8x7b", {"model_type": "else", "share_expert_dim": 4096}, "says share_expert_dim=4096"),
        ("mixtral-8x7b", {"model_type": "else", "num_dense_layers": 3}, "says num_dense_layers=3"),
        ("mixtral-8x7b", {"hidden_size": 0}, "hidden_size=0: a whole number of at least 1"),
        ("mixtral-8x7b", {"hidden_size": 4096.0}, "hidden_size=4096.0: a whole number"),
        ("mixtral-8x7b", {"model_type": "mixtrel", "num_local_experts": ABSENT}, "did you mean 'mixtral'"),
        ("mixtral-8x7b", {"num_local_experts": 1}, "num_local_experts=1: a dense model"),
        ("mixtral-8x7b", {"num_experts": 16}, "num_experts=16: it means nothing in model_type=mixtral"),
        ("mixtral-8x7b", {"n_shared_experts": 2}, "n_shared_experts=2: it means nothing"),
        ("mixtral-8x7b", {"first_k_dense_replace": 3}, "first_k_dense_replace=3: it means nothing"),
        ("qwen3-30b-a3b", {"first_k_dense_replace": 1}, "first_k_dense_replace=1: it means nothing"),
        ("qwen3-30b-a3b", {"kv_lora_rank": 512}, "kv_lora_rank=512: it means nothing"),
        ("qwen3-30b-a3b", {"mlp_layer_types": ["dense"]}, "mlp_layer_types="),
        ("mixtral-8x7b", {"num_local_experts": [8, 8]}, r"num_local_experts=\[8, 8\]: a whole number"),
        ("mixtral-8x7b", {"num_experts_per_tok": 9}, "cannot choose so many of num_local_experts=8"),
        ("mixtral-8x7b", {"num_key_value_heads": 5}, "must divide num_attention_heads=32"),
        ("mixtral-8x7b", {"num_attention_heads": 48}, "head_dim is absent, and it does not divide"),
        ("mixtral-8x7b", {"hidden_act": "relu2"}, "hidden_act='relu2'"),
        ("mixtral-8x7b", {"tie_word_embeddings": "no"}, "tie_word_embeddings='no': true or false"),
        ("qwen3-30b-a3b", {"head_dim": ABSENT}, "head_dim is absent, and this family does not make it"),
        ("qwen3-30b-a3b", {"moe_intermediate_size": ABSENT}, "moe_intermediate_size is absent"),
        ("qwen3-30b-a3b", {"mlp_only_layers": [48]}, r"mlp_only_layers=\[48\]: a list of layers from 0 to 47"),
        ("qwen3-30b-a3b", {"mlp_only_layers": list(range(48))}, "none of its layers has experts"),
        ("qwen3-30b-a3b", {"decoder_sparse_step": 0}, "decoder_sparse_step=0"),
        ("qwen3-30b-a3b", {"layer_types": ["linear_attention"] * 48}, "layer_types=.*only attention is counted"),
        ("qwen1.5-moe-a2.7b", {"shared_expert_intermediate_size": ABSENT}, "shared_expert_intermediate_size is absent"),
        ("deepseek-v3", {"q_lora_rank": ABSENT}, "q_lora_rank is absent"),
        ("deepseek-v3", {"first_k_dense_replace": ABSENT}, "first_k_dense_replace is absent"),
        ("deepseek-v3", {"n_shared_experts": ABSENT}, "n_shared_experts is absent"),
        ("deepseek-v3", {"moe_layer_freq": [0, 1]}, r"moe_layer_freq=\[0, 1\]: a whole number"),
        ("deepseek-v3", {"index_topk": 2048}, "index_topk=2048"),
        ("deepseek-v3", {"text_config": 5}, "text_config=5: an object"),
    ],
)  # fmt: skip
def test_what_would_mislead_is_refused_by_name(name, changes, message):
    with pytest.raises(ConfigError, match=message):
        counted(name, **changes)


def test_what_does_not_change_the_counts_does_not_matter():
    plain = counted("deepseek-v3")
    assert counted("deepseek-v3", quantization_config={"quant_method": "fp8"}, torch_dtype="float8_e4m3fn") == plain
    assert counted("deepseek-v3", n_shared_experts=None).shared_width == 0
    assert counted("mixtral-8x7b", decoder_sparse_step=1, moe_layer_freq=1, n_shared_experts=0) == counted(
        "mixtral-8x7b"
    )
    window = {"sliding_window": 32768, "use_sliding_window": False, "max_position_embeddings": 40960}
    assert counted("qwen3-30b-a3b", **window, layer_types=["full_attention"] * 48) == counted("qwen3-30b-a3b")
    assert counted("qwen1.5-moe-a2.7b", qkv_bias=ABSENT) == counted("qwen1.5-moe-a2.7b")  # as its makers wrote it


def test_what_is_assumed_is_said():
    plain = counted("mixtral-8x7b")
    assert plain.notes == ()
    for changes in ({"sliding_window": 4096}, {"layer_types": ["full_attention", "sliding_attention"] * 16}):
        windowed = counted("mixtral-8x7b", **changes)
        assert "within a window is counted as full" in windowed.notes[0]
        assert windowed.flops_per_token(8192) == plain.flops_per_token(8192)
    other = counted("mixtral-8x7b", model_type="mixtrel")
    assert other.total_params == plain.total_params
    assert "did you mean 'mixtral'" in other.notes[0]
    assert "read by the names of its fields" in other.notes[0]


def test_which_layers_are_dense():
    assert counted("deepseek-v2-lite", first_k_dense_replace=1, moe_layer_freq=2).num_moe_layers == 13  # 2, 4 ... 26
    assert counted("deepseek-v2-lite", first_k_dense_replace=0, moe_layer_freq=2).num_moe_layers == 14  # 0, 2 ... 26
    assert counted("qwen3-30b-a3b", decoder_sparse_step=2).num_moe_layers == 24  # the 2nd, 4th ...
    assert counted("qwen3-30b-a3b", decoder_sparse_step=2, mlp_only_layers=[0, 1]).num_moe_layers == 23


def test_the_text_part_of_a_model_with_images():
    text = config_of("qwen3-30b-a3b", model_type="qwen3_vl_moe_text", tie_word_embeddings=ABSENT)
    outer = {"model_type": "qwen3_vl_moe", "text_config": text, "vision_config": {"hidden_size": 1152}}
    found = model_of("vl", outer, "c")
    assert found.name == "vl (text_config)"
    assert found.all_params == counted("qwen3-30b-a3b").all_params
    assert model_of("vl", outer | {"tie_word_embeddings": True}, "c").tied
    with pytest.raises(ConfigError, match=r"c: text_config: .* num_experts, is absent"):
        model_of("vl", outer | {"text_config": {"model_type": "qwen3_vl_moe_text"}}, "c")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), ("{", "no JSON object"), ("[]", "no JSON object"), ('{"hidden_size": 8}', "is a dense model")],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_model(path)


BUILT = {
    "mixtral": {"num_local_experts": 8, "intermediate_size": 96},
    "qwen2_moe": {"num_experts": 8, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "mlp_only_layers": [3]},
    "qwen3_moe": {"num_experts": 8, "moe_intermediate_size": 24, "head_dim": 24, "decoder_sparse_step": 2,
                  "attention_bias": True},
    "olmoe": {"num_experts": 8, "intermediate_size": 24, "attention_bias": True},
    "deepseek_v2": {"n_routed_experts": 8, "n_shared_experts": 2, "q_lora_rank": None, "attention_bias": True},
    "deepseek_v3": {"n_routed_experts": 8, "n_shared_experts": 1, "q_lora_rank": 12, "attention_bias": True},
    "glm4_moe": {"n_routed_experts": 8, "n_shared_experts": 1, "head_dim": 24, "use_qk_norm": True, "attention_bias": True},
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 2, "sliding_window": None, "attention_bias": True},
    "ernie4_5_moe": {"moe_num_experts": 8, "moe_k": 2, "moe_num_shared_experts": 2, "moe_layer_start_index": 1,
                     "moe_layer_end_index": 4, "moe_layer_interval": 2},
    "minimax_m2": {"num_local_experts": 8, "intermediate_size": 24, "head_dim": 24},
    "granitemoe": {"num_local_experts": 8, "intermediate_size": 24},
    "granitemoeshared": {"num_local_experts": 8, "intermediate_size": 24, "shared_intermediate_size": 40},
}  # fmt: skip
"""By ``model_type``, what a small model says beyond what all say; those left out are read as one of these."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", BUILT)
def test_counts_are_those_of_the_model_that_transformers_builds(kind):
    """Parameter by parameter, but for biases that routers correct their scores with."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = {
        "model_type": kind, "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4,
        "vocab_size": 257, "tie_word_embeddings": False, "intermediate_size": 160, "moe_intermediate_size": 24,
    } | BUILT[kind]  # fmt: skip
    shape = {
        "num_experts_per_tok": 2, "first_k_dense_replace": 2, "kv_lora_rank": 20, "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 6, "v_head_dim": 10,
    }  # fmt: skip
    config |= {key: value for key, value in shape.items() if key in FAMILIES[kind].shape_fields}
    wanted = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(wanted)
    sizes = {name: weight.numel() for name, weight in model.named_parameters() if "correction_bias" not in name}
    found = model_of("small", config, "small")
    assert found.all_params == sum(sizes.values())
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    assert found.total_params - found.active_params == experts * (1 - found.top_k / found.num_experts)

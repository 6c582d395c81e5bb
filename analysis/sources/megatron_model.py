"""The model that Megatron's arguments describe, as our `Backbone` and `Architecture`, so that it is counted as ours are."""

import hashlib
from collections.abc import Mapping
from typing import Any

from harness.architecture import Architecture, Backbone
from harness.errors import ConfigError
from harness.files import canonical_json

RECIPE = (
    "seq_length num_experts moe_router_topk qk_layernorm lr_decay_style lr_wsd_decay_style optimizer adam_beta1 adam_beta2 "
    "adam_eps weight_decay clip_grad init_method_std moe_router_load_balancing_type moe_aux_loss_coeff moe_z_loss_coeff "
    "moe_router_score_function bf16 fp16 position_embedding_type rotary_base norm_epsilon data_path train_data_path"
).split()
"""Arguments that the runs of one curve must share."""

WANTED = (
    "hidden_size ffn_hidden_size moe_ffn_hidden_size num_layers num_attention_heads kv_channels num_experts moe_router_topk "
    "seq_length"
).split()


class UnknownModelError(ConfigError):
    """The arguments describe no model of the kind that is counted here, or not all of one."""


def model(arguments: Mapping[str, Any]) -> tuple[Backbone, Architecture]:
    """What to count.

    Raises:
        UnknownModelError: with the argument that is missing, or that the accounting does not know.
    """
    if arguments.get("num_experts", 0) is None:
        raise UnknownModelError(
            "a dense model (num_experts is None): its ratios mean nothing here; source=csv takes any"
        )
    if missing := [name for name in WANTED if not isinstance(arguments.get(name), int)]:
        raise UnknownModelError(f"Megatron's arguments lack {', '.join(missing)}")
    if arguments.get("swiglu") is not True:
        raise UnknownModelError(f"swiglu is {arguments.get('swiglu')}: only SwiGLU feed-forward layers are counted")
    expert = arguments["moe_ffn_hidden_size"]
    shared = arguments.get("moe_shared_expert_intermediate_size") or 0
    if shared % expert:
        raise UnknownModelError(f"the shared expert is {shared} wide, no multiple of a routed one ({expert})")
    pattern = layers(arguments.get("moe_layer_freq", 1), arguments["num_layers"])
    heads = arguments["num_attention_heads"]
    grouped = arguments.get("group_query_attention") and arguments.get("num_query_groups")
    try:
        backbone = Backbone(
            num_query_heads=heads,
            num_kv_heads=grouped or heads,
            head_dim=arguments["kv_channels"],
            seq_length=arguments["seq_length"],
            num_experts=arguments["num_experts"],
            top_k=arguments["moe_router_topk"],
            num_shared_experts=shared // expert,
            ffn_ratio=arguments["ffn_hidden_size"] / arguments["hidden_size"],
            vocab_size=arguments.get("vocab_size") or arguments.get("padded_vocab_size") or 1,
            vocab_divisor=arguments.get("make_vocab_size_divisible_by") or 1,
            qk_norm=bool(arguments.get("qk_layernorm")),
        )
    except ConfigError as error:
        raise UnknownModelError(str(error)) from error
    architecture = Architecture(
        hidden_size=arguments["hidden_size"],
        num_dense_layers=pattern.count(0),
        num_moe_layers=pattern.count(1),
        ffn_hidden_size=arguments["ffn_hidden_size"],
        moe_ffn_hidden_size=expert,
    )
    return backbone, architecture


def layers(frequency: Any, count: int) -> list[int]:
    """1 for each MoE layer and 0 for each dense one, from ``moe_layer_freq``: every so many layers, or a list.

    Raises:
        UnknownModelError: it is neither, or a list of another length.
    """
    if isinstance(frequency, int) and not isinstance(frequency, bool) and frequency > 0:
        return [int(index % frequency == 0) for index in range(count)]
    if isinstance(frequency, list) and len(frequency) == count and set(frequency) <= {0, 1}:
        return frequency
    raise UnknownModelError(
        f"moe_layer_freq is {frequency} for {count} layers: a number, or a 0 or 1 a layer, is wanted"
    )


def recipe(arguments: Mapping[str, Any]) -> str:
    """Hash of what the runs of one curve must share."""
    return _hash({name: arguments.get(name) for name in RECIPE})


def data(arguments: Mapping[str, Any]) -> str | None:
    """Hash of the paths of the training data: Megatron writes nothing else of it down. None where there is none."""
    paths = [arguments.get(name) for name in ("train_data_path", "data_path")]
    return _hash(paths)[:8] if any(paths) else None


def identity(arguments: Mapping[str, Any]) -> str:
    """Hash of all arguments but where the run is saved: two runs with the same are one, trained twice."""
    return _hash({name: value for name, value in arguments.items() if name != "save"})


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:12]

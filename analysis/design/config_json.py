"""Reads a public MoE's config.json (Hugging Face), or refuses it with the field that misleads.

    read_model(Path("config.json")).total_params

A number that is absent is never guessed: what a family's own code would take in its place differs between families and
versions. (Whether there are biases, and whether the embeddings are tied, is the family's default then.) The precision of the
weights does not matter, so quantised models are counted as any other; of a model with images the text part alone. What was
assumed stands in `PublicModel.notes`.
"""

from pathlib import Path
from typing import Any

from analysis.design.families import EXPERTS, FAMILIES, SHAPE_FIELDS, Dense, Family, HeadNorms, by_fields
from analysis.design.public import PublicModel
from harness.errors import ConfigError, nearest
from harness.files import read_json

TEXT = ("text_config", "language_config")
"""Where models with images keep their text part."""

TIED = "tie_word_embeddings"

EVERY_LAYER = {"moe_layer_freq": 1, "decoder_sparse_step": 1, "moe_layer_interval": 1, "moe_layer_end_index": -1}
"""Values with which a field that chooses layers chooses all; of other fields 0, null and an empty list say nothing."""

WINDOWS = ("sliding_attention", "chunked_attention")
"""Of `layer_types`: attention that does not reach the whole sequence."""

ABSENT = object()


def read_model(path: Path) -> PublicModel:
    """The model of a config.json, named by its file or directory.

    Raises:
        ConfigError: it is missing, torn, of a dense model or an unknown family, or a field is absent or not counted here.
    """
    config = read_json(path)
    if not isinstance(config, dict):
        raise ConfigError(
            f"compare={path}: {'no JSON object' if path.exists() else 'it does not exist'}; a config.json of "
            f"Hugging Face is wanted"
        )
    name = path.parent.name if path.stem == "config" and path.parent.name else path.stem
    return model_of(name, config, str(path))


def model_of(name: str, config: dict[str, Any], where: str) -> PublicModel:
    """The model of a parsed config.json.

    Raises:
        ConfigError: as `read_model`.
    """
    for key in TEXT:
        if key in config:
            if not isinstance(config[key], dict):
                raise ConfigError(f"compare={where}: {key}={config[key]!r}: an object is wanted")
            text = dict(config[key])
            if TIED in config:  # where both say it, Transformers takes the outer one
                text[TIED] = config[TIED]
            return _Reader(f"{name} ({key})", text, f"{where}: {key}").model()
    return _Reader(name, config, where).model()


class _Reader:
    """One configuration."""

    def __init__(self, name: str, config: dict[str, Any], where: str):
        self.name = name
        self.config = config
        self.where = where
        self.notes: list[str] = []
        self.family = self._family()

    def model(self) -> PublicModel:
        """The model."""
        family = self.family
        experts = self._experts()
        d, layers = self.whole("hidden_size", 1), self.whole("num_hidden_layers", 1)
        self._refuse_what_is_not_counted()
        dense, width = self._dense_layers(layers), self.whole(family.expert_width, 1)
        if dense == layers:
            raise self.wrong("none of its layers has experts: a Mixture of Experts is wanted")
        top_k = self.whole(family.top_k)
        if not 1 <= top_k <= experts:
            raise self.wrong(f"{family.top_k}={top_k}: a token cannot choose so many of {family.experts}={experts}")
        attention, scores, small = self._latent(d) if family.latent else self._grouped(d)
        return PublicModel(
            name=self.name,
            hidden_size=d,
            num_dense_layers=dense,
            num_moe_layers=layers - dense,
            ffn_hidden_size=self.whole("intermediate_size") if dense else width,
            moe_ffn_hidden_size=width,
            num_experts=experts,
            top_k=top_k,
            shared_width=self._shared_width(width),
            attention_params=attention,
            score_width=scores,
            other_params=(small + 2 * d) * layers + d + (d * (layers - dense) if family.shared_gate else 0),
            vocab_size=self.whole("vocab_size", 1),
            tied=self.flag(TIED, family.tied_unsaid),
            notes=tuple(self.notes),
        )

    def wrong(self, why: str) -> ConfigError:
        """What is wrong with this file."""
        return ConfigError(f"compare={self.where}: {why}")

    def whole(self, key: str, least: int = 0, *, unsaid: int | None = None, null: int | None = None) -> int:
        """A whole number of at least `least`; `unsaid`: where the field is absent; `null`: where it is null."""
        value = self.config.get(key, ABSENT)
        if value is ABSENT or value is None:
            default = unsaid if value is ABSENT else null
            if default is None:
                state = "is absent" if value is ABSENT else "is null"
                raise self.wrong(
                    f"{key} {state}, and model_type={self.config.get('model_type')} does not go without it"
                )
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.wrong(f"{key}={value!r}: a whole number of at least {least} is wanted")
        return value

    def flag(self, key: str, unsaid: bool) -> bool:
        """True or false; null is false."""
        value = self.config.get(key, unsaid)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(f"{key}={value!r}: true or false is wanted")
        return bool(value)

    def _family(self) -> Family:
        kind = self.config.get("model_type")
        if isinstance(kind, str) and kind in FAMILIES:
            return FAMILIES[kind]
        said = [key for key in EXPERTS if self.config.get(key)]
        found = by_fields(self.config) if said else None
        if isinstance(found, Family):
            self.notes.append(
                f"read by the names of its fields, as model_type={kind!r} is no family that is known here"
                f"{nearest(kind, FAMILIES)}: hold its counts against its makers' (layers, shared experts, norms, biases and tied "
                "embeddings are as those names say, or guessed)"
            )
            return found
        what = (
            f"is no family that is known here, and {found}"
            if found
            else f"is a dense model or no family that is read here (none of {', '.join(EXPERTS)} is there)"
        )
        raise self.wrong(
            f"model_type={kind!r} {what}{nearest(kind, FAMILIES)}; a Mixture of Experts is wanted, such as {', '.join(FAMILIES)}"
        )

    def _experts(self) -> int:
        key = self.family.experts
        if self.config.get(key) is None:
            others = [other for other in EXPERTS if self.config.get(other) is not None]
            there = f"; {', '.join(others)} is there, and means nothing in this family" if others else ""
            raise self.wrong(
                f"model_type={self.config.get('model_type')} is a Mixture of Experts, and its number of experts, {key}, "
                f"{'is null' if key in self.config else 'is absent'}{there}"
            )
        experts = self.whole(key)
        if experts < 2:
            raise self.wrong(f"{key}={experts}: a dense model; a Mixture of Experts is wanted")
        return experts

    def _refuse_what_is_not_counted(self) -> None:
        """Fields with which a model of the family is not what is counted here."""
        config = self.config
        if (act := config.get("hidden_act", "silu")) != "silu":
            raise self.wrong(f"hidden_act={act!r}: FFNs are counted as SwiGLU (silu), with three matrices")
        for key in ("use_bias", "mlp_bias"):
            if config.get(key):
                raise self.wrong(f"{key}={config[key]!r}: biases of FFNs are not counted here")
        for key in sorted((SHAPE_FIELDS | {"index_topk"}) - self.family.shape_fields):
            if config.get(key) and config[key] != EVERY_LAYER.get(key):
                raise self.wrong(
                    f"{key}={config[key]!r}: it means nothing in model_type={config.get('model_type')} as it is read here"
                )
        types = config.get("layer_types") or []
        if not isinstance(types, list) or any(kind not in ("full_attention", *WINDOWS) for kind in types):
            raise self.wrong(f"layer_types={types!r}: only attention is counted here")
        if any(kind in WINDOWS for kind in types) or (not types and self._window()):
            self.notes.append(
                "its attention within a window is counted as full: M is less than said at sequences beyond it"
            )

    def _window(self) -> bool:
        """Whether attention reaches less far than the sequences that the model is made for."""
        if not self.flag("use_sliding_window", True):
            return False
        window = self.whole("sliding_window", unsaid=0, null=0)
        return 0 < window < self.whole("max_position_embeddings", unsaid=window + 1, null=window + 1)

    def _dense_layers(self, layers: int) -> int:
        """How many layers are dense."""
        config, kind = self.config, self.family.dense
        if kind is Dense.NONE:
            return 0
        moe = range(layers)
        if kind is Dense.FIRST:
            first, step = self.whole("first_k_dense_replace"), self._step("moe_layer_freq")
            return layers - sum(at >= first and at % step == 0 for at in moe)
        if kind is Dense.STEP:
            listed, step = config.get("mlp_only_layers") or [], self._step("decoder_sparse_step")
            if not isinstance(listed, list) or not all(type(at) is int and 0 <= at < layers for at in listed):
                raise self.wrong(f"mlp_only_layers={listed!r}: a list of layers from 0 to {layers - 1} is wanted")
            return layers - sum(at not in listed and (at + 1) % step == 0 for at in moe)
        first, step = self.whole("moe_layer_start_index"), self._step("moe_layer_interval")
        last = layers - 1 if config.get("moe_layer_end_index", -1) == -1 else self.whole("moe_layer_end_index")
        return layers - sum(first <= at <= last and (at + 1) % step == 0 for at in moe)

    def _step(self, key: str) -> int:
        """Every which layer has experts."""
        return self.whole(key, 1, unsaid=1)

    def _shared_width(self, width: int) -> int:
        if self.family.shared_width is not None:
            return self.whole(self.family.shared_width)
        return self.whole(self.family.shared_experts, null=0) * width if self.family.shared_experts else 0

    def _grouped(self, d: int) -> tuple[int, int, int]:
        """Grouped-query attention of a layer: parameters of its projections, width of its scores, norms and biases."""
        family, heads = self.family, self.whole("num_attention_heads", 1)
        groups = self.whole("num_key_value_heads", 1, null=heads)
        if heads % groups:
            raise self.wrong(f"num_key_value_heads={groups}: it must divide num_attention_heads={heads}")
        size = self.whole("head_dim", unsaid=0, null=0)
        if not size and (family.states_head_dim or d % heads):
            why = "this family does not make it" if family.states_head_dim else "it does not divide:"
            raise self.wrong(f"head_dim is absent, and {why} hidden_size / num_attention_heads = {d} / {heads}")
        size = size or d // heads
        small = 0
        if family.bias and self.flag(family.bias, family.bias_unsaid):
            small += (heads + 2 * groups) * size + (d if family.bias_of_output else 0)
        norms = family.head_norms
        if norms is HeadNorms.ALL:
            small += (heads + groups) * size
        elif norms is HeadNorms.EACH or (norms is HeadNorms.OPTIONAL and self.flag("use_qk_norm", False)):
            small += 2 * size
        return 2 * d * size * (heads + groups), 2 * heads * size, small

    def _latent(self, d: int) -> tuple[int, int, int]:
        """Multi-head latent attention: likewise."""
        heads, latent = self.whole("num_attention_heads", 1), self.whole("kv_lora_rank")
        rope, nope, value = (self.whole(key) for key in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
        rank = self.whole("q_lora_rank", null=0)  # null: queries are projected at once
        queries = (d + heads * (nope + rope)) * rank if rank else d * heads * (nope + rope)
        keys = d * (latent + rope) + latent * heads * (nope + value)
        small = rank + latent
        if self.family.bias and self.flag(self.family.bias, self.family.bias_unsaid):
            small += rank + latent + rope + d
        return queries + keys + heads * value * d, heads * (nope + rope + value), small

"""Several datasets as one, each with a share of the sequences: what Megatron calls a blend.

A blend copies no tokens. Training draws whole sequences from the parts by their weights; so does the fixed validation
set, from the validation parts. A part that runs out before the others ends the blend (or its epoch).
"""

import hashlib
import itertools
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.data.manifest import BLEND_SCHEMA, Part, manifest_of, read_manifest, read_parts, read_request
from harness.errors import ConfigError, DataError, nearest
from harness.experiment import Data, Experiment, plain
from harness.files import write_json

_TOLERANCE = 1e-6
"""How far from 1 the sum of the weights may be."""


def make_blend(weights: Mapping[str, Any], directory: Path, name: str) -> Data:
    """Write the blend of the datasets that `weights` names (directory -> share) into `directory`.

    Raises:
        ConfigError: the weights are no positive numbers, or do not sum to 1.
        DataError: a dataset is missing, is there twice, or has another tokenizer than the others.
    """
    parts = _read(_checked(weights))
    data = blended(parts, name)
    directory.mkdir(parents=True, exist_ok=True)
    if (directory / "train.bin").exists():
        raise DataError(f"{directory} holds a dataset's tokens: give a blend a directory of its own (data.path)")
    entries = [
        {"path": os.path.relpath(part.path.absolute(), directory.absolute()), "weight": part.weight}
        | {"data": plain(part.data)}
        for part in _ordered(parts)
    ]
    write_json(directory / "manifest.json", manifest_of(data, {"blend": entries, "bytes": {}}, schema=BLEND_SCHEMA))
    return data


def blended(parts: Iterable[Part], name: str) -> Data:
    """The identity of a blend: the same for the same datasets and weights, in whatever order and wherever they lie.

    Raises:
        DataError: a dataset is there twice, or tokenizers differ.
    """
    ordered = _ordered(parts)
    for one, other in itertools.pairwise(ordered):
        if one.data.digest == other.data.digest:
            raise DataError(f"{one.path} and {other.path} hold the same dataset: give it one weight")
    first = ordered[0]
    for part in ordered[1:]:
        if (part.data.tokenizer, part.data.vocab_size) != (first.data.tokenizer, first.data.vocab_size):
            raise DataError(
                "a blend's datasets need one tokenizer: "
                + " and ".join(
                    f"{one.path} was made with {one.data.tokenizer} (vocabulary {one.data.vocab_size})"
                    for one in (first, part)
                )
            )
    blend = " + ".join(f"{part.weight!r} x {part.data.digest}" for part in ordered)
    return Data(
        name=name,
        digest=hashlib.sha256(f"blend {blend}".encode()).hexdigest()[:16],
        tokenizer=first.data.tokenizer,
        vocab_size=first.data.vocab_size,
        train_tokens=min(int(part.data.train_tokens / part.weight) for part in ordered),
        validation_tokens=min(int(part.data.validation_tokens / part.weight) for part in ordered),
        blend=blend,
    )


def check_blend_flags(experiment: Experiment, words: list[str]) -> tuple[Part, ...]:
    """The parts that the values of ``--train-data-path`` name (weight, prefix, weight, ...).

    Raises:
        DataError: they are not the blend that `experiment` was planned on.
    """
    assert experiment.data is not None
    try:
        pairs = [(float(weight), Path(prefix).parent) for weight, prefix in zip(words[::2], words[1::2], strict=True)]
    except ValueError:
        raise DataError(
            f"--train-data-path {' '.join(words)}: a blend is a weight and a path, a weight and a path, ..."
        ) from None
    found = tuple(Part(path=path, weight=weight, data=_dataset(path)) for weight, path in pairs)
    present = blended(found, experiment.data.name)
    if present != experiment.data:
        planned = experiment.data.blend or f"dataset {experiment.data.digest}"
        raise DataError(
            f"run {experiment.run_id} was planned on {experiment.data.name!r} ({planned}), but the command blends "
            f"{present.blend}: plan the sweep again, or point data.path at the other"
        )
    return found


def table(directory: Path) -> list[str]:
    """The parts of a blend as lines for people: weight, tokens, how many tokens of the blend they allow."""
    parts = read_parts(directory)
    least = min(part.data.train_tokens / part.weight for part in parts)
    lines = []
    for part in parts:
        lasts = part.data.train_tokens / part.weight
        lines.append(
            f"  {part.weight:<8.6g} {part.data.name:20s} {part.data.train_tokens:>18,} training tokens, enough for "
            f"{int(lasts):,} of the blend{' (runs out first)' if lasts == least else ''}"
        )
    shares = {read_request(part.path)["validation_share"] for part in parts}
    if len(shares) > 1:  # the same text is then judged by two bounds
        lines.append(
            f"  note: these were split with different data.validation_share ({', '.join(map(str, sorted(shares)))}): a text that "
            "is in two of them may be trained on and validated on"
        )
    return lines


def _ordered(parts: Iterable[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: part.data.digest)


def _checked(weights: Mapping[str, Any]) -> list[tuple[Path, float]]:
    if not isinstance(weights, Mapping) or len(weights) < 2:
        raise ConfigError(
            f"data.blend={weights}: two datasets or more with their weights are wanted, as {{datasets/a: 0.7, datasets/b: 0.3}}"
        )
    for path, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise ConfigError(f"data.blend: the weight of {path} is {weight}; a number above 0 is wanted")
    total = math.fsum(weights.values())
    if abs(total - 1) > _TOLERANCE:
        said = " + ".join(f"{weight:g}" for weight in weights.values())
        scaled = ", ".join(f"{path}: {weight / total:.4g}" for path, weight in weights.items())
        raise ConfigError(f"data.blend: the weights sum to {total:g} ({said}), not to 1; scaled they would be {scaled}")
    return [(Path(path), float(weight)) for path, weight in weights.items()]


def _read(weights: list[tuple[Path, float]]) -> list[Part]:
    parts = []
    for path, weight in weights:
        data = _dataset(path)
        if data.blend:
            raise DataError(f"data.blend: {path} is a blend itself: name its datasets, with their weights multiplied")
        parts.append(Part(path=path, weight=weight, data=data))
    return parts


def _dataset(path: Path) -> Data:
    data = read_manifest(path)
    if data is None:
        siblings = [str(other.parent) for other in path.parent.glob("*/manifest.json")] if path.parent.is_dir() else []
        raise DataError(f"data.blend: no dataset in {path}{nearest(path, siblings) or '.'} Prepare it first")
    return data

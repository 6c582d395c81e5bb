"""A prepared dataset's manifest: what an experiment records of its data, and where the files lie.

<dataset>/manifest.json
          train.bin train.idx            Megatron indexed dataset
          validation.bin validation.idx  the one fixed validation part; each document is in one part only
          sources.jsonl                  the files it was made from, with their sizes

A blend has a manifest only: it names datasets, relative to itself, with weights.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.experiment import Data, Experiment, plain
from harness.files import read_json

SCHEMA = 1

BLEND_SCHEMA = 2
"""Of a blend's manifest, so that a version that knows no blends does not take it for a damaged dataset."""

PADDING_SHARE = 0.05
"""A model's vocabulary may exceed the tokenizer's by this share without a word: tables are padded to round numbers (Qwen
2.5 has 151,665 tokens, its models 152,064 rows). What is smaller still is most likely the wrong tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One dataset of a blend."""

    path: Path
    weight: float
    """Share of the blend's sequences that come from it; the weights of a blend sum to 1."""
    data: Data


def manifest_of(data: Data, details: dict[str, Any], *, schema: int = SCHEMA) -> dict[str, Any]:
    """A manifest's content. Only `data` and the sizes of files matter to a run; the other `details` are for people."""
    return {"schema": schema, "data": plain(data), **details}


def read_manifest(directory: Path) -> Data | None:
    """The dataset or blend in `directory`, or None where none was finished.

    Raises:
        DataError: the manifest is of a newer version, or a part's file is missing or of another size, or a dataset of the
            blend is missing or another one.
    """
    value = read_json(directory / "manifest.json")
    if not isinstance(value, dict):
        return None
    if value.get("schema") not in (SCHEMA, BLEND_SCHEMA):
        raise DataError(
            f"{directory}/manifest.json is of schema {value.get('schema')}, this version reads up to {BLEND_SCHEMA}"
        )
    try:
        sizes, data = dict(value["bytes"]), Data(**value["data"])
        parts = _parts(directory, value)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{directory}/manifest.json is damaged ({error!r}): prepare the data again (again=true)"
        ) from error
    for name, size in sizes.items():
        actual = (directory / name).stat().st_size if (directory / name).exists() else None
        if actual != size:
            raise DataError(f"{directory}/{name} has {actual} bytes, its manifest says {size}: prepare the data again")
    for part in parts:
        present = read_manifest(part.path)
        if present is None:
            raise DataError(
                f"the blend in {directory} needs dataset {part.data.name!r}, and there is none in {part.path}"
            )
        if present != part.data:
            raise DataError(
                f"the blend in {directory} was made with dataset {part.data.name!r} ({part.data.digest}), but {part.path} now "
                f"holds {present.name!r} ({present.digest}): make the blend again (again=true)"
            )
    return data


def read_parts(directory: Path) -> tuple[Part, ...]:
    """The datasets of the blend in `directory`; none where it holds a dataset, or nothing."""
    value = read_json(directory / "manifest.json")
    return _parts(directory, value) if isinstance(value, dict) else ()


def _parts(directory: Path, manifest: dict[str, Any]) -> tuple[Part, ...]:
    return tuple(
        Part(
            path=Path(os.path.normpath(directory / entry["path"])),
            weight=float(entry["weight"]),
            data=Data(**entry["data"]),
        )
        for entry in manifest.get("blend", ())
    )


def read_request(directory: Path) -> dict[str, Any]:
    """What the finished dataset in `directory` was made from: options of ``harness.data``, by name."""
    value = read_json(directory / "manifest.json") or {}
    held: dict[str, Any] = {"name": value.get("data", {}).get("name")}
    if "blend" in value:
        return held | {"blend": {str(part.path): part.weight for part in _parts(directory, value)}}
    return held | {
        "corpus": value.get("corpus"),
        "validation_share": value.get("validation_share"),
        "tokenizer": value.get("data", {}).get("tokenizer"),
        "text_key": value.get("text_key", "text"),  # manifests of before there was a choice lack these
        "format": value.get("format", "auto"),
    }


def check_data(experiment: Experiment, directory: Path | None) -> Path:
    """The dataset directory that `experiment` can train on.

    Raises:
        DataError: the experiment was planned without data, the dataset is missing or another one, or too small.
    """
    if experiment.data is None:
        raise DataError(
            f"run {experiment.run_id} was planned before its data was prepared (data: null): prepare it "
            "(python -m harness.data), then plan the sweep again"
        )
    if directory is None:
        raise DataError(f"run {experiment.run_id} needs dataset {experiment.data.name!r}: give data.path=<directory>")
    present = read_manifest(directory)
    if present is None:
        raise DataError(
            f"no dataset in {directory}: prepare it (python -m harness.data), or give data.path=<directory>"
        )
    if present != experiment.data:
        raise DataError(
            f"run {experiment.run_id} was planned on dataset {experiment.data.name!r} ({experiment.data.digest}), "
            f"but {directory} holds {present.name!r} ({present.digest}): plan the sweep again, or point data.path at the other"
        )
    check_size(experiment)
    return directory


def check_size(experiment: Experiment) -> None:
    """Refuse an experiment that needs more tokens than its dataset has.

    Raises:
        DataError: with both numbers.
    """
    data, training = experiment.data, experiment.training
    if data is None:
        return
    slack = _blend_slack(data, experiment.backbone.seq_length)
    why = f" ({data.blend}; part of that is lost to whole sequences)" if data.blend else ""
    have = int(data.train_tokens * training.epochs)
    asked = max(
        experiment.tokens, training.dataset_iters * experiment.batch_tokens
    )  # a trunk's runs all ask for as much
    if (need := asked + 1 + slack) > have:
        does = "trains on" if asked == experiment.tokens else "shares a trunk with a run that trains on"
        offers = f"blend {data.name!r} gives {data.train_tokens:,} until its first part runs out{why}"
        raise DataError(
            f"run {experiment.run_id} {does} {need:,} tokens, but "
            f"{offers if data.blend else f'dataset {data.name!r} has {data.train_tokens:,} for training'} "
            f"(training.epochs={training.epochs:g} allows {have:,}): add text, train on less, or raise training.epochs"
        )
    need = training.validation_sequences * experiment.backbone.seq_length + 1 + slack
    if need > data.validation_tokens:
        raise DataError(
            f"the final loss is the mean over {need:,} validation tokens, but "
            f"{'blend' if data.blend else 'dataset'} {data.name!r} has {data.validation_tokens:,}{why}: lower "
            "training.validation_sequences, or add text"
        )
    _check_vocabulary(experiment)


def _blend_slack(data: Data, seq_length: int) -> int:
    """Tokens that a blend must have beyond those trained on.

    Megatron takes whole sequences from each part, rounded up, and its blending order is off by up to one more; a part of
    weight w that gives two sequences more than its share ends the blend 2 S / w tokens earlier.
    """
    if not data.blend:
        return 0
    smallest = min(float(part.split(" x ")[0]) for part in data.blend.split(" + "))
    return int((2 * seq_length + 1) / smallest)


def _check_vocabulary(experiment: Experiment) -> None:
    data, backbone = experiment.data, experiment.backbone
    assert data is not None
    said = (
        f"dataset {data.name!r} was tokenised with {data.vocab_size} tokens ({data.tokenizer}), but the backbone's "
        f"vocabulary has {backbone.vocab_size}"
    )
    if data.vocab_size > backbone.vocab_size:
        raise DataError(f"{said}: use the matching tokenizer or set backbone.vocab_size")
    if data.vocab_size < (1 - PADDING_SHARE) * backbone.vocab_size and not experiment.training.smaller_vocabulary:
        raise DataError(
            f"{said}, more than {PADDING_SHARE:.0%} above it, which is no padding: use the matching tokenizer, set "
            f"backbone.vocab_size={data.vocab_size}, or say that it is meant (training.smaller_vocabulary=true)"
        )

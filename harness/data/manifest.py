"""A prepared dataset's manifest: what an experiment records of its data, and where the files lie.

<dataset>/manifest.json
          train.bin train.idx            Megatron indexed dataset
          validation.bin validation.idx  the one fixed validation part; each document is in one part only
          cache/                         Megatron's sample indices
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.experiment import Data, Experiment
from harness.files import read_json, write_json

SCHEMA = 1


def write_manifest(directory: Path, data: Data, details: dict[str, Any]) -> None:
    """Write ``manifest.json`` last: a dataset without it is unfinished. `details` are for people (documents, source)."""
    write_json(directory / "manifest.json", {"schema": SCHEMA, "data": asdict(data), **details})


def read_manifest(directory: Path) -> Data | None:
    """The dataset in `directory`, or None where none was finished.

    Raises:
        DataError: the manifest is of a newer version, or a part's file is missing or of another size.
    """
    value = read_json(directory / "manifest.json")
    if not isinstance(value, dict):
        return None
    if value.get("schema") != SCHEMA:
        raise DataError(f"{directory}/manifest.json is of schema {value.get('schema')}, this version reads {SCHEMA}")
    try:
        sizes, data = dict(value["bytes"]), Data(**value["data"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{directory}/manifest.json is damaged ({error!r}): prepare the data again (again=true)"
        ) from error
    for name, size in sizes.items():
        actual = (directory / name).stat().st_size if (directory / name).exists() else None
        if actual != size:
            raise DataError(f"{directory}/{name} has {actual} bytes, its manifest says {size}: prepare the data again")
    return data


def read_source(directory: Path) -> dict[str, Any]:
    """What a finished dataset was made from: name, corpus, validation_share."""
    value = read_json(directory / "manifest.json") or {}
    return {
        "name": value.get("data", {}).get("name"),
        "corpus": value.get("corpus"),
        "validation_share": value.get("validation_share"),
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
    have = int(data.train_tokens * training.epochs)
    if experiment.tokens + 1 > have:
        raise DataError(
            f"run {experiment.run_id} trains on {experiment.tokens + 1:,} tokens, but dataset {data.name!r} has "
            f"{data.train_tokens:,} for training (training.epochs={training.epochs:g} allows {have:,}): add text, train "
            "on less, or raise training.epochs"
        )
    need = training.validation_sequences * experiment.backbone.seq_length + 1
    if need > data.validation_tokens:
        raise DataError(
            f"the final loss is the mean over {need:,} validation tokens, but dataset {data.name!r} has "
            f"{data.validation_tokens:,}: lower training.validation_sequences, or add text"
        )
    if data.vocab_size != experiment.backbone.vocab_size:
        raise DataError(
            f"dataset {data.name!r} was tokenised with {data.vocab_size} tokens ({data.tokenizer}), but the backbone's "
            f"vocabulary has {experiment.backbone.vocab_size}: use the matching tokenizer or set backbone.vocab_size"
        )

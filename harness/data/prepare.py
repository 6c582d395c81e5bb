"""Tokenise documents at byte level and write a Megatron indexed dataset, with megatron.core's own writer.

Token i < 256 is the byte i; 256 ends a document. The two parts are written under temporary names and renamed, the
manifest last, so an interrupted preparation leaves nothing that looks finished.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from harness.data.corpus import Document
from harness.data.manifest import write_manifest
from harness.errors import DataError
from harness.experiment import Data
from harness.quiet import quiet_import

END_OF_DOCUMENT = 256
VOCAB_SIZE = 257
TOKENIZER = "byte"
PARTS = ("train", "validation")


def tokenize(document: Document) -> np.ndarray:
    """The tokens of a document, its end included; shape (bytes + 1,), uint16."""
    tokens = np.empty(len(document.content) + 1, dtype=np.uint16)
    tokens[:-1] = np.frombuffer(document.content, dtype=np.uint8)
    tokens[-1] = END_OF_DOCUMENT
    return tokens


def prepare(
    documents: Iterable[Document], directory: Path, *, name: str, validation_share: float, corpus: str | None = None
) -> Data:
    """Write `documents` as a dataset into `directory` and return its identity; `corpus` says where they came from.

    Equal documents are written once. What was in `directory` stays as it is until all is written. Source of the format:
    megatron.core.datasets.indexed_dataset.

    Raises:
        DataError: a part would be empty.
    """
    with quiet_import():
        import megatron.core.datasets.indexed_dataset  # noqa: F401

    directory.mkdir(parents=True, exist_ok=True)
    try:
        return _prepare(documents, directory, name, validation_share, corpus)
    finally:
        for leftover in directory.glob("*.tmp"):
            leftover.unlink()


def _prepare(
    documents: Iterable[Document], directory: Path, name: str, validation_share: float, corpus: str | None
) -> Data:
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builders = {part: IndexedDatasetBuilder(str(directory / f"{part}.bin.tmp"), dtype=np.uint16) for part in PARTS}
    counts = dict.fromkeys(PARTS, 0)
    tokens = dict.fromkeys(PARTS, 0)
    seen: set[bytes] = set()
    identity = hashlib.sha256(f"{TOKENIZER} {VOCAB_SIZE} {validation_share}".encode())
    for document in documents:
        if document.digest in seen:
            continue
        seen.add(document.digest)
        identity.update(document.digest)
        part = "validation" if document.is_validation(validation_share) else "train"
        ids = tokenize(document)
        builders[part].add_document(torch.from_numpy(ids), [len(ids)])
        counts[part] += 1
        tokens[part] += len(ids)
    for part in PARTS:
        if not counts[part]:
            raise DataError(
                f"{sum(counts.values())} documents with data.validation_share={validation_share:g} leave the {part} "
                "part empty: add documents or change the share"
            )
    for part, builder in builders.items():
        builder.finalize(str(directory / f"{part}.idx.tmp"))
    (directory / "manifest.json").unlink(missing_ok=True)  # from here until it is written anew, nothing looks finished
    for part in PARTS:
        for suffix in ("bin", "idx"):
            (directory / f"{part}.{suffix}.tmp").replace(directory / f"{part}.{suffix}")
    data = Data(
        name=name,
        digest=identity.hexdigest()[:16],
        tokenizer=TOKENIZER,
        vocab_size=VOCAB_SIZE,
        train_tokens=tokens["train"],
        validation_tokens=tokens["validation"],
    )
    sizes = {path.name: path.stat().st_size for part in PARTS for path in sorted(directory.glob(f"{part}.*"))}
    details = {"corpus": corpus, "validation_share": validation_share, "documents": counts, "bytes": sizes}
    write_manifest(directory, data, details)
    return data

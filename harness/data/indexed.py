"""Megatron's indexed dataset on disk: ``<part>.bin``, the tokens one after the other, and ``<part>.idx``, where each
document lies. Source of the format: megatron.core.datasets.indexed_dataset (0.19).

Written here, a block at a time, so that neither torch nor memory for all documents is needed; the tests hold every byte
against Megatron's own writer.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HEADER = b"MMIDIDX\x00\x00"
VERSION = 1
TYPE_CODES = {np.dtype(np.int32): 4, np.dtype(np.uint16): 8}
"""Megatron's number of a token type."""

LENGTH_TYPE = np.dtype(np.int32)
"""Of a document's length, here as in the index: a longer document cannot be written."""

_BLOCK = 1 << 20


def token_type(vocab_size: int) -> type[np.uint16] | type[np.int32]:
    """The type that Megatron stores tokens of such a vocabulary in (``DType.optimal_dtype``)."""
    return np.uint16 if vocab_size < 65500 else np.int32


def write_index(path: Path, lengths: Path, dtype: np.dtype[np.generic]) -> None:
    """Write the .idx file at `path` for documents whose lengths (int32, in tokens) are the content of the file `lengths`.

    Each document is one sequence of text mode.
    """
    count = lengths.stat().st_size // LENGTH_TYPE.itemsize
    with path.open("wb") as file:
        file.write(HEADER)
        file.write(struct.pack("<QBQQ", VERSION, TYPE_CODES[dtype], count, count + 1))
        for block in _blocks(lengths):
            file.write(block.tobytes())
        offset = 0
        for block in _blocks(lengths):
            ends = offset + np.cumsum(block, dtype=np.int64) * dtype.itemsize
            file.write(np.concatenate([[offset], ends[:-1]]).astype(np.int64).tobytes())
            offset = int(ends[-1])
        for start in range(0, count + 1, _BLOCK):
            file.write(np.arange(start, min(count + 1, start + _BLOCK), dtype=np.int64).tobytes())


def _blocks(path: Path) -> Iterator[np.ndarray]:
    with path.open("rb") as file:
        while content := file.read(_BLOCK * LENGTH_TYPE.itemsize):
            yield np.frombuffer(content, dtype=LENGTH_TYPE)

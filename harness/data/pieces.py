"""A corpus in pieces of about a megabyte, in order: what a worker tokenises at a time, and what a resumed start skips."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.data import jsonl, parquet
from harness.data.compression import unpacked
from harness.data.corpus import Corpus, Document

PIECE_BYTES = 1 << 20
"""Text a piece holds, about. The dataset does not depend on it."""


class Piece(Protocol):
    """Some successive documents of a corpus; small to send to another process."""

    @property
    def bytes(self) -> int:
        """Input that this piece stands for, for the progress."""

    def documents(self) -> Iterator[Document]:
        """Read them; an empty content is kept, for the count.

        Raises:
            DataError: the input is damaged, with file and place.
        """


@dataclass(frozen=True, kw_only=True)
class TextFiles:
    """Plain text files, each one document."""

    paths: tuple[Path, ...]
    bytes: int

    def documents(self) -> Iterator[Document]:
        """Read them; a file with a NUL byte is no text and left out."""
        for path in self.paths:
            content = unpacked(path)
            if b"\0" not in content:
                yield Document(str(path), content)


@dataclass(frozen=True, kw_only=True)
class InMemory:
    """Documents that are there already."""

    held: tuple[Document, ...]

    @property
    def bytes(self) -> int:
        """Their length."""
        return sum(len(document.content) for document in self.held)

    def documents(self) -> Iterator[Document]:
        """Themselves."""
        yield from self.held


def cut(corpus: Corpus, piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """The pieces of `corpus`, always the same ones for the same files."""
    for group in _grouped([len(document.content) for document in corpus.documents], piece_bytes):
        yield InMemory(held=corpus.documents[group])
    start = 0
    files = corpus.files
    while start < len(files):
        if files[start].format == "text":
            end = start
            while end < len(files) and files[end].format == "text":
                end += 1
            texts = files[start:end]
            for group in _grouped([file.bytes for file in texts], piece_bytes):
                size = sum(file.bytes for file in texts[group])
                yield TextFiles(paths=tuple(file.path for file in texts[group]), bytes=size)
            start = end
            continue
        reader = jsonl.cut if files[start].format == "jsonl" else parquet.cut
        yield from reader(files[start], corpus.text_key, piece_bytes)
        start += 1


def _grouped(sizes: list[int], most: int) -> Iterator[slice]:
    """Successive entries as slices, each of `most` bytes or the one entry that exceeds it."""
    start, held = 0, 0
    for index, size in enumerate(sizes):
        if index > start and held + size > most:
            yield slice(start, index)
            start, held = index, 0
        held += size
    if start < len(sizes):
        yield slice(start, len(sizes))

"""Where text comes from: the Python standard library (any machine has it), or files of the user's.

A document is one file; its part, train or validation, follows from a hash of its content, so that equal texts can
never stand on both sides and adding a file moves no other.
"""

import hashlib
import pydoc_data.topics
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError, nearest

STDLIB = "stdlib"
"""The corpus name for the standard library's source and the language reference that pydoc carries."""

_LEFT_OUT = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "pydoc_data", "encodings"}
"""Folders that are no part of the standard library, optional on some systems, generated tables, or (pydoc_data) the
very text of the language reference, which must not stand in both parts."""


@dataclass(frozen=True)
class Document:
    """One text."""

    name: str
    """For people: path relative to the corpus."""
    content: bytes
    """UTF-8."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content).digest()

    def is_validation(self, share: float) -> bool:
        """Whether it belongs to the validation part, of about `share` of all documents."""
        return int.from_bytes(self.digest[:8], "big") < share * 2**64


def read_corpus(source: str) -> Iterator[Document]:
    """The documents of `source`, ``stdlib`` or a text file or a folder of them, in order of name.

    Raises:
        DataError: nothing is there.
    """
    if source == STDLIB:
        yield from _stdlib()
        return
    path = Path(source)
    if not path.exists():
        hint = nearest(source, [STDLIB, *(str(other) for other in path.parent.glob("*"))])
        raise DataError(f"corpus={source}: no such file or folder, and not {STDLIB!r}{hint}")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    root = path.parent if path.is_file() else path
    yield from _texts(root, files)


def _stdlib() -> Iterator[Document]:
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        yield Document(f"reference/{topic}", text.encode())
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(root.rglob("*.py"))
    yield from _texts(root, [file for file in files if not _LEFT_OUT & set(file.relative_to(root).parts)])


def _texts(root: Path, files: list[Path]) -> Iterator[Document]:
    for file in files:
        content = file.read_bytes()
        if content and b"\0" not in content:  # a NUL byte marks what is no text
            yield Document(file.relative_to(root).as_posix(), content)

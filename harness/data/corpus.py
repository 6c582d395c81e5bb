"""Which text a dataset is made from: files in JSONL, Parquet or plain text, or the Python standard library.

A document is one line of JSONL, one row of Parquet, or one file of plain text. Its part, train or validation, follows
from a hash of its content, so that equal texts can never stand on both sides and adding a file moves no other.
"""

import glob
import hashlib
import pydoc_data.topics
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, DataError, nearest

STDLIB = "stdlib"
"""The corpus name for the standard library's source and the language reference that pydoc carries."""

FORMATS = ("auto", "jsonl", "parquet", "text")
"""What ``data.format`` may be; ``auto`` goes by the suffix."""

COMPRESSED = (".gz", ".zst")

SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
"""Format by suffix, without that of the compression; every other suffix is text."""

_LEFT_OUT = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "pydoc_data", "encodings"}
"""Folders that are no part of the standard library, optional on some systems, generated tables, or (pydoc_data) the
very text of the language reference, which must not stand in both parts."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text."""

    name: str
    """For people: the file it is from."""
    content: bytes
    """UTF-8."""

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content."""
        return hashlib.sha256(self.content).digest()


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file of a corpus, as it was when the corpus was listed."""

    path: Path
    format: str
    """``jsonl``, ``parquet`` or ``text``."""
    bytes: int
    """On disk, compressed where it is."""
    modified: int
    """Time of the last change, nanoseconds."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents in a fixed order: those in memory first, then file by file."""

    source: str | list[str] | None = None
    """What the user named, with absolute paths."""
    documents: tuple[Document, ...] = ()
    files: tuple[SourceFile, ...] = ()
    text_key: str = "text"
    """Field of JSONL, or column of Parquet, that holds the text."""

    @property
    def bytes(self) -> int:
        """Input to read, as it lies on disk."""
        return sum(len(document.content) for document in self.documents) + sum(file.bytes for file in self.files)

    def listing(self) -> list[dict[str, object]]:
        """Every file with its size and time of change, and one entry for the documents in memory: equal for equal input."""
        entries: list[dict[str, object]] = []
        if self.documents:
            digest = hashlib.sha256(b"".join(document.digest for document in self.documents)).hexdigest()[:16]
            size = sum(len(document.content) for document in self.documents)
            entries.append({"path": f"{len(self.documents)} documents in memory", "bytes": size, "digest": digest})
        for file in self.files:
            entries.append({"path": str(file.path), "bytes": file.bytes, "modified": file.modified})
        return entries


def read_corpus(
    source: str | Sequence[str], *, text_key: str = "text", text_format: str = "auto", leave_out: Path | None = None
) -> Corpus:
    """The corpus that `source` names: ``stdlib``, a file, a folder, a glob, or a list of those; files in order of name.

    Files under `leave_out` are none of it: the dataset may be written into a folder of the corpus.

    Raises:
        ConfigError: `text_format` is none of `FORMATS`.
        DataError: nothing is there, or a folder mixes formats.
    """
    if text_format not in FORMATS:
        raise ConfigError(
            f"data.format={text_format}: it is one of {', '.join(FORMATS)}{nearest(text_format, FORMATS)}"
        )
    names = [source] if isinstance(source, str) else list(source)
    documents: list[Document] = []
    files: dict[Path, SourceFile] = {}
    for name in names:
        if name == STDLIB:
            documents += [Document(f"reference/{key}", text.encode()) for key, text in sorted(_reference().items())]
            found = _stdlib_files()
            formats: list[str | None] = ["text"] * len(found)
        else:
            found = _expand(name, leave_out)
            formats = _formats(name, found, text_format)
        for path, kind in zip(found, formats, strict=True):
            if kind:
                files.setdefault(path, _source_file(path, kind))
    absolute = [name if name == STDLIB else str(Path(name).absolute()) for name in names]
    return Corpus(
        source=absolute[0] if len(absolute) == 1 else absolute,
        documents=tuple(documents),
        files=tuple(files.values()),
        text_key=text_key,
    )


def _reference() -> dict[str, str]:
    return dict(pydoc_data.topics.topics)


def _stdlib_files() -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(root.rglob("*.py"))
    return [file for file in files if not _LEFT_OUT & set(file.relative_to(root).parts)]


def _is_hidden(file: Path) -> bool:
    """Whether a file in a folder is no part of a corpus: ``.gitattributes``, ``.git/...``, ``_SUCCESS`` (what Spark leaves)."""
    return any(part.startswith(".") for part in file.parts) or (file.name.startswith("_") and not file.suffix)


def _expand(name: str, leave_out: Path | None) -> list[Path]:
    """The files that a name stands for."""
    path = Path(name)
    if path.is_file():
        return [path.absolute()]
    if path.is_dir():
        root = path.absolute()
        found = sorted(file for file in root.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(root)))
    elif glob.has_magic(name):
        found = sorted(Path(file).absolute() for file in glob.glob(name, recursive=True) if Path(file).is_file())  # noqa: PTH207
    else:
        siblings = path.parent.glob("*") if path.parent.is_dir() else ()
        hint = nearest(name, [STDLIB, *(str(other) for other in siblings)])
        raise DataError(f"data.corpus={name}: no such file or folder, and not {STDLIB!r}{hint}")
    if leave_out is not None:
        found = [file for file in found if not file.is_relative_to(leave_out.absolute())]
    if not found:
        raise DataError(f"data.corpus={name}: {'no file in this folder' if path.is_dir() else 'no file matches'}")
    return found


def _formats(name: str, files: list[Path], text_format: str) -> list[str | None]:
    """The format of each file; None for those that the wanted format leaves out."""
    own: list[str | None] = [_format(file) for file in files]
    if len(files) == 1 and Path(name).is_file():  # named itself: it is what the user says it is
        return own if text_format == "auto" else [text_format]
    if text_format != "auto":
        chosen = [kind if kind == text_format else None for kind in own]
        if not any(chosen):
            raise DataError(
                f"data.corpus={name}: data.format={text_format}, but none of its {len(files)} files is ({files[0].name}, ...)"
            )
        return chosen
    kinds = sorted({str(kind) for kind in own})
    if len(kinds) > 1:
        counts = ", ".join(f"{own.count(kind)} {kind} ({files[own.index(kind)].name})" for kind in kinds)
        raise DataError(
            f"data.corpus={name} mixes formats: {counts}; say which with data.format={kinds[0]}, or with a glob"
        )
    return own


def _format(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in COMPRESSED:
        suffix = Path(path.stem).suffix.lower()
    return SUFFIXES.get(suffix, "text")


def _source_file(path: Path, kind: str) -> SourceFile:
    if kind == "parquet" and path.suffix.lower() in COMPRESSED:
        raise DataError(f"{path}: a compressed Parquet file cannot be read (Parquet compresses inside): unpack it")
    status = path.stat()
    return SourceFile(path=path, format=kind, bytes=status.st_size, modified=status.st_mtime_ns)

"""JSONL, a document a line: cut into ranges of lines, which workers read themselves where the file can be entered anywhere.

A packed file cannot, so whoever cuts it unpacks it on the way, once, and hands out its text.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.compression import blocks
from harness.data.corpus import COMPRESSED, Document, SourceFile
from harness.errors import DataError, nearest


@dataclass(frozen=True, kw_only=True)
class LineRange:
    """The lines of a file that begin in bytes `start` to `end` of it."""

    path: Path
    start: int
    end: int
    text_key: str

    @property
    def bytes(self) -> int:
        """Input that this piece stands for."""
        return self.end - self.start

    def documents(self) -> Iterator[Document]:
        """Its documents; an empty content is kept, for the count."""
        with self.path.open("rb") as file:
            position = self.start
            if self.start:  # the line that is under way at `start` belongs to the piece before
                file.seek(self.start - 1)
                position += len(file.readline()) - 1
            while position < self.end and (line := file.readline()):
                text = _text(line, self.text_key)
                if isinstance(text, str):
                    raise DataError(f"{self.path}:{_line_number(self.path, position)}: {text}")
                if text is not None:
                    yield Document(str(self.path), text)
                position += len(line)


@dataclass(frozen=True, kw_only=True)
class LineBlock:
    """Whole lines of a packed file, unpacked."""

    path: Path
    first_line: int
    """Number of the first line, from 1."""
    content: bytes
    text_key: str
    bytes: int
    """Input that this piece stands for, packed."""

    def documents(self) -> Iterator[Document]:
        """Its documents; an empty content is kept, for the count."""
        for number, line in enumerate(self.content.split(b"\n"), self.first_line):
            text = _text(line, self.text_key)
            if isinstance(text, str):
                raise DataError(f"{self.path}:{number}: {text}")
            if text is not None:
                yield Document(str(self.path), text)


def cut(file: SourceFile, text_key: str, piece_bytes: int) -> Iterator[LineRange | LineBlock]:
    """`file` in pieces of about `piece_bytes` of text, in order; always the same for the same file."""
    if file.path.suffix.lower() not in COMPRESSED:
        for start in range(0, file.bytes, piece_bytes):
            end = min(file.bytes, start + piece_bytes)
            yield LineRange(path=file.path, start=start, end=end, text_key=text_key)
        return
    held: list[bytes] = []
    size, line, read_before, read = 0, 1, 0, 0
    for block, read in blocks(file.path):
        newline = block.rfind(b"\n") + 1
        if size + newline >= piece_bytes and newline:
            content = b"".join([*held, block[:newline]])
            yield LineBlock(
                path=file.path, first_line=line, content=content, text_key=text_key, bytes=read - read_before
            )
            line += content.count(b"\n")
            held, size, read_before = [block[newline:]], len(block) - newline, read
        else:
            held.append(block)
            size += len(block)
    yield LineBlock(
        path=file.path, first_line=line, content=b"".join(held), text_key=text_key, bytes=file.bytes - read_before
    )


def _text(line: bytes, key: str) -> bytes | str | None:
    """The text of a line in UTF-8; None for a blank line; what is wrong with the line, as a str."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        if not line.strip():
            return None
        return f"not a whole JSON value ({error.msg} at character {error.pos + 1}): {_excerpt(line)}"
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start + 1} of the line): {_excerpt(line)}"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        return f"JSON that cannot be read ({error}): {_excerpt(line)}"
    if not isinstance(value, dict):
        return f"a JSON {type(value).__name__}, where an object with the field {key!r} is wanted: {_excerpt(line)}"
    return _field(value, key)


def _field(value: dict[str, Any], key: str) -> bytes | str:
    if key not in value:
        fields = ", ".join(map(repr, value)) or "none"
        return f"no field {key!r} (data.text_key){nearest(key, value) or '.'} Its fields: {fields}"
    text = value[key]
    if text is None:
        return b""  # crawls have them; counted among the empty documents
    if not isinstance(text, str):
        return f"field {key!r} holds {json.dumps(text)[:60]}, where text is wanted"
    try:
        return text.encode()
    except UnicodeEncodeError:
        return f"field {key!r} holds half of a surrogate pair (an escape such as \\ud83d), which is no character"


def _excerpt(line: bytes) -> str:
    shown = line[:60].decode(errors="replace").rstrip()
    return shown + (" ..." if len(line) > 60 else "")


def _line_number(path: Path, position: int) -> int:
    """Number, from 1, of the line that begins at byte `position`."""
    number, left = 1, position
    with path.open("rb") as file:
        while left and (block := file.read(min(left, 1 << 22))):
            number += block.count(b"\n")
            left -= len(block)
    return number

"""Files that survive a crash: written whole under a temporary name, flushed, renamed; read with tolerance for torn tails."""

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` such that a reader, or a crash at any moment, sees the old file or the new one, whole.

    Raises:
        OSError: the directory does not exist, or the disk is full; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, shortest floats that round-trip, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_text(path: Path) -> str | None:
    """The text in `path`, or None where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def read_json(path: Path) -> Any | None:
    """The JSON value in `path`, or None where the file is missing or torn."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def write_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Write one canonical JSON value a line, atomically."""
    write_atomically(path, "".join(canonical_json(value) + "\n" for value in values))


def read_json_lines(path: Path) -> list[Any]:
    """The values of the whole lines of `path`; a torn line (a crash while appending) and a missing file count as none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    values = []
    for line in lines:
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return values


def open_to_append(path: Path, *, buffering: int = -1) -> TextIO:
    """`path`, open for further lines; where a crash cut its last line, after an end of line, so that it swallows no other."""
    torn = _ends_torn(path)
    file = path.open("a", encoding="utf-8", buffering=buffering)
    if torn:
        file.write("\n")
    return file


def _ends_torn(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False

"""What was read of files, kept for the next time: only what changed is read again.

    cache = Cache(root / ".collected.json")
    facts = cache.remember("run 1f2e", [path, other], read)      read() where a file changed, came or went; else as last time
    cache.save()

A file counts as changed when its time, size or inode did. The cache may be removed at any time; a torn one, or one of another
version, is none. What `read` returns must survive JSON.
"""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.files import read_json, write_atomically

SCHEMA = 1
"""Raise it when what any reader keeps changes its meaning."""


class Cache:
    """Facts by name, with the stamps of the files that they came from."""

    def __init__(self, path: Path):
        """`path`: its file; need not exist."""
        self.path = path
        held = read_json(path)
        whole = isinstance(held, dict) and held.get("schema") == SCHEMA and isinstance(held.get("facts"), dict)
        self._facts: dict[str, Any] = held["facts"] if whole else {}  # type: ignore[index]
        self._changed = False
        self.fresh = 0
        """How many were read anew."""

    def remember[Value](self, name: str, files: Sequence[Path | str], read: Callable[[], Value]) -> Value:
        """What `read` returns, or returned when `files` were last as they are now."""
        stamps = [_stamp(path) for path in files]  # before reading: a change while it is read shows the next time
        held = self._facts.get(name)
        if isinstance(held, list) and len(held) == 2 and held[0] == stamps:
            value: Value = held[1]
            return value
        self.fresh += 1
        self._changed = True
        value = read()
        self._facts[name] = [stamps, value]
        return value

    def save(self) -> None:
        """Write it, where something was read anew and the place can be written to."""
        if self._changed:
            with contextlib.suppress(OSError):  # a root that may only be read is collected all the same
                write_atomically(self.path, json.dumps({"schema": SCHEMA, "facts": self._facts}))


def _stamp(path: Path | str) -> list[int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  ten thousand runs have forty thousand files
    except (FileNotFoundError, NotADirectoryError):
        return None
    return [found.st_mtime_ns, found.st_size, found.st_ino]

"""The ends of files that grow: logs and metrics."""

import json
import os
from pathlib import Path
from typing import Any

TAIL = 4096
"""Bytes that are read from the end."""


def last_line(log: Path) -> str | None:
    """The last line of a log that is not blank; None where there is none."""
    lines = _tail(log).decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), None)


def last_metrics(path: Path) -> dict[str, Any]:
    """The last whole line of a metrics.jsonl, or an empty mapping."""
    try:
        row = json.loads(_tail(path).split(b"\n")[-2])
    except (IndexError, ValueError):
        return {}
    return row if isinstance(row, dict) else {}


def newest_log(directory: Path) -> Path | None:
    """The log of a run's directory that was written last; None where there is none."""
    try:
        with os.scandir(directory / "logs") as entries:
            logs = [(entry.stat().st_mtime, entry.path) for entry in entries if entry.is_file()]
    except OSError:
        return None
    return Path(max(logs)[1]) if logs else None


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read()
    except OSError:
        return b""

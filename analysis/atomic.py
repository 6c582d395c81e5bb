"""`harness.files.write_atomically` for bytes: parquet tables and images."""

import os
import secrets
from pathlib import Path


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Replace `path` by `content` such that a reader, or a crash, sees the old file or the new one, whole.

    Raises:
        OSError: the directory does not exist, or the disk is full; the old file is then untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""The transaction log of an offline W&B run (``run-<id>.wandb``), record by record.

After a header of 7 bytes it is a log in LevelDB's format: blocks of 32 KiB, each a row of chunks (CRC-32 of kind and content,
length, kind: whole, first, middle, last), and every record a message of wandb's own protocol. wandb 0.31 has no reader of it in
Python any more, only the messages; the format is described with LevelDB (doc/log_format.md).
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

HEADER = b":W&B"
HEADER_BYTES = 7
BLOCK = 32768
CHUNK = struct.Struct("<IHB")
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


class TornLog(Exception):
    """The log ends within a record, or a chunk is damaged: what came before is whole."""


def read_records(path: Path) -> Iterator[Any]:
    """The messages (`wandb.proto.wandb_internal_pb2.Record`) of the log `path`.

    Raises:
        TornLog: after the last whole one, where something follows it.
        HarnessError: it is no such log, or wandb is not installed.
    """
    try:
        import wandb.proto.wandb_internal_pb2 as messages
    except ImportError as error:
        raise HarnessError("source=wandb_offline needs wandb: pip install 'moe-scaling-harness[train]'") from error
    content = path.read_bytes()
    if not content.startswith(HEADER):
        raise HarnessError(f"{path} is no transaction log of W&B: it begins with {content[:4]!r}, not {HEADER!r}")
    for message in _messages(content):
        record: Any = messages.Record()  # type: ignore[attr-defined]
        record.ParseFromString(message)
        yield record


def _messages(content: bytes) -> Iterator[bytes]:
    position = HEADER_BYTES
    parts: list[bytes] = []
    while position < len(content):
        left = BLOCK - position % BLOCK
        if left < CHUNK.size:  # too short for a chunk: the block is filled with zeros
            position += left
            continue
        if position + CHUNK.size > len(content):
            raise TornLog
        check, length, kind = CHUNK.unpack_from(content, position)
        body = content[position + CHUNK.size : position + CHUNK.size + length]
        if len(body) < length or zlib.crc32(bytes([kind]) + body) != check:
            raise TornLog
        position += CHUNK.size + length
        if kind in (WHOLE, FIRST):
            parts = []
        parts.append(body)
        if kind in (WHOLE, LAST):
            yield b"".join(parts)
            parts = []
    if parts:
        raise TornLog

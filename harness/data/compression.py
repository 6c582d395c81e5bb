"""Reading .gz and .zst files such that a cut or damaged one is an error that names the file, never a short text."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from harness.errors import DataError

_READ_BYTES = 1 << 20

_WINDOW = 1 << 31
"""Largest zstd window that is accepted (``zstd --long=31``), bytes."""


def blocks(path: Path) -> Iterator[tuple[bytes, int]]:
    """The unpacked content of `path` in pieces, each with the number of bytes of the file read so far.

    Raises:
        DataError: the file is damaged or ends too early.
    """
    with path.open("rb") as file:
        if path.suffix.lower() == ".zst":
            yield from _zstd_blocks(path, file)
            return
        unpacked = 0
        try:
            with gzip.open(file) as stream:
                while block := stream.read(_READ_BYTES):
                    unpacked += len(block)
                    yield block, file.tell()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise _damaged(path, unpacked, str(error)) from error


def unpacked(path: Path) -> bytes:
    """The whole content of `path`, unpacked where its suffix says that it is packed."""
    if path.suffix.lower() not in (".gz", ".zst"):
        return path.read_bytes()
    content = io.BytesIO()
    for block, _ in blocks(path):
        content.write(block)
    return content.getvalue()


def _zstd_blocks(path: Path, file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    import zstandard

    frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
    begun, unpacked = False, 0
    try:
        while packed := file.read(_READ_BYTES):
            while packed:
                block = frame.decompress(packed)
                begun, packed = True, b""
                if frame.eof:  # files of several frames are common: pzstd writes them
                    packed = frame.unused_data
                    begun, frame = False, zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
                if block:
                    unpacked += len(block)
                    yield block, file.tell()
    except zstandard.ZstdError as error:
        raise _damaged(path, unpacked, str(error)) from error
    if begun:  # the library takes the end of the file for the end of the data
        raise _damaged(path, unpacked, "the file ends inside a frame")


def _damaged(path: Path, unpacked: int, reason: str) -> DataError:
    return DataError(
        f"{path} is damaged or was cut off: after {unpacked:,} bytes of text it cannot be unpacked ({reason}); "
        "fetch it again, or leave it out"
    )

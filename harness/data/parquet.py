"""Parquet, a document a row: cut into groups of row groups."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.corpus import Document, SourceFile
from harness.errors import DataError, nearest

_BATCH_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class RowGroups:
    """Some successive row groups of a file."""

    path: Path
    row_groups: tuple[int, ...]
    text_key: str
    bytes: int
    """Input that this piece stands for."""

    def documents(self) -> Iterator[Document]:
        """Its documents; a null counts as an empty one."""
        import pyarrow

        with _opened(self.path) as file:
            try:
                for batch in file.iter_batches(
                    _BATCH_ROWS, row_groups=list(self.row_groups), columns=[self.text_key], use_threads=False
                ):
                    for text in batch.column(0).to_pylist():
                        yield Document(str(self.path), (text or "").encode())
            except (pyarrow.ArrowException, OSError) as error:
                groups = f"row groups {self.row_groups[0]} to {self.row_groups[-1]}"
                raise DataError(f"{self.path} is damaged ({groups}: {_first_line(error)}): fetch it again") from error


def cut(file: SourceFile, text_key: str, piece_bytes: int) -> Iterator[RowGroups]:
    """`file` in pieces of about `piece_bytes` of text, in order; row groups are not divided.

    Raises:
        DataError: it is no Parquet file or a torn one, or it has no such column of text.
    """
    with _opened(file.path) as opened:
        schema, metadata = opened.schema_arrow, opened.metadata
        if text_key not in schema.names:
            raise DataError(
                f"{file.path}: no column {text_key!r} (data.text_key){nearest(text_key, schema.names) or '.'} "
                f"Its columns: {', '.join(map(repr, schema.names))}"
            )
        kind = str(schema.field(text_key).type)
        if "string" not in kind or "list" in kind or "struct" in kind:
            raise DataError(f"{file.path}: column {text_key!r} holds {kind}, where text is wanted (data.text_key)")
        column = metadata.schema.names.index(text_key)
        sizes = [
            metadata.row_group(number).column(column).total_uncompressed_size
            for number in range(metadata.num_row_groups)
        ]
    pieces: list[list[int]] = [[]]
    held = 0
    for number, size in enumerate(sizes):
        if pieces[-1] and held + size > piece_bytes:
            pieces.append([])
            held = 0
        pieces[-1].append(number)
        held += size
    groups = max(1, len(sizes))
    done = 0
    for piece in pieces:
        if piece:
            end = file.bytes * (piece[-1] + 1) // groups
            yield RowGroups(path=file.path, row_groups=tuple(piece), text_key=text_key, bytes=end - done)
            done = end


def _opened(path: Path) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(
            f"{path} is no Parquet file, or was cut off ({_first_line(error)}): fetch it again, or leave it out"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

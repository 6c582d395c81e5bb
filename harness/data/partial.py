"""An unfinished dataset: what is tokenised so far, in files that only grow, and a journal that says how far they hold.

<dataset>/partial/journal.json     settings, pieces done, the size of each file at that point; replaced as a whole
                  train.bin        tokens, as in the finished dataset
                  train.lengths    of each document, int32
                  validation.*     likewise
                  digests          SHA-256 of each document kept, in order; tells duplicates and makes the dataset's digest
                  lease.json       who is writing

What a crash or a full disk left beyond the journal is cut off at the next start.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from harness.data.indexed import LENGTH_TYPE
from harness.data.workers import DIGEST_BYTES, Encoded
from harness.errors import DataError
from harness.files import read_json, write_json
from harness.lease import Lease

PARTS = ("train", "validation")

GROWING = (*(f"{part}.{kind}" for part in PARTS for kind in ("bin", "lengths")), "digests")

COMMIT_SECONDS = 2.0
"""The journal is written this often: work that a kill can cost, beyond the pieces under way."""

_SEEN_BYTES = 16
"""Of a document's digest, kept in memory to tell duplicates: about 100 bytes of memory a document in all."""


class Partial:
    """The unfinished dataset in `directory`, open for appending; use it as a context manager."""

    def __init__(self, directory: Path, settings: dict[str, Any], sources: str):
        """`settings` and `sources` (a hash of the input files' list) must be those that an earlier start had.

        Raises:
            DataError: an earlier start had other settings.
        """
        self.directory = directory
        self.path = directory / "partial"
        self.settings = settings
        self.sources = sources
        self.state: dict[str, Any] = {}
        self.seen: set[bytes] = set()
        self._files: dict[str, BinaryIO] = {}
        self._committed = time.monotonic()

    @contextlib.contextmanager
    def opened(self, *, anew: bool = False) -> Iterator["Partial"]:
        """Take the lease and go on from the journal; `anew` drops a journal of other settings.

        Raises:
            DataError: the journal is of other settings, and not `anew`.
            RunError: another process is writing.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with Lease(self.path):
                self._restore(anew)
                try:
                    yield self
                finally:
                    for file in self._files.values():
                        with contextlib.suppress(OSError):  # a full disk again; the error that counts is under way
                            file.close()
        finally:
            with contextlib.suppress(OSError):
                self.path.rmdir()  # empty after `drop`

    def _restore(self, anew: bool) -> None:
        journal = read_json(self.path / "journal.json") or {}
        if journal and journal.get("settings") != self.settings:
            held = journal.get("settings", {})
            changed = "; ".join(
                f"data.{key}: {held.get(key)} -> {value}"
                for key, value in self.settings.items()
                if held.get(key) != value
            )
            if not anew:
                raise DataError(
                    f"{self.directory} holds an unfinished preparation with other settings ({changed}): give those to finish "
                    "it, or again=true to start from the beginning"
                )
            journal = {}
        if journal and journal.get("sources") != self.sources:
            print("input files have changed since this preparation was begun: starting from the beginning", flush=True)
            journal = {}
        if not self._restorable(journal):
            journal = {}
        self.state = journal or {
            "settings": self.settings,
            "sources": self.sources,
            "pieces": 0,
            "input_bytes": 0,
            "duplicates": 0,
            "empty": 0,
            "documents": dict.fromkeys(PARTS, 0),
            "tokens": dict.fromkeys(PARTS, 0),
            "bytes": dict.fromkeys(GROWING, 0),
        }
        if self.finished is not None:
            return
        for name in GROWING:
            file = self._files[name] = (self.path / name).open("ab")
            file.truncate(self.state["bytes"][name])
        with (self.path / "digests").open("rb") as digests:
            while digest := digests.read(DIGEST_BYTES):
                self.seen.add(digest[:_SEEN_BYTES])

    def _restorable(self, journal: dict[str, Any]) -> bool:
        """Whether the files still hold what the journal says."""
        if journal.get("finished"):
            return True
        sizes = journal.get("bytes", {})
        paths = {name: self.path / name for name in sizes}
        return bool(sizes) and all(path.exists() and path.stat().st_size >= sizes[name] for name, path in paths.items())

    @property
    def finished(self) -> dict[str, Any] | None:
        """The manifest of the whole dataset, where only moving it into place was left to do."""
        value = self.state.get("finished")
        return value if isinstance(value, dict) else None

    def append(self, encoded: Encoded, validation_below: int) -> None:
        """Add the documents of the next piece that are new; validation are those whose digest begins below the bound.

        Raises:
            OSError: the disk is full, for example; the journal then still holds.
        """
        count = len(encoded.lengths)
        digests = np.frombuffer(encoded.digests, dtype=np.uint8).reshape(count, DIGEST_BYTES)
        new = np.ones(count, dtype=np.bool_)
        for index in range(count):
            key = encoded.digests[index * DIGEST_BYTES : index * DIGEST_BYTES + _SEEN_BYTES]
            if key in self.seen:
                new[index] = False
            else:
                self.seen.add(key)
        first_word = digests[:, :8].copy().view(">u8").reshape(count)
        validation = first_word < np.uint64(validation_below)
        part_of_token = np.repeat(np.where(new, validation.astype(np.int8), -1), encoded.lengths)
        for number, part in enumerate(PARTS):
            lengths = encoded.lengths[new & (validation == bool(number))]
            tokens = encoded.tokens[part_of_token == number]
            self._files[f"{part}.bin"].write(tokens.tobytes())
            self._files[f"{part}.lengths"].write(lengths.astype(LENGTH_TYPE).tobytes())
            self.state["documents"][part] += len(lengths)
            self.state["tokens"][part] += len(tokens)
        self._files["digests"].write(digests[new].tobytes())
        self.state["pieces"] += 1
        self.state["input_bytes"] += encoded.bytes
        self.state["duplicates"] += encoded.duplicates + int(count - new.sum())
        self.state["empty"] += encoded.empty
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make everything appended so far survive a crash."""
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            self.state["bytes"][name] = file.tell()
        write_json(self.path / "journal.json", self.state)
        self._committed = time.monotonic()

    def finish(self, manifest: dict[str, Any]) -> None:
        """Record that all is written: from here on only `install` is left, which may be done over."""
        for file in self._files.values():
            file.close()
        self._files = {}
        write_json(self.path / "journal.json", self.state | {"finished": manifest})
        self.state["finished"] = manifest

    def install(self, names: list[str]) -> None:
        """Move the files into place and write the manifest last; an earlier dataset counts until this begins."""
        (self.directory / "manifest.json").unlink(missing_ok=True)
        for name in names:
            if (self.path / name).exists():  # else an earlier start moved it already
                (self.path / name).replace(self.directory / name)
        write_json(self.directory / "manifest.json", self.finished)
        self.drop()

    def drop(self) -> None:
        """Remove what is unfinished, the journal first."""
        for file in self._files.values():
            file.close()
        self._files = {}
        (self.path / "journal.json").unlink(missing_ok=True)
        for path in self.path.iterdir():
            if path.is_file() and path.name != "lease.json":
                path.unlink()

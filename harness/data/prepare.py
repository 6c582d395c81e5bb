"""A corpus becomes a dataset: tokenised in parallel, split, without duplicates, and resumed where it was stopped.

The result depends on the corpus, the tokenizer and the share of validation alone, byte for byte: not on how many
processes worked, nor on how often it was stopped. Only a finished dataset has a manifest.
"""

import errno
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.corpus import Corpus
from harness.data.indexed import token_type, write_index
from harness.data.manifest import manifest_of
from harness.data.partial import GROWING, PARTS, Partial
from harness.data.pieces import PIECE_BYTES, cut
from harness.data.progress import Progress
from harness.data.tokenizer import ByteTokenizer, Tokenizer
from harness.data.workers import count_workers, encode_all, skip
from harness.errors import DataError
from harness.experiment import Data
from harness.files import canonical_json, write_json_lines

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(
    corpus: Corpus,
    directory: Path,
    *,
    name: str,
    validation_share: float,
    tokenizer: Tokenizer | None = None,
    settings: dict[str, Any] | None = None,
    workers: int | None = 1,
    piece_bytes: int = PIECE_BYTES,
    anew: bool = False,
) -> Data:
    """Write `corpus` as a dataset into `directory` and return its identity.

    Documents that are equal to an earlier one, and empty ones, are left out. What was in `directory` stays as it is until
    all is written. `tokenizer`: bytes unless given; `settings`: what the manifest records the dataset was made from;
    `workers`: processes, None for one a core; `anew`: drop what an earlier start with other settings left unfinished.

    Raises:
        DataError: a part would be empty, the input is damaged, the disk is full, or an earlier start had other settings.
        RunError: another process is preparing this dataset.
    """
    tokenizer = tokenizer or ByteTokenizer()
    settings = settings or {"corpus": corpus.source, "validation_share": validation_share}
    journal_settings = settings | {"tokenizer": tokenizer.name, "piece_bytes": piece_bytes}
    listing = corpus.listing()
    sources = hashlib.sha256(canonical_json(listing).encode()).hexdigest()[:16]
    partial = Partial(directory, journal_settings, sources)
    with _disk_full_explained(partial), partial.opened(anew=anew):
        if partial.finished is None:
            _tokenise(partial, corpus, tokenizer, validation_share, workers, piece_bytes)
            _check_parts(partial, corpus, validation_share)
            _finish(partial, listing, tokenizer, name, validation_share, settings)
        assert partial.finished is not None
        data = Data(**partial.finished["data"])
        partial.install([*partial.finished["bytes"]])
    return data


def _tokenise(
    partial: Partial, corpus: Corpus, tokenizer: Tokenizer, share: float, workers: int | None, piece_bytes: int
) -> None:
    """Append every piece that an earlier start did not."""
    state = partial.state
    done = state["pieces"]
    if done:
        print(
            f"going on from an earlier start: {state['input_bytes'] / corpus.bytes:.0%} of the input is read, "
            f"{sum(state['tokens'].values()):,} tokens are written",
            flush=True,
        )
    count = count_workers(workers, math.ceil((corpus.bytes - state["input_bytes"]) / piece_bytes))
    below = math.ceil(share * 2**64)
    pieces = skip(cut(corpus, piece_bytes), done)
    with Progress(
        corpus.bytes, begun_bytes=state["input_bytes"], begun_tokens=sum(state["tokens"].values())
    ) as progress:
        for encoded in encode_all(pieces, tokenizer, count):
            partial.append(encoded, below)
            progress.update(state["input_bytes"], sum(state["tokens"].values()))
    partial.commit()


def _check_parts(partial: Partial, corpus: Corpus, share: float) -> None:
    documents = partial.state["documents"]
    for part in PARTS:
        if not documents[part]:
            total, duplicates = sum(documents.values()), partial.state["duplicates"]
            partial.drop()
            if not total:
                raise DataError(
                    f"no document in data.corpus={corpus.source}: what it names holds no text (of JSONL and Parquet, in "
                    f"the field data.text_key={corpus.text_key})"
                )
            raise DataError(
                f"{total} documents{f' ({duplicates} more are repeats)' if duplicates else ''} with data.validation_share="
                f"{share:g} leave the {part} part empty: add documents or change the share"
            )


def _finish(
    partial: Partial,
    listing: list[dict[str, object]],
    tokenizer: Tokenizer,
    name: str,
    share: float,
    settings: dict[str, Any],
) -> None:
    """Write the indices, and the manifest into the journal."""
    state, dtype = partial.state, np.dtype(token_type(tokenizer.vocab_size))
    for part in PARTS:
        write_index(partial.path / f"{part}.idx", partial.path / f"{part}.lengths", dtype)
    write_json_lines(partial.path / "sources.jsonl", listing)
    identity = hashlib.sha256(f"{tokenizer.name} {tokenizer.vocab_size} {share}".encode())
    with (partial.path / "digests").open("rb") as digests:
        while block := digests.read(1 << 22):
            identity.update(block)
    data = Data(
        name=name,
        digest=identity.hexdigest()[:16],
        tokenizer=tokenizer.name,
        vocab_size=tokenizer.vocab_size,
        train_tokens=state["tokens"]["train"],
        validation_tokens=state["tokens"]["validation"],
    )
    names = [f"{part}.{suffix}" for part in PARTS for suffix in ("bin", "idx")] + ["sources.jsonl"]
    details = {
        **settings,
        "documents": state["documents"],
        "left_out": {"duplicates": state["duplicates"], "empty": state["empty"]},
        "tokenizer": tokenizer.details(),
        "sources": {"files": len(listing), "bytes": sum(int(str(entry["bytes"])) for entry in listing)},
        "bytes": {name: (partial.path / name).stat().st_size for name in names},
    }
    partial.finish(manifest_of(data, details))


@contextmanager
def _disk_full_explained(partial: Partial) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        written = sum((partial.path / name).stat().st_size for name in GROWING if (partial.path / name).exists())
        pieces = partial.state.get("pieces", 0)
        reason = (error.strerror or str(error)).lower()
        raise DataError(
            f"{partial.directory}: {reason} after {written / 1e6:,.1f} MB ({pieces} pieces of the corpus). No dataset was "
            "made; one that was there before is whole. Make room and give the same command: it goes on from here"
        ) from error

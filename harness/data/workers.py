"""Tokenising the pieces of a corpus, in this process or in several, and handing the results back in order."""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np

from harness.data.corpus import Document
from harness.data.indexed import token_type
from harness.data.pieces import Piece
from harness.data.tokenizer import Tokenizer, Tokens
from harness.errors import DataError

DIGEST_BYTES = 32
"""SHA-256."""

_BATCH_BYTES = 1 << 19
"""Text encoded in one call: the library's result takes a hundred bytes a token until it is turned into an array."""

_AHEAD = 3
"""Pieces under way for each worker: enough that none waits, few enough to fit into memory."""

_LONGEST = 2**31 - 1
"""Tokens of a document: the index has 32 bits for it."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A tokenised piece: its distinct, non-empty documents in order."""

    digests: bytes
    """SHA-256 of each, one after the other."""
    lengths: np.ndarray
    """Tokens of each, its end included; shape (documents,), int64."""
    tokens: Tokens
    """Of all, one after the other; shape (sum of lengths,)."""
    bytes: int
    """Input that was read."""
    duplicates: int
    """Documents equal to an earlier one of the piece."""
    empty: int
    """Documents without text."""


def encode(piece: Piece, tokenizer: Tokenizer) -> Encoded:
    """Read and tokenise one piece.

    Raises:
        DataError: its input is damaged, or holds what the tokenizer cannot take.
    """
    seen: set[bytes] = set()
    tokens: list[Tokens] = []
    lengths: list[int] = []
    batch: list[Document] = []
    digests: list[bytes] = []
    duplicates = empty = held = 0

    def flush() -> None:
        some_tokens, some_lengths = tokenizer.encode(batch)
        tokens.append(some_tokens)
        lengths.extend(some_lengths)
        batch.clear()

    for document in piece.documents():
        if not document.content:
            empty += 1
            continue
        digest = document.digest
        if digest in seen:
            duplicates += 1
            continue
        if len(document.content) >= _LONGEST:
            raise DataError(
                f"{document.name}: a document of {len(document.content):,} bytes; 2 GB is the most it may have"
            )
        seen.add(digest)
        digests.append(digest)
        batch.append(document)
        held += len(document.content)
        if held >= _BATCH_BYTES:
            flush()
            held = 0
    if batch:
        flush()
    return Encoded(
        digests=b"".join(digests),
        lengths=np.array(lengths, dtype=np.int64),
        tokens=np.concatenate(tokens) if tokens else np.empty(0, dtype=token_type(tokenizer.vocab_size)),
        bytes=piece.bytes,
        duplicates=duplicates,
        empty=empty,
    )


def encode_all(pieces: Iterator[Piece], tokenizer: Tokenizer, workers: int) -> Iterator[Encoded]:
    """Each piece tokenised, in order, by `workers` processes (1: in this one).

    Raises:
        DataError: from `encode`, for the first piece in order; or a worker was killed.
    """
    if workers == 1:
        for piece in pieces:
            yield encode(piece, tokenizer)
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(tokenizer,)
    )
    under_way: deque[Future[Encoded]] = deque()
    try:
        for piece in pieces:
            under_way.append(pool.submit(_encode_here, piece))
            if len(under_way) >= _AHEAD * workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise DataError(
            "a tokenising process was killed, perhaps for want of memory: what is done is kept, start again with "
            f"fewer than data.workers={workers}"
        ) from error
    finally:
        # After an error or Ctrl-C nobody wants the rest; the pieces under way (a moment's work) end by themselves. A worker
        # that is killed while it hands over a result leaves half of it in the pipe, and this process would wait for ever.
        pool.shutdown(wait=True, cancel_futures=True)


def count_workers(wanted: int | None, pieces: int) -> int:
    """How many processes to use: as many as wanted (None: the cores that this process may use), not more than pieces."""
    return max(1, min(wanted or len(os.sched_getaffinity(0)), pieces))


_tokenizer: Tokenizer | None = None


def _begin(tokenizer: Tokenizer) -> None:
    """Prepare a worker process: it leaves Ctrl-C to its parent, and does not outlive it."""
    global _tokenizer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _tokenizer = tokenizer


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_here(piece: Piece) -> Encoded:
    assert _tokenizer is not None
    return encode(piece, _tokenizer)


def skip(pieces: Iterator[Piece], done: int) -> Iterator[Piece]:
    """The pieces after the first `done`."""
    return itertools.islice(pieces, done, None)

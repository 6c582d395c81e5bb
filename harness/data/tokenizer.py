"""Text to tokens: bytes, or a Hugging Face tokenizer through the `tokenizers` library.

A document becomes its tokens and one end-of-document token. Nothing else is added (no beginning-of-text token), and text
that spells a special token stays text, so that an end-of-document token always ends a document.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.data.corpus import Document
from harness.data.indexed import token_type
from harness.errors import DataError

Tokens = npt.NDArray[np.integer[Any]]
"""Tokens as stored, uint16 or int32."""

BYTE = "byte"
"""Name of the built-in tokenizer."""


class Tokenizer(Protocol):
    """What turns documents into tokens; can be sent to another process."""

    @property
    def name(self) -> str:
        """Equal for tokenizers that give equal tokens."""

    @property
    def vocab_size(self) -> int:
        """Largest token + 1, the end-of-document token counted."""

    @property
    def end_of_document(self) -> int:
        """The token that ends a document."""

    def details(self) -> dict[str, Any]:
        """What the manifest says of it, for people."""

    def encode(self, documents: Sequence[Document]) -> tuple[Tokens, list[int]]:
        """The tokens of all documents, one after the other, and the length of each with its end."""


class ByteTokenizer:
    """Token i < 256 is the byte i; 256 ends a document."""

    name = BYTE
    vocab_size = 257
    end_of_document = 256

    def details(self) -> dict[str, Any]:
        """Name and end of document."""
        return {"name": self.name, "end_of_document": self.end_of_document}

    def encode(self, documents: Sequence[Document]) -> tuple[Tokens, list[int]]:
        """The bytes of each document and its end; uint16."""
        lengths = [len(document.content) + 1 for document in documents]
        ends = np.cumsum(lengths) - 1
        tokens = np.empty(sum(lengths), dtype=np.uint16)
        is_text = np.ones(len(tokens), dtype=np.bool_)
        is_text[ends] = False
        tokens[is_text] = np.frombuffer(b"".join(document.content for document in documents), dtype=np.uint8)
        tokens[ends] = self.end_of_document
        return tokens, lengths


class HuggingFaceTokenizer:
    """A tokenizer.json, run by the `tokenizers` library (in Rust)."""

    def __init__(self, definition: str, *, name: str, end_of_document: int, vocab_size: int, source: str):
        """`definition` is the content of tokenizer.json; `source` says for people where it is from."""
        self.definition = definition
        self.name = name
        self.end_of_document = end_of_document
        self.vocab_size = vocab_size
        self.source = source

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "library"}  # each process builds its own

    @cached_property
    def library(self) -> Any:
        """The library's object: no padding, no truncation, special tokens in text are text."""
        os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process a core, or one was asked for
        from tokenizers import Tokenizer as LibraryTokenizer

        tokenizer = LibraryTokenizer.from_str(self.definition)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        return tokenizer

    def details(self) -> dict[str, Any]:
        """Name, source and end of document."""
        end = self.library.id_to_token(self.end_of_document)
        return {
            "name": self.name,
            "source": self.source,
            "end_of_document": self.end_of_document,
            "end_of_document_token": end,
        }

    def encode(self, documents: Sequence[Document]) -> tuple[Tokens, list[int]]:
        """The tokens of each document and its end, in the type that `token_type` gives.

        Raises:
            DataError: a document is not UTF-8.
        """
        texts = [_decoded(document) for document in documents]
        encoded = [entry.ids for entry in self.library.encode_batch_fast(texts, add_special_tokens=False)]
        for ids in encoded:
            ids.append(self.end_of_document)
        lengths = [len(ids) for ids in encoded]
        dtype = token_type(self.vocab_size)
        return np.fromiter(chain.from_iterable(encoded), dtype=dtype, count=sum(lengths)), lengths


def _decoded(document: Document) -> str:
    try:
        return document.content.decode()
    except UnicodeDecodeError as error:
        line = document.content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{document.name}:{line}: not UTF-8 (byte {error.start + 1} of the text): convert the file, leave it out, or "
            f"use data.tokenizer={BYTE}, which takes any bytes"
        ) from error

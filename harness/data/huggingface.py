"""Finding a Hugging Face tokenizer: a folder or a tokenizer.json on this machine, or a name on the hub."""

import hashlib
import json
import re
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.data.tokenizer import BYTE, ByteTokenizer, HuggingFaceTokenizer, Tokenizer
from harness.errors import ConfigError, DataError, nearest
from harness.files import canonical_json, read_json

_HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

_CONVERT = "AutoTokenizer.from_pretrained(<it>).save_pretrained(<folder>) of the transformers library writes one"

_SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json")
"""Where a model's repository says which token ends a text, the first that says so counts."""


def load_tokenizer(source: str, end_of_document: str | int | None = None) -> Tokenizer:
    """The tokenizer that `source` names: ``byte``, a folder, a tokenizer.json, or a name on the hub.

    `end_of_document` is a token or its number; None: the tokenizer's own eos token.

    Raises:
        ConfigError: the end-of-document token is unknown, or none was named and the tokenizer names none.
        DataError: there is no such tokenizer, it cannot be read, or the hub cannot be reached.
    """
    if source == BYTE:
        if end_of_document not in (None, ByteTokenizer.end_of_document):
            raise ConfigError(f"data.eod_token={end_of_document}: with data.tokenizer={BYTE} a document ends with 256")
        return ByteTokenizer()
    path = Path(source)
    if path.exists():
        folder = path if path.is_dir() else path.parent
        definition_file = path / "tokenizer.json" if path.is_dir() else path
        if not definition_file.exists():
            found = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
            raise DataError(f"data.tokenizer={source}: no tokenizer.json in this folder (it has {found}); {_CONVERT}")
        side_file: Callable[[str], Path | None] = folder.joinpath
    else:
        definition_file, side_file = _from_hub(source)
    try:
        text = definition_file.read_text(encoding="utf-8")
        definition = json.loads(text)
        return _build(text, definition, source, _end_of_document_name(end_of_document, side_file))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{definition_file} is no whole tokenizer.json ({error}): fetch it again") from error


def _build(text: str, definition: dict[str, Any], source: str, end: str | int | None) -> HuggingFaceTokenizer:
    from tokenizers import Tokenizer as LibraryTokenizer

    try:
        library = LibraryTokenizer.from_str(text)
    except Exception as error:  # the library raises no type of its own
        raise DataError(f"data.tokenizer={source}: the tokenizers library cannot read it ({error})") from error
    vocabulary: dict[str, int] = library.get_vocab(with_added_tokens=True)
    special = [entry.content for entry in library.get_added_tokens_decoder().values() if entry.special]
    if end is None:
        raise ConfigError(
            f"data.tokenizer={source} does not say which token ends a document (no eos_token in {_SIDE_FILES[0]} beside "
            f"it): name one with data.eod_token=; its special tokens are {', '.join(special) or 'none'}"
        )
    number = end if isinstance(end, int) else vocabulary.get(end)
    if number is None or library.id_to_token(number) is None:
        raise ConfigError(
            f"data.eod_token={end}: the tokenizer has no such token{nearest(end, vocabulary) or '.'} "
            f"Its special tokens are {', '.join(special) or 'none'}"
        )
    # padding and truncation are switched off here, so they make no difference
    kept = {key: value for key, value in definition.items() if key not in ("padding", "truncation")}
    identity = hashlib.sha256(f"{canonical_json(kept)} end of document {number}".encode()).hexdigest()[:12]
    kind = str((definition.get("model") or {}).get("type") or "tokenizer").lower()
    return HuggingFaceTokenizer(
        text,
        name=f"{kind}-{identity}",
        end_of_document=number,
        vocab_size=max(vocabulary.values()) + 1,
        source=source,
    )


def _end_of_document_name(given: str | int | None, side_file: Callable[[str], Path | None]) -> str | int | None:
    """The token that ends a document, as given or as the files beside the tokenizer say."""
    if given is not None:
        return given
    for name in _SIDE_FILES:
        path = side_file(name)
        value = (read_json(path) if path is not None else None) or {}
        token = value.get("eos_token") if isinstance(value, dict) else None
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    return None


def _from_hub(source: str) -> tuple[Path, Callable[[str], Path | None]]:
    """tokenizer.json of a model on the hub, from the local cache or over the network, and how to get its neighbours."""
    nowhere = f"data.tokenizer={source}: no such folder or file, and not {BYTE!r}{nearest(source, [BYTE]) or '.'}"
    if not _HUB_NAME.fullmatch(source):
        raise DataError(nowhere)
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError
        from huggingface_hub.errors import RepositoryNotFoundError as NotFound
    except ImportError:
        raise DataError(f"{nowhere} To look on the hub, install huggingface_hub") from None

    offline = (
        not _reachable()
    )  # then only what an earlier download left counts; the library would try for half a minute

    def fetch(name: str) -> Path:
        return Path(hf_hub_download(source, name, local_files_only=offline))

    def neighbour(name: str) -> Path | None:
        try:
            return fetch(name)
        except (EntryNotFoundError, LocalEntryNotFoundError):
            return None

    try:
        return fetch("tokenizer.json"), neighbour
    except LocalEntryNotFoundError:
        pass
    except GatedRepoError:
        raise DataError(f"{nowhere} On the hub it is for those who log in (hf auth login)") from None
    except NotFound:
        raise DataError(f"{nowhere} The hub has no model of this name either, or it is private") from None
    except EntryNotFoundError:
        raise DataError(f"data.tokenizer={source} has no tokenizer.json on the hub: {_CONVERT}") from None
    except OSError:  # no network, in one of its many forms
        pass
    raise DataError(
        f"{nowhere} Hugging Face's hub cannot be reached from here: on a machine that can, fetch its tokenizer.json and "
        "tokenizer_config.json, and give their folder"
    )


def _reachable() -> bool:
    """Whether the hub's name resolves, or a proxy is there to resolve it."""
    from huggingface_hub import constants

    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True

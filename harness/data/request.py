"""What the user asks `harness.data` for: the options of ``configs/data.yaml``, checked before anything is read."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from omegaconf import DictConfig, OmegaConf

from harness.cli import text
from harness.data.corpus import STDLIB, Corpus, read_corpus
from harness.data.huggingface import load_tokenizer
from harness.data.tokenizer import Tokenizer
from harness.errors import ConfigError, nearest


@dataclass(frozen=True, kw_only=True)
class Request:
    """A dataset to prepare, or a blend to make."""

    path: Path
    """Directory of the dataset."""
    name: str | None
    """What people call it; None: its directory's name."""
    corpus: tuple[str, ...]
    """Files, folders, globs; empty: none is named."""
    text_key: str
    format: str
    tokenizer: str
    eod_token: str | int | None
    validation_share: float
    workers: int | None
    blend: Mapping[str, Any] | None
    """Dataset directory -> weight."""

    @classmethod
    def of(cls, config: DictConfig | None) -> Self:
        """Read the options under ``data``.

        Raises:
            ConfigError: one is unknown, or of the wrong kind.
        """
        given = OmegaConf.to_container(config, resolve=True) if config is not None else {}
        assert isinstance(given, dict)
        values: dict[str, Any] = {str(key): value for key, value in given.items()}
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(
                    f"unknown option 'data.{key}'{nearest(key, known)}\nvalid options: {', '.join(known)}"
                )
        if values.get("path") is None:
            raise ConfigError("data.path is not set: name a dataset (data=demo), or give data.path and data.corpus")
        corpus, share, blend = values["corpus"], values["validation_share"], values["blend"]
        named = () if corpus is None else (corpus,) if isinstance(corpus, str) else corpus
        if not isinstance(named, list | tuple) or not all(isinstance(entry, str) and entry for entry in named):
            raise ConfigError(
                f"data.corpus={corpus!r}: a file, a folder, a glob, {STDLIB!r}, or a list of those is wanted"
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise ConfigError(f"data.validation_share={share}: a number between 0 and 1 is wanted")
        if blend is not None and named:
            raise ConfigError(
                "data.corpus and data.blend are both set: prepare each dataset, then blend them in another path"
            )
        eod, workers = values["eod_token"], values["workers"]
        if eod is not None and (isinstance(eod, bool) or not isinstance(eod, int | str)):
            raise ConfigError(f"data.eod_token={eod}: a token of the tokenizer, or its number, is wanted")
        if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
            raise ConfigError(f"data.workers={workers}: a number of processes is wanted, or null for one a core")
        return cls(
            path=Path(text(values["path"], "data.path")),
            name=None if values["name"] is None else text(values["name"], "data.name"),
            corpus=tuple(named),
            text_key=text(values["text_key"], "data.text_key"),
            format=text(values["format"], "data.format"),
            tokenizer=text(values["tokenizer"], "data.tokenizer"),
            eod_token=eod,
            validation_share=float(share),
            workers=workers,
            blend=blend,
        )

    @property
    def shown_name(self) -> str:
        """The name that the dataset gets."""
        return self.name or self.path.absolute().name

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer that was named."""
        return load_tokenizer(self.tokenizer, self.eod_token)

    def read_corpus(self) -> Corpus:
        """The files that were named, listed.

        Raises:
            ConfigError: none was named.
        """
        if not self.corpus:
            raise ConfigError(f"no dataset in {self.path}, and data.corpus is not set: name a text file or folder")
        return read_corpus(self.corpus, text_key=self.text_key, text_format=self.format, leave_out=self.path)

    def recorded(self, tokenizer: Tokenizer) -> dict[str, Any]:
        """What the manifest keeps of the request: all that the dataset depends on."""
        corpus = [name if name == STDLIB else str(Path(name).absolute()) for name in self.corpus]
        return {
            "name": self.shown_name,
            "corpus": corpus[0] if len(corpus) == 1 else corpus or None,
            "validation_share": self.validation_share,
            "tokenizer": tokenizer.name,
            "text_key": self.text_key,
            "format": self.format,
        }

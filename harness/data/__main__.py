"""Prepare a dataset: ``python -m harness.data data=demo``, or ``data.corpus=<text file or folder> data.path=<where>``.

Needs the extra ``train``: megatron.core writes the files.
"""

from pathlib import Path

from omegaconf import DictConfig

from harness import cli
from harness.cli import text
from harness.data.corpus import STDLIB, read_corpus
from harness.data.manifest import read_manifest, read_source
from harness.errors import ConfigError, DataError


def main(config: DictConfig) -> int:
    """Prepare the dataset that `config` describes, unless it is there."""
    settings = config.data
    if settings is None or settings.path is None:
        raise ConfigError("data.path is not set: name a dataset (data=demo), or give data.path and data.corpus")
    directory = Path(text(settings.path, "data.path"))
    share = settings.validation_share
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ConfigError(f"data.validation_share={share}: a number between 0 and 1 is wanted")
    corpus = None if settings.corpus is None else str(settings.corpus)
    if corpus not in (None, STDLIB):
        corpus = str(Path(corpus).absolute())
    wanted = {"name": settings.name, "corpus": corpus, "validation_share": share}
    try:
        present = None if config.again else read_manifest(directory)
    except DataError as error:
        print(f"{error} - doing so now")
        present = None
    if present is not None and (held := read_source(directory)) != wanted:
        changed = "; ".join(f"data.{key}: {held[key]} -> {wanted[key]}" for key in wanted if held[key] != wanted[key])
        raise DataError(
            f"{directory} holds another dataset ({changed}): give another data.path, or again=true to replace it"
        )
    if present is None:
        if settings.corpus is None:
            raise ConfigError(f"no dataset in {directory}, and data.corpus is not set: name a text file or folder")
        from harness.data.prepare import prepare

        documents = read_corpus(str(settings.corpus))
        present = prepare(documents, directory, name=str(settings.name), validation_share=share, corpus=corpus)
    print(
        f"dataset {present.name!r} in {directory}: {present.train_tokens:,} training and {present.validation_tokens:,} "
        f"validation tokens ({present.tokenizer}, vocabulary {present.vocab_size}), digest {present.digest}"
    )
    return 0


if __name__ == "__main__":
    cli.run("data", main)

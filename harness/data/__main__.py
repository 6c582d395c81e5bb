"""Prepare a dataset: ``python -m harness.data data=demo``, or ``data.corpus=<text file or folder> data.path=<where>``.

Needs the extra ``train``: megatron.core writes the files.
"""

from pathlib import Path

from omegaconf import DictConfig

from harness import cli
from harness.data.corpus import read_corpus
from harness.data.manifest import read_manifest
from harness.errors import ConfigError, DataError


def main(config: DictConfig) -> int:
    """Prepare the dataset that `config` describes, unless it is there."""
    settings = config.data
    if settings.path is None:
        raise ConfigError("data.path is not set: name a dataset (data=demo), or give data.path and data.corpus")
    directory = Path(settings.path)
    try:
        present = None if config.again else read_manifest(directory)
    except DataError as error:
        print(f"{error} - doing so now")
        present = None
    if present is None:
        if settings.corpus is None:
            raise ConfigError(f"no dataset in {directory}, and data.corpus is not set: name a text file or folder")
        from harness.data.prepare import prepare

        documents = read_corpus(settings.corpus)
        present = prepare(documents, directory, name=settings.name, validation_share=settings.validation_share)
    print(
        f"dataset {present.name!r} in {directory}: {present.train_tokens:,} training and {present.validation_tokens:,} "
        f"validation tokens ({present.tokenizer}, vocabulary {present.vocab_size}), digest {present.digest}"
    )
    return 0


if __name__ == "__main__":
    cli.run("data", main)

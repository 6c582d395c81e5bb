"""Text, tokenizers and reading back, for the tests of `harness.data`."""

import json
import random
from pathlib import Path

import numpy as np

from harness.data.corpus import Corpus, Document

WORDS = "the model of experts routes each token to few of many layers zwölf größer 日本 naïve x=1; {a} \n\t".split(" ")


def texts(count: int, *, seed: int = 0, mean: int = 60) -> list[str]:
    """Different texts of varied length, some with characters of several bytes."""
    draw = random.Random(seed)
    return [
        f"{seed}-{number} " + " ".join(draw.choices(WORDS, k=1 + int(draw.expovariate(1 / mean))))
        for number in range(count)
    ]


def corpus_of(some: list[str] | list[bytes]) -> Corpus:
    """A corpus in memory."""
    contents = [text if isinstance(text, bytes) else text.encode() for text in some]
    return Corpus(documents=tuple(Document(str(number), content) for number, content in enumerate(contents)))


def jsonl(some: list[str], key: str = "text") -> str:
    """One JSON object a line."""
    return "".join(json.dumps({"id": number, key: text}) + "\n" for number, text in enumerate(some))


def train_tokenizer(folder: Path, *, vocabulary: int = 400, eos: str | None = "<|endoftext|>") -> Path:
    """A byte-level BPE tokenizer in a Hugging Face folder, trained on `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(300), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if eos:
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": eos}}))
    return folder


def read_back(directory: Path, part: str) -> list[np.ndarray]:
    """The documents of a part as Megatron's own reader gives them."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    dataset = IndexedDataset(str(directory / part))
    return [dataset[index].copy() for index in range(len(dataset))]  # Megatron unmaps them with the dataset


def as_text(documents: list[np.ndarray]) -> list[bytes]:
    """Byte-level documents without their end."""
    return [bytes(document[:-1].astype(np.uint8)) for document in documents]


def token_files(directory: Path) -> dict[str, bytes]:
    """Content of a dataset's files."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.suffix in (".bin", ".idx")}

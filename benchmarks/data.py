"""Throughput of data preparation: ``python benchmarks/data.py [MB of text]``.

Tokens a second and core of `harness.data`, against the procedure of Megatron's tools/preprocess_data.py, and against the
tokenizer library alone. That script is no part of the megatron-core wheel, so its procedure is written out here: a pool of
processes takes one line of JSONL at a time (``imap``, chunks of 32), parses and encodes it, and sends lists of tokens to
the parent, which adds each document to Megatron's IndexedDatasetBuilder. It neither splits, nor drops duplicates, nor
resumes; `harness.data` does all three in the times below. All use the same BPE tokenizer, trained here, and one library.
"""

import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.data.corpus import read_corpus
from harness.data.huggingface import load_tokenizer
from harness.data.pieces import cut
from harness.data.prepare import prepare
from harness.quiet import quiet_import

VOCABULARY = 8000
REPEATS = 3
MEAN_DOCUMENT = 3000
"""Characters of a document, about what web text has."""


def write_text(folder: Path, megabytes: int) -> Path:
    """JSONL of the standard library's text in documents of varied length, no two equal."""
    texts = [
        piece.content.decode(errors="replace") for part in cut(read_corpus("stdlib")) for piece in part.documents()
    ]
    (folder / "sample.txt").write_text("\n".join(texts)[:8_000_000])
    everything, draw, written, number = "\n".join(texts), random.Random(0), 0, 0
    path = folder / "text.jsonl"
    with path.open("w", encoding="utf-8") as file:
        while written < megabytes * 10**6:
            length = int(draw.expovariate(1 / MEAN_DOCUMENT)) + 100
            start = draw.randrange(len(everything) - length)
            written += file.write(
                json.dumps({"id": number, "text": f"{number} {everything[start : start + length]}"}) + "\n"
            )
            number += 1
    return path


def train_tokenizer(folder: Path) -> Path:
    """A byte-level BPE tokenizer trained on the text, as a folder that `harness.data` takes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train([str(folder / "sample.txt")], trainer)
    (folder / "tokenizer").mkdir()
    tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"))
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return folder / "tokenizer"


_library: Any = None


def _begin(tokenizer: str) -> None:
    global _library
    from tokenizers import Tokenizer

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _library = Tokenizer.from_file(f"{tokenizer}/tokenizer.json")


def _encode_line(line: str) -> tuple[list[int], int]:
    tokens = [*_library.encode(json.loads(line)["text"]).ids, 0]
    return tokens, len(line)


def megatron_procedure(text: Path, tokenizer: Path, output: Path, workers: int) -> int:
    """What tools/preprocess_data.py does; returns the number of tokens."""
    import numpy as np
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(output / "megatron.bin"), dtype=np.uint16)
    total = 0
    context = multiprocessing.get_context("fork")
    with context.Pool(workers, initializer=_begin, initargs=(str(tokenizer),)) as pool, text.open() as lines:
        for tokens, _ in pool.imap(_encode_line, lines, 32):
            builder.add_document(torch.IntTensor(tokens), [len(tokens)])
            total += len(tokens)
    builder.finalize(str(output / "megatron.idx"))
    return total


def ours(text: Path, tokenizer: Path, output: Path, workers: int) -> int:
    """The same with `harness.data`."""
    with tempfile.TemporaryDirectory(dir=output) as folder:
        data = prepare(
            read_corpus(str(text)),
            Path(folder),
            name="benchmark",
            validation_share=0.01,
            tokenizer=load_tokenizer(str(tokenizer)),
            workers=workers,
        )
    return data.train_tokens + data.validation_tokens


def library_alone(text: Path, tokenizer: Path, *_: Any) -> int:
    """Encoding alone, one document a call, in one process: no reading, no writing."""
    _begin(str(tokenizer))
    total = 0
    with text.open() as lines:
        texts = [json.loads(line)["text"] for line in lines]
    for one in texts:
        total += len(_library.encode(one)) + 1
    return total


def timed(what: Callable[..., int], *words: Any) -> tuple[int, float, float]:
    """Tokens, wall seconds, and CPU seconds of this process and its children."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    tokens = what(*words)
    return tokens, time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """Spent so far by this process and by the children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    """Measure in turn, so that a busy machine hits all alike, and print."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    cores = len(os.sched_getaffinity(0))
    with quiet_import():
        import megatron.core.datasets.indexed_dataset  # noqa: F401
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text, tokenizer = write_text(folder, megabytes), train_tokenizer(folder)
        contenders: list[tuple[str, Callable[..., int], int]] = [("tokenizer library alone", library_alone, 1)]
        for workers in sorted({1, cores}):
            contenders.append((f"Megatron's procedure, {workers} worker(s)", megatron_procedure, workers))
            contenders.append((f"harness.data, {workers} worker(s)", ours, workers))
        walls: dict[str, float] = {}
        cpus: dict[str, float] = {}
        tokens = 0
        for _ in range(REPEATS):
            for label, what, workers in contenders:
                tokens, wall, cpu = timed(what, text, tokenizer, folder, workers)
                walls[label] = min(wall, walls.get(label, wall))
                cpus[label] = min(cpu, cpus.get(label, cpu))
    print(f"{megabytes} MB of text, {tokens:,} tokens, {cores} cores; least wall and CPU time of {REPEATS}")
    print(f"{'':36s} {'wall s':>8s} {'CPU s':>8s} {'tokens/s':>12s} {'tokens/CPU-s':>13s}   times Megatron's procedure")
    for label in walls:
        rival = label.replace("harness.data", "Megatron's procedure")
        ratio = f"{walls[rival] / walls[label]:.2f} wall, {cpus[rival] / cpus[label]:.2f} CPU" if rival != label else ""
        rates = f"{tokens / walls[label]:12,.0f} {tokens / cpus[label]:13,.0f}"
        print(f"{label:36s} {walls[label]:8.2f} {cpus[label]:8.2f} {rates}   {ratio}")


if __name__ == "__main__":
    main()

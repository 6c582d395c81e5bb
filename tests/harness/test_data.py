"""Preparing a dataset: the split, duplicates, Megatron's format, the manifest, and what a run is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.data.corpus import STDLIB, Corpus, Document, read_corpus
from harness.data.manifest import check_data, read_manifest
from harness.data.pieces import cut
from harness.data.prepare import prepare
from harness.data.tokenizer import ByteTokenizer
from harness.errors import DataError
from tests.conftest import command, tiny_experiment
from tests.harness.data_samples import as_text, corpus_of, read_back, texts, token_files

GOLDEN = Path(__file__).parent / "golden_manifest.json"


def test_bytes_are_tokens_and_256_ends_a_document():
    tokens, lengths = ByteTokenizer().encode([Document("a", "é\n".encode()), Document("b", b"x")])
    assert tokens.tolist() == [0xC3, 0xA9, 10, 256, ord("x"), 256]
    assert lengths == [4, 2]


def test_megatron_reads_back_every_document_in_one_part(dataset):
    directory, data = dataset
    train, validation = read_back(directory, "train"), read_back(directory, "validation")
    assert sum(map(len, train)) == data.train_tokens
    assert sum(map(len, validation)) == data.validation_tokens
    assert all(document[-1] == 256 for document in train + validation)
    assert len(as_text(train + validation)) == len(set(as_text(train + validation)))  # none twice, none on both sides
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["documents"] == {"train": len(train), "validation": len(validation)}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    some=st.lists(st.binary(max_size=30), min_size=2, max_size=40),
    share=st.floats(0.2, 0.8),
    piece_bytes=st.integers(1, 200),
)
def test_any_documents_come_back_once_split_by_their_hash(tmp_path_factory, some, share, piece_bytes):
    directory = tmp_path_factory.mktemp("any")
    corpus = corpus_of(some)
    wanted = list(dict.fromkeys(text for text in some if text))

    def is_validation(text: bytes) -> bool:
        return int.from_bytes(Document("", text).digest[:8], "big") < share * 2**64

    expected = {
        "train": [text for text in wanted if not is_validation(text)],
        "validation": [text for text in wanted if is_validation(text)],
    }
    if not all(expected.values()):
        with pytest.raises(DataError, match="part empty" if wanted else "holds no text"):
            prepare(corpus, directory, name="x", validation_share=share, piece_bytes=piece_bytes)
        assert not list(directory.rglob("*.*"))
        return
    prepare(corpus, directory, name="x", validation_share=share, piece_bytes=piece_bytes)
    assert {part: as_text(read_back(directory, part)) for part in expected} == expected
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["left_out"] == {"duplicates": len([t for t in some if t]) - len(wanted), "empty": some.count(b"")}


def test_the_files_are_those_that_megatrons_own_writer_makes(tmp_path):
    import torch
    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder

    some = texts(300)
    prepare(corpus_of(some), tmp_path, name="x", validation_share=0.2)
    for part in ("train", "validation"):
        builder = IndexedDatasetBuilder(str(tmp_path / "theirs.bin"), dtype=DType.optimal_dtype(257))
        for document in read_back(tmp_path, part):
            builder.add_document(torch.from_numpy(document.astype(np.int32)), [len(document)])
        builder.finalize(str(tmp_path / "theirs.idx"))
        for suffix in ("bin", "idx"):
            assert (tmp_path / f"theirs.{suffix}").read_bytes() == (tmp_path / f"{part}.{suffix}").read_bytes()


def test_the_part_of_a_document_depends_on_its_text_alone(tmp_path):
    some = texts(200)
    one = prepare(corpus_of(some), tmp_path / "one", name="x", validation_share=0.2)
    two = prepare(corpus_of([*some, "one more", some[3]]), tmp_path / "two", name="x", validation_share=0.2)
    before = set(as_text(read_back(tmp_path / "one", "validation")))
    after = set(as_text(read_back(tmp_path / "two", "validation")))
    assert before <= after
    assert len(after - before) <= 1
    assert one.digest != two.digest
    assert prepare(corpus_of(some), tmp_path / "three", name="x", validation_share=0.2) == one
    assert prepare(corpus_of(some[::-1]), tmp_path / "four", name="x", validation_share=0.2).digest != one.digest


def test_the_digest_of_earlier_datasets_stays(tmp_path):
    """Runs made before keep their ids only if the same text gives the same identity: this is the earlier version's rule."""
    import hashlib

    some = texts(100)
    data = prepare(corpus_of(some), tmp_path, name="x", validation_share=0.25)
    identity = hashlib.sha256(b"byte 257 0.25")
    for text in some:
        identity.update(hashlib.sha256(text.encode()).digest())
    assert data.digest == identity.hexdigest()[:16]


def test_the_standard_library_is_a_corpus_without_leaks():
    found = {document.name: document.content for piece in cut(read_corpus(STDLIB)) for document in piece.documents()}
    assert sum(map(len, found.values())) > 5e6
    assert not any(part in name for name in found for part in ("/test/", "site-packages/", "pydoc_data/"))


def test_the_manifest_is_the_golden_one(tmp_path):
    for number, text in enumerate(texts(40)):
        (tmp_path / f"{number:02d}.txt").write_text(text)
    done = command("-m", "harness.data", f"data.path={tmp_path / 'd'}", f"data.corpus={tmp_path}/*.txt", "data.name=g",
                   "data.validation_share=0.25")  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "d" / "manifest.json").read_text().replace(str(tmp_path), "/corpus")
    held = json.loads(text)
    assert held["bytes"].pop("sources.jsonl") > 40  # its length depends on the path
    assert held == json.loads(GOLDEN.read_text())


def test_another_corpus_does_not_pass_for_the_one_that_is_there(tmp_path):
    (tmp_path / "a").mkdir()
    for i in range(40):
        (tmp_path / "a" / f"{i}.txt").write_text(f"text {i}")
    words = ["-m", "harness.data", f"data.path={tmp_path / 'd'}", "data.validation_share=0.3", "data.name=mine"]
    assert command(*words, f"data.corpus={tmp_path / 'a'}").returncode == 0
    assert command(*words, f"data.corpus={tmp_path / 'a'}").returncode == 0
    refused = command(*words, f"data.corpus={tmp_path}")
    assert refused.returncode == 2
    assert "data.corpus: " in refused.stderr
    assert "again=true" in refused.stderr
    shown = command("-m", "harness.data", f"data.path={tmp_path / 'd'}")  # nothing else asked: it says what is there
    assert shown.returncode == 0
    assert "dataset 'mine'" in shown.stdout


def test_a_truncated_part_is_noticed(tmp_path):
    prepare(corpus_of(texts(50)), tmp_path, name="x", validation_share=0.5)
    with (tmp_path / "train.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(DataError, match=r"train.bin has 10 bytes, its manifest says \d+"):
        read_manifest(tmp_path)


def test_a_part_left_empty_leaves_what_was_there(tmp_path):
    before = prepare(corpus_of(texts(50)), tmp_path, name="x", validation_share=0.5)
    files = token_files(tmp_path)
    with pytest.raises(DataError, match="validation part empty"):
        prepare(corpus_of(["x"]), tmp_path, name="x", validation_share=1e-9)
    assert read_manifest(tmp_path) == before
    assert token_files(tmp_path) == files
    assert not (tmp_path / "partial").exists()


def test_a_run_is_refused_another_dataset(dataset, tmp_path):
    directory, data = dataset
    experiment = tiny_experiment(data)
    assert check_data(experiment, directory) == directory
    with pytest.raises(DataError, match="prepare it"):
        check_data(experiment, tmp_path)
    with pytest.raises(DataError, match="data: null"):
        check_data(tiny_experiment(None), directory)
    prepare(corpus_of(texts(50)), tmp_path, name="other", validation_share=0.5)
    with pytest.raises(DataError, match=r"planned on dataset 'own-source'.*holds 'other'"):
        check_data(experiment, tmp_path)


@pytest.mark.parametrize(
    ("vocab_size", "changes", "message"),
    [(258, {}, "tokenised with 258 tokens .*vocabulary has 257: use the matching"), (257, {}, None), (250, {}, None),
     (200, {}, r"200 tokens .*no padding.*backbone.vocab_size=200.*smaller_vocabulary"),
     (200, {"smaller_vocabulary": True}, None)],
)  # fmt: skip
def test_a_tokenizer_must_fit_the_vocabulary(vocab_size, changes, message):
    from dataclasses import replace

    from harness.data.manifest import check_size
    from tests.harness.test_experiment import DATA

    experiment = tiny_experiment(replace(DATA, vocab_size=vocab_size), **changes)
    if message is None:
        check_size(experiment)
        return
    with pytest.raises(DataError, match=message):
        check_size(experiment)


def test_an_empty_corpus_is_no_piece():
    assert list(cut(Corpus())) == []

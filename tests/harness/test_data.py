import json

import numpy as np
import pytest

from harness.data.corpus import STDLIB, Document, read_corpus
from harness.data.manifest import check_data, read_manifest
from harness.data.prepare import END_OF_DOCUMENT, prepare, tokenize
from harness.errors import DataError
from tests.conftest import command, tiny_experiment


def test_bytes_are_tokens_and_256_ends_a_document():
    assert tokenize(Document("a", "é\n".encode())).tolist() == [0xC3, 0xA9, 10, END_OF_DOCUMENT]


def documents(path):
    from megatron.core.datasets.indexed_dataset import IndexedDataset

    dataset = IndexedDataset(str(path))
    return [dataset[index].copy() for index in range(len(dataset))]  # Megatron unmaps them with the dataset


def test_megatron_reads_back_every_document_in_one_part(dataset):
    directory, data = dataset
    train, validation = documents(directory / "train"), documents(directory / "validation")
    assert sum(map(len, train)) == data.train_tokens
    assert sum(map(len, validation)) == data.validation_tokens
    texts = [bytes(document[:-1].astype(np.uint8)) for document in train + validation]
    assert all(document[-1] == END_OF_DOCUMENT for document in train + validation)
    assert len(texts) == len(set(texts))  # no text twice, so none on both sides
    assert not {bytes(d[:-1].astype(np.uint8)) for d in train} & {bytes(d[:-1].astype(np.uint8)) for d in validation}
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["documents"] == {"train": len(train), "validation": len(validation)}


def test_the_part_of_a_document_depends_on_its_text_alone(tmp_path):
    some = [Document(f"{i}", f"text {i}".encode()) for i in range(200)]
    one = prepare(some, tmp_path / "one", name="x", validation_share=0.2)
    two = prepare([*some, Document("new", b"one more"), some[3]], tmp_path / "two", name="x", validation_share=0.2)
    before = {bytes(d.astype(np.uint8)) for d in documents(tmp_path / "one" / "validation")}
    after = {bytes(d.astype(np.uint8)) for d in documents(tmp_path / "two" / "validation")}
    assert before <= after
    assert len(after - before) <= 1
    assert one.digest != two.digest
    assert prepare(some, tmp_path / "three", name="x", validation_share=0.2) == one


def test_the_standard_library_is_a_corpus_without_leaks():
    texts = {document.name: document.content for document in read_corpus(STDLIB)}
    assert sum(map(len, texts.values())) > 5e6
    assert not any(name.startswith(("test/", "site-packages/", "pydoc_data/")) for name in texts)


def test_an_unfinished_preparation_does_not_look_finished(tmp_path):
    def interrupted():
        yield Document("a", b"some text")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(interrupted(), tmp_path, name="x", validation_share=0.5)
    assert read_manifest(tmp_path) is None
    before = prepare([Document(str(i), b"%d" % i) for i in range(50)], tmp_path, name="x", validation_share=0.5)
    with pytest.raises(KeyboardInterrupt):
        prepare(interrupted(), tmp_path, name="x", validation_share=0.5)
    assert read_manifest(tmp_path) == before  # what was there is whole still
    assert not list(tmp_path.glob("*.tmp"))


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


def test_a_truncated_part_is_noticed(tmp_path):
    prepare([Document(str(i), b"%d" % i) for i in range(50)], tmp_path, name="x", validation_share=0.5)
    with (tmp_path / "train.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(DataError, match=r"train.bin has 10 bytes, its manifest says \d+"):
        read_manifest(tmp_path)


def test_parts_may_not_be_empty(tmp_path):
    with pytest.raises(DataError, match="validation part empty"):
        prepare([Document("a", b"x")], tmp_path, name="x", validation_share=0.0)


def test_a_run_is_refused_another_dataset(dataset, tmp_path):
    directory, data = dataset
    experiment = tiny_experiment(data)
    assert check_data(experiment, directory) == directory
    with pytest.raises(DataError, match="prepare it"):
        check_data(experiment, tmp_path)
    with pytest.raises(DataError, match="data: null"):
        check_data(tiny_experiment(None), directory)
    prepare([Document(str(i), b"%d" % i) for i in range(50)], tmp_path, name="other", validation_share=0.5)
    with pytest.raises(DataError, match=r"planned on dataset 'own-source'.*holds 'other'"):
        check_data(experiment, tmp_path)


def test_the_command_explains_a_missing_corpus(tmp_path):
    done = command("-m", "harness.data", "data.corpus=stdlb", f"data.path={tmp_path / 'd'}")
    assert done.returncode == 2
    assert "corpus=stdlb: no such file or folder" in done.stderr
    assert "did you mean 'stdlib'" in done.stderr
    assert not (tmp_path / "d").exists() or not list((tmp_path / "d").glob("*.bin"))

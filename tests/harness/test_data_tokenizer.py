"""Hugging Face tokenizers: found, run and recorded."""

import json

import numpy as np
import pytest

from harness.data.huggingface import load_tokenizer
from harness.data.indexed import token_type
from harness.data.prepare import prepare
from harness.errors import ConfigError, DataError
from tests.conftest import command
from tests.harness.data_samples import corpus_of, jsonl, read_back, texts, train_tokenizer


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    return train_tokenizer(tmp_path_factory.mktemp("tokenizers") / "bpe")


def test_documents_decode_to_their_text_and_end_once(bpe, tmp_path):
    some = [*texts(150), "spelt out: <|endoftext|> and <|im_end|> in a document"]
    tokenizer = load_tokenizer(str(bpe))
    data = prepare(corpus_of(some), tmp_path, name="x", validation_share=0.3, tokenizer=tokenizer)
    documents = read_back(tmp_path, "train") + read_back(tmp_path, "validation")
    assert all(document[-1] == tokenizer.end_of_document for document in documents)
    assert all((document[:-1] != tokenizer.end_of_document).all() for document in documents)
    assert sorted(tokenizer.library.decode(d[:-1].tolist()) for d in documents) == sorted(some)
    assert sum(map(len, documents)) == data.train_tokens + data.validation_tokens
    assert data.vocab_size == 400
    assert data.tokenizer.startswith("bpe-")


def test_the_library_by_itself_gives_the_same_tokens(bpe, tmp_path):
    from tokenizers import Tokenizer

    some = texts(40)
    prepare(corpus_of(some), tmp_path, name="x", validation_share=0.3, tokenizer=load_tokenizer(str(bpe)))
    library = Tokenizer.from_file(str(bpe / "tokenizer.json"))
    expected = sorted([*library.encode(text, add_special_tokens=False).ids, 0] for text in some)
    assert sorted(d.tolist() for d in read_back(tmp_path, "train") + read_back(tmp_path, "validation")) == expected


def test_a_tokenizer_is_its_content_and_its_end_not_its_place(bpe, tmp_path):
    one = load_tokenizer(str(bpe))
    definition = json.loads((bpe / "tokenizer.json").read_text())
    moved = tmp_path / "tokenizer.json"
    definition["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    moved.write_text(json.dumps(definition, indent=3))
    other = load_tokenizer(str(moved), "<|endoftext|>")
    assert other.name == one.name
    (document,) = corpus_of(["a text that is longer than four tokens"]).documents
    assert other.encode([document])[1] == one.encode([document])[1]
    assert load_tokenizer(str(bpe), "<|im_end|>").name != one.name
    assert load_tokenizer(str(bpe), 1).name == load_tokenizer(str(bpe), "<|im_end|>").name
    definition["model"]["merges"].pop()
    moved.write_text(json.dumps(definition))
    assert load_tokenizer(str(moved), 0).name != one.name


@pytest.mark.parametrize("vocabulary", [257, 65499, 65500, 152064, None])
def test_the_token_type_is_megatrons(vocabulary):
    from megatron.core.datasets.indexed_dataset import DType

    if vocabulary is None:
        assert DType.optimal_dtype(10**6) is np.int32
    else:
        assert token_type(vocabulary) is DType.optimal_dtype(vocabulary)


def test_a_large_vocabulary_is_stored_in_32_bits(bpe, tmp_path):
    definition = json.loads((bpe / "tokenizer.json").read_text())
    definition["added_tokens"].append(definition["added_tokens"][0] | {"id": 151_664, "content": "<|eot|>"})
    definition["model"]["vocab"]["<|eot|>"] = 151_664
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    tokenizer = load_tokenizer(str(tmp_path), "<|eot|>")
    data = prepare(corpus_of(texts(40)), tmp_path / "d", name="x", validation_share=0.3, tokenizer=tokenizer)
    assert data.vocab_size == 151_665
    documents = read_back(tmp_path / "d", "train")
    assert documents[0].dtype == np.int32
    assert {int(document[-1]) for document in documents} == {151_664}


def test_what_cannot_be_a_tokenizer_is_explained(bpe, tmp_path):
    silent = train_tokenizer(tmp_path / "silent", eos=None)
    with pytest.raises(
        ConfigError, match=r"does not say which token ends.*data.eod_token=; .*<\|endoftext\|>, <\|im_end\|>"
    ):
        load_tokenizer(str(silent))
    with pytest.raises(
        ConfigError, match=r"data.eod_token=<\|endoftxt\|>: the tokenizer has no such token; did you mean"
    ):
        load_tokenizer(str(silent), "<|endoftxt|>")
    with pytest.raises(ConfigError, match=r"data\.eod_token=9999: the tokenizer has no such token"):
        load_tokenizer(str(silent), 9999)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no tokenizer.json in this folder \(it has nothing\); AutoTokenizer"):
        load_tokenizer(str(tmp_path / "empty"))
    torn = tmp_path / "torn.json"
    torn.write_text((bpe / "tokenizer.json").read_text()[:1000])
    with pytest.raises(DataError, match=r"torn.json is no whole tokenizer.json"):
        load_tokenizer(str(torn))
    torn.write_text('{"model": {"type": "nothing"}}')
    with pytest.raises(DataError, match="the tokenizers library cannot read it"):
        load_tokenizer(str(torn))


def test_without_a_network_a_hub_name_is_explained(monkeypatch):
    monkeypatch.setattr("harness.data.huggingface._reachable", lambda: False)
    with pytest.raises(
        DataError, match=r"'byte'; did you mean 'byte'\? Hugging Face's hub cannot be reached from here"
    ):
        load_tokenizer("bytes")
    with pytest.raises(DataError, match=r"data.tokenizer=nobody/no-such-model: no such folder or file"):
        load_tokenizer("nobody/no-such-model")


def test_text_that_is_not_utf8_is_named_and_taken_as_bytes(bpe, tmp_path):
    (tmp_path / "a").mkdir()
    for number, text in enumerate(texts(30)):
        (tmp_path / "a" / f"{number:02d}.txt").write_text(text)
    (tmp_path / "a" / "latin1.txt").write_bytes(b"first\nna\xefve")
    words = ["-m", "harness.data", f"data.path={tmp_path / 'd'}", f"data.corpus={tmp_path / 'a'}"]
    words += ["data.validation_share=0.3"]
    done = command(*words, f"data.tokenizer={bpe}")
    assert done.returncode == 2
    assert "latin1.txt:2: not UTF-8 (byte 9 of the text)" in done.stderr
    assert command(*words, "again=true").returncode == 0


def test_the_command_line_takes_a_tokenizer_and_refuses_another(bpe, tmp_path):
    (tmp_path / "a.jsonl").write_text(jsonl(texts(60), "body"))
    words = [
        "-m",
        "harness.data",
        "data.path=d",
        "data.corpus=a.jsonl",
        "data.text_key=body",
        "data.validation_share=0.3",
    ]
    words += [f"data.tokenizer={bpe}"]
    done = command(*words, "data.workers=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dataset 'd' in d" in done.stdout
    manifest = json.loads((tmp_path / "d" / "manifest.json").read_text())
    assert manifest["tokenizer"]["end_of_document_token"] == "<|endoftext|>"
    assert manifest["sources"] == {"files": 1, "bytes": (tmp_path / "a.jsonl").stat().st_size}
    refused = command(*words, "data.eod_token='<|im_end|>'", cwd=tmp_path)
    assert refused.returncode == 2
    assert "data.tokenizer: bpe-" in refused.stderr


def test_a_document_is_cut_nowhere(bpe, tmp_path):
    """A document longer than a batch and a piece stays one document."""
    long = " ".join(texts(3000))
    prepare(
        corpus_of([long, *texts(30)]),
        tmp_path,
        name="x",
        validation_share=0.5,
        tokenizer=load_tokenizer(str(bpe)),
        piece_bytes=99,
    )
    decode = load_tokenizer(str(bpe)).library.decode
    documents = read_back(tmp_path, "train") + read_back(tmp_path, "validation")
    assert long in [decode(document[:-1].tolist()) for document in documents]

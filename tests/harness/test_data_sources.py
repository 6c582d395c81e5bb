"""Where text may come from: formats, packing, folders and globs; and what is said of files that are damaged."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from harness.data.corpus import read_corpus
from harness.data.pieces import cut
from harness.errors import ConfigError, DataError
from tests.conftest import command
from tests.harness.data_samples import jsonl, texts

SOME = texts(120)


def contents(source, piece_bytes=700, **options):
    """The text of every document, through pieces of a few lines."""
    pieces = list(cut(read_corpus(source, **options), piece_bytes))
    assert len(pieces) > 1
    return [document.content.decode() for piece in pieces for document in piece.documents()]


def zstd(text: str, frames: int = 1) -> bytes:
    raw = text.encode()
    step = len(raw) // frames + 1
    return b"".join(zstandard.compress(raw[start : start + step]) for start in range(0, len(raw), step))


def parquet(path, some, column="text", **options):
    pyarrow.parquet.write_table(pyarrow.table({"id": range(len(some)), column: some}), path, **options)


@pytest.mark.parametrize("piece_bytes", [1, 333, 4096])
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".json.gz", ".parquet"])
def test_every_format_gives_the_same_documents(tmp_path, suffix, piece_bytes):
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        parquet(path, SOME, row_group_size=7)
    else:
        pack = {"gz": lambda text: gzip.compress(text.encode()), "zst": lambda text: zstd(text, 3)}
        path.write_bytes(pack.get(suffix.split(".")[-1], str.encode)(jsonl(SOME)))
    corpus = read_corpus(str(path))
    pieces = list(cut(corpus, piece_bytes))
    assert [document.content.decode() for piece in pieces for document in piece.documents()] == SOME
    assert sum(piece.bytes for piece in pieces) == corpus.bytes == path.stat().st_size


def test_lines_without_an_end_blank_lines_and_windows_ends(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(SOME).replace("\n", "\r\n\r\n\n").rstrip().encode())
    assert contents(str(path)) == SOME


def test_plain_text_packed_or_not_is_one_document_a_file(tmp_path):
    for number, text in enumerate(SOME):
        name, packed = f"{number:03d}.txt", text.encode()
        if number % 3 == 1:
            name, packed = name + ".gz", gzip.compress(packed)
        elif number % 3 == 2:
            name, packed = name + ".zst", zstd(text)
        (tmp_path / name).write_bytes(packed)
    (tmp_path / "999.bin").write_bytes(b"no\0text")
    assert contents(str(tmp_path)) == SOME


def test_folders_globs_and_lists(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            some = [f"{folder}{number} {text}" for text in SOME[:5]]
            (tmp_path / folder / f"{number}.jsonl").write_text(jsonl(some))
    a, b = contents(str(tmp_path / "a")), contents(str(tmp_path / "b"))
    assert contents([str(tmp_path / "b"), str(tmp_path / "a")]) == b + a
    assert contents(str(tmp_path / "*" / "*.jsonl")) == a + b
    assert contents([str(tmp_path / "a" / "0.jsonl"), str(tmp_path / "a")]) == a  # a file named twice counts once


def test_a_folder_of_several_formats_must_say_which(tmp_path):
    (tmp_path / "README.md").write_text("about these files")
    (tmp_path / "a.jsonl").write_text(jsonl(SOME))
    with pytest.raises(
        DataError, match=r"mixes formats: 1 jsonl \(a.jsonl\), 1 text \(README.md\); .*data.format=jsonl"
    ):
        read_corpus(str(tmp_path))
    assert contents(str(tmp_path), text_format="jsonl") == SOME
    with pytest.raises(ConfigError, match="did you mean 'jsonl'"):
        read_corpus(str(tmp_path), text_format="json")
    with pytest.raises(DataError, match=r"data\.format=parquet, but none of its 2 files"):
        read_corpus(str(tmp_path), text_format="parquet")


def test_a_dataset_inside_its_corpus_is_no_part_of_it(tmp_path):
    for number, text in enumerate(SOME):
        (tmp_path / f"{number:03d}.txt").write_text(text)
    words = ["-m", "harness.data", "data.path=./made", "data.corpus=.", "data.validation_share=0.3", "again=true"]
    first = command(*words, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert command(*words, cwd=tmp_path).stdout == first.stdout


def cut_off(packed: bytes) -> bytes:
    return packed[: 2 * len(packed) // 3]


TORN = jsonl(SOME)[:-30].encode()
DAMAGED = {
    "a.jsonl": (TORN, r"a.jsonl:120: not a whole JSON value \(.* at character \d+\): .*"),
    "b.jsonl": (jsonl(SOME).replace('"text": "0-77 ', '"txt": "0-77 ').encode(),
                r"b.jsonl:78: no field 'text' \(data.text_key\); did you mean 'txt'\? Its fields: 'id', 'txt'"),
    "c.jsonl": (b'{"text": "a"}\n\n["b"]\n', "c.jsonl:3: a JSON list, where an object with the field 'text' is wanted"),
    "d.jsonl": (b'{"text": "a"}\n{"text": 3}\n', "d.jsonl:2: field 'text' holds 3, where text is wanted"),
    "e.jsonl": (b'{"text": "a"}\n{"text": "\xff"}\n', r"e.jsonl:2: not UTF-8 \(byte 11 of the line\)"),
    "f.jsonl": (b'{"text": "a"}\n{"text": "\\ud83d"}\n', "f.jsonl:2: .*half of a surrogate pair"),
    "g.jsonl.gz": (cut_off(gzip.compress(jsonl(SOME).encode())), r"g.jsonl.gz is damaged or was cut off: after .* bytes"),
    "h.jsonl.zst": (cut_off(zstd(jsonl(SOME))), "h.jsonl.zst is damaged or was cut off: .*ends inside a frame"),
    "i.jsonl.zst": (b"no zstd at all", "i.jsonl.zst is damaged"),
    "j.jsonl.gz": (gzip.compress(TORN), "j.jsonl.gz:120: not a whole JSON value"),
    "k.jsonl.gz": (b"no gzip at all", "k.jsonl.gz is damaged"),
    "l.parquet": (b"PAR1 is not all of it", "l.parquet is no Parquet file, or was cut off"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_with_the_place(tmp_path, name):
    content, message = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    for piece_bytes in (50, 10**6):
        with pytest.raises(DataError, match=message):
            [list(piece.documents()) for piece in cut(read_corpus(str(tmp_path / name)), piece_bytes)]


def test_parquet_damaged_inside_and_with_other_columns(tmp_path):
    path = tmp_path / "a.parquet"
    parquet(path, SOME, "txt", row_group_size=30)
    with pytest.raises(
        DataError, match=r"no column 'text' \(data.text_key\); did you mean 'txt'\? Its columns: 'id', 'txt'"
    ):
        list(cut(read_corpus(str(path))))
    with pytest.raises(DataError, match="column 'id' holds int64, where text is wanted"):
        list(cut(read_corpus(str(path), text_key="id")))
    assert contents(str(path), text_key="txt") == SOME
    content = bytearray(path.read_bytes())
    content[200:1200] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.parquet is damaged \(row groups 0 to \d"):
        contents(str(path), text_key="txt")


def test_nulls_of_a_parquet_column_count_as_empty(tmp_path):
    parquet(tmp_path / "a.parquet", ["x", None, "y"])
    (piece,) = cut(read_corpus(str(tmp_path / "a.parquet")))
    assert [document.content for document in piece.documents()] == [b"x", b"", b"y"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.corpus=stdlb"], "corpus=stdlb: no such file or folder, and not 'stdlib'; did you mean 'stdlib'?"),
        (["data.corpus=text.jsonl"], "did you mean 'texts.jsonl'?"),
        (["data.corpus=*.parquet"], "data.corpus=*.parquet: no file matches"),
        (
            ["data.corpus=texts.jsonl", "data.text_ky=body"],
            "unknown option 'data.text_ky'; did you mean 'data.text_key'",
        ),
        (
            ["data.corpus=texts.jsonl", "data.text_key=body"],
            "texts.jsonl:1: no field 'body' (data.text_key). Its fields",
        ),
        (["data.corpus=texts.jsonl", "data.workers=0"], "data.workers=0: a number of processes is wanted"),
        (["data.corpus=texts.jsonl", "data.format=jsnl"], "data.format=jsnl: it is one of auto, jsonl, parquet, text"),
        (["data.corpus=texts.jsonl", "data.validation_share=5"], "data.validation_share=5: a number between 0 and 1"),
        (["data.corpus=texts.jsonl", "data.tokenizer=./qwen"], "data.tokenizer=./qwen: no such folder or file"),
        (["data.corpus=texts.jsonl", "data.eod_token=7"], "with data.tokenizer=byte a document ends with 256"),
        (
            ["data.eod_token=<|eot|>"],
            """put the value into quotes, within those of the shell: 'data.eod_token="<|eot|>"'""",
        ),
        (["data.corpus=[]"], "data.corpus is not set"),
        (["data.corpus=3"], "data.corpus=3: a file, a folder, a glob"),
    ],
)
def test_mistakes_are_explained(tmp_path, words, message):
    (tmp_path / "texts.jsonl").write_text(jsonl(SOME))
    done = command("-m", "harness.data", "data.path=made", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made" / "manifest.json").exists()


def test_a_line_that_is_mended_is_read_from_the_beginning(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(TORN)
    words = ["-m", "harness.data", "data.path=made", "data.corpus=a.jsonl", "data.validation_share=0.3"]
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{path}:120: not a whole JSON value" in done.stderr
    assert not (tmp_path / "made" / "manifest.json").exists()
    path.write_text(jsonl(SOME))
    assert command(*words, cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "made" / "manifest.json").read_text())["documents"]["train"] > 0
    assert not (tmp_path / "made" / "partial").exists()


def test_null_texts_and_files_that_are_no_part_of_a_corpus_are_passed_over(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n' + '{"text": "one"}\n' * 100)
    for name in (".gitattributes", "_SUCCESS", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("not a text of the corpus")
    assert {text for text in contents(str(tmp_path)) if text} == {"one"}

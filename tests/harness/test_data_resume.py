"""Preparing that is killed, stopped, run twice, or out of disk; and in more than one process."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.data import partial, workers
from harness.data.corpus import read_corpus
from harness.data.manifest import read_manifest
from harness.data.pieces import cut
from harness.data.prepare import prepare
from harness.errors import DataError, RunError
from harness.lease import Lease
from tests.conftest import REPOSITORY, command
from tests.harness.data_samples import corpus_of, jsonl, texts, token_files, train_tokenizer

PROGRAM = """
import sys, time
from pathlib import Path
from harness.data import partial
from harness.data.corpus import read_corpus
from harness.data.huggingface import load_tokenizer
from harness.data.prepare import prepare
if __name__ == "__main__":
    partial.COMMIT_SECONDS = 0
    source, directory, tokenizer, workers = sys.argv[1:]
    data = prepare(read_corpus(source), Path(directory), name="x", validation_share=0.3, tokenizer=load_tokenizer(tokenizer),
                   workers=int(workers), piece_bytes=20_000)
    print(data.digest)
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """(JSONL with repeats, tokenizer, the files of an undisturbed preparation)."""
    folder = tmp_path_factory.mktemp("material")
    some = texts(9000)
    (folder / "a.jsonl").write_text(jsonl([*some, *some[:500]]))
    (folder / "program.py").write_text(PROGRAM)
    tokenizer = train_tokenizer(folder / "tokenizer")
    done = start(folder, folder / "whole", 1).communicate()
    assert (folder / "whole" / "manifest.json").exists(), done
    return folder, tokenizer, token_files(folder / "whole")


def start(folder, directory, processes) -> subprocess.Popen:
    words = [folder / "program.py", folder / "a.jsonl", directory, folder / "tokenizer", processes]
    return subprocess.Popen(
        [sys.executable, *map(str, words)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def pieces_done(directory) -> int:
    try:
        return json.loads((directory / "partial" / "journal.json").read_text())["pieces"]
    except (FileNotFoundError, json.JSONDecodeError):
        return 0


def wait_for(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_in_the_middle_it_goes_on_to_the_same_bytes(material, tmp_path, processes):
    folder, _, whole = material
    total = len(list(cut(read_corpus(str(folder / "a.jsonl")), 20_000)))
    assert total > 50
    reached = []
    for more in (5, 10):
        before = pieces_done(tmp_path)
        process = start(folder, tmp_path, processes)
        wait_for(lambda before=before, more=more: pieces_done(tmp_path) >= before + more)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.append(pieces_done(tmp_path))
        assert not (tmp_path / "manifest.json").exists()
        assert read_manifest(tmp_path) is None
    assert 5 <= reached[0] < reached[1] < total
    with (tmp_path / "partial" / "train.bin").open("ab") as file:
        file.write(b"what a write that was under way left behind")
    process = start(folder, tmp_path, 3 - processes)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "going on from an earlier start" in output
    assert token_files(tmp_path) == whole
    assert read_manifest(tmp_path) == read_manifest(folder / "whole")
    assert not (tmp_path / "partial").exists()


def test_workers_do_not_outlive_a_killed_parent(material, tmp_path):
    folder, _, _ = material
    process = start(folder, tmp_path, 2)
    wait_for(lambda: pieces_done(tmp_path) >= 2)
    (children,) = [path.read_text().split() for path in [Path(f"/proc/{process.pid}/task/{process.pid}/children")]]
    assert len(children) >= 2
    process.send_signal(signal.SIGKILL)
    process.wait()

    def gone(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    wait_for(lambda: all(map(gone, children)), 60)


def test_ctrl_c_stops_soon_and_says_how_to_go_on(material, tmp_path):
    folder, tokenizer, _ = material
    words = ["-m", "harness.data", f"data.path={tmp_path}", f"data.corpus={folder / 'a.jsonl'}"]
    words += [f"data.tokenizer={tokenizer}", "data.workers=1"]
    process = subprocess.Popen(
        [sys.executable, *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a job in the background inherits that it is ignored
    )
    wait_for(lambda: (tmp_path / "partial" / "digests").exists())
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in output
    assert "Traceback" not in errors
    assert command(*words).returncode == 0


def test_a_full_disk_is_explained_and_the_earlier_dataset_stays(material, tmp_path):
    """RLIMIT_FSIZE makes writing fail in the middle, as a full disk does."""
    folder, tokenizer, whole = material
    before = prepare(corpus_of(texts(50)), tmp_path, name="before", validation_share=0.5)
    files = token_files(tmp_path)
    words = [
        "-m",
        "harness.data",
        f"data.path={tmp_path}",
        f"data.corpus={folder / 'a.jsonl'}",
        "data.validation_share=0.3",
    ]
    words += [f"data.tokenizer={tokenizer}", "data.workers=1", "again=true"]
    done = subprocess.run(
        [sys.executable, *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000)),
    )
    assert done.returncode == 2
    assert f"{tmp_path}: file too large after 0." in done.stderr
    assert "Make room and give the same command" in done.stderr
    assert "Traceback" not in done.stderr
    assert read_manifest(tmp_path) == before
    assert token_files(tmp_path) == files
    assert command(*words).returncode == 0
    assert token_files(tmp_path) == whole


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(material, tmp_path):
    folder, tokenizer, whole = material
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        words = ["-m", "harness.data", f"data.path={tmp_path / 'd'}", f"data.corpus={folder / 'a.jsonl'}"]
        words += [f"data.tokenizer={tokenizer}", "data.validation_share=0.3"]
        done = command(*words)
        assert done.returncode == 2
        assert "no space left on device after" in done.stderr
        assert not (tmp_path / "d" / "manifest.json").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path)], check=True)
        assert command(*words).returncode == 0
        assert token_files(tmp_path / "d") == whole
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_crash_while_files_are_moved_into_place_is_finished_later(tmp_path, monkeypatch):
    some = texts(100)
    expected = prepare(corpus_of(some), tmp_path / "whole", name="x", validation_share=0.3)
    moved = []
    real = Path.replace

    def replace(path, target):
        if target.parent == tmp_path / "d":
            moved.append(target)
            if len(moved) == 3:
                raise KeyboardInterrupt
        real(path, target)

    monkeypatch.setattr("pathlib.Path.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        prepare(corpus_of(some), tmp_path / "d", name="x", validation_share=0.3)
    monkeypatch.undo()
    assert read_manifest(tmp_path / "d") is None
    assert prepare(corpus_of(some), tmp_path / "d", name="x", validation_share=0.3) == expected
    assert token_files(tmp_path / "d") == token_files(tmp_path / "whole")
    assert not (tmp_path / "d" / "partial").exists()


def test_other_settings_do_not_continue_what_was_begun(tmp_path):
    corpus = corpus_of(texts(60))
    with partial.Partial(tmp_path, {"validation_share": 0.3, "tokenizer": "byte"}, "sources").opened() as begun:
        begun.commit()
    with pytest.raises(
        DataError, match=r"unfinished preparation with other settings \(data.validation_share: 0.3 -> 0.4"
    ):
        prepare(corpus, tmp_path, name="x", validation_share=0.4)
    prepare(corpus, tmp_path, name="x", validation_share=0.4, anew=True)


def test_changed_input_begins_again(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text(jsonl(texts(200)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial, "COMMIT_SECONDS", 0)
        patch.setattr(partial.Partial, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            prepare(read_corpus(str(path)), tmp_path / "d", name="x", validation_share=0.3, piece_bytes=500)
    path.write_text(jsonl(texts(250)))
    data = prepare(read_corpus(str(path)), tmp_path / "d", name="x", validation_share=0.3, piece_bytes=500)
    assert "input files have changed since" in capsys.readouterr().out
    assert data == prepare(read_corpus(str(path)), tmp_path / "e", name="x", validation_share=0.3)


def test_two_at_once_do_not_mix(tmp_path):
    (tmp_path / "partial").mkdir(parents=True)
    with Lease(tmp_path / "partial"), pytest.raises(RunError, match="being written by process"):
        prepare(corpus_of(texts(50)), tmp_path, name="x", validation_share=0.3)


def test_a_killed_worker_is_explained(material, tmp_path, monkeypatch):
    folder, _, _ = material
    process = start(folder, tmp_path, 2)
    wait_for(lambda: pieces_done(tmp_path) >= 2)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "a tokenising process was killed, perhaps for want of memory: what is done is kept" in errors
    assert pieces_done(tmp_path) >= 2


def test_workers_are_no_more_than_pieces():
    assert workers.count_workers(8, 3) == 3
    assert workers.count_workers(2, 100) == 2
    assert 1 <= workers.count_workers(None, 100) <= (os.cpu_count() or 1)
    assert workers.count_workers(None, 0) == 1

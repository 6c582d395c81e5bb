import json
import multiprocessing
import os
import socket
import time
from pathlib import Path

import pytest

from harness.errors import RunError
from harness.files import open_to_append, read_json, read_json_lines, write_atomically, write_json
from harness.lease import Lease
from harness.rundir import RunDirectory
from tests.conftest import tiny_experiment


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    write_json(path, {"state": "running"})

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"state": "done"})
    assert read_json(path) == {"state": "running"}
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_torn_files_read_as_absent(tmp_path):
    (tmp_path / "a.json").write_text('{"state": "do')
    (tmp_path / "b.jsonl").write_text('{"step": 1}\n{"step": 2, "lm_lo')
    assert read_json(tmp_path / "a.json") is None
    assert read_json_lines(tmp_path / "b.jsonl") == [{"step": 1}]


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, "new\n"), ("", "new\n"), ("old\n", "old\nnew\n"), ("old\n{torn", "old\n{torn\nnew\n"), ("é", "é\nnew\n")],
)
def test_a_line_after_a_torn_one_begins_anew(tmp_path, before, after):
    path = tmp_path / "lines"
    if before is not None:
        path.write_text(before, encoding="utf-8")
    with open_to_append(path) as file:
        file.write("new\n")
    assert path.read_text(encoding="utf-8") == after


def test_a_run_directory_keeps_to_its_experiment(tmp_path):
    mine, other = tiny_experiment(None), tiny_experiment(None, seed=7)
    run = RunDirectory(tmp_path, mine.run_id)
    run.create(mine, "command")
    run.create(mine, "another command")
    assert (run.path / "command.txt").read_text() == "another command"  # planned anew with other options of the job
    with pytest.raises(RunError, match=f"holds experiment {mine.run_id}, not {other.run_id}"):
        run.create(other, "command")
    assert run.status().state == "queued"


def test_attempts_are_told_apart(tmp_path):
    experiment = tiny_experiment(None)
    run = RunDirectory(tmp_path, experiment.run_id)
    run.create(experiment, "command")
    run.begin_attempt(command="first")
    run.begin_attempt(command="second")  # the first vanished
    assert [attempt.end for attempt in run.status().attempts] == ["killed", None]
    run.end_attempt(end="signal", first_step=3, last_step=9, exit_code=75, message="told to stop")
    status = run.status()
    assert (status.state, status.attempts[-1].last_step) == ("queued", 9)
    for end, state in [("crash", "failed"), ("diverged", "diverged"), ("rerun", "failed"), ("done", "done")]:
        run.begin_attempt(command="again")
        assert run.status().state == "running"
        run.end_attempt(end=end, exit_code=1)
        assert run.status().state == state


def test_a_newer_status_is_refused(tmp_path):
    run = RunDirectory(tmp_path, "abc")
    run.path.mkdir(parents=True)
    write_json(run.path / "status.json", {"schema": 2})
    with pytest.raises(RunError, match="schema 2"):
        run.status()


def test_repeated_steps_count_once(tmp_path):
    run = RunDirectory(tmp_path, "abc")
    run.path.mkdir(parents=True)
    rows = [{"step": 1, "lm_loss": 5}, {"step": 2, "lm_loss": 4}, {"step": 2, "lm_loss": 3}, {"step": 3, "lm_loss": 2}]
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["lm_loss"] for row in run.metrics()] == [5, 3, 2]


def test_a_lease_keeps_a_second_writer_out(tmp_path):
    with Lease(tmp_path) as lease:
        lease.check(now=True)
        with pytest.raises(RunError, match=f"process {os.getpid()}"), Lease(tmp_path):
            pass
        assert lease.held()
    with Lease(tmp_path):
        pass


def _hold(path: Path) -> None:
    Lease(path).__enter__()
    os._exit(0)  # dies without giving it back


def test_the_lease_of_a_dead_process_is_taken_over(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path,))
    process.start()
    process.join()
    assert (tmp_path / "lease.json").exists()
    with Lease(tmp_path) as lease:
        assert lease.held()


def test_the_lease_of_another_machine_lasts_while_its_heart_beats(tmp_path):
    with Lease(tmp_path) as lease:
        holder = read_json(lease.path)
        write_atomically(lease.path, json.dumps(holder | {"host": socket.gethostname() + "-other"}))
        with pytest.raises(RunError, match="-other"), Lease(tmp_path):
            pass
        old = time.time() - 10_000
        os.utime(lease.path, (old, old))
        with Lease(tmp_path) as second:
            assert second.held()
            with pytest.raises(RunError, match="taken over"):
                lease.check(now=True)


def _enter(directory, barrier, entered):
    barrier.wait()
    try:
        with Lease(directory) as lease:
            entered.put(lease.token)
            time.sleep(0.3)
    except RunError:
        entered.put(None)


def test_of_many_that_find_a_dead_lease_one_takes_it_over(tmp_path):
    processes = multiprocessing.get_context("fork")
    for trial in range(10):
        directory = tmp_path / str(trial)
        directory.mkdir()
        holder = {"token": "dead", "host": socket.gethostname(), "pid": 2**22 + 1, "process_start": "1", "attempt": 1}
        (directory / "lease.json").write_text(json.dumps(holder))
        barrier, entered = processes.Barrier(4), processes.Queue()
        children = [processes.Process(target=_enter, args=(directory, barrier, entered)) for _ in range(4)]
        for child in children:
            child.start()
        tokens = [entered.get(timeout=30) for _ in children]
        for child in children:
            child.join()
        assert sum(token is not None for token in tokens) == 1

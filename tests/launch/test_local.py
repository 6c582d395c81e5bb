"""The local launcher with real Megatron workers: done, resumed, killed, interrupted, failing."""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.lease import Lease
from harness.rundir import RunDirectory
from tests.conftest import REPOSITORY, command

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}

# two tiny runs of the demo's first budget
PLAN = ["phase=classical", "scale=1.5e10", "backbone=demo", "studies.classical.sizes=[2.8, 5.6]", "seeds=1", "name=two",
        "training.validation_sequences=64"]  # fmt: skip
LONG = ["scale=1e11", "studies.classical.sizes=[0.35, 0.36]", "training.epochs=100"]  # nearly four thousand steps


class Sweep:
    def __init__(self, root: Path, dataset: Path, *more: str):
        self.root = root
        self.words = [*PLAN, f"root={root}", f"data.path={dataset}", *more]
        self.plan()

    def plan(self, *more):
        done = command("-m", "harness.sweep", *self.words, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def runs(self) -> list[RunDirectory]:
        lines = (self.root / "sweeps" / "two.csv").read_text().splitlines()[1:]
        return [RunDirectory(self.root, line.split(",")[0]) for line in lines]

    def launch(self, *more):
        return command("-m", "launch.local", "sweep=two", f"root={self.root}", *more)

    def start(self, *more, **kwargs):
        words = [sys.executable, "-m", "launch.local", "sweep=two", f"root={self.root}", *more]
        return subprocess.Popen(words, text=True, **({"env": ENVIRONMENT} | kwargs))

    def wait_for_steps(self, count=1, seconds=90):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            stepping = [run for run in self.runs if len(run.metrics()) >= 3]
            if len(stepping) >= count:
                return stepping
            time.sleep(0.05)
        raise AssertionError("no run made a step")


@pytest.fixture
def sweep(tmp_path, dataset):
    return Sweep(tmp_path, dataset[0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset):
    sweep = Sweep(tmp_path_factory.mktemp("finished"), dataset[0])
    return sweep, sweep.plan("launch=local")


def loss(run):
    return run.result()["final_validation_loss"]


def no_children_of(sweep):
    listed = subprocess.run(["pgrep", "-af", str(sweep.root)], capture_output=True, text=True).stdout
    return not [line for line in listed.splitlines() if "pgrep" not in line]


def test_a_sweep_is_trained_and_a_second_start_trains_nothing(finished):
    sweep, output = finished
    assert "2 of 2 runs done, 0 failed" in output
    assert [run.status().state for run in sweep.runs] == ["done", "done"]
    assert re.search(r"\d\d:\d\d:\d\d done     [0-9a-f]{12} \(M .*validation loss \d\.\d{4}", output)
    for run in sweep.runs:
        assert not run.checkpoints.exists()
        assert "harness.megatron.pretrain" in (run.path / "command.txt").read_text()
        (log,) = run.logs.iterdir()
        assert "iteration" in log.read_text()
    before = {path: path.stat().st_mtime_ns for path in sweep.root.rglob("*") if path.is_file()}
    again = sweep.launch()
    assert again.returncode == 0
    assert "2 of 2 runs are done; nothing to train" in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in sweep.root.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_killed_worker_is_started_again_once_and_alone(sweep, finished):
    process = sweep.start(stdout=subprocess.PIPE)
    victim, other = sweep.wait_for_steps(2)
    os.kill(victim.status().attempts[-1].pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert f"killed   {victim.run_id}" in output
    assert [attempt.end for attempt in victim.status().attempts] == ["killed", "done"]
    assert [attempt.end for attempt in other.status().attempts] == ["done"]
    undisturbed = {run.run_id: loss(run) for run in finished[0].runs}
    assert {run.run_id: loss(run) for run in sweep.runs} == undisturbed


def test_ctrl_c_saves_checkpoints_and_a_later_start_goes_on(sweep, finished):
    process = sweep.start(stdout=subprocess.PIPE, start_new_session=True)
    sweep.wait_for_steps(2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "once more to stop at once" in output
    states = [run.status() for run in sweep.runs]
    assert {status.state for status in states} <= {"queued", "done"}
    stopped = [status for status in states if status.state == "queued"]
    assert stopped
    assert {status.attempts[-1].end for status in stopped} == {"signal"}
    assert no_children_of(sweep)
    assert sweep.launch().returncode == 0
    resumed = [run.status().attempts[-1].first_step for run in sweep.runs]
    assert max(resumed) > 0
    undisturbed = {run.run_id: loss(run) for run in finished[0].runs}
    assert {run.run_id: loss(run) for run in sweep.runs} == undisturbed


@pytest.fixture
def long_sweep(tmp_path, dataset):
    return Sweep(tmp_path, dataset[0], *LONG)


def test_a_launcher_that_is_killed_leaves_no_runs_behind(long_sweep):
    process = long_sweep.start(stdout=subprocess.DEVNULL)
    running = long_sweep.wait_for_steps(2)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while any((run.path / "lease.json").exists() for run in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert {(run.status().state, run.status().attempts[-1].end) for run in running} == {("queued", "signal")}
    assert all(run.status().attempts[-1].last_step < 3500 for run in running)
    assert no_children_of(long_sweep)


def test_ctrl_c_right_at_the_start_stops_too(long_sweep):
    process = long_sweep.start(
        stdout=subprocess.PIPE, start_new_session=True, env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1"}
    )
    while "training 2" not in process.stdout.readline():
        pass
    time.sleep(0.5)  # the fork server is importing Megatron, and the first run waits for it
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert all(len(run.metrics()) < 500 for run in long_sweep.runs)
    assert {run.status().state for run in long_sweep.runs} == {"queued"}
    assert no_children_of(long_sweep)


@pytest.mark.slow
def test_a_second_launcher_leaves_the_runs_of_the_first_alone(long_sweep):
    first = long_sweep.start(stdout=subprocess.PIPE)
    long_sweep.wait_for_steps(2)
    second = long_sweep.launch()
    assert second.returncode == 1
    assert "2 wait or run already, and are left alone" in second.stdout
    assert {run.status().state for run in long_sweep.runs} == {"running"}
    assert {attempt.end for run in long_sweep.runs for attempt in run.status().attempts} == {None}
    first.terminate()
    first.communicate(timeout=60)
    assert {run.status().state for run in long_sweep.runs} == {"queued"}


@pytest.mark.slow
def test_a_dataset_that_moved_is_named_at_launch(sweep, dataset, tmp_path):
    moved = shutil.copytree(dataset[0], tmp_path / "moved")
    config = sweep.root / "sweeps" / "two.yaml"
    config.write_text(config.read_text().replace(str(dataset[0]), str(tmp_path / "gone")))
    done = sweep.launch(f"data.path={moved}")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_failing_run_does_not_stop_the_other(sweep):
    bad, good = sweep.runs
    done = sweep.launch("launch.slots=1", "launch.retries=0")  # makes the directories
    assert done.returncode == 0
    for run in (bad, good):
        shutil.rmtree(run.path / "logs")
        (run.path / "logs").mkdir()
        (run.path / "result.json").unlink()
        (run.path / "status.json").unlink()
    (bad.checkpoints).mkdir()
    (bad.checkpoints / "latest_checkpointed_iteration.txt").write_text("999")  # a checkpoint that is gone
    done = sweep.launch()
    assert done.returncode == 1
    assert "1 of 2 runs done, 1 failed" in done.stdout
    assert re.search(rf"failed   {bad.run_id}.*\(log: .*\.log\)", done.stdout)
    assert good.status().state == "done"


def test_what_cannot_be_trained_here_is_refused_before_anything_starts(sweep, dataset, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(dataset[0], moved)
    config = sweep.root / "sweeps" / "two.yaml"
    config.write_text(config.read_text().replace(str(dataset[0]), str(moved / "nowhere")))
    done = sweep.launch()
    assert done.returncode == 2
    assert "no dataset in" in done.stderr
    assert not (sweep.root / "runs").exists()


def test_a_plan_for_gpus_is_refused_without_one(tmp_path):
    data = {"name": "d", "digest": "0", "tokenizer": "byte", "vocab_size": 152064, "train_tokens": 10**11,
            "validation_tokens": 10**9}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "data": data, "bytes": {}}))
    words = ["phase=1", "scale=1e18", "m_over_na=9", "n_over_na=22", f"root={tmp_path}", f"data.path={tmp_path}"]
    done = command("-m", "harness.sweep", *words, "launch=local")
    assert done.returncode == 2, done.stdout
    assert "trains in bf16, on GPUs, and this machine has none" in done.stderr


def test_a_run_that_someone_else_writes_is_left_alone(sweep):
    other, _ = sweep.runs
    other.path.mkdir(parents=True)
    with Lease(other.path):
        done = sweep.launch()
    assert done.returncode == 1
    assert other.status().attempts == ()
    (log,) = other.logs.iterdir()
    assert "being written by process" in log.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [(["sweep=tow"], "did you mean 'two'"), ([], "sweep is not set"), (["sweep=two", "launch.slots=0"], "launch.slots=0"),
     (["sweep=two", "slots=2"], "did you mean 'launch.slots'"),
     (["sweep=two", "launch.keep_checkpoints=al"], "none, last or all")],
)  # fmt: skip
def test_typos_are_explained(sweep, words, message):
    done = command("-m", "launch.local", f"root={sweep.root}", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_terminal_gets_a_live_table(sweep):
    master, slave = pty.openpty()
    process = sweep.start(stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen = b""
    while process.poll() is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.5)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode(errors="replace"))
    assert "tokens/s" in text
    assert re.search(r"\d+/133", text)
    assert "2 of 2 runs done" in text

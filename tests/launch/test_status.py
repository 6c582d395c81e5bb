"""What status says of runs in every state, and that cancelling and retrying reach the runs that they name."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import compose, options_of
from harness.errors import ConfigError, HarnessError
from harness.lease import Lease
from harness.rundir import Attempt, RunDirectory, Status
from harness.sweep import plan, write
from harness.sweepfile import choose_sweeps
from launch.cancel import quoted
from launch.launcher import Seen, state_of
from launch.launchers import Polled, poll_all
from launch.runview import sweep_rows, view_run
from launch.status import look, status_document, status_text
from tests.conftest import REPOSITORY, command

GOLDEN = Path(__file__).with_name("golden_status.txt")

NOBODY = Polled(seen={}, unknown=())


class Root:
    """A sweep of 36 runs, of which some have begun."""

    def __init__(self, path: Path):
        self.path = path
        self.ids = write(plan(compose("sweep", ["phase=1", "scale=1e19", f"root={path}", "name=s"])))

    def put(
        self, number: int, state: str, end: str | None = None, *, message: str | None = None, log: str = "", **more
    ):
        run = RunDirectory(self.path, self.ids[number])
        run.logs.mkdir(parents=True)
        attempt = Attempt(
            number=1, host=socket.gethostname(), pid=1, command="c", started="2026-01-01T00:00:00+00:00", end=end,
            ended="2026-01-01T02:30:00+00:00", message=message, **more,
        )  # fmt: skip
        run.write_status(Status(run_id=run.run_id, state=state, attempts=(attempt,)))
        if log:
            (run.logs / "1.log").write_text(log)
        return run

    def views(self, polled: Polled, **more):
        return [view_run(self.path, row, polled, **more) for row in sweep_rows(self.path, "s")]


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path)


def populate(root: Root) -> Polled:
    done = root.put(0, "done", "done", last_step=10205)
    (done.path / "result.json").write_text(json.dumps({"final_validation_loss": 2.75, "simulated": False}))
    root.put(1, "done", "done")  # without a result it is not done
    running = root.put(2, "running", first_step=100)
    row = {"step": 5000, "lm_loss": 3.125, "tokens_per_s": 1048576.0}
    running.metrics_path.write_text(json.dumps(row) + "\n" + '{"step": 50')
    root.put(3, "running", first_step=100)  # claims to run, and nobody has it
    root.put(4, "failed", "crash", message="OutOfMemoryError: CUDA out of memory", log="x\n", last_step=7)
    root.put(5, "failed", "killed", log="first\nRuntimeError: NCCL timeout\n\n")
    root.put(6, "diverged", "diverged", message="the training loss rose", last_step=900)
    return Polled(
        seen={
            root.ids[2]: Seen(job="812_3", running=True),
            root.ids[7]: Seen(job="812_4", running=False, reason="Priority"),
            root.ids[0]: Seen(job="812_0", running=True),  # its last moments in the queue
        },
        unknown=(),
    )


def test_every_state_is_what_the_launchers_go_by(root):
    polled = populate(root)
    views = root.views(polled)
    assert [view.state for view in views[:9]] == [
        "done", "queued", "running", "lost", "failed", "failed", "diverged", "waiting", "queued"
    ]  # fmt: skip
    assert [view.state for view in views] == [state_of(RunDirectory(root.path, r), polled.seen) for r in root.ids]
    running = views[2]
    assert (running.step, running.loss, running.tokens_per_second, running.job) == (5000, 3.125, 1048576.0, "812_3")
    assert running.seconds_left == pytest.approx((10205 - 5000) * 128 * 8192 / 1048576)
    assert views[4].message == "OutOfMemoryError: CUDA out of memory"
    assert views[5].message == "RuntimeError: NCCL timeout"  # from its log
    assert views[5].log.endswith("/logs/1.log")
    assert views[7].reason == "Priority"
    assert views[0].hours_spent == pytest.approx(2.5 * views[0].gpus)
    assert views[0].loss is None
    assert root.views(polled, details=True)[0].loss == 2.75


def test_nothing_is_lost_while_a_queue_is_unknown_or_a_process_writes(root):
    run = root.put(0, "running")
    (attempt,) = run.status().attempts
    run.write_status(Status(run_id=run.run_id, state="running", attempts=(replace(attempt, ended=None),)))
    run.metrics_path.write_text("")
    os.utime(run.metrics_path, (1767229200, 1767229200))  # 2026-01-01, one o'clock: its last sign of life
    (lost,) = root.views(NOBODY)[:1]
    assert lost.state == "lost"
    assert lost.hours_spent == pytest.approx(lost.gpus)  # not until now
    assert root.views(Polled(seen={}, unknown=("squeue gave no answer",)))[0].state == "running"
    with Lease(run.path):
        assert root.views(NOBODY)[0].state == "running"


def test_the_table_is_golden(root):
    polled = populate(root)
    views = root.views(polled, details=True)
    text = "\n\n".join(
        f"# {width} columns{', every run' if every else ''}\n{status_text('s', views[:9], width, every=every)}"
        for width, every in [(80, False), (200, False), (80, True)]
    )
    text = text.replace(str(root.path), "ROOT") + "\n"
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()
    assert all(len(line) <= 80 for line in status_text("s", views, 80, every=True).splitlines() if "  log " not in line)


def test_hundreds_of_runs_are_a_short_table(root):
    polled = Polled(seen={run_id: Seen(job="1", running=True) for run_id in root.ids}, unknown=())
    text = status_text("s", root.views(polled), 80)
    assert "36 runs\n36 running\n" in text
    assert "... and 16 more (all=true shows them)" in text
    assert len(text.splitlines()) < 30


def test_the_document_holds_every_run(root):
    polled = populate(root)
    sweeps, _ = look(root.path, ["s"], details=True)
    document = json.loads(json.dumps(status_document(root.path, sweeps, polled)))
    (sweep,) = document["sweeps"]
    assert [run["run_id"] for run in sweep["runs"]] == root.ids
    assert sum(sweep["states"].values()) == 36


def test_the_command(root):
    populate(root)
    done = command("-m", "launch.status", "sweep=s", f"root={root.path}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"sweep s: 36 runs\n1 done, 30 queued, 2 failed, 1 diverged, 2 lost", done.stdout)
    text = command("-m", "launch.status", f"root={root.path}", "--json").stdout
    document = json.loads(text)
    runs = [run for sweep in document["sweeps"] for run in sweep["runs"]]
    lines = [line for line in text.splitlines() if line.startswith('{"run_id"')]
    assert [json.JSONDecoder().raw_decode(line)[0] for line in lines] == runs  # each on a line, for grep
    assert document["sweeps"][0]["states"]["lost"] == 2
    wrong = command("-m", "launch.status", "sweep=t", f"root={root.path}")
    assert wrong.returncode == 2
    assert "sweep=t: no such sweep" in wrong.stderr
    words = [sys.executable, "-m", "launch.status", f"root={root.path}", "--watch", "seconds=0.2"]
    watch = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, text=True)
    seen = [next(line for line in watch.stdout if line.startswith("sweep s")) for _ in range(2)]
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=30)
    assert watch.returncode == 0
    assert seen[0] == seen[1]


def test_words_are_made_ready_for_hydra(tmp_path):
    assert options_of(["--json", "sweep=a", "--watched"], ("json", "watch")) == ["json=true", "sweep=a", "--watched"]
    assert quoted(["runs=[12e456789012,'ab']", "root=x"]) == ["runs=['12e456789012','ab']", "root=x"]
    assert quoted(["runs=123456789012"]) == ["runs='123456789012'"]
    with pytest.raises(ConfigError, match="holds no sweep"):
        choose_sweeps(tmp_path, None)


def test_status_imports_nothing_that_trains_or_plans():
    heavy = ["launch.local", "launch.slurm", "harness.settings", "numpy"]
    script = f"import sys, launch.status; print('IMPORTED', [name for name in {heavy} if name in sys.modules])"
    assert "IMPORTED []" in command("-c", script).stdout


def test_a_queue_that_does_not_answer_is_told_and_hides_no_other(root, monkeypatch):
    def no_answer(path):
        raise HarnessError("squeue gave no answer")

    monkeypatch.setattr("launch.placed.poll", no_answer)
    assert poll_all(root.path) == Polled(seen={}, unknown=("squeue gave no answer",))


class Simulated:
    """A simulated sweep of 36 runs that each take a while."""

    def __init__(self, path: Path, *more: str):
        self.root = path
        self.ids = write(
            plan(compose("sweep", ["phase=1", "scale=1e19", f"root={path}", "name=s", "train=simulated", *more]))
        )

    def start(self, *more: str) -> subprocess.Popen:
        words = [sys.executable, "-m", "launch.local", "sweep=s", f"root={self.root}", *more]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for_running(self, count: int) -> dict[str, Seen]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            seen = poll_all(self.root).seen
            if sum(one.running for one in seen.values()) >= count:
                return seen
            time.sleep(0.1)
        raise AssertionError("nothing runs")

    def state(self, run_id: str) -> str:
        return RunDirectory(self.root, run_id).status().state


def test_runs_that_run_and_runs_that_wait_are_cancelled(tmp_path):
    sweep = Simulated(tmp_path, "train.seconds=300")
    process = sweep.start("launch.slots=2")
    seen = sweep.wait_for_running(2)
    assert set(seen) == set(sweep.ids)
    running = [run_id for run_id, one in seen.items() if one.running]
    waiting = [run_id for run_id, one in seen.items() if not one.running]
    assert len(running) == 2
    status = command("-m", "launch.status", f"root={tmp_path}")
    assert "sweep s (SIMULATED): 36 runs\n2 running, 34 waiting\n" in status.stdout
    second = command("-m", "launch.local", "sweep=s", f"root={tmp_path}")  # another launch leaves them alone
    assert second.returncode == 1
    assert "36 wait or run already" in second.stdout
    done = command("-m", "launch.cancel", f"root={tmp_path}", f"runs=[{running[0]},{','.join(waiting)}]")
    assert done.returncode == 0, done.stderr
    assert f"process {process.pid} on {socket.gethostname()}, stops {running[0]}" in done.stdout
    assert "no job to stop" not in done.stdout
    deadline = time.monotonic() + 30
    while len(poll_all(tmp_path).seen) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(poll_all(tmp_path).seen) == [running[1]]
    assert sweep.state(running[0]) == "queued"
    assert RunDirectory(tmp_path, running[0]).status().attempts[0].end == "signal"
    done = command("-m", "launch.cancel", f"root={tmp_path}", "sweep=s")
    assert "35 of 36 runs have no job to stop" in done.stdout
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "0 of 36 runs done, 0 failed, 36 cancelled" in output
    assert poll_all(tmp_path).seen == {}
    wrong = command("-m", "launch.cancel", f"root={tmp_path}", f"runs=[{running[0][:-1]}z]")
    assert wrong.returncode == 2
    assert f"did you mean '{running[0]}'" in wrong.stderr


def test_retry_takes_only_the_runs_in_those_states(tmp_path):
    sweep = Simulated(tmp_path, "train.failure_rate=0.3", "train.divergence_rate=0.2")
    output, _ = (process := sweep.start()).communicate(timeout=120)
    assert process.returncode == 1, output
    states = {run_id: sweep.state(run_id) for run_id in sweep.ids}
    assert set(states.values()) == {"done", "failed", "diverged"}
    count = list(states.values()).count("diverged")
    output, _ = sweep.start("retry=diverged").communicate(timeout=120)
    assert f"SIMULATING {count}, " in output
    assert "failed, left as they are" in output
    assert [RunDirectory(tmp_path, r).status().attempts[1:] != () for r in sweep.ids] == [
        states[r] == "diverged" for r in sweep.ids
    ]
    output, _ = sweep.start("retry=sometimes").communicate(timeout=60)
    assert "retry=sometimes: choose of failed, diverged, lost" in output


def test_a_launch_above_the_limit_wants_consent(tmp_path, dataset):
    words = ["phase=classical", "scale=1.5e10", "backbone=demo", f"root={tmp_path}", f"data.path={dataset[0]}", "name=s",
             "studies.classical.sizes=[2.8]", "seeds=1", "training.validation_sequences=64"]  # fmt: skip
    write(plan(compose("sweep", words)))
    done = command("-m", "launch.local", "sweep=s", f"root={tmp_path}", "limit.gpu_hours=0")
    assert done.returncode == 2
    assert "are above limit.gpu_hours=0: nothing was launched" in done.stderr
    assert not (tmp_path / "runs").exists()

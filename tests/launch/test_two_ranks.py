"""A run of several ranks in a local launch: one start, one signal and one end for all of them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.rundir import RunDirectory
from tests.conftest import REPOSITORY
from tests.launch.test_local import no_children_of

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": ""}


class Launch:
    def __init__(self, root, dataset):
        self.root, self.dataset = root, dataset

    def start(self, steps: int) -> subprocess.Popen:
        words = [sys.executable, "-m", "tests.launch.two_ranks", str(self.root), str(self.dataset), str(steps)]
        return subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True)

    @property
    def run(self) -> RunDirectory:
        (path,) = (self.root / "runs").iterdir()
        return RunDirectory.at(path)

    def wait_for_steps(self, beyond: int = 2) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (self.root / "runs").exists() and (rows := self.run.metrics()) and rows[-1]["step"] > beyond:
                return
            time.sleep(0.1)
        raise AssertionError("no step was made")

    def ranks(self) -> list[int]:
        """Process ids of the ranks: those that write the run's log."""
        (log,) = [str(path) for path in self.run.logs.iterdir()]
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    if os.readlink(f"/proc/{entry.name}/fd/1") == log:  # noqa: PTH115
                        found.append(int(entry.name))
                except OSError:
                    continue
        return sorted(found)


@pytest.fixture
def launch(tmp_path, dataset):
    return Launch(tmp_path, dataset[0])


@pytest.mark.slow
def test_ctrl_c_reaches_every_rank_and_a_later_start_goes_on(launch):
    process = launch.start(400)
    launch.wait_for_steps()
    assert len(launch.ranks()) == 2
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "once more to stop at once" in output
    status = launch.run.status()
    assert (status.state, [attempt.end for attempt in status.attempts]) == ("queued", ["signal"])
    assert status.attempts[0].exit_code == 75
    assert no_children_of(launch)
    process = launch.start(400)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    status = launch.run.status()
    assert (status.state, [attempt.end for attempt in status.attempts]) == ("done", ["signal", "done"])
    assert status.attempts[1].first_step == status.attempts[0].last_step > 0
    assert [row["step"] for row in launch.run.metrics()] == list(range(1, 401))


@pytest.mark.slow
def test_a_second_ctrl_c_ends_every_rank(launch):
    process = launch.start(20_000)
    launch.wait_for_steps()
    for pid in launch.ranks():
        os.kill(pid, signal.SIGSTOP)  # they cannot save a checkpoint
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert no_children_of(launch)


@pytest.mark.slow
def test_a_rank_that_dies_takes_the_others_with_it_and_the_run_is_started_again(launch):
    process = launch.start(1500)
    launch.wait_for_steps()
    first, _ = launch.ranks()  # the other one writes
    os.kill(first, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "killed   " in output
    attempts = launch.run.status().attempts
    assert attempts[0].end in ("killed", "crash")
    assert attempts[-1].end == "done"

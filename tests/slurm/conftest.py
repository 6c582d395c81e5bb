"""A real Slurm for the tests, one a worker of xdist, and sweeps that are submitted to it."""

import contextlib
import csv
import os
import random
import re
import socket
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.rundir import RunDirectory
from tests.conftest import command
from tests.slurm.cluster import NODES, SlurmCluster, why_not

TINY = ["phase=classical", "scale=1.5e10", "backbone=demo", "studies.classical.sizes=[2.8, 5.6]", "seeds=1",
        "training.validation_sequences=64"]  # fmt: skip
"""Two runs of some seconds."""

LONG = ["phase=classical", "scale=1e11", "backbone=demo", "studies.classical.sizes=[0.5]", "seeds=1",
        "training.epochs=100", "training.validation_sequences=64"]  # fmt: skip
"""One run of some 2,700 steps."""


def free_ports() -> int:
    """The first of as many free ports as a cluster needs."""
    while True:
        first = random.randrange(15000, 30000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + NODES + 1):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"), free_ports(), max_array_size=20)
    for directory in (
        cluster.root,
        *cluster.root.parents,
    ):  # munged wants every directory above its socket to be readable
        if directory.stat().st_uid == os.getuid() and str(directory) not in ("/", "/tmp"):
            directory.chmod(0o755)
    cluster.up()
    before = os.environ.get("SLURM_CONF")
    os.environ |= cluster.environment
    yield cluster
    os.environ.pop("SLURM_CONF")
    if before is not None:
        os.environ["SLURM_CONF"] = before
    cluster.down()


@pytest.fixture(autouse=True)
def _nothing_left_for_the_next_test(slurm):
    yield
    assert slurm.empty(PATIENCE * 60), "jobs or nodes that do not come to rest"


class Sweep:
    """A planned sweep and its submissions."""

    def __init__(self, root: Path, dataset: Path | None, words, name="two"):
        self.root, self.name = root, name
        data = [] if dataset is None else [f"data.path={dataset}"]
        done = command("-m", "harness.sweep", *words, f"name={name}", f"root={root}", *data)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def runs(self) -> list[RunDirectory]:
        with (self.root / "sweeps" / f"{self.name}.csv").open(newline="") as file:
            return [RunDirectory(self.root, row["run_id"]) for row in csv.DictReader(file)]

    def submit(self, *more):
        return command("-m", "launch.slurm", f"sweep={self.name}", f"root={self.root}", *more)

    def local(self, *more):
        return command("-m", "launch.local", f"sweep={self.name}", f"root={self.root}", *more)

    def queue(self, cluster) -> Counter:
        """Elements in the queue, by state."""
        return Counter(cluster.call("squeue", "-h", "-r", "-n", self.name, "-o", "%T").stdout.split())

    def wait(self, cluster, seconds=300):
        """Until nothing of the sweep is in the queue."""
        until(lambda: not self.queue(cluster), seconds, lambda: self.story())

    def wait_for_step(self, step, seconds=120) -> RunDirectory:
        """Until a run has come to `step`."""
        found: list[RunDirectory] = []

        def stepped():
            found[:] = [run for run in self.runs if (rows := run.metrics()) and rows[-1]["step"] >= step]
            return bool(found)

        until(stepped, seconds, self.story)
        return found[0]

    def story(self) -> str:
        """What happened, for a failing test."""
        logs = [*self.root.glob("slurm/*/logs/*"), *self.root.glob("runs/*/logs/*")]
        states = [f"{run.run_id}: {run.status()}" for run in self.runs]
        return "\n".join([*states, *(f"--- {log}\n{log.read_text()[-1500:]}" for log in logs)])

    def batch_logs(self) -> str:
        return "\n".join(log.read_text() for log in sorted(self.root.glob("slurm/*/logs/*")))


PATIENCE = 4
"""How much slower than an idle machine one may be that runs several suites; it costs nothing where things happen in time."""


def until(happened, seconds, story=lambda: ""):
    """Wait until `happened()`, for what takes less than `seconds` on an idle machine."""
    deadline = time.monotonic() + PATIENCE * seconds
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(f"it did not happen in {PATIENCE * seconds} s\n{story()}")
        time.sleep(0.2)


def ends(run: RunDirectory) -> list[str | None]:
    return [attempt.end for attempt in run.status().attempts]


def loss(run: RunDirectory) -> float:
    result = run.result()
    assert result is not None
    return result["final_validation_loss"]


def neutral(text: str, root: Path) -> str:
    """A batch file without what differs from machine to machine."""
    text = re.sub(r"(moe-scaling:)[0-9a-f]{16}", r"\1<fingerprint>", text.replace(str(root), "<root>"))
    return re.sub(r"(program=\()\S*python\S*", r"\1<python>", re.sub(r"PYTHONPATH=[^$]+", "PYTHONPATH=<project>", text))


@pytest.fixture
def long_loss(tmp_path_factory, dataset):
    """The final loss of LONG's run where nothing disturbs it; trained once a session of tests."""
    if not _LONG_LOSS:
        sweep = Sweep(tmp_path_factory.mktemp("undisturbed"), dataset[0], LONG)
        assert sweep.local().returncode == 0
        _LONG_LOSS.append(loss(sweep.runs[0]))
    return _LONG_LOSS[0]


_LONG_LOSS: list[float] = []

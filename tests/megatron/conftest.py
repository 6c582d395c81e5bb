import json
import shutil
import sys
from pathlib import Path

import pytest

from harness.experiment import Experiment
from harness.megatron.argv import Paths, command, megatron_argv
from harness.resources import layout
from harness.rundir import RunDirectory
from harness.settings import named_cluster
from tests import conftest
from tests.megatron.forked import python


class Trainer:
    """Trains tiny experiments with real Megatron, each in a process of its own."""

    def __init__(self, root: Path, dataset: Path):
        self.root = root
        self.dataset = dataset

    def prepare(self, experiment: Experiment, name: str | None = None) -> RunDirectory:
        run = RunDirectory.at(self.root / "runs" / (name or experiment.run_id))
        run_layout = layout(experiment, named_cluster("cpu"))
        run.create(experiment, command(experiment, run_layout, self.paths(run)))
        return run

    def paths(self, run: RunDirectory) -> Paths:
        return Paths(run=run.path, data=self.dataset)

    def flags(self, run: RunDirectory) -> list[str]:
        return megatron_argv(run.experiment(), layout(run.experiment(), named_cluster("cpu")), self.paths(run))

    def train(self, run: RunDirectory, *more: str, program: list[str] | None = None):
        """`program`: the training program's own flags; by default the last checkpoint is kept."""
        words = ["--run-dir", str(run.path), "--keep-checkpoints", "last", *(program or []), *self.flags(run), *more]
        return python("-m", "harness.megatron.pretrain", *words)

    def train_by_hand(self, run: RunDirectory, experiment: Experiment, program: list[str]):
        """A run whose directory names no experiment: the flags and the `program`'s own are all there is."""
        flags = megatron_argv(experiment, layout(experiment, named_cluster("cpu")), self.paths(run))
        return python("-m", "harness.megatron.pretrain", "--run-dir", str(run.path), *program, *flags)


@pytest.fixture
def trainer(tmp_path, dataset) -> Trainer:
    return Trainer(tmp_path, dataset[0])


@pytest.fixture(scope="session")
def trained(tmp_path_factory, dataset):
    """One run trained to its end, with its checkpoint: (trainer, run, completed process). Not to be changed by tests."""
    trainer = Trainer(tmp_path_factory.mktemp("trained"), dataset[0])
    run = trainer.prepare(conftest.tiny_experiment(dataset[1]))
    return trainer, run, trainer.train(run)


def copy_of(run: RunDirectory, path: Path) -> RunDirectory:
    shutil.copytree(run.path, path)
    status = path / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"state": "queued"}))
    return RunDirectory.at(path)


PYTHON = sys.executable

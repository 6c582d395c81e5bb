"""What a training program must know of WSD branches besides Megatron's flags: where a run begins, what it keeps, its data order.

It is in the experiment (``experiment.json``); for a run by hand, without one, the program's own flags say it:

    --dataset-iters 120 --branch-points 40,80                                the trunk
    --dataset-iters 120 --trunk <run directory> --branch-point 80            a branch that leaves it after step 80
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.experiment import Experiment
from harness.files import read_json
from harness.megatron.options import Program
from harness.rundir import RunDirectory

COMPLETE = "run.json"
"""Beside a checkpoint once it is whole, with the run id and the step (`harness.megatron.checkpoints`)."""

RECORD = "record.json"
"""In a run's directory of checkpoints: run id, and the newest step known to be complete."""


@dataclass(frozen=True, kw_only=True)
class Branching:
    """A run's place among the runs that share its stable phase; by default it has none."""

    dataset_iters: int = 0
    """Steps' worth of samples that the dataset is asked for; 0: as many as are trained on."""
    kept_steps: tuple[int, ...] = ()
    """Of a trunk: steps whose checkpoints stay."""
    trunk: RunDirectory | None = None
    """Of a branch."""
    trunk_id: str | None = None
    """Its run id; None: a run by hand."""
    branch_point: int = 0
    """Step of the trunk's checkpoint that a branch goes on from."""

    def checkpoint(self) -> Path:
        """The trunk's checkpoint that this branch goes on from.

        Raises:
            RunError: it is not there, not whole, or another experiment's.
        """
        assert self.trunk is not None
        path = checkpoint_path(self.trunk, self.branch_point)
        beside = read_json(path / COMPLETE)
        if not isinstance(beside, dict) or beside.get("step") != self.branch_point:
            raise RunError(
                f"this branch goes on from step {self.branch_point} of trunk {self.trunk.run_id}, and {path} holds no whole "
                "checkpoint: train the trunk first (launch.local does, or its command.txt; if it is done already, remove its "
                "directory before)"
            )
        if self.trunk_id is not None and beside.get("run_id") != self.trunk_id:
            raise RunError(
                f"this branch goes on from trunk {self.trunk_id}, but {path} is a checkpoint of experiment "
                f"{beside.get('run_id')}: move it away, and train the trunk again"
            )
        return path

    def load_flags(self) -> list[str]:
        """Megatron's flags to go on from the trunk; its schedule is this run's own, not the checkpoint's.

        Raises:
            RunError: see `checkpoint`.
        """
        path = self.checkpoint()
        return [
            *("--load", str(path.parent), "--ckpt-step", str(self.branch_point)),
            *("--override-opt-param-scheduler", "--exit-on-missing-checkpoint"),
        ]

    def earlier_rows(self) -> list[dict[str, Any]]:
        """The trunk's lines of metrics.jsonl up to the branch point; empty for a run that is no branch."""
        return [] if self.trunk is None else [row for row in self.trunk.metrics() if row["step"] <= self.branch_point]


def checkpoint_path(run: RunDirectory, step: int) -> Path:
    """Where a run's checkpoint of `step` lies."""
    return run.checkpoints / f"iter_{step:07d}"


def trunk_of(run: RunDirectory, experiment: Experiment) -> RunDirectory:
    """The directory of a branch's trunk: beside its own."""
    return RunDirectory.at(run.path.parent / experiment.training.trunk)


def can_start(run: RunDirectory, experiment: Experiment) -> bool:
    """Whether a run needs no trunk (any more), or its trunk's checkpoint is there, whole."""
    if not experiment.training.trunk or (run.checkpoints / RECORD).exists():
        return True
    try:
        _of_experiment(run, experiment).checkpoint()
    except RunError:
        return False
    return True


def branching(run: RunDirectory, program: Program) -> Branching:
    """What the experiment of `run` says, or for a run by hand the program's flags.

    Raises:
        RunError: the flags contradict the experiment, or each other.
    """
    said = _of_program(program)
    if not (run.path / "experiment.json").exists():
        return said
    experiment = run.experiment()
    planned = _of_experiment(run, experiment)
    for name, flag in (
        ("dataset_iters", "--dataset-iters"),
        ("kept_steps", "--branch-points"),
        ("branch_point", "--branch-point"),
    ):
        if getattr(said, name) not in (getattr(Branching, name), getattr(planned, name)):
            raise RunError(
                f"{run.path} is the directory of an experiment with {name}={getattr(planned, name)}, but the command says {flag} "
                f"{getattr(said, name)}: give another --run-dir"
            )
    if said.trunk is not None and planned.trunk is None:
        raise RunError(
            f"{run.path} is the directory of a run that is no branch, but the command says --trunk {said.trunk.path}"
        )
    if said.trunk is None:
        return planned
    return Branching(
        **(vars(planned) | {"trunk": said.trunk})
    )  # the trunk may lie elsewhere; its checkpoint names its run


def _of_experiment(run: RunDirectory, experiment: Experiment) -> Branching:
    training = experiment.training
    return Branching(
        dataset_iters=training.dataset_iters,
        kept_steps=training.kept_steps,
        trunk=trunk_of(run, experiment) if training.trunk else None,
        trunk_id=training.trunk or None,
        branch_point=training.first_iters,
    )


def _of_program(program: Program) -> Branching:
    try:
        kept = tuple(int(word) for word in program.branch_points.split(",") if word)
    except ValueError:
        raise RunError(f"--branch-points {program.branch_points}: steps separated by commas are wanted") from None
    if bool(program.trunk) != bool(program.branch_point):
        raise RunError(
            "--trunk and --branch-point belong together: the trunk's run directory, and the step it is left at"
        )
    if program.dataset_iters < 0 or program.branch_point < 0 or any(step < 1 for step in kept):
        raise RunError("--dataset-iters, --branch-point and --branch-points are numbers of steps, and none is negative")
    return Branching(
        dataset_iters=program.dataset_iters,
        kept_steps=kept,
        trunk=RunDirectory.at(Path(program.trunk).absolute()) if program.trunk else None,
        branch_point=program.branch_point,
    )

"""WSD branches: runs that differ only in their token count share their stable phase, which one run, the trunk, trains once.

    planned = share_trunks(points)     a study's points -> the same points as branches, with the trunks they leave from

A trunk warms up and then keeps its peak learning rate; it keeps a checkpoint at each step where a branch leaves it. A branch goes
on from there with a decay of its own, and is, step by step, the run that it would have been alone. For that all runs of a trunk
have one warm-up and ask the dataset for one number of samples: its order depends on it (docs/branches.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import ConfigError
from harness.experiment import Experiment, Training
from harness.files import read_json_lines, read_text
from harness.studies.study import Point

TRUNK = "trunk"
"""Study and mark of a trunk's row: no law is fitted to it."""


def share_trunks(points: Sequence[Point]) -> list[Point]:
    """`points` with a trunk before the first branch of each family of runs that differ only in their token count.

    The warm-up of a family (over all seeds) is that of its shortest run. A run that shares its seed with no other of its
    family has nobody to share a trunk with, and stays a whole run, with the family's warm-up.

    Raises:
        ConfigError: the runs have no decay, so that there is no branch to train.
    """
    groups: dict[Experiment, list[Point]] = {}
    for point in points:
        groups.setdefault(_common(point.experiment), []).append(point)
    families: dict[Experiment, list[list[Point]]] = {}
    for key, group in groups.items():
        families.setdefault(_common(key, seed=0), []).append(group)
    warmups = {
        family: min(point.experiment.training.warmup_iters for group in seeds for point in group)
        for family, seeds in families.items()
        if any(len({point.experiment.training.train_iters for point in group}) > 1 for group in seeds)
    }
    trunks: dict[Experiment, Point] = {}
    planned: list[Point] = []
    for point in points:
        key = _common(point.experiment)
        group, warmup = groups[key], warmups.get(_common(key, seed=0))
        lengths = {other.experiment.training.train_iters for other in group}
        if warmup is None or len(lengths) == 1:
            planned.append(point if warmup is None else _with(point, warmup_iters=warmup))
            continue
        if key not in trunks:
            trunks[key] = _trunk(group, warmup, max(lengths))
            planned.append(trunks[key])
        trunk = trunks[key].experiment
        planned.append(
            _with(point, warmup_iters=warmup, dataset_iters=trunk.training.dataset_iters, trunk=trunk.run_id)
        )
    return planned


def _common(experiment: Experiment, **changes: int) -> Experiment:
    """What runs of one trunk have in common: the experiment without its length and what follows from that."""
    return _change(experiment, train_iters=1, warmup_iters=0, decay_iters=0, **changes)


def _trunk(group: Sequence[Point], warmup_iters: int, longest: int) -> Point:
    """The trunk of a group, in the place of its longest run."""
    last = max(group, key=lambda point: point.experiment.training.train_iters)
    if any(point.experiment.training.decay_iters == 0 for point in group):
        raise ConfigError(
            "wsd.share_trunk=true: the runs have no decay (0 steps), so that there is no branch to train: raise "
            "training.decay_share (or decay_tokens), or leave out wsd.share_trunk"
        )
    points = sorted({point.experiment.training.stable_iters for point in group})
    trunk = _change(
        last.experiment,
        train_iters=points[-1],
        warmup_iters=warmup_iters,
        decay_iters=0,
        dataset_iters=longest,
        branch_points=" ".join(map(str, points)),
    )
    return replace(last, study=TRUNK, experiment=trunk, marks=(*last.marks, TRUNK))


def _with(point: Point, **changes: int | str) -> Point:
    return replace(point, experiment=_change(point.experiment, **changes))


def _change(experiment: Experiment, **changes: int | str) -> Experiment:
    training: Training = replace(experiment.training, **changes)  # type: ignore[arg-type]
    return replace(experiment, training=training)


def without_data(experiments: Iterable[Experiment]) -> set[str]:
    """The run ids that `experiments` would have had, had they been planned before their data was prepared."""
    ids: dict[str, str] = {}
    branches = []
    for experiment in experiments:
        if experiment.training.trunk:
            branches.append(experiment)
        else:
            ids[experiment.run_id] = replace(experiment, data=None).run_id
    return set(ids.values()) | {
        replace(_change(branch, trunk=ids.get(branch.training.trunk, "")), data=None).run_id for branch in branches
    }


@dataclass(frozen=True, kw_only=True)
class Savings:
    """What sharing saves, in FLOPs with the output layer."""

    trunks: int
    branches: int
    alone: float
    """Of all runs of the sweep, each trained alone."""
    shared: float
    """Of trunks, decays, and runs that share nothing."""

    @property
    def factor(self) -> float:
        """How many times as much the runs alone would take."""
        return self.alone / self.shared


def savings(experiments: Sequence[Experiment]) -> Savings:
    """What the trunks among `experiments` save."""
    trunks = [experiment for experiment in experiments if experiment.training.branch_points]
    runs = [experiment for experiment in experiments if not experiment.training.branch_points]
    return Savings(
        trunks=len(trunks),
        branches=sum(bool(run.training.trunk) for run in runs),
        alone=float(sum(run.tokens * run.counts.megatron_flops_per_token for run in runs)),
        shared=float(sum(run.own_tokens * run.counts.megatron_flops_per_token for run in (*trunks, *runs))),
    )


def refuse_other_trunks(present: Iterable[Experiment], added: Iterable[Experiment]) -> None:
    """Refuse to extend a sweep by runs that need another trunk than its own, or that it has already, with another trunk.

    Raises:
        ConfigError: with both.
    """
    trunks: dict[Experiment, Experiment] = {}
    runs: dict[Experiment, Experiment] = {}
    for experiment in present:
        (trunks if experiment.training.branch_points else runs)[_unshared(experiment)] = experiment
    why = (
        "another budget (or wsd.share_trunk) makes other trunks, and all their branches are other runs. Give the "
        "larger plan another name=; runs of this one stay as they are"
    )
    for experiment in added:
        new = experiment.training
        other = (trunks if new.branch_points else runs).get(_unshared(experiment))
        if other is None or other == experiment:
            continue
        old = other.training
        if new.branch_points:
            raise ConfigError(
                f"the sweep has trunk {other.run_id} (branches at steps {old.branch_points}, a dataset for {old.dataset_iters} "
                f"steps), and the new plan needs {experiment.run_id} (at {new.branch_points}, for {new.dataset_iters}): {why}"
            )
        if old.trunk or new.trunk:
            raise ConfigError(
                f"the sweep has run {other.run_id} ({_kind(other)}), which would be {experiment.run_id} ({_kind(experiment)}) in "
                f"the new plan: {why}"
            )


def _unshared(experiment: Experiment) -> Experiment:
    """A run without what sharing changes; a trunk also without its length."""
    changes: dict[str, int | str] = {"warmup_iters": 0, "dataset_iters": 0, "trunk": "", "branch_points": ""}
    if experiment.training.branch_points:
        changes["train_iters"] = 1
    return _change(experiment, **changes)


def _kind(run: Experiment) -> str:
    return f"a branch of trunk {run.training.trunk}" if run.training.trunk else "a whole run"


def branches_of(root: Path, trunk: str) -> list[str]:
    """Run ids of the branches that any sweep under `root` has planned of the trunk with run id `trunk`."""
    found: dict[str, None] = {}
    for path in sorted((root / "sweeps").glob("[!.]*.jsonl")):
        if trunk not in (read_text(path) or ""):
            continue
        for value in read_json_lines(path):
            if value.get("training", {}).get("trunk") == trunk:
                found[Experiment.from_canonical(value).run_id] = None
    return list(found)

"""A sweep of a trunk and its branches, launched here with real Megatron workers."""

import csv
import json
import re
import shutil
from types import SimpleNamespace

import pytest

from analysis.collect import collect
from harness.rundir import RunDirectory, Status
from harness.sweepfile import read_experiments
from launch.trunks import startable, why_never
from tests.conftest import command

# one size, common to two budgets: a trunk and two branches
PLAN = ["phase=classical", "scale=[1.5e10,4e10]", "backbone=demo", "studies.classical.sizes=[3.4, 5]", "seeds=1", "name=shared",
        "wsd.share_trunk=true", "training.validation_sequences=64"]  # fmt: skip


class Sweep:
    def __init__(self, root, dataset):
        self.root = root
        done = command("-m", "harness.sweep", *PLAN, f"root={root}", f"data.path={dataset}")
        assert done.returncode == 0, done.stdout + done.stderr
        experiments = read_experiments(root, "shared").values()
        (self.trunk,) = [RunDirectory(root, one.run_id) for one in experiments if one.training.branch_points]
        self.branches = [RunDirectory(root, one.run_id) for one in experiments if one.training.trunk]
        self.points = next(one.training.kept_steps for one in experiments if one.training.branch_points)
        assert len(self.branches) == len(self.points) == 2

    def launch(self, *more):
        return command("-m", "launch.local", "sweep=shared", f"root={self.root}", *more)


@pytest.fixture
def sweep(tmp_path, dataset):
    return Sweep(tmp_path, dataset[0])


@pytest.mark.slow
def test_branches_start_at_their_branch_points_and_then_the_trunk_s_checkpoints_go(sweep):
    done = sweep.launch()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 runs done, 0 failed" in done.stdout
    ended = re.findall(r"done     (\w{12})", done.stdout)
    assert set(ended) == {run.run_id for run in [sweep.trunk, *sweep.branches]}
    assert f"removed the checkpoints of trunk {sweep.trunk.run_id}" in done.stdout
    assert not sweep.trunk.checkpoints.exists()
    first = min(sweep.branches, key=lambda run: run.status().attempts[0].first_step)
    assert first.status().attempts[0].first_step == sweep.points[0]
    assert next(row["step"] for row in first.metrics()) == sweep.points[0] + 1
    again = sweep.launch()
    assert again.returncode == 0
    assert "3 of 3 runs are done; nothing to train" in again.stdout
    # trunks are no point of a law, and no reason for an exit code
    table = collect(sweep.root, ["shared"])
    assert set(table["run_id"]) == {run.run_id for run in sweep.branches}
    assert table["left_out"].isna().all()
    assert table["recipe"].nunique() == 1
    with (sweep.root / "sweeps" / "shared.csv").open(newline="") as file:
        assert {row["trunk"] for row in csv.DictReader(file)} == {"", sweep.trunk.run_id}
    # a branch that is wanted anew finds no checkpoint any more, and says what to do
    shutil.rmtree(sweep.branches[0].path)
    late = sweep.launch()
    assert late.returncode == 1
    assert re.search(rf"left out {sweep.branches[0].run_id} .* is done and holds no checkpoint of step", late.stdout)
    assert f"remove {sweep.trunk.path} to train it again" in late.stdout


@pytest.mark.slow
def test_a_branch_starts_once_its_checkpoint_is_whole_and_not_before(sweep):
    experiments = read_experiments(sweep.root, "shared")
    jobs = [SimpleNamespace(run=run, experiment=experiments[run.run_id], label=run.run_id) for run in sweep.branches]
    first, last = sorted(jobs, key=lambda job: job.experiment.training.first_iters)
    assert startable([last, first]) is None
    assert why_never(first, active={sweep.trunk.run_id}) is None  # its trunk may still bring it there
    assert "came to no checkpoint" in why_never(first, active=set())
    point = sweep.trunk.checkpoints / f"iter_{sweep.points[0]:07d}"
    point.mkdir(parents=True)
    (point / "model_optim_rng.pt").write_text("being written")
    assert startable([last, first]) is None
    (point / "run.json").write_text(json.dumps({"run_id": sweep.trunk.run_id, "step": sweep.points[0]}))
    assert startable([last, first]) is first  # while the trunk goes on to its last branch point
    assert why_never(first, active=set()) is None  # and even if it never comes there
    sweep.trunk.write_status(Status(run_id=sweep.trunk.run_id, state="diverged"))
    assert why_never(last, active=set()).endswith(f"came to no checkpoint of step {sweep.points[1]}: diverged")


@pytest.mark.slow
def test_with_keep_checkpoints_the_last_one_of_a_trunk_stays(sweep):
    assert sweep.launch("launch.keep_checkpoints=last").returncode == 0
    assert [path.name for path in sweep.trunk.checkpoints.glob("iter_*")] == [f"iter_{sweep.points[-1]:07d}"]


@pytest.mark.slow
def test_a_trunk_that_fails_leaves_out_its_branches_and_a_later_launch_makes_up_for_it(sweep):
    sweep.trunk.checkpoints.mkdir(parents=True)
    (sweep.trunk.checkpoints / "latest_checkpointed_iteration.txt").write_text("999")  # a checkpoint that is gone
    done = sweep.launch("launch.retries=0")
    assert done.returncode == 1, done.stdout
    assert "0 of 3 runs done, 3 failed" in done.stdout
    for branch in sweep.branches:
        reason = rf"its trunk {sweep.trunk.run_id} came to no checkpoint of step \d+: failed \(.*iter_0000999"
        assert re.search(rf"left out {branch.run_id} .*{reason}", done.stdout), done.stdout
        assert branch.status().attempts == ()
    shutil.rmtree(sweep.trunk.checkpoints)
    done = sweep.launch("launch.slots=1")
    assert done.returncode == 0, done.stdout
    assert "3 of 3 runs done, 0 failed" in done.stdout


@pytest.mark.slow
def test_checkpoints_stay_while_a_branch_of_another_sweep_needs_them(sweep, dataset):
    other = command("-m", "harness.sweep", *PLAN, f"root={sweep.root}", f"data.path={dataset[0]}", "name=other")
    assert other.returncode == 0, other.stderr
    text = (sweep.root / "sweeps" / "other.jsonl").read_text()
    point = next(line for line in text.splitlines() if f'"trunk":"{sweep.trunk.run_id}"' in line)
    steps = re.search(r'"train_iters":(\d+)', point)
    decay = re.search(r'"decay_iters":(\d+)', point)
    assert steps
    assert decay
    shorter = point.replace(steps[0], f'"train_iters":{int(steps[1]) - 1}')
    shorter = shorter.replace(decay[0], f'"decay_iters":{int(decay[1]) - 1}')
    (sweep.root / "sweeps" / "other.jsonl").write_text(text + shorter + "\n")  # another decay from the same step
    assert sweep.launch().returncode == 0
    assert len(list(sweep.trunk.checkpoints.glob("iter_*"))) == 2

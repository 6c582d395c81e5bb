"""What a review found that can go wrong between the launcher and Slurm, on a real Slurm with simulated runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from harness.rundir import RunDirectory
from harness.sweepfile import read_experiments
from launch.journal import Journal
from tests.conftest import command
from tests.slurm.conftest import TINY, Sweep, ends, until
from tests.slurm.test_submitter import HELD, elements

pytestmark = pytest.mark.slurm

SIMULATED = [*TINY, "train=simulated"]


def held(slurm, sweep, *more):
    done = sweep.submit(HELD, *more)
    assert done.returncode == 0, done.stderr
    assert elements(slurm, sweep) == {run.run_id: 1 for run in sweep.runs}


def states(root):
    rows = json.loads(command("-m", "launch.status", f"root={root}", "--json").stdout)["sweeps"][0]["runs"]
    return {row["run_id"]: row for row in rows}


@pytest.fixture
def sweep(slurm, tmp_path):
    made = Sweep(tmp_path, None, SIMULATED)
    yield made
    slurm.call("scancel", "-n", made.name)
    until(lambda: not made.queue(slurm), 60)


def test_a_program_that_dies_before_it_trains_is_given_up_after_two_starts(slurm, sweep):
    broken, good = sweep.runs
    assert sweep.submit("dry=true").returncode == 0  # writes the directories
    assert sweep.submit(HELD).returncode == 0
    text = (broken.path / "command.txt").read_text()
    (broken.path / "command.txt").write_text(text.replace("--truth", "--trueth"))
    slurm.call("scontrol", "release", Journal(sweep.root).entries()[0].job)
    sweep.wait(slurm, 120)
    assert ends(good) == ["done"]
    assert ends(broken) == ["crash"], sweep.story()
    row = states(sweep.root)[broken.run_id]
    assert row["state"] == "failed"
    assert "2 starts in a row ended before they trained" in row["message"]
    assert "--trueth" in row["message"] or "--truth" in row["message"]
    assert str(broken.path) in row["log"]
    assert "1 to submit" in sweep.submit("retry=failed").stdout  # which writes command.txt as it should be
    sweep.wait(slurm, 60)
    assert ends(broken) == ["crash", "done"]


def test_a_python_that_is_not_there_does_not_start_for_ever(slurm, sweep):
    assert sweep.submit("cluster.slurm.python=/no/such/python").returncode == 0
    sweep.wait(slurm, 120)
    assert sweep.batch_logs().count("start 4 on") == 2
    assert "start 5 on" not in sweep.batch_logs()


def test_diverged_runs_are_taken_once_and_train_also_in_a_pack(slurm, tmp_path):
    sweep = Sweep(tmp_path, None, [*SIMULATED, "train.divergence_rate=1.0"])
    assert sweep.submit().returncode == 0
    sweep.wait(slurm, 60)
    assert [ends(run) for run in sweep.runs] == [["diverged"], ["diverged"]]
    assert sweep.submit(HELD, "retry=diverged", "cluster.slurm.runs_per_node=2").returncode == 0
    assert "2 waiting or running, 0 to submit" in sweep.submit(HELD, "retry=diverged").stdout
    assert {row["state"] for row in states(tmp_path).values()} == {"waiting"}
    slurm.call("scontrol", "release", Journal(tmp_path).entries()[-1].job)
    sweep.wait(slurm, 60)
    assert [ends(run) for run in sweep.runs] == [["diverged", "diverged"]] * 2


def test_a_job_that_slurm_may_have_taken_is_looked_for_and_not_submitted_again(slurm, sweep, tmp_path):
    real = shutil.which("sbatch")
    fake = tmp_path / "bin" / "sbatch"
    fake.parent.mkdir()
    fake.write_text(
        f'#!/bin/bash\n(sleep 3; {real} "$@" > {tmp_path}/answer) > /dev/null 2>&1 &\n'
        "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2\nexit 1\n"
    )
    fake.chmod(0o755)
    words = [sys.executable, "-m", "launch.slurm", f"sweep={sweep.name}", f"root={sweep.root}", HELD]
    environment = os.environ | {"PATH": f"{fake.parent}:{os.environ['PATH']}"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "may be in the queue all the same" in done.stderr
    assert Journal(sweep.root).entries()[0].end is None
    again = sweep.submit(HELD)
    assert "2 waiting or running, 0 to submit" in again.stdout, again.stderr
    assert elements(slurm, sweep) == {run.run_id: 1 for run in sweep.runs}


def test_the_user_s_variables_for_slurm_change_nothing(slurm, sweep, monkeypatch):
    held(slurm, sweep)
    for name, value in {
        "SQUEUE_STATES": "RUNNING",
        "SQUEUE_USERS": "nobody",
        "LOGNAME": "nobody",
        "SBATCH_HOLD": "0",
    }.items():
        monkeypatch.setenv(name, value)
        assert "2 waiting or running, 0 to submit" in sweep.submit(HELD).stdout
        monkeypatch.delenv(name)


@pytest.mark.parametrize("lost", ["0001-two/cpu-1.tsv", "journal.jsonl"])
def test_without_its_journal_or_table_nothing_is_submitted_over_what_is_there(slurm, sweep, lost):
    held(slurm, sweep)
    path = sweep.root / "slurm" / lost
    path.rename(path.with_suffix(".away"))
    again = sweep.submit(HELD)
    assert again.returncode == 2
    assert lost.rpartition("/")[2] in again.stderr
    shown = command("-m", "launch.status", f"root={sweep.root}").stdout
    assert "the queue is not known" in shown
    path.with_suffix(".away").rename(path)
    assert "2 waiting or running, 0 to submit" in sweep.submit(HELD).stdout


def test_branches_of_a_trunk_that_trains_elsewhere_are_left_out(slurm, tmp_path):
    words = ["phase=classical", "scale=[1.5e10,4e10]", "backbone=demo", "studies.classical.sizes=[3.4, 5]", "seeds=1",
             "wsd.share_trunk=true", "train=simulated", "train.seconds=30"]  # fmt: skip
    sweep = Sweep(tmp_path, None, words)
    planned = read_experiments(tmp_path, "two")
    branches = [run_id for run_id, one in planned.items() if one.training.trunk]
    (trunk,) = [RunDirectory(tmp_path, run_id) for run_id, one in planned.items() if one.training.branch_points]
    local = subprocess.Popen(
        [sys.executable, "-m", "launch.local", "sweep=two", f"root={tmp_path}"], stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: trunk.status().state == "running", 60)
        command("-m", "launch.cancel", f"runs=[{','.join(branches)}]", f"root={tmp_path}")
        until(
            lambda: {row["state"] for run_id, row in states(tmp_path).items() if run_id in branches} == {"queued"},
            30,
        )
        done = sweep.submit()
        assert done.stdout.count("left out") == 2, done.stdout + done.stderr
        assert not sweep.queue(slurm)
    finally:
        local.terminate()
        local.wait(60)


def test_one_run_of_a_pack_that_cannot_start_leaves_the_others(slurm, tmp_path):
    sweep = Sweep(tmp_path, None, [*TINY[:3], "studies.classical.sizes=[4, 5, 6]", *TINY[4:], "train=simulated"])
    assert sweep.submit(HELD, "cluster.slurm.runs_per_node=3").returncode == 0
    first, second, third = sweep.runs
    (first.path / "command.txt").unlink()
    shutil.rmtree(second.logs)
    slurm.call("scontrol", "release", Journal(tmp_path).entries()[0].job)
    sweep.wait(slurm, 60)
    assert ends(third) == ["done"]
    assert ends(first) == ends(second) == []
    assert "command.txt is missing" in sweep.batch_logs()


def test_a_pack_is_not_cancelled_for_one_run_but_other_jobs_are(slurm, tmp_path):
    words = [*TINY[:3], "studies.classical.sizes=[4, 5, 6]", *TINY[4:], "train=simulated"]
    sweep = Sweep(tmp_path, None, words)
    assert sweep.submit(HELD, "cluster.slurm.runs_per_node=2").returncode == 0
    by_job: dict[str, list[str]] = {}
    for run_id, row in states(tmp_path).items():
        by_job.setdefault(row["job"], []).append(run_id)
    (pair,), (single,) = ([ids for ids in by_job.values() if len(ids) == count] for count in (2, 1))
    done = command("-m", "launch.cancel", f"runs=[{pair[0]},{single[0]}]", f"root={tmp_path}")
    assert f"goes on: it holds {pair[1]} too" in done.stdout
    until(lambda: sweep.queue(slurm).total() == 1, 30)
    command("-m", "launch.cancel", "sweep=two", f"root={tmp_path}")
    until(lambda: not sweep.queue(slurm), 30)


def test_a_root_with_spaces_and_percent_signs(slurm, tmp_path):
    root = tmp_path / "a b %j"
    root.mkdir()
    sweep = Sweep(root, None, SIMULATED)
    assert sweep.submit().returncode == 0
    sweep.wait(slurm, 60)
    assert [ends(run) for run in sweep.runs] == [["done"], ["done"]], sweep.story()


def test_a_time_limit_that_comes_before_the_save_starts_the_run_again(slurm, tmp_path):
    """The batch file without its USR1: the run learns of the limit by Slurm's SIGTERM at its end."""
    sweep = Sweep(tmp_path, None, [*SIMULATED, "train.seconds=100", "studies.classical.sizes=[2.8]"])
    assert sweep.submit("dry=true", "cluster.slurm.time=00:01:00").returncode == 0
    (script,) = (tmp_path / "slurm" / "dry-two").glob("*.sbatch")
    text = script.read_text()
    assert "#SBATCH --signal" in text
    kept = [line for line in text.splitlines() if "--signal" not in line]
    script.write_text("\n".join(kept).replace("trap 'stopped=1", "trap 'limit=1 stopped=1"))
    slurm.call("sbatch", str(script))
    (run,) = sweep.runs
    until(lambda: len(ends(run)) == 2, 200, sweep.story)
    assert ends(run)[0] == "signal"
    assert run.status().attempts[1].first_step > 0
    slurm.call("scancel", "-n", "two")
    sweep.wait(slurm, 60)

"""The submitter, on a real Slurm: every run once, whatever happens to it."""

import copy
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest

from harness.rundir import RunDirectory
from harness.sweepfile import read_experiments
from launch.journal import Journal
from tests.conftest import REPOSITORY, command
from tests.harness.test_simulated import simulation
from tests.launch.test_batch_files import plan
from tests.slurm.conftest import PATIENCE, TINY, Sweep, ends, until

pytestmark = pytest.mark.slurm

# kills itself with SIGKILL at the N-th thing that it does to the world (files made or renamed, processes started)
KILLED = """
import os, subprocess, sys
from pathlib import Path
point, root = int(sys.argv.pop(1)), sys.argv.pop(1)
count = 0
def step():
    global count
    count += 1
    if count == point:
        os.kill(os.getpid(), 9)
def watch(event, arguments):
    if event in ("os.rename", "os.link", "os.mkdir", "os.remove", "subprocess.Popen"):
        step()
    elif event == "open" and isinstance(arguments[0], (str, Path)) and str(arguments[0]).startswith(root) and arguments[2] & 3:
        step()
start = subprocess.Popen.__init__
def started(self, *arguments, **options):
    start(self, *arguments, **options)
    step()  # the other process is at work
subprocess.Popen.__init__ = started
from launch import slurm
from harness import cli
import launch.local, launch.session, jinja2  # imports are no part of it
sys.addaudithook(watch)
try:
    cli.run("slurm", slurm.main)
finally:
    print("points", count)
"""

HELD = "cluster.slurm.options=[--hold]"


def elements(slurm, sweep) -> Counter:
    """Elements of arrays in the queue for each run, read without the launcher."""
    tables = {}
    for script in (sweep.root / "slurm").glob("*/*.sbatch"):
        lines = script.read_text().splitlines()
        comment = next(line.partition("=")[2] for line in lines if line.startswith("#SBATCH --comment="))
        rows = [line.split("\t") for line in script.with_suffix(".tsv").read_text().splitlines()[1:]]
        tables[comment] = {row[0]: row[1] for row in rows}
    lines = slurm.call("squeue", "-h", "-r", "-n", sweep.name, "-o", "%K %k").stdout.splitlines()
    return Counter(tables[comment][index] for index, comment in map(str.split, lines))


def test_killed_at_any_point_and_started_again_it_submits_every_run_once(slurm, tmp_path_factory, dataset):
    """Jobs are held, so that the queue shows all of them; the last sweep is then released and trained."""

    planned = Sweep(tmp_path_factory.mktemp("planned"), dataset[0], [*TINY, "train=simulated"])
    point = 0
    while True:
        point += 1
        sweep = copy.copy(planned)
        sweep.root = shutil.copytree(planned.root, tmp_path_factory.mktemp("killed") / "root")
        words = [sys.executable, "-c", KILLED, str(point), str(sweep.root), "sweep=two", f"root={sweep.root}", HELD]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stdout + done.stderr
        again = sweep.submit(HELD)
        assert again.returncode == 0, f"after point {point}: {again.stdout}{again.stderr}"
        assert elements(slurm, sweep) == {run.run_id: 1 for run in sweep.runs}, f"after point {point}: {again.stdout}"
        slurm.call("scancel", "-n", sweep.name)
    assert point > 30
    assert "2 waiting or running, 0 to submit" in sweep.submit(HELD).stdout
    slurm.call("scontrol", "release", Journal(sweep.root).entries()[0].job)
    sweep.wait(slurm)
    assert [ends(run) for run in sweep.runs] == [["done"], ["done"]], sweep.story()


def test_an_sbatch_that_outlives_its_submitter_is_waited_for(slurm, tmp_path, dataset, monkeypatch):
    """The submitter dies while sbatch works; the next start waits for it, finds its job and submits nothing."""
    sweep = Sweep(tmp_path, dataset[0], [*TINY, "train=simulated"])
    slow = tmp_path / "bin" / "sbatch"
    slow.parent.mkdir()
    real = subprocess.run(["which", "sbatch"], capture_output=True, text=True, check=True).stdout.strip()
    slow.write_text(
        f'#!/bin/bash\ntouch {tmp_path}/begun\nexec -a sbatch bash -c \'sleep 4; exec {real} "$@"\' sbatch "$@"\n'
    )
    slow.chmod(0o755)
    words = [sys.executable, "-m", "launch.slurm", f"sweep={sweep.name}", f"root={sweep.root}", HELD]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PATH": f"{slow.parent}:{os.environ['PATH']}"}
    submitter = subprocess.Popen(words, env=environment)
    until((tmp_path / "begun").exists, 60)
    submitter.kill()
    submitter.wait()
    again = sweep.submit(HELD)
    assert again.returncode == 0, again.stderr
    assert "which an earlier start submitted and did not write down" in again.stdout
    assert "2 waiting or running, 0 to submit" in again.stdout
    assert elements(slurm, sweep) == {run.run_id: 1 for run in sweep.runs}
    slurm.call("scancel", "-n", sweep.name)


def test_what_slurm_refuses_is_said_and_can_be_submitted_later(slurm, tmp_path, dataset):
    sweep = Sweep(tmp_path, dataset[0], [*TINY, "train=simulated"])
    bad = sweep.submit("cluster.slurm.partition=nowhere")
    assert bad.returncode == 2
    assert "invalid partition" in bad.stderr.lower()
    assert [entry.end for entry in Journal(sweep.root).entries()] == ["refused"]
    assert sweep.submit().returncode == 0
    sweep.wait(slurm)
    assert [ends(run) for run in sweep.runs] == [["done"], ["done"]]


def test_24_runs_are_trained_as_an_array_and_216_are_submitted_in_five_seconds(slurm, tmp_path, dataset):
    words = ["phase=classical", "scale=1.5e10", "backbone=demo", "studies.classical.sizes=[4, 5, 6, 7, 8, 9, 10, 11]",
             "seeds=3", "studies.classical.repeat_at=all", "training.validation_sequences=64"]  # fmt: skip
    sweep = Sweep(tmp_path / "real", dataset[0], words, name="many")
    assert len(sweep.runs) == 24
    done = sweep.submit("cluster.slurm.max_array_size=16", "max_parallel=2")
    assert "24 runs in 24 jobs of 2 arrays" in done.stdout
    assert sweep.queue(slurm)["RUNNING"] <= 2
    sweep.wait(slurm, 600)
    assert [ends(run) for run in sweep.runs] == [["done"]] * 24, sweep.story()
    assert len({run.status().attempts[0].job_id for run in sweep.runs}) == 24
    assert "24 done, 0 to submit" in sweep.submit().stdout

    big = tmp_path / "big"
    big.mkdir()
    plan(big, ["phase=1", "scale=all"], name="grid")
    began = time.monotonic()
    done = command("-m", "launch.slurm", "sweep=grid", f"root={big}", "cluster=slurm", HELD, "yes=true")
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    assert "submitted 216 runs" in done.stdout
    assert len(slurm.call("squeue", "-h", "-r", "-n", "grid").stdout.splitlines()) == 216
    slurm.call("scancel", "-n", "grid")
    assert seconds < 5 * PATIENCE, f"{seconds:.1f} s"  # below 5 on an idle machine


def test_of_simulated_runs_some_fail_and_diverge_and_can_be_taken_again(slurm, tmp_path):
    words = ["phase=1", "scale=1e18", "train=simulated", "train.failure_rate=0.2", "train.divergence_rate=0.1"]
    sweep = Sweep(tmp_path, None, words, name="grid")
    assert sweep.submit("cluster=slurm").returncode == 0
    sweep.wait(slurm, 400)
    states = Counter(run.status().state for run in sweep.runs)
    assert sum(states.values()) == 36
    assert states["done"] > 20
    assert states["diverged"] > 0
    assert not states["queued"] + states["running"]
    for run in sweep.runs:
        assert Counter(ends(run))["done"] == (run.status().state == "done")
        assert len(run.status().attempts) <= 2  # a crash leaves no checkpoint
    rows = json.loads(command("-m", "launch.status", "sweep=grid", f"root={tmp_path}", "--json").stdout)["sweeps"][0][
        "runs"
    ]
    assert Counter(row["state"] for row in rows) == states
    before = {run.run_id: len(run.status().attempts) for run in sweep.runs}
    assert sweep.submit("cluster=slurm", "retry=diverged").returncode == 0
    sweep.wait(slurm, 400)
    for run in sweep.runs:
        assert (len(run.status().attempts) > before[run.run_id]) == (run.status().state == "diverged")


def test_branches_wait_for_their_trunks_and_are_cancelled_with_them(slurm, tmp_path, dataset):
    words = ["phase=classical", "scale=[1.5e10,4e10]", "backbone=demo", "studies.classical.sizes=[3.4, 5]", "seeds=1",
             "wsd.share_trunk=true", "training.validation_sequences=64"]  # fmt: skip
    sweep = Sweep(tmp_path / "good", dataset[0], words)
    done = sweep.submit()
    assert "submitted 3 runs in 3 jobs of 3 arrays" in done.stdout
    reasons = slurm.call("squeue", "-h", "-r", "-n", sweep.name, "-t", "PD", "-o", "%E").stdout
    assert reasons.count("aftercorr") == 2
    assert "3 waiting or running, 0 to submit" in sweep.submit().stdout
    sweep.wait(slurm)
    assert [ends(run) for run in sweep.runs] == [["done"]] * 3, sweep.story()
    trunk = next(run for run in sweep.runs if run.experiment().training.branch_points)
    assert sweep.submit().returncode == 0  # the next start tidies up
    assert not trunk.checkpoints.exists()

    bad = Sweep(tmp_path / "bad", dataset[0], [*words, "train=simulated", "train.failure_rate=1.0"], name="bad")
    assert bad.submit().returncode == 0
    bad.wait(slurm)
    states = {run.run_id: run.status().state for run in bad.runs}
    (trunk_id,) = (run.run_id for run in bad.runs if run.experiment().training.branch_points)
    assert states.pop(trunk_id) == "failed"
    assert set(states.values()) == {"queued"}  # never started
    left = bad.submit("retry=lost")
    assert "2 queued, left as they are" in left.stdout


def test_a_pack_of_runs_shares_a_node_and_one_that_fails_leaves_the_others(slurm, tmp_path, dataset):
    five = [*TINY[:3], "studies.classical.sizes=[4, 5, 6, 7, 8]", *TINY[4:]]
    Sweep(tmp_path / "planned", dataset[0], five)
    experiments = read_experiments(tmp_path / "planned", "two").values()
    options = next(
        options
        for options in (["train.failure_rate=0.3", f"train.truth.seed={seed}"] for seed in range(100))
        if 0 < sum(simulation(*options).failing_step(experiment, 1, 0) is not None for experiment in experiments) < 5
    )
    sweep = Sweep(tmp_path, dataset[0], [*five, "train=simulated", "train.seconds=2", *options])
    done = sweep.submit("cluster.slurm.runs_per_node=3")
    assert "submitted 5 runs in 2 jobs of 1 arrays" in done.stdout
    sweep.wait(slurm)
    jobs = Counter(run.status().attempts[0].job_id for run in sweep.runs)
    assert sorted(jobs.values()) == [2, 3]
    assert {ends(run)[-1] for run in sweep.runs if ends(run)[0] == "done"} == {"done"}
    crashed = [run for run in sweep.runs if ends(run)[0] == "crash"]
    assert crashed
    assert len(crashed) < 5
    assert all(len(ends(run)) == 2 for run in crashed)  # once more, with their pack


def test_cancel_and_status_know_what_slurm_has(slurm, tmp_path, dataset):
    words = [*TINY, "train=simulated", "train.seconds=60"]
    sweep = Sweep(tmp_path, dataset[0], words)
    assert sweep.submit().returncode == 0
    sweep.wait_for_step(1)
    until(lambda: sweep.queue(slurm)["RUNNING"] == 2, 60, sweep.story)
    first, second = sweep.runs
    done = command("-m", "launch.cancel", f"runs=[{first.run_id}]", f"root={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert first.run_id in done.stdout
    until(lambda: ends(first) == ["signal"], 60, sweep.story)
    assert ends(second) == [None]
    until(lambda: sweep.queue(slurm).total() == 1, 30)
    rows = json.loads(command("-m", "launch.status", f"root={tmp_path}", "--json").stdout)["sweeps"][0]["runs"]
    assert {row["run_id"]: row["state"] for row in rows} == {first.run_id: "queued", second.run_id: "running"}
    attempt = second.status().attempts[0]
    slurm.call("scontrol", "update", f"jobid={attempt.job_id}", "requeue=0")
    slurm.crash(attempt.host)
    try:
        until(lambda: not sweep.queue(slurm), 90)
    finally:
        slurm.start(attempt.host)
        until(lambda: attempt.host in slurm.idle(), 60)
    os.utime(second.path / "lease.json", (0, 0))  # its host is another one, and its heartbeat may be a second old
    rows = json.loads(command("-m", "launch.status", f"root={tmp_path}", "--json").stdout)["sweeps"][0]["runs"]
    assert {row["run_id"]: row["state"] for row in rows} == {first.run_id: "queued", second.run_id: "lost"}
    assert second.status().state == "running"
    assert "1 to submit" in sweep.submit("dry=true", "retry=lost").stdout


def test_slurm_tells_the_ranks_of_two_nodes_where_to_meet(slurm, tmp_path, dataset):
    """The multi-node batch file, as written, with real Megatron on two ranks (gloo) of two nodes."""
    from launch.batch import Site, batch_file
    from launch.options import Container, SlurmOptions
    from launch.tasks import Array, Shape, Task, write_table
    from tests.megatron.test_two_processes import MICRO

    sweep = Sweep(tmp_path, dataset[0], TINY, name="one")
    run = sweep.runs[0]
    assert sweep.local().returncode == 0
    twin = RunDirectory(tmp_path / "two", run.run_id)
    twin.create(run.experiment(), (run.path / "command.txt").read_text().replace(str(run.path), str(twin.path)))
    text = (twin.path / "command.txt").read_text().rstrip("\n")
    (twin.path / "command.txt").write_text(f"{text} {' '.join(MICRO)}\n")
    array = Array(
        shape=Shape(nodes=2, gpus_per_node=1),
        tasks=(Task(run_id=run.run_id, gpus=2, seconds=60, directory=str(twin.path)),),
    )
    table = tmp_path / "two.tsv"
    write_table(table, array.tasks)
    site = Site(slurm=SlurmOptions(), container=Container(), paths=())
    script = tmp_path / "two.sbatch"
    script.write_text(
        batch_file(array, site, sweep="two", table=table, logs=tmp_path, fingerprint="0" * 16, parallel=None)
    )
    slurm.call("sbatch", str(script))
    until(lambda: not slurm.call("squeue", "-h", "-n", "two").stdout.strip(), 120)
    logs = "\n".join(path.read_text() for path in [*tmp_path.glob("*_0.log"), *twin.logs.iterdir()])
    assert ends(twin) == ["done"], logs
    one, two = (run.result() or {}, twin.result() or {})
    assert two["final_validation_loss"] == pytest.approx(one["final_validation_loss"], rel=0.02), logs
    assert (twin.status().attempts[0].job_id or "").endswith("_0")

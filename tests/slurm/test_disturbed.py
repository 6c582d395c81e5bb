"""What a cluster does to running jobs, on a real Slurm with real training: the run goes on, once, and ends with the same loss."""

import re
import signal
import subprocess
import time

import pytest

from tests.conftest import command
from tests.slurm.conftest import LONG, TINY, Sweep, ends, loss, until

pytestmark = pytest.mark.slurm


@pytest.fixture
def long(tmp_path, dataset):
    return Sweep(tmp_path, dataset[0], LONG)


def test_a_run_that_meets_its_time_limit_goes_on(slurm, long, long_loss):
    words = ["cluster.slurm.time=00:01:00", "cluster.slurm.seconds_to_save=5"]
    assert long.submit(*words).returncode == 0
    long.wait(slurm, 600)
    (run,) = long.runs
    assert ends(run)[-1] == "done", long.story()
    assert set(ends(run)[:-1]) == {"limit"}
    assert [attempt.first_step for attempt in run.status().attempts][1:] == [
        attempt.last_step for attempt in run.status().attempts
    ][:-1]
    assert loss(run) == long_loss
    assert "told to stop before the time limit" in long.batch_logs()


def test_a_preempted_run_goes_on(slurm, long, long_loss):
    assert long.submit().returncode == 0
    run = long.wait_for_step(300)
    urgent = ["sbatch", "--parsable", "--partition=urgent", "--nodes=4", "--exclusive", "--output=/dev/null"]
    job = slurm.call(*urgent, "--wrap=sleep 5").stdout.strip()
    until(lambda: ends(run)[:1] == ["signal"], 60, long.story)
    until(lambda: not slurm.call("squeue", "-h", "-j", job, check=False).stdout.strip(), 60)
    long.wait(slurm)
    assert ends(run) == ["signal", "done"], long.story()
    assert run.status().attempts[1].first_step >= 300
    assert loss(run) == long_loss


def test_a_run_whose_node_loses_power_goes_on_elsewhere(slurm, tmp_path, dataset, long_loss):
    sweep = Sweep(tmp_path, dataset[0], [*LONG, "megatron.checkpoint_minutes=0.05"])
    assert sweep.submit().returncode == 0
    run = sweep.wait_for_step(600)
    node = run.status().attempts[0].host
    slurm.crash(node)
    try:
        sweep.wait(slurm, 400)
    finally:
        slurm.start(node)
        until(lambda: node in slurm.idle(), 60)
    assert ends(run) == ["killed", "done"], sweep.story()
    second = run.status().attempts[1]
    assert second.host != node
    assert second.first_step >= 100
    assert loss(run) == long_loss


def test_of_a_copy_that_slurm_lost_sight_of_and_its_successor_only_one_writes(slurm, long, long_loss):
    assert long.submit().returncode == 0
    run = long.wait_for_step(100)
    node = run.status().attempts[0].host
    slurm.stop_slurmd(node)  # the job lives on, and the controller starts it again elsewhere
    try:
        until(lambda: "this second copy stops" in long.batch_logs(), 120, long.story)
        assert re.search(rf"process \d+ on {node} \(attempt 1\) writes it", long.batch_logs())
        assert len(run.status().attempts) == 1
        until(lambda: run.status().state == "done", 200, long.story)
    finally:
        slurm.start(node)
        until(lambda: node in slurm.idle(), 60)
    assert ends(run) == ["done"]
    assert loss(run) == long_loss
    long.wait(slurm)
    again = long.submit()
    assert "1 done, 0 to submit" in again.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_does_not_notice_that_the_controller_is_away(slurm, long, long_loss, number):
    assert long.submit().returncode == 0
    run = long.wait_for_step(300)
    time.sleep(10)  # the controller saves its state every few seconds
    slurm.stop_controller(number)
    blind = long.submit("retry=lost")
    assert blind.returncode == 2
    assert "squeue" in blind.stderr
    shown = command("-m", "launch.status", f"root={long.root}").stdout
    assert "the queue is not known" in shown
    assert "lost" not in shown.replace("called lost", "")
    slurm.start_controller()
    long.wait(slurm)
    assert ends(run) == ["done"], long.story()
    assert loss(run) == long_loss
    assert "1 done, 0 to submit" in long.submit().stdout


def test_cancelled_runs_save_and_are_not_started_again_until_they_are_submitted(slurm, long):
    assert long.submit().returncode == 0
    run = long.wait_for_step(100)
    job = run.status().attempts[0].job_id
    slurm.call("scancel", job)
    long.wait(slurm, 60)
    assert ends(run) == ["signal"], long.story()
    assert run.status().state == "queued"
    time.sleep(8)  # a requeued job would be back by now
    assert not long.queue(slurm)
    assert "1 to submit" in long.submit().stdout
    until(lambda: len(ends(run)) == 2, 60, long.story)
    assert run.status().attempts[1].first_step >= 100
    slurm.call("scancel", f"--user={subprocess.getoutput('id -un')}")
    long.wait(slurm, 60)


def test_a_run_that_gets_nowhere_is_given_up_after_two_attempts(slurm, tmp_path, dataset):
    sweep = Sweep(tmp_path, dataset[0], TINY)
    bad, good = sweep.runs
    assert sweep.submit("dry=true").returncode == 0  # makes the directories
    bad.checkpoints.mkdir()
    (bad.checkpoints / "latest_checkpointed_iteration.txt").write_text("release")  # Megatron finds no such checkpoint
    assert sweep.submit().returncode == 0
    sweep.wait(slurm)
    assert ends(bad) == ["crash", "crash"], sweep.story()
    assert bad.status().state == "failed"
    assert ends(good) == ["done"]
    assert "2 attempts in a row left no checkpoint beyond step 0" in sweep.batch_logs()
    (bad.checkpoints / "latest_checkpointed_iteration.txt").unlink()
    assert "1 to submit" in sweep.submit("retry=failed").stdout
    sweep.wait(slurm)
    assert ends(bad) == ["crash", "crash", "done"]


def test_killing_the_processes_of_a_run_starts_it_again(slurm, tmp_path, dataset):
    sweep = Sweep(tmp_path, dataset[0], [*LONG, "megatron.checkpoint_minutes=0.02"])
    assert sweep.submit().returncode == 0
    run = sweep.wait_for_step(400)
    subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(run.status().attempts[0].pid)], check=True)
    until(lambda: len(ends(run)) == 2, 60, sweep.story)
    assert ends(run)[0] == "killed"
    slurm.call("scancel", run.status().attempts[1].job_id or "")
    sweep.wait(slurm, 60)

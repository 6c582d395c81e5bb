"""The shortest way through a real Slurm: submitted, shown, done, nothing left to submit. (The rest: make test-slurm.)"""

from tests.conftest import command
from tests.slurm.conftest import TINY, Sweep, ends


def test_a_simulated_sweep_is_submitted_and_done(slurm, tmp_path):
    sweep = Sweep(tmp_path, None, [*TINY, "train=simulated", "train.seconds=2"])
    done = sweep.submit()
    assert done.returncode == 0, done.stderr
    assert "submitted 2 runs in 2 jobs of 1 arrays" in done.stdout
    assert "2 waiting or running, 0 to submit" in sweep.submit().stdout
    shown = command("-m", "launch.status", f"root={tmp_path}").stdout
    assert "sweep two (SIMULATED): 2 runs" in shown
    sweep.wait(slurm, 120)
    assert [ends(run) for run in sweep.runs] == [["done"], ["done"]], sweep.story()
    assert "2 done, 0 to submit" in sweep.submit().stdout
    assert "2 done" in command("-m", "launch.status", f"root={tmp_path}").stdout

"""The bill, and the consent that a launch above the limit needs."""

import json
import os
import pty
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from harness.cli import compose
from harness.cost import basis, print_bill
from harness.errors import ConfigError
from harness.limits import Limit, consent
from harness.resources import Estimate
from harness.settings import named_cluster
from harness.sweep import plan
from tests.conftest import REPOSITORY, command
from tests.harness.test_sweep import manifest_in

H100 = named_cluster("h100")


def estimates(*hours: float) -> list[Estimate]:
    return [
        Estimate(gpu_hours=one, seconds=60.0, memory=None, cost=None, checkpoint_bytes=1.0, measured_on=0)
        for one in hours
    ]


def test_what_is_above_a_limit():
    assert Limit(gpu_hours=10).exceeded(estimates(4, 6), H100) is None
    assert Limit(gpu_hours=10).exceeded(estimates(4, 7), H100) == "11 GPU-hours are above limit.gpu_hours=10"
    assert "11 core-hours" in Limit(gpu_hours=10).exceeded(estimates(11), named_cluster("cpu"))
    assert Limit().exceeded(estimates(1e9), H100) is None
    priced = replace(H100, price_per_gpu_hour=2.5)
    assert Limit(cost=30).exceeded(estimates(4, 8), priced) is None
    assert Limit(cost=20).exceeded(estimates(4, 8), priced) == "a cost of 30 is above limit.cost=20"
    assert "no price_per_gpu_hour" in Limit(cost=20).exceeded(estimates(1), H100)  # a limit must not hold by default
    assert Limit(gpu_hours=0).exceeded([], H100) is None  # everything is done: nothing to ask for


def test_without_a_terminal_yes_is_needed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115, PTH123
    assert consent(Limit(gpu_hours=10), estimates(5), H100, yes=False)
    assert consent(Limit(gpu_hours=10), estimates(50), H100, yes=True)
    with pytest.raises(ConfigError, match=r"50 GPU-hours are above limit.gpu_hours=10: nothing was launched.*yes=true"):
        consent(Limit(gpu_hours=10), estimates(50), H100, yes=False)


@pytest.mark.parametrize(
    ("answer", "launched"), [("y\n", True), ("yes\n", True), ("n\n", False), ("\n", False), ("\x04", False)]
)
def test_a_terminal_is_asked(answer, launched):
    code = (
        "from tests.harness.test_limits import *\n"
        "print('LAUNCHED', consent(Limit(gpu_hours=10), estimates(50), H100, yes=False))\n"
    )
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.write(ours, answer.encode())
    assert process.wait(60) == 0
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 4096):
            said += part
    except OSError:  # the other end is closed
        pass
    assert "50 GPU-hours are above limit.gpu_hours=10. Launch? [y/N]" in said.decode()
    assert f"LAUNCHED {launched}" in said.decode()


def test_a_launch_above_the_limit_is_refused_with_the_bill_before_it(tmp_path):
    dataset = manifest_in(tmp_path)
    words = ["-m", "harness.sweep", "phase=1", "scale=3e20", f"root={tmp_path}", f"data.path={dataset}", "launch=local"]
    done = command(*words)
    assert done.returncode == 2, done.stderr
    assert "GPU-hours are above limit.gpu_hours=1,000: nothing was launched" in done.stderr
    assert done.stdout.index("Bill on cluster h100") < done.stdout.index("sweep phase1-3e20: 36 runs, in")
    assert not (tmp_path / "runs").exists()
    assert (tmp_path / "sweeps/phase1-3e20.csv").exists()
    # with consent the launcher gets it, and has its own say: the machine of this test is no cluster
    done = command(*words, "yes=true")
    assert "limit.gpu_hours" not in done.stderr
    assert done.returncode == 2


def test_simulated_runs_that_take_allocations_need_consent_as_trained_ones_do(tmp_path):
    words = ["-m", "harness.sweep", "phase=1", "scale=3e20", f"root={tmp_path}", "train=simulated", "launch=slurm"]
    done = command(*words, "cluster=slurm")
    assert done.returncode == 2, done.stderr
    assert (
        "GPU-hours are above limit.gpu_hours=1,000 (by what training would take: simulated runs are given"
        in done.stderr
    )
    assert not (tmp_path / "runs").exists()
    again = command("-m", "launch.slurm", "sweep=phase1-3e20", f"root={tmp_path}", "cluster=slurm", "limit.gpu_hours=5")
    assert again.returncode == 2, again.stderr
    assert "are above limit.gpu_hours=5 (by what training would take" in again.stderr
    assert not (tmp_path / "runs").exists()
    # on this machine they take a core for a moment, and nobody is asked
    here = command(*words[:-1], "launch=local", "scale=1e19", "name=here", "limit.gpu_hours=0")
    assert here.returncode == 0, here.stderr
    assert "36 of 36 runs done" in here.stdout


def printed(rows, cluster) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    print_bill(rows, cluster, console)
    return console.export_text()


def test_the_bill_adds_up(tmp_path):
    sweep = plan(compose("sweep", ["phase=1", "scale=[1e18, 3e20]", "cluster.price_per_gpu_hour=2"]))
    text = printed(sweep.rows, sweep.cluster)
    budgets = [line.split() for line in text.splitlines() if line.strip().startswith(("1e18 ", "3e20 ", "total "))]
    names = ["runs", "GPU-hours", "cost", "most GPUs"]
    assert all(name in text for name in [*names, "checkpoints", "longest run", "MFU 0.25 assumed"])
    hours = [float(line[5].replace(",", "")) for line in budgets]
    assert hours[2] == pytest.approx(hours[0] + hours[1], abs=0.02)
    assert hours[2] == pytest.approx(sum(row.estimate.gpu_hours for row in sweep.rows), abs=0.01)
    money = [float(line[6].replace(",", "")) for line in budgets]
    assert money == pytest.approx([2 * hour for hour in hours], abs=0.02)
    layouts = {str(row.layout) for row in sweep.rows}
    assert all(layout in text for layout in layouts)


def test_the_bill_says_what_it_rests_on():
    rows = plan(compose("sweep", ["phase=1", "scale=1e18"])).rows[:3]
    assert basis(rows, H100) == "MFU 0.25 assumed"

    def on(*counts):
        return [
            replace(row, estimate=replace(row.estimate, measured_on=count))
            for row, count in zip(rows, counts, strict=True)
        ]

    assert basis(on(9, 9, 9), H100) == "throughput measured on 9 like runs"
    assert basis(on(9, 3, 0), H100) == "throughput measured on 3 to 9 like runs for 2 of 3 runs, else MFU 0.25 assumed"


def test_the_demo_is_below_the_limit_and_speaks_of_core_hours():
    sweep = plan(compose("sweep", ["phase=classical", "backbone=demo"]))
    assert sweep.limit.exceeded([row.estimate for row in sweep.rows], sweep.cluster) is None
    text = printed(sweep.rows, sweep.cluster)
    assert "core-hours" in text
    assert "GPUs" not in text


def test_json_of_the_limit_is_not_a_setting_of_the_experiments(tmp_path):
    from harness.sweep import write

    dataset = manifest_in(tmp_path)
    common = ["phase=1", "scale=1e18", f"root={tmp_path}", f"data.path={dataset}"]
    first = write(plan(compose("sweep", common)))
    assert write(plan(compose("sweep", [*common, "limit.gpu_hours=5", "yes=true"]))) == first
    assert json.loads((tmp_path / "sweeps/phase1-1e18.jsonl").read_text().splitlines()[0])["schema"] == 1

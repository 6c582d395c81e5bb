"""Throughput learnt from results: which runs are like, what is cached, and what is not believed."""

import json

import pytest

from harness.cli import compose
from harness.measured import CACHE, Achieved, read_measurements, save_measurements
from harness.sweep import plan


def finish(root, name, *, tflops=100.0, flops=2e9, **changes):
    """A result.json as a run leaves it, of `flops` FLOPs a token."""
    result = {
        "run_id": name, "simulated": False, "device": "NVIDIA H100 80GB HBM3", "precision": "bf16", "recompute": "none",
        "megatron_flops": flops * 1000, "tokens": 1000, "tflops_per_gpu": tflops,
    }  # fmt: skip
    directory = root / "runs" / name
    directory.mkdir(parents=True)
    (directory / "result.json").write_text(json.dumps(result | changes))


def like(root, **changes):
    asked = {"gpu": "H100", "precision": "bf16", "recompute": "none", "flops_per_token": 2e9}
    return read_measurements(root).like(**(asked | changes))


def test_the_nearest_runs_of_the_same_kind_count(tmp_path):
    for number in range(20):  # 10% apart in size, the smaller the slower
        finish(tmp_path, f"run{number}", flops=2e9 * 1.1 ** (number - 10), tflops=100.0 + number)
    finish(tmp_path, "far", flops=2e13, tflops=900.0)
    finish(tmp_path, "other-device", device="NVIDIA A100-SXM4-80GB", tflops=1.0)
    finish(tmp_path, "other-precision", precision="fp32", tflops=2.0)
    finish(tmp_path, "other-recompute", recompute="full", tflops=3.0)
    assert like(tmp_path) == Achieved(flops=110.0e12, runs=5)
    assert like(tmp_path, gpu="a100") == Achieved(flops=1.0e12, runs=1)
    assert like(tmp_path, precision="fp32") == Achieved(flops=2.0e12, runs=1)
    assert like(tmp_path, recompute="full") == Achieved(flops=3.0e12, runs=1)
    assert like(tmp_path, flops_per_token=2e11) is None  # nothing within a factor of 3
    assert like(tmp_path, gpu="") is None
    assert like(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "change",
    [
        {"simulated": True}, {"run_id": "another"}, {"tflops_per_gpu": None}, {"tflops_per_gpu": -1.0}, {"tokens": 0},
        {"device": None}, {"precision": 5}, {"megatron_flops": "many"}, {"tflops_per_gpu": 1e999},
    ],
)  # fmt: skip
def test_what_cannot_be_believed_counts_as_none(tmp_path, change):
    finish(tmp_path, "one", **change)
    assert like(tmp_path) is None


def test_torn_files_count_as_none(tmp_path):
    finish(tmp_path, "whole")
    for name, text in (("torn", '{"run_id": "torn", "simul'), ("list", "[1]"), ("empty", "")):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "result.json").write_text(text)
    (tmp_path / "runs" / "unfinished").mkdir()
    (tmp_path / "runs" / "stray").write_text("a file")
    assert like(tmp_path).runs == 1


def test_a_result_is_read_once(tmp_path):
    finish(tmp_path, "first")
    measured = read_measurements(tmp_path)
    assert not (tmp_path / CACHE).exists()  # reading writes nothing
    save_measurements(tmp_path, measured)
    (tmp_path / "runs/first/result.json").write_text("{")  # so it must come from the cache
    finish(tmp_path, "second", tflops=300.0)
    again = read_measurements(tmp_path)
    assert again.fresh
    assert set(again.by_run) == {"first", "second"}
    save_measurements(tmp_path, again)
    assert not read_measurements(tmp_path).fresh
    with (tmp_path / CACHE).open("a") as file:
        file.write('{"run_id": "tor')
    assert like(tmp_path) == Achieved(flops=200.0e12, runs=2)
    (tmp_path / CACHE).write_text('{"run_id": "first"}\n[]\n7\n')  # of another version, or no cache at all
    assert set(read_measurements(tmp_path).by_run) == {"second"}
    (tmp_path / "runs/second/result.json").unlink()
    assert read_measurements(tmp_path).by_run == {}


def test_a_bill_rests_on_what_was_measured(tmp_path):
    config = compose("sweep", ["phase=1", "scale=1e19", f"root={tmp_path}"])
    assumed = plan(config).rows
    for number, row in enumerate(assumed[:12]):
        finish(
            tmp_path,
            row.run_id,
            flops=row.point.experiment.counts.megatron_flops_per_token,
            tflops=989.5 * (0.124 if number % 2 else 0.126),
        )
    measured = plan(config).rows
    for before, after in zip(assumed, measured, strict=True):
        assert (before.estimate.measured_on, after.estimate.measured_on) == (0, 5)
        training = before.estimate.seconds - 300, after.estimate.seconds - 300
        assert training[1] / training[0] == pytest.approx(2, rel=0.02)  # half of the assumed 0.25

"""What a real run leaves for later bills, and that a bill then rests on it."""

import shutil

import pytest

from harness.measured import read_measurements
from harness.megatron.parallel import RECOMPUTE
from harness.memory import checkpoint_bytes
from harness.resources import estimate, layout
from harness.settings import named_cluster

CPU = named_cluster("cpu")


def test_a_finished_run_says_what_it_reached(trained):
    _, run, done = trained
    assert done.returncode == 0, done.stderr[-3000:]
    result, experiment = run.result(), run.experiment()
    assert (result["device"], result["gpus"], result["precision"], result["recompute"]) == ("cpu", 0, "fp32", "none")
    assert result["peak_memory_bytes"] is None
    assert result["mfu"] is None  # of a core nobody knows the peak
    achieved = result["tokens_per_second"] * experiment.counts.megatron_flops_per_token
    assert result["tflops_per_gpu"] == pytest.approx(achieved / 1e12)


def test_the_next_estimate_is_what_the_run_took(trained, tmp_path):
    _, run, _ = trained
    experiment = run.experiment()
    shutil.copytree(run.path, tmp_path / "runs" / run.run_id)  # alone: other tests train beside it
    measured = read_measurements(tmp_path)
    told = estimate(experiment, experiment.counts, layout(experiment, CPU), CPU, measured)
    assumed = estimate(experiment, experiment.counts, layout(experiment, CPU), CPU)
    assert (told.measured_on, assumed.measured_on) == (1, 0)
    steps = experiment.tokens / run.result()["tokens_per_second"]
    assert told.seconds - CPU.seconds_per_run == pytest.approx(steps)
    assert told.seconds != assumed.seconds


def test_a_checkpoint_takes_the_disk_that_was_planned(trained):
    """Weights and both moments in fp32; what comes on top (flags, random states, the file format) is the same for all sizes."""
    _, run, _ = trained
    taken = sum(path.stat().st_size for path in run.checkpoints.rglob("*") if path.is_file())
    planned = checkpoint_bytes(run.experiment().counts.megatron_params, "fp32")
    assert planned < taken < planned + 120_000


@pytest.mark.parametrize("level", ["moe", "full"])
@pytest.mark.slow
def test_recomputation_changes_no_loss(trained, level):
    """Megatron takes the flags, trains to the same numbers, and the result says which runs are alike."""
    trainer, whole, _ = trained
    run = trainer.prepare(whole.experiment(), name=f"recompute-{level}")
    done = trainer.train(run, *RECOMPUTE[level])
    assert done.returncode == 0, done.stderr[-3000:]
    assert run.result()["recompute"] == level
    assert [row["lm_loss"] for row in run.metrics()] == [row["lm_loss"] for row in whole.metrics()]

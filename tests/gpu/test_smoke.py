"""``make smoke-gpu``: one GPU trains, stops, resumes. The CPU variant of the same program is among the slow tests."""

import pytest

from launch.machine import installed_kernels
from tests.gpu.smoke import has_gpu, losses_fall, on_cpu, on_gpu, report, train


@pytest.mark.gpu
@pytest.mark.skipif(not has_gpu(), reason="no GPU on this machine (nvidia-smi lists none)")
def test_a_small_model_trains_stops_and_resumes_on_a_gpu(dataset, tmp_path):
    smoke = on_gpu(dataset[1], installed_kernels())
    run, log = train(smoke, tmp_path, dataset[0])
    losses_fall(run, smoke)
    assert run.result()["mfu"] is None or 0 < run.result()["mfu"] < 1
    print("\n" + report(run, smoke, log))


@pytest.mark.slow
@pytest.mark.skipif(has_gpu(), reason="the CPU variant stands in for a GPU where there is none")
def test_the_same_on_a_cpu(dataset, tmp_path):
    smoke = on_cpu(dataset[1])
    run, log = train(smoke, tmp_path, dataset[0])
    losses_fall(run, smoke)
    print("\n" + report(run, smoke, log))

"""``python -m tests.launch.two_ranks ROOT DATASET STEPS``: a local launch of one run that takes two devices, here CPU processes.

The session is the real one and so is Megatron (gloo); only the job's number of devices was not found by a layout, as no layout
gives a CPU run more than one process.
"""

import json
import sys
from pathlib import Path

from omegaconf import OmegaConf

from harness.data.manifest import read_manifest
from harness.megatron.argv import Paths, command, megatron_argv
from harness.megatron.options import Program
from harness.resources import layout
from harness.rundir import RunDirectory
from harness.settings import named_cluster
from harness.sweepfile import WrittenSweep
from launch.job import Job
from launch.progress import Tally, make_progress
from launch.session import Session
from tests.conftest import tiny_experiment
from tests.megatron.test_two_processes import MICRO


def launch(root: Path, dataset: Path, steps: int) -> int:
    experiment = tiny_experiment(read_manifest(dataset), train_iters=steps, epochs=100.0)
    run = RunDirectory(root, experiment.run_id)
    paths, run_layout = Paths(run=run.path, data=dataset), layout(experiment, named_cluster("cpu"))
    run.create(experiment, command(experiment, run_layout, paths))
    job = Job(
        run=run,
        experiment=experiment,
        flags=(*megatron_argv(experiment, run_layout, paths), *MICRO),
        environment={},
        program=Program(keep_checkpoints="last"),
        command="",
        data=dataset,
        gpus=2,
        seconds=60.0,
    )
    sweep = WrittenSweep(name="two-ranks", root=root, experiments=(experiment,), config=OmegaConf.create())
    tally = Tally(total=1, work=60.0)
    session = Session(
        sweep=sweep,
        jobs=[job],
        devices=["", ""],
        retries=1,
        keep_checkpoints="last",
        tally=tally,
        progress=make_progress(),
    )
    code = session.work()
    print(json.dumps({"run": run.run_id, "done": tally.done}))
    return code


if __name__ == "__main__":
    sys.exit(launch(Path(sys.argv[1]).absolute(), Path(sys.argv[2]), int(sys.argv[3])))

"""The runs of a sweep as jobs of Slurm: each with the shape of what it asks for, and what that takes."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError
from harness.measured import read_measurements
from harness.megatron.branching import can_start
from harness.megatron.options import Kernels
from harness.resources import Cluster, Estimate, estimate, layout
from harness.settings import job_options, read_cluster
from harness.sweepfile import WrittenSweep
from launch.job import Job, make_job
from launch.launcher import Seen
from launch.options import SlurmOptions, read_container, read_slurm
from launch.tasks import Shape, Task, Wanted
from launch.trunks import why_never


@dataclass(frozen=True, kw_only=True)
class SlurmJob:
    """A run that is to be submitted."""

    job: Job
    shape: Shape
    estimate: Estimate
    """Of what training it takes; a simulated run is given the same machines."""

    @property
    def wanted(self) -> Wanted:
        """What it asks of an array; a branch that cannot start yet waits for its trunk."""
        run, experiment = self.job.run, self.job.experiment
        task = Task(run_id=run.run_id, gpus=self.job.gpus, seconds=self.job.seconds, directory=str(run.path.absolute()))
        trunk = "" if can_start(run, experiment) else experiment.training.trunk
        return Wanted(task=task, shape=self.shape, trunk=trunk)


def slurm_jobs(
    sweep: WrittenSweep, run_ids: Sequence[str], data_path: Path | None, keep_checkpoints: str
) -> list[SlurmJob]:
    """Every run of `run_ids` as a job.

    Raises:
        HarnessError: one cannot be trained there; found before anything is submitted.
    """
    cluster, slurm = read_cluster(sweep.config.cluster), read_slurm(sweep.config.cluster)
    options = dataclasses.replace(
        job_options(sweep.config, sweep.name),
        keep_checkpoints=keep_checkpoints,
        kernels=Kernels(transformer_engine=slurm.transformer_engine, apex=slurm.apex),
    )
    cluster = dataclasses.replace(cluster, transformer_engine=options.transformer_engine)
    measured, wanted = read_measurements(sweep.root), set(run_ids)
    own_python = read_container(sweep.config.get("container")).kind == "none"
    python = slurm.python or (sys.executable if own_python else "python")
    jobs = []
    for experiment in sweep.experiments:
        if experiment.run_id not in wanted:
            continue
        run_layout = layout(experiment, cluster)
        gpus = min(run_layout.gpus, run_layout.gpus_per_node)
        runs = runs_per_node(slurm, cluster) if gpus < 2 else 1
        job = make_job(sweep, experiment, cluster, data_path, options, measured, python=python)
        jobs.append(
            SlurmJob(
                job=job,
                shape=Shape(nodes=run_layout.nodes, gpus_per_node=gpus * runs or 0, runs=runs),
                estimate=job.estimate or estimate(experiment, experiment.counts, run_layout, cluster, measured),
            )
        )
    return jobs


def runs_per_node(slurm: SlurmOptions, cluster: Cluster) -> int:
    """How many runs of one GPU (or core) share a job.

    Raises:
        ConfigError: more than a node has GPUs.
    """
    gpus = cluster.gpus_per_node
    if slurm.runs_per_node is not None and 0 < gpus < slurm.runs_per_node:
        raise ConfigError(
            f"cluster.slurm.runs_per_node={slurm.runs_per_node}: a node of cluster {cluster.name} has {gpus} GPUs"
        )
    return slurm.runs_per_node or (max(1, gpus) if slurm.whole_nodes else 1)


def without_orphans(jobs: Sequence[SlurmJob], seen: Mapping[str, Seen]) -> list[SlurmJob]:
    """The jobs without branches whose trunk has no checkpoint for them and is trained by nobody; those are named."""
    active = {*seen, *(one.job.run.run_id for one in jobs)}
    kept = []
    for one in jobs:
        if one.job.experiment.training.trunk and (reason := why_never(one.job, active)) is not None:
            print(f"  left out {one.job.label}: {reason}")
        else:
            kept.append(one)
    return kept

"""One run as a job: what it needs, what starts it, and its directory."""

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.manifest import check_data
from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.measured import Measurements
from harness.megatron.argv import Paths, command, megatron_argv, simulation_words
from harness.megatron.device import environment
from harness.megatron.options import JobOptions, Program
from harness.resources import Cluster, Estimate, estimate, layout
from harness.rundir import RunDirectory
from harness.sweepfile import WrittenSweep


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run that is to be trained here."""

    run: RunDirectory
    experiment: Experiment
    flags: tuple[str, ...]
    environment: dict[str, str]
    program: Program
    command: str
    data: Path | None
    """The dataset."""
    gpus: int
    """0: one core."""
    seconds: float
    """Estimated."""
    estimate: Estimate | None = None
    """Of what it takes; None for a simulated run, which takes nothing."""
    simulation: tuple[str, ...] = ()
    """The simulator's arguments, for a run that is not trained."""

    @property
    def ranks(self) -> int:
        """Processes, each with a GPU (or a core) of its own."""
        return max(1, self.gpus)

    @property
    def label(self) -> str:
        """For people: run id and size."""
        counts, training = self.experiment.counts, self.experiment.training
        steps = f"{training.train_iters} steps"
        if training.trunk:
            steps += f", the last {training.own_iters} from trunk {training.trunk}"
        elif training.branch_points:
            steps += f", trunk with branches at {training.branch_points}"
        return f"{self.run.run_id} (M {counts.flops_per_token:.3g}, {steps})"


def make_job(
    sweep: WrittenSweep,
    experiment: Experiment,
    machine: Cluster,
    data_path: Path | None,
    options: JobOptions,
    measured: Measurements,
    *,
    python: str = sys.executable,
) -> Job:
    """Check that `experiment` can train on `machine`, and say how, and how long it will take by what was `measured`.

    A simulated run needs no data, and takes any precision.

    Raises:
        DataError: its dataset is missing, another one, or too small.
        ConfigError: the machine has no GPU for it, or its batch does not divide.
    """
    run = RunDirectory(sweep.root, experiment.run_id)
    simulation = options.simulation
    data = data_path if simulation is not None else check_data(experiment, data_path)
    paths = Paths(run=run.path.absolute(), data=(data or Path()).absolute())
    if simulation is not None:
        run_layout = layout(experiment, machine)
        return Job(
            run=run,
            experiment=experiment,
            flags=(),
            environment={},
            program=options.program,
            command=command(experiment, run_layout, paths, options, python=python),
            data=None,
            gpus=run_layout.gpus,
            seconds=simulation.seconds,
            simulation=tuple(simulation_words(options, paths.run)),
        )
    if machine.gpus_per_node == 0 and experiment.training.precision != "fp32":
        raise ConfigError(
            f"run {experiment.run_id} trains in {experiment.training.precision}, on GPUs, and this machine has none: submit "
            "the sweep to a cluster, or plan one for a CPU (backbone=demo)"
        )
    machine = replace(machine, transformer_engine=options.transformer_engine)
    run_layout = layout(experiment, machine)
    cost = estimate(experiment, experiment.counts, run_layout, machine, measured)
    return Job(
        run=run,
        experiment=experiment,
        flags=tuple(megatron_argv(experiment, run_layout, paths, options)),
        environment=environment(run_layout, options),
        program=options.program,
        command=command(experiment, run_layout, paths, options, python=python),
        data=data,
        gpus=run_layout.gpus,
        seconds=cost.seconds,
        estimate=cost,
    )


def make_ready(job: Job) -> None:
    """The run's directory; of a run that diverged, without the checkpoints that led there."""
    if job.run.status().state == "diverged":
        _begin_anew(job.run)
    job.run.create(job.experiment, job.command)


def _begin_anew(run: RunDirectory) -> None:
    """Let a diverged run begin at its beginning: it is queued again, its checkpoints are put aside."""
    aside = run.path / "checkpoints-diverged"
    if run.checkpoints.exists():
        shutil.rmtree(aside, ignore_errors=True)
        run.checkpoints.rename(aside)
    run.write_status(replace(run.status(), state="queued"))

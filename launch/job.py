"""One run as a job of this machine: what it needs, and the child process that trains it."""

import multiprocessing.connection
import os
import signal
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from harness.data.manifest import check_data
from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.measured import Measurements
from harness.megatron.argv import Paths, command, megatron_argv, simulation_words
from harness.megatron.device import environment
from harness.megatron.options import JobOptions, Program
from harness.resources import Cluster, estimate, layout
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
    simulation: tuple[str, ...] = ()
    """The simulator's arguments, for a run that is not trained."""

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
    return Job(
        run=run,
        experiment=experiment,
        flags=tuple(megatron_argv(experiment, run_layout, paths, options)),
        environment=environment(run_layout, options),
        program=options.program,
        command=command(experiment, run_layout, paths, options, python=python),
        data=data,
        gpus=run_layout.gpus,
        seconds=estimate(experiment, experiment.counts, run_layout, machine, measured).seconds,
    )


def train_in_child(
    run_path: str,
    flags: list[str],
    log: str,
    gpu: int | None,
    environment: dict[str, str],
    program: Program,
    simulation: list[str],
) -> None:
    """The body of a child process (forked from a server that has the trainer in memory); leaves with the exit code.

    It is a session of its own, so that Ctrl-C in the terminal reaches only the launcher, and it is told to stop
    (SIGTERM) when the launcher dies.
    """
    os.setsid()
    threading.Thread(target=_stop_with_launcher, daemon=True).start()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.environ.update(environment)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = str(gpu)
    from harness.errors import HarnessError
    from harness.megatron.pretrain import REFUSED, train

    try:
        if simulation:
            from harness.simulated.program import main

            code = main(simulation)
        else:
            code = train(RunDirectory.at(Path(run_path)), flags, program)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        code = REFUSED
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def _stop_with_launcher() -> None:
    """Tell this process to stop when the launcher is gone (its parent by birth, the fork server, outlives it)."""
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        multiprocessing.connection.wait([launcher.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

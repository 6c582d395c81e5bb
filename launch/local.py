"""Train a sweep on this machine: ``python -m launch.local sweep=NAME``; the same command resumes it.

Runs are separate processes, longest first, a branch once its trunk has come to its branch point, as many side by side as there
are cores; on a machine with GPUs a run has as many of them as its layout says, for itself. Ctrl-C lets the runs save a checkpoint
and stops; a second Ctrl-C stops at once. A failing run never stops the others, except the branches that need its checkpoint.
"""

import dataclasses
import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig

from harness import cli
from harness.errors import ConfigError, RunError
from harness.limits import Limit, consent
from harness.measured import read_measurements
from harness.megatron.options import KEEP, Kernels
from harness.resources import Cluster
from harness.settings import Settings, job_options, named_cluster
from harness.sweepfile import WrittenSweep, load_sweep
from harness.typed import build, whole
from launch import localqueue
from launch.job import Job, make_job, make_ready
from launch.launcher import Seen
from launch.launchers import poll_all
from launch.machine import check_wandb, installed_kernels, visible_gpus
from launch.progress import Tally, clock, make_progress
from launch.selection import Selection, part_of, read_retry, select
from launch.session import EXIT_FAILED, Session
from launch.trainer import with_trainer
from launch.trunks import release

SIMULATED_PER_CORE = 8
"""Simulated runs side by side on a core: they wait for the disk or the clock."""

FILE_THREADS = 16
"""Directories that are made at the same time: each waits for the disk a few times."""


class LocalLauncher:
    """Runs sweeps on the machine it is called on (``configs/launch/local.yaml``)."""

    allocates = False

    def __init__(self, *, slots: int | None = None, retries: int = 1, keep_checkpoints: str = "none"):
        """See the configuration file for the meaning of each.

        Raises:
            ConfigError: a value cannot be used.
        """
        if slots is not None:
            whole(slots, "launch.slots", 1)
        whole(retries, "launch.retries", 0)
        if keep_checkpoints not in KEEP:
            raise ConfigError(f"launch.keep_checkpoints={keep_checkpoints}: it must be none, last or all")
        self.slots = slots
        self.retries = retries
        self.keep_checkpoints = keep_checkpoints

    @cached_property
    def gpus(self) -> list[str]:
        """This machine's GPUs."""
        return visible_gpus()

    def launch(
        self,
        root: Path,
        name: str | None,
        data_path: Path | None = None,
        *,
        sweep: WrittenSweep | None = None,
        retry: Sequence[str] = (),
        limit: Limit | None = None,
        yes: bool = False,
    ) -> int:
        """Train what is not done of the sweep `name`; exit code 0: all runs are done, 1: some are not, 130: stopped.

        `sweep`: as loaded already; `data_path`: where the dataset lies now, if not where it lay when the sweep was planned;
        `retry`: states of the runs to take; `limit` and `yes`: what may be spent without asking.

        Raises:
            HarnessError: a run cannot be trained here; found before any is started.
        """
        sweep = with_trainer(sweep or load_sweep(root, name), None)
        for experiment in sweep.experiments:  # what an earlier launch was stopped before it could remove
            if experiment.training.branch_points:
                release(root, experiment, self.keep_checkpoints)
        polled = poll_all(root)
        if polled.unknown:
            raise RunError(
                f"{'; '.join(polled.unknown)}: runs of this root may be in that queue, and would be trained twice. Try again "
                "when it answers"
            )
        chosen = select(root, [experiment.run_id for experiment in sweep.experiments], polled.seen, retry)
        for line in chosen.left_alone():
            print(line)
        if not chosen.take:
            print(f"sweep {sweep.name}: {len(chosen.done)} of {len(sweep.experiments)} runs are done; nothing to train")
            return EXIT_FAILED if chosen.left or chosen.active else 0
        jobs = self._jobs(sweep, chosen.take, data_path or sweep.data_path)
        simulated = any(job.simulation for job in jobs)
        devices = self._devices(jobs, simulated=simulated)
        estimates = [job.estimate for job in jobs if job.estimate is not None]
        if limit is not None and estimates and not consent(limit, estimates, self.machine(sweep), yes=yes):
            return EXIT_FAILED
        return self._train(sweep, jobs, devices, chosen, simulated=simulated)

    def submit(self, sweep: WrittenSweep, run_ids: Sequence[str]) -> int:
        """Train these runs of `sweep`, those that wait or run already aside; returns when they have ended."""
        return self.launch(sweep.root, sweep.name, sweep=part_of(sweep, run_ids))

    def poll(self, root: Path) -> Mapping[str, Seen]:
        """The runs that local launches under `root` have."""
        return localqueue.poll(root)

    def cancel(self, root: Path, run_ids: Sequence[str]) -> list[str]:
        """Ask the launches that have these runs to stop them: a running one saves a checkpoint first."""
        return localqueue.cancel(root, run_ids)

    def _train(
        self, sweep: WrittenSweep, jobs: list[Job], devices: list[str], chosen: Selection, *, simulated: bool
    ) -> int:
        if not simulated and importlib.util.find_spec("megatron") is None:
            raise ConfigError("megatron-core is not installed: pip install -e '.[train]' -c constraints.txt")
        with ThreadPoolExecutor(FILE_THREADS) as pool:
            list(pool.map(make_ready, jobs))
        mark, doing = (" (SIMULATED)", "SIMULATING") if simulated else ("", "training")
        total = len(sweep.experiments)
        print(
            f"sweep {sweep.name}: {len(chosen.done)} of {total} runs are done; {doing} {len(jobs)}, {len(devices)} at a time"
        )
        tally = Tally(
            total=total,
            work=sum(job.seconds for job in jobs),
            done=len(chosen.done),
            failed=sum(len(ids) for state, ids in chosen.left.items() if state != "queued"),
            simulated=simulated,
        )
        progress = make_progress()
        session = Session(
            sweep=sweep,
            jobs=sorted(jobs, key=lambda job: -job.seconds),
            devices=devices,
            retries=self.retries,
            keep_checkpoints=self.keep_checkpoints,
            tally=tally,
            progress=progress,
        )
        try:
            code = session.work()
        finally:
            progress.close()
        cancelled = f", {tally.cancelled} cancelled" if tally.cancelled else ""
        print(
            f"sweep {sweep.name}{mark}: {tally.done} of {tally.total} runs done, {tally.failed} failed{cancelled}, "
            f"in {clock(time.monotonic() - tally.started)}"
        )
        return code

    def _jobs(self, sweep: WrittenSweep, run_ids: Sequence[str], data_path: Path | None) -> list[Job]:
        """The jobs of these runs; what cannot be trained here is refused."""
        measured, wanted = read_measurements(sweep.root), set(run_ids)
        options = dataclasses.replace(job_options(sweep.config, sweep.name), keep_checkpoints=self.keep_checkpoints)
        if options.simulation is not None:  # a simulated run takes a core, whatever the machine has
            machine = named_cluster("cpu")
        else:
            check_wandb(options.logging.wandb.mode)
            machine = self.machine(sweep)
            options = dataclasses.replace(options, kernels=installed_kernels() if self.gpus else Kernels())
        return [
            make_job(sweep, experiment, machine, data_path, options, measured)
            for experiment in sweep.experiments
            if experiment.run_id in wanted
        ]

    def _devices(self, jobs: Sequence[Job], *, simulated: bool) -> list[str]:
        """What each slot stands for: the name of a GPU, or of none.

        Raises:
            ConfigError: a run needs more GPUs than there are.
        """
        if simulated or not self.gpus:
            cores = len(os.sched_getaffinity(0))
            return [""] * (self.slots or (SIMULATED_PER_CORE * cores if simulated else cores))
        slots = self.slots or len(self.gpus)
        largest = max(jobs, key=lambda job: job.gpus)
        if largest.gpus > min(slots, len(self.gpus)):
            given = f", of which launch.slots={slots} may be used" if slots < len(self.gpus) else ""
            raise ConfigError(
                f"run {largest.run.run_id} needs {largest.gpus} GPUs, and this machine has {len(self.gpus)}{given}: submit the "
                "sweep to a cluster, or plan it for fewer (cluster.layout.gpus)"
            )
        if largest.gpus > 1 and slots > len(self.gpus):
            raise ConfigError(
                f"launch.slots={slots} lets runs share the {len(self.gpus)} GPUs, and run {largest.run.run_id} needs "
                f"{largest.gpus} of them for itself: leave out launch.slots"
            )
        return [self.gpus[slot % len(self.gpus)] for slot in range(slots)]

    def machine(self, sweep: WrittenSweep) -> Cluster:
        """This machine as a cluster: its own GPUs, or its cores."""
        if not self.gpus:
            return named_cluster("cpu")
        planned = Settings(sweep.config).cluster
        return planned if planned.gpus_per_node else named_cluster("h100")


def main(config: DictConfig) -> int:
    """Train or resume a sweep."""
    launcher = cli.build(config.launch, "launch")
    if launcher is None:
        raise ConfigError("launch=none trains nothing: leave launch= out, or choose local")
    if not isinstance(config.yes, bool):
        raise ConfigError(f"yes={config.yes}: true or false is wanted")
    root, name = Path(cli.text(config.root, "root")), None if config.sweep is None else str(config.sweep)
    return int(
        launcher.launch(
            root,
            name,
            Path(cli.text(config.data.path, "data.path")) if config.data.path is not None else None,
            sweep=with_trainer(load_sweep(root, name), config.get("train")),
            retry=read_retry(config.retry),
            limit=build(Limit, config.limit or {}, "limit"),
            yes=config.yes,
        )
    )


if __name__ == "__main__":
    cli.run("local", main)

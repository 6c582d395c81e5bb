"""Submit a sweep to a Slurm cluster: ``python -m launch.slurm sweep=NAME cluster=slurm``; the same command resumes it.

What is not done, running or queued is submitted as job arrays, one for each shape of resources, and the command ends. It may
be killed at any moment and started again: every run is submitted once (`launch.journal`). Slurm is the one that starts runs
again, after its time limits, preemption and dead nodes; a run's lease keeps a second copy from writing.

    <root>/slurm/journal.jsonl                       what was submitted
                 0001-phase1-1e19/1gpu-1.sbatch      the batch file of an array, to read and to submit by hand
                                  1gpu-1.tsv         its runs, one a line
                                  logs/              of the batch files; those of the runs are in the runs' directories
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # python launch/slurm.py
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.errors import ConfigError
from harness.lease import Lease
from harness.limits import Limit, consent
from harness.megatron.options import KEEP
from harness.settings import read_cluster
from harness.sweepfile import WrittenSweep, load_sweep
from harness.typed import build, whole
from launch import placed, queue
from launch.batch import Site
from launch.job import make_ready
from launch.journal import Journal
from launch.launcher import Seen
from launch.launchers import poll_all
from launch.options import read_container, read_slurm
from launch.selection import Selection, part_of, read_retry, select
from launch.slurmjobs import SlurmJob, slurm_jobs, without_orphans
from launch.submission import Submission
from launch.tasks import dependent_arrays, independent_arrays
from launch.trainer import with_trainer
from launch.trunks import release

EXIT_NOTHING = 1


class SlurmLauncher:
    """Submits sweeps to Slurm (``configs/launch/slurm.yaml``)."""

    allocates = True

    def __init__(self, *, max_parallel: int | None = None, keep_checkpoints: str = "none", dry: bool = False):
        """See the configuration file for the meaning of each.

        Raises:
            ConfigError: a value cannot be used.
        """
        if max_parallel is not None:
            whole(max_parallel, "max_parallel", 1)
        if keep_checkpoints not in KEEP:
            raise ConfigError(f"launch.keep_checkpoints={keep_checkpoints}: it must be none, last or all")
        if not isinstance(dry, bool):
            raise ConfigError(f"dry={dry}: true or false is wanted")
        self.max_parallel = max_parallel
        self.keep_checkpoints = keep_checkpoints
        self.dry = dry

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
        """Submit what is to do of the sweep `name`; exit code 0, or 1 where runs are left that only a person can decide on.

        `sweep`: as loaded already; `data_path`: where the dataset lies on the cluster; `retry`: states of the runs to take;
        `limit` and `yes`: what may be spent without asking.

        Raises:
            HarnessError: a run cannot be trained there, or Slurm refuses; found before anything is submitted where it can be.
        """
        sweep = with_trainer(sweep or load_sweep(root, name), None)
        _check_name(root.absolute())
        journal = Journal(root)
        journal.directory.mkdir(parents=True, exist_ok=True)
        with Lease(journal.directory) as lease:
            seen = _looked_at(root) if self.dry else _settled(root, journal)
            chosen = select(root, [experiment.run_id for experiment in sweep.experiments], seen, retry)
            _print_summary(sweep.name, chosen)
            jobs = slurm_jobs(sweep, chosen.take, data_path or sweep.data_path, self.keep_checkpoints)
            own = {} if self.dry else self.poll(root)
            jobs = without_orphans(jobs, own)
            if jobs:
                if limit is not None and not self.dry and not _consent(limit, jobs, sweep, yes=yes):
                    return EXIT_NOTHING
                for one in jobs:
                    if not self.dry or not one.job.run.path.exists():
                        make_ready(one.job)
                self._submit(sweep, jobs, own, journal, None if self.dry else lease)
        for experiment in sweep.experiments:  # nobody else removes them once the branches are done
            if experiment.training.branch_points and not self.dry:
                release(root, experiment, self.keep_checkpoints)
        return EXIT_NOTHING if (chosen.left or chosen.take) and not jobs else 0

    def submit(self, sweep: WrittenSweep, run_ids: Sequence[str]) -> int:
        """Submit these runs of `sweep`, those that wait or run already aside."""
        return self.launch(sweep.root, sweep.name, sweep=part_of(sweep, run_ids))

    def poll(self, root: Path) -> Mapping[str, Seen]:
        """The runs under `root` that Slurm has in its queue; Slurm is not asked where nothing was submitted.

        Raises:
            SlurmError: Slurm gives no answer.
            RunError: there are jobs of this root whose task table or journal is gone.
        """
        return placed.poll(root)

    def cancel(self, root: Path, run_ids: Sequence[str]) -> list[str]:
        """Cancel the jobs of these runs: those that run get SIGTERM, save a checkpoint and stop.

        A job that holds other runs too is left, and named.

        Raises:
            SlurmError: Slurm refuses.
        """
        return placed.cancel(root, run_ids)

    def _submit(
        self,
        sweep: WrittenSweep,
        jobs: Sequence[SlurmJob],
        own: Mapping[str, Seen],
        journal: Journal,
        lease: Lease | None,
    ) -> None:
        """Without `lease`, write only; `own`: runs that Slurm has already."""
        slurm = read_slurm(sweep.config.cluster)
        size = slurm.max_array_size or (queue.DEFAULT_MAX_ARRAY_SIZE if self.dry else queue.max_array_size())
        wanted = [one.wanted for one in jobs]
        places = {run_id: _place(run.job) for run_id, run in own.items()}
        paths = {sweep.root.absolute(), *(one.job.data.absolute() for one in jobs if one.job.data is not None)}
        site = Site(slurm=slurm, container=read_container(sweep.config.get("container")), paths=tuple(sorted(paths)))
        submission = Submission(sweep.name, site, journal, max_parallel=self.max_parallel, lease=lease)
        first = independent_arrays(wanted, size)
        branches = [one for one in wanted if one.trunk]
        trunks = {one.trunk for one in branches}
        for array, job_number in zip(first, submission.submit(first), strict=True):
            places |= {task.run_id: (job_number, task.index) for task in array.tasks if task.run_id in trunks}
        submission.submit(dependent_arrays(branches, places))
        runs = len(wanted)
        where = submission.directory
        if self.dry:
            print(f"dry=true: nothing was submitted; {submission.arrays} batch files for {runs} runs are in {where}")
        else:
            print(
                f"submitted {runs} run{'s' if runs > 1 else ''} in {submission.elements} jobs of {submission.arrays} arrays "
                f"({where}); follow them with python -m launch.status sweep={sweep.name}"
            )


def _settled(root: Path, journal: Journal) -> Mapping[str, Seen]:
    """What every launcher has, once it is known how every earlier sbatch ended.

    Raises:
        SlurmError: a launcher's queue is not known.
    """
    placed.settle(journal)
    polled = poll_all(root)
    if polled.unknown:
        raise queue.SlurmError("; ".join(polled.unknown))
    return polled.seen


def _looked_at(root: Path) -> Mapping[str, Seen]:
    """For a dry run: what launchers have, as far as they answer."""
    polled = poll_all(root)
    for problem in polled.unknown:
        print(f"the queue is not known, and runs that are in it are counted as to submit: {problem}")
    return polled.seen


def _check_name(root: Path) -> None:
    """Raises: ConfigError: batch files cannot name this directory."""
    if any(sign in str(root) for sign in "\"\\'\n\t|$`"):
        raise ConfigError(
            f"root={root}: quotes, backslashes, $, | and line ends in a path cannot be written into a batch file"
        )


def _place(job: str) -> tuple[str, int]:
    array, _, index = job.partition("_")
    return array, int(index or 0)


def _print_summary(name: str, chosen: Selection) -> None:
    parts = [f"{len(chosen.done)} done"]
    parts += [f"{len(chosen.active)} waiting or running"] if chosen.active else []
    print(f"sweep {name}: {', '.join(parts)}, {len(chosen.take)} to submit")
    for line in chosen.left_alone():
        print(f"  {line}")


def _consent(limit: Limit, jobs: Sequence[SlurmJob], sweep: WrittenSweep, *, yes: bool) -> bool:
    simulated = any(one.job.simulation for one in jobs)
    cluster = read_cluster(sweep.config.cluster)
    return consent(limit, [one.estimate for one in jobs], cluster, yes=yes, simulated=simulated)


def main(config: DictConfig) -> int:
    """Submit or resume a sweep."""
    launcher = cli.build(config.launch, "launch")
    if not isinstance(launcher, SlurmLauncher):
        raise ConfigError("launch: this command submits to Slurm; python -m launch.local trains on this machine")
    root, name = Path(cli.text(config.root, "root")), None if config.sweep is None else str(config.sweep)
    sweep = with_trainer(load_sweep(root, name), config.get("train"))
    sweep.config.cluster = _cluster(config, sweep.config.get("cluster"))
    sweep.config.container = config.container
    data_path = Path(cli.text(config.data.path, "data.path")) if config.data.path is not None else None
    return launcher.launch(
        root,
        name,
        data_path,
        sweep=sweep,
        retry=read_retry(config.retry),
        limit=build(Limit, config.limit or {}, "limit"),
        yes=config.yes,
    )


def _cluster(config: DictConfig, planned: Any) -> Any:
    """The cluster to submit to.

    Without ``cluster=`` on the command line the planned one; with the name of the planned one its hardware and layout as planned,
    and its ``slurm`` as the file says now (it may have been mended since); else the named one. Options given here come last.
    """
    from hydra.core.hydra_config import HydraConfig

    words = [word.lstrip("+") for word in HydraConfig.get().overrides.task]
    named = any(word.startswith("cluster=") for word in words)
    if planned is None or (named and planned.get("name") != config.cluster.name):
        return config.cluster
    chosen: Any = OmegaConf.merge(config.cluster, OmegaConf.to_container(planned))
    if named:
        chosen.slurm = config.cluster.slurm
    for word in words:
        key = word.partition("=")[0]
        if key.startswith("cluster."):
            OmegaConf.update(chosen, key.removeprefix("cluster."), OmegaConf.select(config, key), force_add=True)
    return chosen


if __name__ == "__main__":
    from launch import slurm  # under its own name, by which Hydra builds the launcher

    cli.run("slurm", slurm.main)

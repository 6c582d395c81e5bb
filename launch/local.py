"""Train a sweep on this machine: ``python -m launch.local sweep=NAME``; the same command resumes it.

Runs are separate processes, longest first, a branch once its trunk has come to its branch point, as many side by side as there
are cores (or GPUs), forked from one server that has imported Megatron. Ctrl-C lets them save a checkpoint and stops; a second
Ctrl-C stops at once. A failing run never stops the others, except the branches that need its checkpoint.
"""

import dataclasses
import importlib.util
import multiprocessing.forkserver
import netrc
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from harness import cli
from harness.errors import ConfigError
from harness.measured import read_measurements
from harness.megatron.options import KEEP, Kernels
from harness.megatron.pretrain import REFUSED
from harness.resources import Cluster
from harness.rundir import RunDirectory
from harness.settings import Settings, job_options, named_cluster
from harness.sweepfile import WrittenSweep, load_sweep
from launch.job import Job, make_job, train_in_child
from launch.progress import PlainLog, Progress, Tally, clock, make_progress
from launch.trainer import with_trainer
from launch.trunks import release, startable, why_never

POLL_SECONDS = 0.2

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class LocalLauncher:
    """Runs sweeps on the machine it is called on (``configs/launch/local.yaml``)."""

    def __init__(self, *, slots: int | None = None, retries: int = 1, keep_checkpoints: str = "none"):
        """See the configuration file for the meaning of each.

        Raises:
            ConfigError: a value cannot be used.
        """
        if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 1):
            raise ConfigError(f"launch.slots={slots}: a whole number of at least 1 is wanted, or null")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise ConfigError(f"launch.retries={retries}: a whole number of at least 0 is wanted")
        if keep_checkpoints not in KEEP:
            raise ConfigError(f"launch.keep_checkpoints={keep_checkpoints}: it must be none, last or all")
        self.gpus = count_gpus()
        self.slots = slots or self.gpus or len(os.sched_getaffinity(0))
        self.retries = retries
        self.keep_checkpoints = keep_checkpoints

    def launch(self, root: Path, name: str, data_path: Path | None = None, train: Any | None = None) -> int:
        """Train what is not done of the sweep `name`; exit code 0: all runs are done, 1: some failed, 130: stopped.

        `data_path`: where the dataset lies now, if not where it lay when the sweep was planned. `train`: see `with_trainer`.

        Raises:
            HarnessError: a run cannot be trained here; found before any is started.
        """
        sweep = with_trainer(load_sweep(root, name), train)
        for experiment in sweep.experiments:  # what an earlier launch was stopped before it could remove
            if experiment.training.branch_points:
                release(root, experiment, self.keep_checkpoints)
        jobs, done, diverged = self._jobs(sweep, data_path or sweep.data_path)
        if diverged:
            print(f"{len(diverged)} diverged earlier and are left as they are: {', '.join(diverged)}")
        if not jobs:
            print(f"sweep {name}: {done} of {len(sweep.experiments)} runs are done; nothing to train")
            return EXIT_FAILED if diverged else 0
        simulated = any(job.simulation for job in jobs)
        if not simulated and importlib.util.find_spec("megatron") is None:
            raise ConfigError("megatron-core is not installed: pip install -e '.[train]' -c constraints.txt")
        doing = "SIMULATING" if simulated else "training"
        print(
            f"sweep {name}: {done} of {len(sweep.experiments)} runs are done; {doing} {len(jobs)}, {self.slots} at a time"
        )
        tally = Tally(
            total=len(sweep.experiments),
            work=sum(job.seconds for job in jobs),
            done=done,
            failed=len(diverged),
            simulated=simulated,
        )
        progress = make_progress()
        session = _Session(self, sweep, jobs, tally, progress)
        try:
            code = session.work()
        finally:
            progress.close()
        print(
            f"sweep {name}{' (SIMULATED)' if simulated else ''}: {tally.done} of {tally.total} runs done, {tally.failed} failed, "
            f"in {clock(time.monotonic() - tally.started)}"
        )
        return code

    def _jobs(self, sweep: WrittenSweep, data_path: Path | None) -> tuple[list[Job], int, list[str]]:
        """The jobs to do, longest first; how many runs are done; ids of those that diverged."""
        measured = read_measurements(sweep.root)
        options = dataclasses.replace(
            job_options(sweep.config, sweep.name),
            keep_checkpoints=self.keep_checkpoints,
            kernels=installed_kernels() if self.gpus else Kernels(),
        )
        machine = self.machine(sweep) if options.simulation is None else named_cluster("cpu")
        if options.simulation is None:
            check_wandb(options.logging.wandb.mode)
        jobs, done, diverged = [], 0, []
        for experiment in sweep.experiments:
            run = RunDirectory(sweep.root, experiment.run_id)
            state = run.status().state
            if state == "done" and run.result() is not None:
                done += 1
            elif state == "diverged":
                diverged.append(experiment.run_id)
            else:
                jobs.append(make_job(sweep, experiment, machine, data_path, options, measured))
        for job in jobs:
            if job.gpus > 1:
                raise ConfigError(f"run {job.run.run_id} needs {job.gpus} GPUs; launch.local gives each run one")
        for job in jobs:
            job.run.create(job.experiment, job.command)
        return sorted(jobs, key=lambda job: -job.seconds), done, diverged

    def machine(self, sweep: WrittenSweep) -> Cluster:
        """This machine as a cluster: its own GPUs, or its cores."""
        if self.gpus == 0:
            return named_cluster("cpu")
        planned = Settings(sweep.config).cluster
        return planned if planned.gpus_per_node else named_cluster("h100")


def check_wandb(mode: str) -> None:
    """Refuse to send metrics to W&B without a key, before any run has started.

    Raises:
        ConfigError: there is neither WANDB_API_KEY nor a login in ~/.netrc.
    """
    if mode != "online" or os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_BASE_URL"):
        return
    try:
        login = netrc.netrc().authenticators("api.wandb.ai")
    except (OSError, netrc.NetrcParseError):
        login = None
    if login is None:
        raise ConfigError(
            "logging.wandb.mode=online, and there is no API key: run `wandb login`, set WANDB_API_KEY, or leave it offline and "
            "upload later (wandb sync)"
        )


def count_gpus() -> int:
    """GPUs that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    if shutil.which("nvidia-smi") is None:
        return 0
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def installed_kernels() -> Kernels:
    """Whether Transformer Engine and Apex' fused weight gradients import here; asked in processes of their own."""

    def imports(module: str) -> bool:
        done = subprocess.run([sys.executable, "-c", f"import torch, {module}"], capture_output=True, check=False)
        return done.returncode == 0

    return Kernels(
        transformer_engine=imports("transformer_engine.pytorch"), apex=imports("fused_weight_gradient_mlp_cuda")
    )


class _Session:
    """One launch: the queue, the running children, and the signals."""

    def __init__(self, launcher: LocalLauncher, sweep: WrittenSweep, jobs: list[Job], tally: Tally, progress: Progress):
        self.launcher = launcher
        self.trunks = {one.run_id: one for one in sweep.experiments if one.training.branch_points}
        self.waiting = list(jobs)
        self.running: dict[int, tuple[Job, ForkServerProcess]] = {}
        self.tally = tally
        self.progress = progress
        self.starts: dict[str, int] = {}
        self.logs: dict[str, Path] = {}
        self.interrupts = 0
        os.environ["OMP_NUM_THREADS"] = "1"  # threads made tiny runs 6 to 30 times slower; GPU runs need none
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        self.processes = multiprocessing.get_context("forkserver")
        trainer = "harness.simulated.program" if tally.simulated else "harness.megatron.preloaded"
        self.processes.set_forkserver_preload([trainer])

    def work(self) -> int:
        """Run the queue to its end, or until told to stop."""
        # the server inherits what is done with SIGINT now: a Ctrl-C must not end it while it imports Megatron
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        multiprocessing.forkserver.ensure_running()
        signal.signal(signal.SIGINT, handler)
        before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self.running or (self.waiting and not self.interrupts):
                while not self.interrupts and len(self.running) < self.launcher.slots and (job := self._next()):
                    self.waiting.remove(job)
                    self._start(job)
                for slot, (job, process) in list(self.running.items()):
                    if process.exitcode is not None:
                        del self.running[slot]
                        process.join()
                        self._ended(job, process.exitcode, process.pid)
                self._show()
                time.sleep(POLL_SECONDS)
        finally:
            for _, process in self.running.values():
                process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.interrupts:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if self.tally.failed else 0

    def _next(self) -> Job | None:
        """The longest run that may start; branches whose trunk can no longer bring them anywhere are given up."""
        active = {job.run.run_id for job in (*self.waiting, *(job for job, _ in self.running.values()))}
        for job in list(self.waiting):
            if (reason := why_never(job, active)) is not None:
                self.waiting.remove(job)
                self._give_up(job, f"left out {job.label}: {reason}")
        return startable(self.waiting)

    def _give_up(self, job: Job, text: str) -> None:
        self.tally.failed += 1
        self.tally.finished_work += job.seconds
        self.progress.note(text)

    def _start(self, job: Job) -> None:
        slot = next(slot for slot in range(self.launcher.slots) if slot not in self.running)
        log = job.run.logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        self.logs[job.run.run_id] = log
        process = self.processes.Process(
            target=train_in_child,
            args=(
                str(job.run.path.absolute()),
                list(job.flags),
                str(log.absolute()),
                slot % self.launcher.gpus if self.launcher.gpus else None,
                job.environment,
                job.program,
                list(job.simulation),
            ),
        )
        process.start()
        self.running[slot] = (job, process)
        if self.interrupts:  # the signal came while the process was being made, and has not reached it
            process.terminate()
        self.starts[job.run.run_id] = self.starts.get(job.run.run_id, 0) + 1

    def _show(self) -> None:
        """Update the display; a display that fails gives way to the plain log, and never ends a training."""
        try:
            self.progress.update(self.tally, [job for job, _ in self.running.values()])
        except Exception as error:
            self.progress.close()
            self.progress = PlainLog()
            self.progress.note(f"the live table failed ({error}); going on with a plain log")

    def _ended(self, job: Job, code: int, pid: int | None) -> None:
        status = job.run.status()
        if status.state == "done":
            loss = (job.run.result() or {}).get("final_validation_loss")
            self.tally.done += 1
            self.tally.finished_work += job.seconds
            self.progress.note(f"done     {job.label}, validation loss {loss if loss is None else f'{loss:.4f}'}")
            self._release_trunk(job)
            return
        own = bool(status.attempts) and status.attempts[-1].pid == pid
        if own and status.attempts[-1].end is None:  # it ended without a word: record that for whoever looks
            words = f"killed by signal {-code}" if code < 0 else "vanished"
            job.run.end_attempt(end="signal" if self.interrupts else "killed", exit_code=code, message=words)
        if code == REFUSED and not own:  # another process holds the lease, or the directory is not this run's
            self._give_up(job, f"refused  {job.label}: left alone (see {self.logs[job.run.run_id]})")
        elif self.interrupts:
            self.progress.note(f"stopped  {job.label}")
        elif code < 0 and self.starts[job.run.run_id] <= self.launcher.retries:
            self.progress.note(f"killed   {job.label} by signal {-code}; starting it again")
            self.waiting.insert(0, job)
        else:
            status = job.run.status()
            message = status.attempts[-1].message if status.attempts else None
            log = self.logs[job.run.run_id]
            self._give_up(job, f"{status.state:8s} {job.label}: {message or f'exit code {code}'} (log: {log})")
            self._release_trunk(job)

    def _release_trunk(self, job: Job) -> None:
        """A trunk or a branch of it ended: remove the trunk's checkpoints if nobody needs them any more."""
        trunk = (
            job.experiment if job.experiment.training.branch_points else self.trunks.get(job.experiment.training.trunk)
        )
        if trunk is not None and release(job.run.root, trunk, self.launcher.keep_checkpoints):
            self.progress.note(f"removed the checkpoints of trunk {trunk.run_id}: its branches are done")

    def _interrupt(self, *_signal: Any) -> None:
        self.interrupts += 1
        if self.interrupts == 1:
            self.progress.note(f"stopping: {len(self.running)} runs save a checkpoint; once more to stop at once")
            for _, process in self.running.values():
                process.terminate()
        else:
            for _, process in self.running.values():
                process.kill()


def main(config: DictConfig) -> int:
    """Train or resume a sweep."""
    launcher = cli.build(config.launch, "launch")
    if launcher is None:
        raise ConfigError("launch=none trains nothing: leave launch= out, or choose local")
    name = None if config.sweep is None else str(config.sweep)
    data_path = Path(cli.text(config.data.path, "data.path")) if config.data.path is not None else None
    return int(launcher.launch(Path(cli.text(config.root, "root")), name, data_path, config.get("train")))


if __name__ == "__main__":
    cli.run("local", main)

"""One local launch at work: the queue, the running processes, and the signals."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.megatron.branching import can_start
from harness.megatron.pretrain import REFUSED
from harness.sweepfile import WrittenSweep
from launch.job import Job
from launch.localqueue import LocalQueue
from launch.logs import last_metrics
from launch.progress import Progress, Tally
from launch.running import Running
from launch.slots import Busy, Devices, Need, choose
from launch.trunks import release, why_never

POLL_SECONDS = 0.2
"""The display and requests to cancel are looked after this often; the end of a process is seen at once."""

SAVE_SECONDS = 120.0
"""Where the launcher itself fails, runs have this long to save and stop."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

PRELOAD = (
    "launch.session", "launch.trainer", "launch.launchers", "launch.machine", "launch.selection", "harness.bill",
    "harness.sweepwrite",
)  # fmt: skip
"""What the main modules import, which each forked process imports again."""


class Session:
    """Trains `jobs` to their end, or until told to stop."""

    def __init__(
        self,
        *,
        sweep: WrittenSweep,
        jobs: Sequence[Job],
        devices: Sequence[str],
        retries: int,
        keep_checkpoints: str,
        tally: Tally,
        progress: Progress,
    ):
        """`jobs` in the order of their start; `devices`: one a slot, names of GPUs or empty for cores."""
        self.sweep = sweep
        self.trunks = {one.run_id: one for one in sweep.experiments if one.training.branch_points}
        self.waiting = list(jobs)
        self.running: list[Running] = []
        self.devices = Devices(devices)
        self.on_gpus = any(devices)
        self.retries, self.keep_checkpoints = retries, keep_checkpoints
        self.tally, self.progress = tally, progress
        self.queue = LocalQueue(sweep.root)
        self.starts: dict[str, int] = {}
        self.logs: dict[str, Path] = {}
        self.interrupts = 0
        self._looked = 0.0
        os.environ["OMP_NUM_THREADS"] = "1"  # threads made tiny runs 6 to 30 times slower; GPU runs need none
        os.environ.setdefault("PYTHONWARNINGS", "ignore")
        if self.on_gpus:  # the server must not touch CUDA: a process forked after that cannot use it
            os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        self.processes = multiprocessing.get_context("forkserver")
        trainer = "harness.simulated.program" if tally.simulated else "harness.megatron.preloaded"
        self.processes.set_forkserver_preload([*PRELOAD, trainer])

    def work(self) -> int:
        """Run the queue to its end, or until told to stop; the exit code."""
        # the server inherits what is done with SIGINT now: a Ctrl-C must not end it while it imports Megatron
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        multiprocessing.forkserver.ensure_running()
        signal.signal(signal.SIGINT, handler)
        before = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        self.queue.open()
        try:
            while self.running or (self.waiting and not self.interrupts):
                while not self.interrupts and (job := self._next()) is not None:
                    self.waiting.remove(job)
                    self._start(job)
                self._look_after()
                sentinels = [
                    process.sentinel for one in self.running for process in one.processes if process.is_alive()
                ]
                multiprocessing.connection.wait(sentinels, timeout=POLL_SECONDS)
                for one in list(self.running):
                    if (code := one.exit_code(time.monotonic())) is not None:
                        self.running.remove(one)
                        self.devices.give_back(one.slots)
                        self._ended(one, code)
        finally:
            self._stop_all()
            self.queue.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.interrupts:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if self.tally.failed or self.tally.cancelled else 0

    def _stop_all(self) -> None:
        """Whatever still runs, after an error of the launcher's own: save and stop, or after a second Ctrl-C stop."""
        deadline = time.monotonic() + SAVE_SECONDS
        for one in self.running:
            one.kill() if self.interrupts > 1 else one.terminate()
        while self.interrupts < 2 and time.monotonic() < deadline:
            if not any(process.is_alive() for one in self.running for process in one.processes):
                return
            time.sleep(POLL_SECONDS)
        for one in self.running:
            one.kill()

    def _next(self) -> Job | None:
        """The run to start now; branches whose trunk can no longer bring them anywhere are given up."""
        branches = [job for job in self.waiting if job.experiment.training.trunk]
        if branches:
            active = {job.run.run_id for job in (*self.waiting, *(one.job for one in self.running))}
            for job in branches:
                if (reason := why_never(job, active)) is not None:
                    self.waiting.remove(job)
                    self._give_up(job, f"left out {job.label}: {reason}")
        if not self.devices.free:
            return None
        ready = [job for job in self.waiting if can_start(job.run, job.experiment)]
        busy = [Busy(devices=len(one.slots), ends=one.started + one.job.seconds) for one in self.running]
        needs = [Need(devices=job.ranks, seconds=job.seconds) for job in ready]
        index = choose(needs, self.devices.free, busy, time.monotonic())
        return None if index is None else ready[index]

    def _start(self, job: Job) -> None:
        slots = self.devices.take(job.ranks)
        log = job.run.logs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        self.logs[job.run.run_id] = log
        environment = dict(job.environment)
        if self.on_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices.names(slots)
        one = Running(job=job, slots=slots, processes=[], started=time.monotonic())
        self.running.append(one)
        one.start(self.processes, log, environment)
        if self.interrupts:  # the signal came while the processes were being made, and has not reached them
            one.terminate()
        self.starts[job.run.run_id] = self.starts.get(job.run.run_id, 0) + 1

    def _look_after(self) -> None:
        """Every now and then: requests to cancel, the queue's file, and the display."""
        if time.monotonic() - self._looked < POLL_SECONDS:
            return
        self._looked = time.monotonic()
        self._cancel()
        waiting = [job.run.run_id for job in self.waiting]
        # of several ranks the last one writes
        running = {one.job.run.run_id: one.processes[-1].pid or 0 for one in self.running}
        self.queue.write(waiting, running)
        self.progress.update(self.tally, [one.job for one in self.running])

    def _cancel(self) -> None:
        wanted = self.queue.cancelled()
        if not wanted:
            return
        for job in [job for job in self.waiting if job.run.run_id in wanted]:
            self.waiting.remove(job)
            self._cancelled(job)
        for one in self.running:
            if one.job.run.run_id in wanted and not one.cancelled:
                one.cancelled = True
                one.terminate()

    def _cancelled(self, job: Job) -> None:
        self.tally.cancelled += 1
        self.tally.finished_work += job.seconds
        self.progress.note(f"cancelled {job.label}")

    def _give_up(self, job: Job, text: str) -> None:
        self.tally.failed += 1
        self.tally.finished_work += job.seconds
        self.progress.note(text)

    def _ended(self, one: Running, code: int) -> None:
        job = one.job
        status = job.run.status()
        if status.state == "done":
            loss = (job.run.result() or {}).get("final_validation_loss")
            self.tally.done += 1
            self.tally.finished_work += job.seconds
            self.progress.note(f"done     {job.label}, validation loss {loss if loss is None else f'{loss:.4f}'}")
            self._release_trunk(job)
            return
        own = bool(status.attempts) and status.attempts[-1].pid in [process.pid for process in one.processes]
        if own and status.attempts[-1].end is None:  # it ended without a word: record that for whoever looks
            try:
                self._record_end(one, code)
            except OSError as error:  # a full disk: the next start finds an attempt without an end, and says so
                self.progress.note(f"the end of {job.label} could not be recorded: {error}")
        if code == REFUSED and not own:  # another process holds the lease, or the directory is not this run's
            self._give_up(job, f"refused  {job.label}: left alone (see {self.logs[job.run.run_id]})")
        elif self.interrupts:
            self.progress.note(f"stopped  {job.label}")
        elif one.cancelled:
            self._cancelled(job)
        elif code < 0 and self.starts[job.run.run_id] <= self.retries:
            self.progress.note(f"killed   {job.label} by signal {-code}; starting it again")
            self.waiting.insert(0, job)
        else:
            status = job.run.status()
            message = status.attempts[-1].message if status.attempts else None
            log = self.logs[job.run.run_id]
            self._give_up(job, f"{status.state:8s} {job.label}: {message or f'exit code {code}'} (log: {log})")
            self._release_trunk(job)

    def _record_end(self, one: Running, code: int) -> None:
        words = f"killed by signal {-code}" if code < 0 else "vanished"
        if len(one.processes) > 1:
            codes = ", ".join(f"{rank}: {process.exitcode}" for rank, process in enumerate(one.processes))
            words += f" (exit codes of its ranks: {codes})"
        end = "signal" if self.interrupts or one.cancelled else "killed"
        run = one.job.run
        first = run.status().attempts[-1].first_step
        last = max(first, last_metrics(run.metrics_path).get("step", 0))
        run.end_attempt(end=end, first_step=first, last_step=last, exit_code=code, message=words)

    def _release_trunk(self, job: Job) -> None:
        """A trunk or a branch of it ended: remove the trunk's checkpoints if nobody needs them any more."""
        trunk = (
            job.experiment if job.experiment.training.branch_points else self.trunks.get(job.experiment.training.trunk)
        )
        if trunk is not None and release(job.run.root, trunk, self.keep_checkpoints):
            self.progress.note(f"removed the checkpoints of trunk {trunk.run_id}: its branches are done")

    def _interrupt(self, *_signal: Any) -> None:
        self.interrupts += 1
        if self.interrupts == 1:
            self.progress.note(f"stopping: {len(self.running)} runs save a checkpoint; once more to stop at once")
        for one in self.running:
            one.terminate() if self.interrupts == 1 else one.kill()

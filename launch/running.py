"""A run of a local launch that has its devices: a process for each of its ranks.

Each is forked from one server that has the trainer in memory; a run of k GPUs is k of them, with torch's rendezvous variables in
place of torchrun, which would kill them 30 s after a signal, before a large checkpoint is saved.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from harness.megatron.pretrain import STOPPED
from launch.child import Rank, work
from launch.job import Job

GRACE_SECONDS = 10.0
"""When a rank has failed, the others have this long to say so themselves; they would wait for it for ever."""


@dataclass(kw_only=True)
class Running:
    """A run that has its devices."""

    job: Job
    slots: tuple[int, ...]
    processes: list[ForkServerProcess]
    started: float
    failed: int | None = None
    """Exit code of the first rank that failed while others ran on."""
    kill_at: float | None = None
    cancelled: bool = False

    def start(self, context: ForkServerContext, log: Path, environment: Mapping[str, str]) -> None:
        """Make the process of each rank, with these variables."""
        job = self.job
        for variables in rendezvous(job.ranks):
            rank = Rank(
                run=job.run.path.absolute(),
                log=log.absolute(),
                environment={**environment, **variables},
                flags=job.flags,
                program=job.program,
                simulation=job.simulation,
            )
            process = context.Process(target=work, args=(rank,))
            process.start()
            self.processes.append(process)

    def terminate(self) -> None:
        """Tell every rank to save a checkpoint and stop."""
        for process in self.processes:
            process.terminate()

    def kill(self) -> None:
        """End every rank now."""
        for process in self.processes:
            process.kill()

    def exit_code(self, now: float) -> int | None:
        """Of the run, once all its ranks are gone: that of the first that failed, else `STOPPED` if one stopped; None before."""
        codes = [process.exitcode for process in self.processes]
        failed = [code for code in codes if code not in (None, 0, STOPPED)]
        if self.failed is None and failed:
            self.failed, self.kill_at = failed[0], now + GRACE_SECONDS
        if None in codes:
            if self.kill_at is not None and now >= self.kill_at:
                self.kill()
            return None
        return self.failed if self.failed is not None else max(code for code in codes if code is not None)


def rendezvous(ranks: int) -> list[dict[str, str]]:
    """torch.distributed's variables for each rank on this machine; none for a single one."""
    if ranks == 1:
        return [{}]
    with socket.socket() as found:  # a port that is free now
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    return [
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        for rank in range(ranks)
    ]

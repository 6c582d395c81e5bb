"""What a local launch runs in each process that its fork server makes: one rank of one run."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.megatron.options import Program
from harness.rundir import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Rank:
    """All that the process must know."""

    run: Path
    """The run's directory."""
    log: Path
    """What it prints goes there; ranks of one run share it."""
    environment: Mapping[str, str]
    """Devices, and the rendezvous of several ranks."""
    flags: tuple[str, ...]
    """Megatron's."""
    program: Program
    simulation: tuple[str, ...]
    """The simulator's arguments, in place of Megatron."""


def work(rank: Rank) -> None:
    """Train (or simulate), and leave with the training program's exit code.

    The process is a session of its own, so that Ctrl-C in the terminal reaches only the launcher, and it is told to stop
    (SIGTERM) when the launcher dies.
    """
    os.setsid()
    threading.Thread(target=_stop_with_launcher, daemon=True).start()
    descriptor = os.open(rank.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for number in (1, 2):
        os.dup2(descriptor, number)
    os.environ.update(rank.environment)
    from harness.megatron.pretrain import REFUSED, train

    try:
        if rank.simulation:
            from harness.simulated.program import main

            code = main(list(rank.simulation))
        else:
            code = train(RunDirectory.at(rank.run), list(rank.flags), rank.program)
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

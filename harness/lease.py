"""The right to write into a directory, for one process at a time, also on a filesystem that several machines share.

    with Lease(run.path) as lease:
        ...
        lease.check()       before writing: raises if another process took over

It is a file, ``lease.json``, made by hard link (atomic also where there is no flock), with an owner, the attempt that it is,
and a heartbeat. It is taken over when its owner is dead: on this machine, no process of that id and start time; on another,
no heartbeat for `LEASE_SECONDS`. Ages are told by the filesystem's clock, so that clocks need not agree.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from pathlib import Path

from harness.errors import RunError
from harness.files import read_json, write_json

HEARTBEAT_SECONDS = 10.0
"""The owner of a lease shows this often that it lives."""

LEASE_SECONDS = 120.0
"""A lease held on another machine counts as abandoned when its heartbeat is older than this."""

CHECK_SECONDS = 1.0
"""`Lease.check` looks at the file this often at most."""

POLL_SECONDS = 1.0


class Lease:
    """One process's claim to a directory."""

    def __init__(self, directory: Path, *, patient: bool = False):
        """`patient`: wait for the end of a lease on another machine that shows no sign of life (for up to `LEASE_SECONDS`).

        A cluster starts a run again on another node as soon as it misses the first, and the lease may be a minute from its end.
        """
        self.path = directory / "lease.json"
        self.patient = patient
        self.token = secrets.token_hex(8)
        self._given_back = threading.Event()
        self._checked = time.monotonic()

    def __enter__(self) -> "Lease":
        while not self._claim():
            dead = self._wait_for_the_end()
            self._bury(dead)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._given_back.set()
        if self.held():
            self.path.unlink(missing_ok=True)

    def _wait_for_the_end(self) -> str | None:
        """Return when the present owner counts as dead: its token.

        Raises:
            RunError: it lives.
        """
        first = _heartbeat(self.path)
        while True:
            holder = read_json(self.path)
            holder = holder if isinstance(holder, dict) else {}
            if not is_alive(self.path):
                return holder.get("token")
            if holder.get("host") == socket.gethostname() or not self.patient or _heartbeat(self.path) != first:
                raise RunError(
                    f"{self.path.parent} is being written by process {holder.get('pid')} on {holder.get('host')} "
                    f"(attempt {holder.get('attempt')}): this second copy stops; wait for the other, or end it"
                )
            time.sleep(POLL_SECONDS)

    def _bury(self, dead: str | None) -> None:
        """Take a dead owner's file away; what another process has put in its place meanwhile is put back."""
        taken = self.path.with_name(f".lease.{self.token}.stale")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(taken)
            if (read_json(taken) or {}).get("token") != dead:
                with contextlib.suppress(FileExistsError):
                    os.link(taken, self.path)
            taken.unlink()

    def _claim(self) -> bool:
        owner = {
            "token": self.token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_start": _process_start(os.getpid()),
            "attempt": len((read_json(self.path.with_name("status.json")) or {}).get("attempts", ())) + 1,
        }
        own = self.path.with_name(f".lease.{self.token}")
        write_json(own, owner)
        try:
            os.link(own, self.path)
        except FileExistsError:
            return False
        finally:
            own.unlink(missing_ok=True)
        return True

    def held(self) -> bool:
        """Whether the file still names this owner."""
        return (read_json(self.path) or {}).get("token") == self.token

    def check(self, *, now: bool = False) -> None:
        """Refuse to go on without the lease; looks at most once in `CHECK_SECONDS`, or `now`.

        Raises:
            RunError: it was taken over; the caller must stop writing.
        """
        if not now and time.monotonic() - self._checked < CHECK_SECONDS:
            return
        self._checked = time.monotonic()
        if not self.held():
            holder = read_json(self.path) or {}
            by = f"attempt {holder.get('attempt')} on {holder.get('host')}" if holder else "another process"
            raise RunError(f"{self.path.parent} was taken over by {by}: this copy stops")

    def _beat(self) -> None:
        """Renew the file's time, also through a long step, validation or save."""
        while not self._given_back.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                if self.held():
                    os.utime(self.path)


def is_alive(directory: Path) -> bool:
    """Whether the process that holds the lease of `directory` counts as living; False where nobody holds it."""
    path = directory if directory.name == "lease.json" else directory / "lease.json"
    holder = read_json(path)
    if not isinstance(holder, dict):
        return False
    if holder.get("host") == socket.gethostname():
        pid = holder.get("pid")
        return isinstance(pid, int) and _process_start(pid) == holder.get("process_start")
    beat = _heartbeat(path)
    return beat is not None and _filesystem_time(path.parent) - beat < LEASE_SECONDS


def beats(directory: Path, seconds: float) -> bool:
    """Whether the owner of the lease of `directory` gives a sign of life within `seconds`, wherever it is."""
    path = directory / "lease.json"
    first, deadline = _heartbeat(path), time.monotonic() + seconds
    while first is not None and time.monotonic() < deadline:
        if (now := _heartbeat(path)) != first:
            return now is not None
        time.sleep(POLL_SECONDS)
    return False


def _heartbeat(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _filesystem_time(directory: Path) -> float:
    """Now, by the clock that the files' times come from; this machine's where the directory cannot be written."""
    probe = directory / f".clock.{secrets.token_hex(4)}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _process_start(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since boot; None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]

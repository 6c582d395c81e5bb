"""A real Slurm on this machine: one controller and four nodes with eight pretend GPUs each, all on the loopback interface.

    python -m tests.slurm.cluster up|down|crash N|start N [directory]

It needs root, and Debian's slurmctld, slurmd, slurm-client and munge. Each node is a slurmd in a UTS namespace of its own, so
that it has its own host name; a crash kills whatever runs in it, as a loss of power does. The GPUs are files: jobs get them
allocated, and what they run is on the CPU.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NODES = 4
GPUS = 8
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "unshare")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
MaxArraySize={max_array_size}
MinJobAge={min_job_age}
KillWait=15
BatchStartTimeout=10
SlurmdTimeout=10
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES PriorityTier=10
PartitionName=urgent Nodes=ALL PriorityTier=100
"""


def why_not() -> str | None:
    """Why there can be no Slurm here; None where there can."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"Slurm is not installed ({', '.join(missing)}): apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "a Slurm of one's own needs root"


class SlurmCluster:
    """The cluster in a directory; commands of Slurm find it through SLURM_CONF."""

    def __init__(self, root: Path, port: int = 16817, *, max_array_size: int = 1001, min_job_age: int = 7200):
        self.root, self.port = root, port
        self.max_array_size, self.min_job_age = max_array_size, min_job_age
        self.environment = {"SLURM_CONF": str(root / "slurm.conf")}

    @property
    def names(self) -> list[str]:
        return [f"node{number}" for number in range(1, NODES + 1)]

    def up(self) -> None:
        """Start everything, and wait until all nodes are idle."""
        shutil.rmtree(self.root, ignore_errors=True)
        for name in ("munge", "state", "spool", "gpu"):
            (self.root / name).mkdir(parents=True)
        self.root.chmod(0o755)
        (self.root / "munge").chmod(0o755)
        key = self.root / "munge" / "key"
        key.touch(mode=0o400)
        key.write_bytes(os.urandom(128))
        for number in range(GPUS):
            (self.root / "gpu" / f"nvidia{number}").symlink_to("/dev/null")
        (self.root / "gres.conf").write_text(f"Name=gpu File={self.root}/gpu/nvidia[0-{GPUS - 1}]\n")
        values = {"host": socket.gethostname().partition(".")[0], "root": self.root, "port": self.port}
        text = CONFIGURATION.format(max_array_size=self.max_array_size, min_job_age=self.min_job_age, **values)
        for number, name in enumerate(self.names, 1):
            text += (
                f"NodeName={name} NodeAddr=127.0.0.1 Port={self.port + number} CPUs=64 Sockets=2 CoresPerSocket=32 "
                f"RealMemory=1000000 Gres=gpu:{GPUS}\n"
            )
        (self.root / "slurm.conf").write_text(text)
        self._name_the_nodes()
        munge = self.root / "munge"
        words = {"key-file": key, "socket": munge / "socket", "pid-file": munge / "pid", "log-file": munge / "log"}
        self._start(
            [
                "munged",
                "--foreground",
                *(f"--{name}={path}" for name, path in words.items()),
                f"--seed-file={munge}/seed",
            ]
        )
        self._wait(munge.joinpath("socket").is_socket, "munged")
        self.start_controller(clean=True)
        for name in self.names:
            (self.root / "spool" / name).mkdir()
            self.start(name)
        self._wait(lambda: len(self.idle()) == NODES, "nodes")

    def start_controller(self, *, clean: bool = False) -> None:
        """`clean`: without the jobs of before."""
        self._start(["slurmctld", "-D", *(["-c"] if clean else []), "-f", self.environment["SLURM_CONF"]])

    def stop_controller(self, number: int = signal.SIGKILL) -> None:
        """Kill the controller; jobs go on."""
        self._kill("slurmctld", number)

    def start(self, name: str) -> None:
        """Start a node."""
        command = f"hostname {name}; exec slurmd -D -N {name} -f {self.environment['SLURM_CONF']}"
        self._start(["unshare", "--uts", "sh", "-c", command])

    def stop_slurmd(self, name: str) -> None:
        """Kill a node's slurmd; its jobs live on."""
        self._kill(name, signal.SIGKILL)

    def crash(self, name: str) -> None:
        """Power off: everything in the node's namespace is killed."""
        number = int((self.root / f"{name}.pid").read_text())
        namespace = _namespace(number)
        assert namespace != _namespace("self")
        while victims := [pid for pid in _processes() if _namespace(pid) == namespace]:
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        (self.root / f"{name}.pid").unlink(missing_ok=True)

    def idle(self) -> list[str]:
        """Nodes that are idle."""
        done = self.call(
            "sinfo", "--noheader", "--Node", "--partition=main", "--states=idle", "--format=%N", check=False
        )
        return done.stdout.split()

    def call(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command of Slurm; asked again where the controller hung up on it (SIGPIPE), as a busy one does."""
        for _ in range(5):
            done = subprocess.run(words, env=os.environ | self.environment, capture_output=True, text=True, check=False)
            if done.returncode != -signal.SIGPIPE:
                break
            time.sleep(1)
        if check:
            done.check_returncode()
        return done

    def empty(self, seconds: float) -> bool:
        """End all jobs; whether none is left, and all nodes are idle, within `seconds`."""
        deadline = asked = time.monotonic()
        deadline += seconds
        while (queue := self.call("squeue", "-h", check=False)).returncode or queue.stdout or len(self.idle()) < NODES:
            if time.monotonic() >= asked:
                self.call("scancel", "--full", f"--user={os.environ.get('USER', 'root')}", check=False)
                asked = time.monotonic() + 20  # a job that saves and is started again is told once more
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def down(self) -> None:
        """End all jobs and all processes."""
        self.empty(20)
        for name in self.names:
            if (self.root / f"{name}.pid").exists():
                with contextlib.suppress(OSError, ValueError):
                    self.crash(name)
        self._kill("slurmctld", signal.SIGKILL)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.root / "munge" / "pid").read_text()), signal.SIGTERM)
        shutil.rmtree(self.root, ignore_errors=True)

    def _kill(self, name: str, number: int) -> None:
        file = self.root / f"{name}.pid"
        try:
            pid = int(file.read_text())
            os.kill(pid, number)
        except (OSError, ValueError):
            return
        self._wait(lambda: not Path(f"/proc/{pid}/exe").exists(), f"end of {name}")
        file.unlink(missing_ok=True)

    def _start(self, words: list[str]) -> None:
        with (self.root / "started.log").open("ab") as log:
            subprocess.Popen(
                words,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_ordinary_signals,
            )

    def _wait(self, happened: object, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not happened():  # type: ignore[operator]
            if time.monotonic() > deadline:
                logs = "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.root.glob("*.log"))
                raise TimeoutError(f"Slurm: {what} did not come up in {seconds} s\n{logs}")
            time.sleep(0.1)

    def _name_the_nodes(self) -> None:
        hosts = Path("/etc/hosts")
        known = hosts.read_text()
        missing = [name for name in self.names if f" {name}\n" not in known]
        if missing:
            with hosts.open("a") as file:
                file.write("".join(f"127.0.0.1 {name}\n" for name in missing))


def _ordinary_signals() -> None:
    """What is started in the background of a shell inherits an ignored SIGINT, and its jobs with it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").glob("[0-9]*"))


def _namespace(pid: int | str) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/uts").readlink())
    except OSError:
        return None


def main(words: list[str]) -> None:
    action, *rest = words
    numbers = [word for word in rest if word.isdigit()]
    directories = [word for word in rest if not word.isdigit()]
    cluster = SlurmCluster(Path(directories[0] if directories else "/tmp/moe-scaling-slurm"))
    if action in ("up", "down"):
        getattr(cluster, action)()
    else:
        getattr(cluster, action)(f"node{numbers[0]}")
    print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}")


if __name__ == "__main__":
    main(sys.argv[1:])

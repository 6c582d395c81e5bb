"""Python in processes that are forked from one with Megatron in memory, as `launch.local` starts its runs.

Importing Megatron takes most of the time of a tiny training, and is tested where a run is started by its command line.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["harness.megatron.preloaded"])


def python(
    flag: str, program: str, *words: str, environment: dict[str, str] | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """``python -m <module> <words>`` or ``python -c <text> <words>``, with `environment` besides the server's."""
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory) / name for name in ("stdout", "stderr")]
        process = SERVER.Process(target=_main, args=(flag, program, words, environment or {}, outputs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"it did not end in {timeout} s\n{outputs[1].read_text()[-3000:]}")
        stdout, stderr = (path.read_text() if path.exists() else "" for path in outputs)
        return subprocess.CompletedProcess([flag, program, *words], process.exitcode, stdout, stderr)


def _main(flag: str, program: str, words: tuple[str, ...], environment: dict[str, str], outputs: list[Path]) -> None:
    os.environ.update(environment)
    os.setsid()
    for number, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = [flag, *words]
    try:
        if flag == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(compile(program, "<text>", "exec"), {"__name__": "__main__"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()

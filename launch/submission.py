"""One call of the launcher: batch files and task tables in a directory of their own, each sbatch between two journal lines.

<root>/slurm/0001-phase1-1e19/1gpu-1.sbatch, 1gpu-1.tsv, logs/
"""

import secrets
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.files import write_atomically
from harness.lease import Lease
from launch import queue
from launch.batch import Site, batch_file
from launch.journal import Journal, comment
from launch.tasks import Array, shares, write_table


class Submission:
    """The arrays of one call, in a directory of their own."""

    def __init__(self, sweep: str, site: Site, journal: Journal, *, max_parallel: int | None, lease: Lease | None):
        """`sweep`: its name; `max_parallel`: elements of one `submit` that may run at once; without `lease`, only write."""
        self.sweep, self.site, self.journal = sweep, site, journal
        self.max_parallel, self.lease = max_parallel, lease
        self.arrays = self.elements = 0
        self.names: Counter[str] = Counter()
        self.directory = self._make()

    def _make(self) -> Path:
        if self.lease is None:
            directory = self.journal.directory / f"dry-{self.sweep}"
            directory.mkdir(exist_ok=True)
            for path in (*directory.glob("*.sbatch"), *directory.glob("*.tsv")):
                path.unlink()
        else:
            taken = [int(name) for path in self.journal.directory.iterdir() if (name := path.name[:4]).isdigit()]
            directory = self.journal.directory / f"{max(taken, default=0) + 1:04d}-{self.sweep}"
            directory.mkdir()
        (directory / "logs").mkdir(exist_ok=True)
        return directory

    def submit(self, arrays: Sequence[Array]) -> list[str]:
        """Write and submit `arrays`; their job numbers."""
        most = self.max_parallel
        sizes = [len(array.indices) for array in arrays]
        parallel: Sequence[int | None] = shares(most, sizes) if most is not None else [None] * len(arrays)
        return [self._one(array, limit) for array, limit in zip(arrays, parallel, strict=True)]

    def _one(self, array: Array, parallel: int | None) -> str:
        fingerprint = secrets.token_hex(8)
        self.names[array.shape.name] += 1
        path = self.directory / f"{array.shape.name}-{self.names[array.shape.name]}"
        table, script = path.with_suffix(".tsv"), path.with_suffix(".sbatch")
        write_table(table, array.tasks)
        text = batch_file(
            array,
            self.site,
            sweep=self.sweep,
            table=table.absolute(),
            logs=(self.directory / "logs").absolute(),
            fingerprint=fingerprint,
            parallel=parallel,
        )
        write_atomically(script, text)
        self.arrays += 1
        self.elements += len(array.indices)
        if self.lease is None:
            return f"<job of {script.name}>"
        self.lease.check(now=True)
        self.journal.begin(fingerprint, table)
        try:
            job = queue.submit(script, [f"--comment={comment(fingerprint)}"])
        except queue.SlurmError as error:
            if error.may_have_taken:
                raise queue.SlurmError(
                    f"{error} (the job may be in the queue all the same: start this again, it looks)"
                ) from error
            self.journal.write("refused", fingerprint, error=str(error))
            raise
        self.journal.write("submitted", fingerprint, job=job)
        return job

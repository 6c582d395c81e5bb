"""Which runs share a job array, which share a job of it, and the task table that says so.

    index  run_id        gpus  seconds  directory
    0      5b1c0f3a9d2e  1     5400     /data/runs_root/runs/5b1c0f3a9d2e

All elements of an array ask for the same resources, so there is one array (or several, where it would be too large) for each
`Shape`. A branch of a trunk that is not done yet goes into an array whose elements wait for those of the trunk's, by number.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import RunError
from harness.files import write_atomically

COLUMNS = ("index", "run_id", "gpus", "seconds", "directory")

LEAST_SECONDS, MOST_SECONDS = 3600, 24 * 3600
"""Bounds of the time limit that follows from the estimate."""

MARGIN = 2.0
"""Time limit over the longest estimate."""

STEP_SECONDS = 1800
"""Time limits are multiples of this."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What each element of an array asks for."""

    nodes: int
    gpus_per_node: int
    """0: no GPUs."""
    runs: int = 1
    """Most runs that share an element, each with one GPU (or core) of its node."""

    @property
    def name(self) -> str:
        """Of files: ``4x8gpu``, ``1gpu``, ``pack8``, ``cpu``."""
        if self.runs > 1:
            return f"pack{self.runs}" if self.gpus_per_node else f"cpu{self.runs}"
        size = f"{self.gpus_per_node}gpu" if self.gpus_per_node else "cpu"
        return f"{self.nodes}x{size}" if self.nodes > 1 else size


@dataclass(frozen=True, kw_only=True)
class Task:
    """A line of a task table: a run."""

    run_id: str
    gpus: int
    seconds: float
    """Estimated."""
    directory: str
    index: int = 0
    """Element of the array."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A run that is to be submitted."""

    task: Task
    shape: Shape
    trunk: str = ""
    """Run id of the trunk that it waits for; empty: it can start now."""


@dataclass(frozen=True, kw_only=True)
class Array:
    """One job array: its tasks by index."""

    shape: Shape
    tasks: tuple[Task, ...]
    after: str = ""
    """Job array whose elements of the same numbers come first."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Numbers of the elements."""
        return tuple(sorted({task.index for task in self.tasks}))

    @property
    def time_limit(self) -> int:
        """Seconds, from the longest estimate."""
        wanted = MARGIN * max(task.seconds for task in self.tasks)
        return int(min(MOST_SECONDS, max(LEAST_SECONDS, -(-wanted // STEP_SECONDS) * STEP_SECONDS)))


def independent_arrays(wanted: Iterable[Wanted], max_array_size: int) -> list[Array]:
    """Arrays of the runs that wait for nothing: by shape, in each the longest first."""
    by_shape = defaultdict(list)
    for one in wanted:
        if not one.trunk:
            by_shape[one.shape].append(one.task)
    arrays = []
    for shape in sorted(by_shape, key=lambda shape: (-shape.nodes * shape.gpus_per_node, shape.runs)):
        tasks = sorted(by_shape[shape], key=lambda task: (-task.seconds, task.run_id))
        packs = [tasks[start : start + shape.runs] for start in range(0, len(tasks), shape.runs)]
        for start in range(0, len(packs), max_array_size):
            part = packs[start : start + max_array_size]
            arrays.append(
                Array(
                    shape=shape,
                    tasks=tuple(replace(task, index=index) for index, pack in enumerate(part) for task in pack),
                )
            )
    return arrays


def dependent_arrays(wanted: Iterable[Wanted], places: Mapping[str, tuple[str, int]]) -> list[Array]:
    """Arrays of the branches, each element numbered as that of its trunk.

    `places`: job array and number of each trunk. Several branches of one trunk go into as many arrays.
    """
    by_element = defaultdict(list)
    for one in wanted:
        if one.trunk:
            by_element[one.shape, *places[one.trunk]].append(one.task)
    arrays: dict[tuple[Shape, str, int], list[Task]] = defaultdict(list)
    for (shape, job, index), tasks in sorted(by_element.items(), key=lambda item: (item[0][1], item[0][2])):
        tasks = sorted(tasks, key=lambda task: (-task.seconds, task.run_id))
        for start in range(0, len(tasks), shape.runs):
            pack = tasks[start : start + shape.runs]
            arrays[shape, job, start].extend(replace(task, index=index) for task in pack)
    return [Array(shape=shape, tasks=tuple(tasks), after=job) for (shape, job, _), tasks in arrays.items()]


def shares(most: int, arrays: Sequence[int]) -> list[int]:
    """How many elements of each array may run at once, by its size, so that they are `most` together; at least 1 each."""
    rest = sum(arrays) - len(arrays)
    left = min(max(0, most - len(arrays)), rest)
    shared = []
    for size in arrays:
        extra = left * (size - 1) // rest if rest else 0
        shared.append(1 + extra)
        left, rest = left - extra, rest - (size - 1)
    return shared


def write_table(path: Path, tasks: Iterable[Task]) -> None:
    """Write a task table, by index."""
    rows = [COLUMNS, *((t.index, t.run_id, t.gpus, round(t.seconds), t.directory) for t in tasks)]
    write_atomically(path, "".join("\t".join(map(str, row)) + "\n" for row in rows))


def read_table(path: Path) -> list[Task]:
    """The tasks of a table.

    Raises:
        RunError: it is missing or damaged.
    """

    def damaged(what: object) -> RunError:
        return RunError(
            f"{path} is missing or damaged ({what}): it says which runs a job has; restore it, or cancel its jobs"
        )

    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        if not rows or tuple(rows[0]) != COLUMNS or len(rows) == 1:
            raise damaged("its first line is not that of a task table, or it has no runs")
        return [
            Task(index=int(index), run_id=run_id, gpus=int(gpus), seconds=float(seconds), directory=directory)
            for index, run_id, gpus, seconds, directory in rows[1:]
        ]
    except (OSError, ValueError) as error:
        raise damaged(error) from None

"""What finished runs achieved, so that later bills rest on measurements: FLOP/s a device, by device, precision and size.

    measured = read_measurements(root)         reads <root>/runs/*/result.json, each once
    achieved = measured.like(gpu="H100", precision="bf16", recompute="none", flops_per_token=2.1e9)
    save_measurements(root, measured)          so that the next reading opens only the results that are new

Torn, foreign and simulated results count as none.
"""

import math
import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from harness.files import read_json, read_json_lines, write_json_lines

CACHE = "measured.jsonl"
"""Under the root: one measurement a line. It may be removed at any time."""

NEIGHBOURS = 5
"""A measurement is the median over this many runs nearest in size."""

SIZE_FACTOR = 3.0
"""Runs further off in FLOPs a token than this factor say nothing about each other's throughput."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One finished run."""

    run_id: str
    device: str
    """Name of the GPU as its driver gives it, or ``cpu``."""
    precision: str
    recompute: str
    flops_per_token: float
    """Of Megatron's count, with the output layer."""
    tflops_per_gpu: float
    """Achieved, over the median step, in that count; on a CPU of the whole process."""


@dataclass(frozen=True, kw_only=True)
class Achieved:
    """What runs like a planned one reached."""

    flops: float
    """FLOP/s a GPU (a process, on a CPU): the median."""
    runs: int
    """Number of runs that it was taken over."""


class Measurements:
    """All measurements under a root."""

    def __init__(self, measurements: Iterable[Measurement] = (), *, fresh: bool = False):
        """`measurements`: in any order; `fresh`: some are not in the cache."""
        self.fresh = fresh
        self.by_run = {one.run_id: one for one in measurements}
        self._groups: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
        for one in self.by_run.values():
            self._groups[one.device, one.precision, one.recompute].append((one.flops_per_token, one.tflops_per_gpu))
        for group in self._groups.values():
            group.sort()
        self._found: dict[tuple[str, str, str, float], Achieved | None] = {}

    def like(self, *, gpu: str, precision: str, recompute: str, flops_per_token: float) -> Achieved | None:
        """The median over the runs nearest in size on devices whose name holds `gpu`; None where there is none.

        Like runs have the same precision and recomputation, and are within `SIZE_FACTOR` in size.
        """
        key = (gpu, precision, recompute, flops_per_token)
        if key not in self._found:
            self._found[key] = self._like(*key)
        return self._found[key]

    def _like(self, gpu: str, precision: str, recompute: str, size: float) -> Achieved | None:
        near: list[tuple[float, float]] = []
        for (device, *kind), group in self._groups.items():
            if gpu and gpu.lower() in device.lower() and kind == [precision, recompute]:
                at = bisect_left(group, (size, 0.0))
                near += group[max(0, at - NEIGHBOURS) : at + NEIGHBOURS]
        distances = sorted((abs(math.log(other / size)), tflops) for other, tflops in near)
        chosen = [tflops for distance, tflops in distances[:NEIGHBOURS] if distance <= math.log(SIZE_FACTOR)]
        return Achieved(flops=median(chosen) * 1e12, runs=len(chosen)) if chosen else None


def read_measurements(root: Path) -> Measurements:
    """The measurements of all runs under `root`; those of the cache are not read again. Nothing is written."""
    runs = root / "runs"
    try:
        with os.scandir(runs) as entries:
            there = {entry.name for entry in entries}
    except (FileNotFoundError, NotADirectoryError):
        return Measurements()
    known = {one.run_id: one for value in read_json_lines(root / CACHE) if (one := _cached(value)) is not None}
    found = [known[run_id] for run_id in there & known.keys()]
    for run_id in there - known.keys():
        if (one := _measurement(run_id, read_json(runs / run_id / "result.json"))) is not None:
            found.append(one)
    return Measurements(found, fresh=len(found) > len(there & known.keys()))


def save_measurements(root: Path, measurements: Measurements) -> None:
    """Write the cache, where there is anything new to keep."""
    if measurements.fresh:
        write_json_lines(root / CACHE, (asdict(measurements.by_run[run_id]) for run_id in sorted(measurements.by_run)))


def _cached(value: Any) -> Measurement | None:
    try:
        return _checked(Measurement(**value))
    except TypeError:
        return None


def _measurement(run_id: str, result: Any) -> Measurement | None:
    """The measurement in a result.json; None where it has none, or is not to be believed."""
    try:
        if result["simulated"] or result["run_id"] != run_id:
            return None
        return _checked(
            Measurement(
                run_id=run_id,
                device=result["device"],
                precision=result["precision"],
                recompute=result["recompute"],
                flops_per_token=result["megatron_flops"] / result["tokens"],
                tflops_per_gpu=result["tflops_per_gpu"],
            )
        )
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def _checked(one: Measurement) -> Measurement | None:
    words = (one.run_id, one.device, one.precision, one.recompute)
    numbers = (one.flops_per_token, one.tflops_per_gpu)
    right = all(isinstance(word, str) for word in words) and all(
        isinstance(number, int | float) and 0 < number < math.inf for number in numbers
    )
    return one if right else None

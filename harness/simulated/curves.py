"""How a quantity of a truth runs with compute: a power law, or a smooth path through stated points.

    read_curve({"value": 0.04368, "at": 1, "exponent": 0.5437}, "train.truth.x")      0.04368 C^0.5437
    read_curve([[1e18, 10.973], [3e18, 9.907]], "train.truth.x", floor=6)             through these points, above 6

A path is a monotone cubic in ln C and ln(value - floor) (Fritsch and Carlson 1980; slopes by harmonic means):
once continuously differentiable, without a bump between points, and beyond its ends the power law of its end slope. Through
two points it is the power law of value - floor itself.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

from harness.errors import ConfigError


class Curve(Protocol):
    """A positive quantity at every budget."""

    def __call__(self, compute: float) -> float:
        """Its value at `compute` FLOPs."""

    def describe(self) -> Any:
        """Plain values; `read_curve` inverts it."""


@dataclass(frozen=True, kw_only=True)
class Power:
    """value (C / at)^exponent."""

    value: float
    """At the budget `at`."""
    at: float
    """FLOPs; 1 makes `value` the law's coefficient."""
    exponent: float

    def __call__(self, compute: float) -> float:
        """The law at `compute` FLOPs."""
        return float(self.value * (compute / self.at) ** self.exponent)

    def describe(self) -> Any:
        """Its three numbers."""
        return {"value": self.value, "at": self.at, "exponent": self.exponent}


@dataclass(frozen=True, kw_only=True)
class Path:
    """Through stated points; see the module."""

    points: tuple[tuple[float, float], ...]
    """(compute in FLOPs, value), rising in compute; at least two."""
    floor: float = 0.0
    """Bound that the quantity stays above."""

    def __call__(self, compute: float) -> float:
        """The path at `compute` FLOPs."""
        t, (ts, ys, slopes) = math.log(compute), self._logs
        if t <= ts[0]:
            return self.floor + math.exp(ys[0] + slopes[0] * (t - ts[0]))
        if t >= ts[-1]:
            return self.floor + math.exp(ys[-1] + slopes[-1] * (t - ts[-1]))
        k = next(index for index in range(len(ts) - 1) if t <= ts[index + 1])
        h = ts[k + 1] - ts[k]
        s = (t - ts[k]) / h
        y = (
            (1 + 2 * s) * (1 - s) ** 2 * ys[k]
            + s * (1 - s) ** 2 * h * slopes[k]
            + s**2 * (3 - 2 * s) * ys[k + 1]
            - s**2 * (1 - s) * h * slopes[k + 1]
        )
        return self.floor + math.exp(y)

    def describe(self) -> Any:
        """The points; the floor belongs to the quantity."""
        return [list(point) for point in self.points]

    @cached_property
    def _logs(self) -> tuple[list[float], list[float], list[float]]:
        """ln C, ln(value - floor) and its slope at each point."""
        ts = [math.log(compute) for compute, _ in self.points]
        ys = [math.log(value - self.floor) for _, value in self.points]
        rises = [
            (high - low) / (after - before)
            for (before, after), (low, high) in zip(pairwise(ts), pairwise(ys), strict=True)
        ]
        inner = [2 * a * b / (a + b) if a * b > 0 else 0.0 for a, b in pairwise(rises)]
        return ts, ys, [rises[0], *inner, rises[-1]]


def read_curve(value: Any, option: str, floor: float = 0.0) -> Curve:
    """A curve from plain values: a mapping is a `Power`, a list of pairs a `Path` above `floor`.

    Raises:
        ConfigError: it is neither, or a number is out of range.
    """
    if isinstance(value, Mapping):
        if set(value) != {"value", "at", "exponent"} or not all(_is_number(number) for number in value.values()):
            raise ConfigError(f"{option}={dict(value)}: three numbers are wanted: value, at (FLOPs), exponent")
        if not value["value"] > 0 or not value["at"] > 0:
            raise ConfigError(f"{option}={dict(value)}: value and at must be above 0")
        return Power(value=value["value"], at=value["at"], exponent=value["exponent"])
    pairs = list(value) if isinstance(value, list | tuple) else []
    points = [tuple(pair) for pair in pairs if isinstance(pair, list | tuple)]
    if len(points) < 2 or len(points) < len(pairs) or not all(len(p) == 2 and all(map(_is_number, p)) for p in points):
        raise ConfigError(
            f"{option}={value}: a law (value, at, exponent) is wanted, or two or more points [FLOPs, value]"
        )
    computes = [0.0, *(compute for compute, _ in points)]
    if not all(before < after for before, after in pairwise(computes)):
        raise ConfigError(f"{option}={value}: budgets must be above 0 and rise")
    if low := [number for _, number in points if not number > floor]:
        raise ConfigError(f"{option} goes through {low[0]:g}: every value must be above {floor:g}")
    return Path(points=tuple((float(compute), float(number)) for compute, number in points), floor=floor)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""The laws that a truth implies, as the analysis would state them: power laws of optima and band edges."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Line:
    """value = floor + coefficient C^exponent, C in FLOPs."""

    coefficient: float
    exponent: float
    floor: float = 0.0
    """Bound of the quantity: 6 in (M/N_a)_opt - 6 = a C^b."""
    misfit: float
    """Largest |ln((true - floor) / (law - floor))| at the budgets it was drawn through; 0 where the truth is this law."""

    def __call__(self, compute: float) -> float:
        """The law at `compute` FLOPs."""
        return self.floor + self.coefficient * math.exp(self.exponent * math.log(compute))


def line_through(true: Callable[[float], float], budgets: Sequence[float], floor: float = 0.0) -> Line:
    """The straight line in logarithms nearest to `true` at `budgets` (two or more, FLOPs), by unweighted least squares.

    It is what a refit tends to as noise vanishes. Where the truth is no such law, a refit that weighs budgets tends to a
    slightly other line: `Line.misfit` bounds by how much.
    """
    x = [math.log(compute) for compute in budgets]
    y = [math.log(true(compute) - floor) for compute in budgets]
    x_mean, y_mean = math.fsum(x) / len(x), math.fsum(y) / len(y)
    slope = math.fsum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / math.fsum(
        (a - x_mean) ** 2 for a in x
    )
    start = y_mean - slope * x_mean
    misfit = max(abs(b - start - slope * a) for a, b in zip(x, y, strict=True))
    return Line(coefficient=math.exp(start), exponent=slope, floor=floor, misfit=misfit)


type Laws = dict[str, dict[str, Line]]
"""By law id (those of ``laws.json``), then by quantity."""

type Statements = dict[str, dict[str, float]]
"""By law id, then by the statement's id in ``laws.json``."""

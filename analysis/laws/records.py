"""What a law is once it is fitted: plain numbers, the same in memory and in laws.json, with nothing of the data but run ids.

    law.relation("m_over_na_minus_6")(1e22), law.budget(1e20).curve(x), law.statement("band_widens").holds

A law has curves (`analysis.laws.budget`: the runs of one compute budget, the curve through their losses, its minimum), relations
of the minima to compute (`Relation`), and statements (`Statement`: a claim with a number and its interval). Figures, report,
notebooks and the design command read these, whether they were just fitted, read back, or published by others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from analysis.laws.budget import NAN, Budget, Estimate


def covers(budgets: Sequence[float], compute: float) -> bool:
    """Whether `compute` lies between the least and the largest of `budgets`, rounding aside."""
    return bool(budgets) and min(budgets) * (1 - 1e-9) <= compute <= max(budgets) * (1 + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A relation's value at one budget."""

    compute: float
    value: float
    low: float
    high: float
    extrapolated: bool
    """Outside the budgets that it was fitted to."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What the relation fitted without the largest budget says about it."""

    compute: float
    predicted: float
    optimum: float
    """Found at that budget from its own runs."""

    @property
    def relative_error(self) -> float:
        """Predicted over found, less 1."""
        return self.predicted / self.optimum - 1


@dataclass(frozen=True, kw_only=True)
class Relation:
    """quantity(C) = floor + at_reference (C / reference)^exponent."""

    name: str
    """Of the quantity, as in the tables: flops_per_token, tokens, m_over_na_minus_6, hidden_size_low ..."""
    symbol: str
    """For print: M_opt."""
    unit: str
    """Of the quantity; empty for a ratio."""
    reference: float
    """C at which `at_reference` holds: the geometric mean of `compute`, FLOPs."""
    at_reference: Estimate
    """Less the floor."""
    exponent: Estimate
    floor: float = 0.0
    floor_interval: tuple[float, float] | None = None
    """95%, where the floor was fitted; None where it is known."""
    compute: tuple[float, ...] = ()
    """Budgets that it was fitted to, rising."""
    values: tuple[float, ...] = ()
    """The quantity at those budgets."""
    grid: tuple[Prediction, ...] = ()
    """Values with intervals at rising budgets, from below the data to far beyond; `predict` goes between them."""
    method: str = ""
    """How the intervals were found."""
    held_out: HeldOut | None = None
    """None with fewer than three budgets."""
    model_free: tuple[float, float] | None = None
    """Exponent and value (less the floor) at the reference by optima of convex splines; None where there are none."""
    failed: float = 0.0
    """Share of simulated repetitions that had no minimum at some budget."""
    flags: tuple[str, ...] = ()
    """What a reader should know, in sentences."""

    @property
    def coefficient(self) -> Estimate:
        """k of quantity = floor + k C^exponent; its interval takes the exponent as it is."""
        scale = math.exp(-self.exponent.value * math.log(self.reference))
        return Estimate(
            value=self.at_reference.value * scale,
            low=self.at_reference.low * scale,
            high=self.at_reference.high * scale,
        )

    def __call__(self, compute: float) -> float:
        """The quantity at `compute` FLOPs."""
        return float(self.floor + self.at_reference.value * (compute / self.reference) ** self.exponent.value)

    def predict(self, compute: float) -> Prediction:
        """The quantity at `compute` FLOPs with its 95% interval: between the grid's points along ln C, beyond it NaN ends."""
        low = self._end([point.low for point in self.grid], compute)
        high = self._end([point.high for point in self.grid], compute)
        return Prediction(
            compute=compute, value=self(compute), low=low, high=high, extrapolated=not covers(self.compute, compute)
        )

    def _end(self, ends: Sequence[float], compute: float) -> float:
        """An end of the interval, straight in logarithms (of the distance from the floor) between the grid's points."""
        if not self.grid or not self.grid[0].compute * (1 - 1e-9) <= compute <= self.grid[-1].compute * (1 + 1e-9):
            return NAN
        at = np.log([point.compute for point in self.grid])
        ratio = (np.asarray(ends) - self.floor) / np.array([point.value - self.floor for point in self.grid])
        if (ratio > 0).all() and np.isfinite(ratio).all() and self.floor_interval is None:
            return float(
                self.floor + (self(compute) - self.floor) * np.exp(np.interp(np.log(compute), at, np.log(ratio)))
            )
        difference = np.asarray(ends) - np.array([point.value for point in self.grid])
        return float(self(compute) + np.interp(np.log(compute), at, difference))

    def extrapolation(self, compute: float) -> float:
        """How far outside its budgets `compute` lies, as a factor: 1 inside, 10 a decade beyond either end."""
        return max(1.0, compute / self.compute[-1], self.compute[0] / compute) if self.compute else math.inf


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A claim about the data, with the number that it rests on."""

    id: str
    text: str
    """In a sentence, with the number and its interval."""
    estimate: Estimate
    unit: str = ""
    holds: bool | None = None
    """True or False where the interval excludes the opposite; None where the data do not show it."""


@dataclass(frozen=True, kw_only=True)
class RankPair:
    """One configuration of the rank study: its loss at the median proxy and its least loss over widths (section 4.3)."""

    m_over_na: float
    n_over_na: float
    proxy_run: str
    proxy_loss: float
    least_run: str
    least_loss: float
    width_error: float
    """Width of `proxy_run` over the median proxy, less 1: 0 where the study holds the proxy itself."""


@dataclass(frozen=True, kw_only=True)
class LeftOutRun:
    """A run that a law did not use."""

    run_id: str
    reason: str
    usable: bool = False
    """Whether the run itself is sound, and only lies where the curve is not fitted (outside the window)."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The law again, on losses or budgets that were corrected, and how far it moves."""

    id: str
    """``corrected`` or ``real_flops``."""
    text: str
    """What was done, in a sentence."""
    relations: tuple[Relation, ...] = ()
    optima: tuple[tuple[float, float], ...] = ()
    """Nominal C and optimum of each resolved budget."""

    @property
    def nominal_reference(self) -> float:
        """The nominal C of the runs that its relations have their reference at: the geometric mean of `optima`'s; NaN without."""
        return math.exp(sum(math.log(compute) for compute, _ in self.optima) / len(self.optima)) if self.optima else NAN


@dataclass(frozen=True, kw_only=True)
class Law:
    """One law of the paper."""

    id: str
    """Key in laws.json: classical, rank, n_over_na, m_over_na, hidden_size, width_ratio, learning_rate, batch_size."""
    studies: tuple[str, ...]
    """Whose runs it was fitted to."""
    title: str
    """For print."""
    form: str
    """The formulas, as text."""
    unit: str
    """Of the optimum."""
    x: str
    """Column that is the abscissa of the curves."""
    x_label: str
    """For print, with its unit."""
    per_budget: tuple[Budget, ...] = ()
    """By rising compute."""
    relations: tuple[Relation, ...] = ()
    """Empty where fewer than two budgets are resolved."""
    statements: tuple[Statement, ...] = ()
    pairs: tuple[RankPair, ...] = ()
    """Of the law ``rank``."""
    variants: tuple[Variant, ...] = ()
    points_left_out: tuple[LeftOutRun, ...] = ()
    """Runs of its studies that no curve was fitted to."""
    flags: tuple[str, ...] = ()
    """What a reader should know, in sentences."""
    source: str = ""
    """Where a published law stands; empty for a fitted one."""
    simulated: bool = False
    """Whether any point is simulated."""

    @property
    def fitted(self) -> bool:
        """Whether there is a law at all."""
        return bool(self.relations or self.pairs)

    @property
    def points_used(self) -> list[str]:
        """Run ids that curves were fitted to, sorted, each once."""
        used = {run for budget in self.per_budget for run in budget.points.run_ids}
        return sorted(used | {run for pair in self.pairs for run in (pair.proxy_run, pair.least_run)})

    def relation(self, name: str) -> Relation | None:
        """The relation of that name, or None."""
        return next((relation for relation in self.relations if relation.name == name), None)

    def statement(self, name: str) -> Statement | None:
        """The statement of that id, or None."""
        return next((statement for statement in self.statements if statement.id == name), None)

    def budget(self, compute: float) -> Budget | None:
        """The budget of that nominal compute, or None."""
        return next((budget for budget in self.per_budget if math.isclose(budget.compute, compute, rel_tol=1e-6)), None)


@dataclass(frozen=True, kw_only=True)
class SeedNoiseRecord:
    """Standard deviation of the loss between seeds of one study."""

    sd: float
    """Nats a token; NaN without repeats."""
    degrees_of_freedom: int
    configurations: int
    runs: int


@dataclass(frozen=True, kw_only=True)
class LawsFile:
    """The contents of laws.json."""

    laws: tuple[Law, ...]
    """In the paper's order."""
    missing: dict[str, str] = field(default_factory=dict)
    """By law: why there is none."""
    data_hash: str = ""
    """SHA-256 of the losses that the laws were fitted to (run ids, losses, realised sizes); empty for published laws."""
    version: str = ""
    """Of the harness that wrote it."""
    simulated: bool = False
    corrected: bool = False
    """Whether the losses were moved to their nominal budgets before anything was fitted (``correct=true``)."""
    interval_level: float = 0.95
    resamples: int = 0
    seed: int = 0
    noise: dict[str, SeedNoiseRecord]
    """By study, and ``pooled``."""

    def law(self, law_id: str) -> Law | None:
        """The law of that id, or None."""
        return next((law for law in self.laws if law.id == law_id), None)

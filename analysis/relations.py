"""A power law of optima against compute, with the uncertainty of every loss carried through the whole chain.

Each resample repeats all budgets: new losses, new curves, new optima, a new power law. So the intervals of an exponent
or a prediction hold the noise of the runs; they do not hold the doubt whether a power law is the right form.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.fitting import Array, PowerLaw, interval, solve_power_laws
from analysis.minima import SUSPICIOUS


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A law's value at one budget."""

    compute: float
    value: float
    low: float
    high: float
    extrapolated: bool
    """Outside the budgets that the law was fitted to."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What a law fitted without the largest budget says about it."""

    predicted: Prediction
    optimum: float
    """Found at that budget from its own runs."""

    @property
    def relative_error(self) -> float:
        """Predicted over found, less 1."""
        return self.predicted.value / self.optimum - 1


@dataclass(frozen=True, kw_only=True)
class Relation:
    """optimum(C) = floor + at_reference (C / reference)^exponent."""

    name: str
    """Of the optimum, as in the tables: flops_per_token, tokens, m_over_na ..."""
    symbol: str
    """For print: M_opt."""
    unit: str
    """Of the optimum; empty for a ratio."""
    law: PowerLaw
    """Fitted to the data."""
    draws: PowerLaw
    """One law a resample, arrays of shape (r,)."""
    compute: Array
    """Budgets that it was fitted to, shape (n,), rising."""
    optimum: Array
    """Their optima, shape (n,)."""
    failed: int
    """Resamples left out because a budget had no minimum in them."""
    left_out: LeftOut | None
    """None with fewer than three budgets."""
    flags: tuple[str, ...]
    """What a reader should know, in sentences."""

    def predict(self, compute: float) -> Prediction:
        """The law at `compute` (FLOPs), with its 95% interval."""
        low, high = interval(self.draws(compute))
        inside = self.compute[0] * (1 - 1e-9) <= compute <= self.compute[-1] * (1 + 1e-9)
        return Prediction(
            compute=compute, value=float(self.law(compute)), low=low, high=high, extrapolated=not bool(inside)
        )

    def coefficients(self) -> dict[str, tuple[float, float, float]]:
        """Value and 95% interval of the exponent, the value at the reference budget, and the coefficient at C = 1.

        The last two leave the floor out.
        """
        return {
            f"{self.name}_exponent": (float(self.law.exponent), *interval(self.draws.exponent)),
            f"{self.name}_at_reference": (float(self.law.at_reference), *interval(self.draws.at_reference)),
            f"{self.name}_coefficient": (float(self.law.coefficient), *interval(self.draws.coefficient)),
        }


def fit_relation(
    name: str, symbol: str, unit: str, compute: Array, optimum: Array, draws: Array, *, floor: float = 0.0
) -> Relation:
    """Fit the power law through `optimum` (n,) at `compute` (n,), n >= 2, and through each row of `draws` (r, n).

    Budgets weigh the same: the interval of one budget rests on few points and is too uncertain to weigh with. Resamples
    in which a budget has no finite optimum above `floor` are left out and counted.

    Raises:
        FitError: fewer than two budgets, or an optimum at or below `floor`.
    """
    order = np.argsort(compute)
    compute, optimum, draws = compute[order], optimum[order], draws[:, order]
    whole = (np.isfinite(draws) & (draws > floor)).all(axis=1)
    law = solve_power_laws(compute, optimum, floor=floor)
    drawn = solve_power_laws(compute, draws[whole], floor=floor)
    failed = int((~whole).sum())
    flags = []
    if len(compute) == 2:
        flags.append(f"{symbol}: two points: exponent has no residual")
    else:
        flags += _scatter(symbol, law, compute, optimum, draws[whole])
    if failed > 0.05 * len(draws):
        flags.append(
            f"{symbol}: {100 * failed / len(draws):.1f}% of the resamples had no minimum at some budget and are left "
            "out: the intervals are too narrow"
        )
    left_out = None
    if len(compute) > 2:
        earlier = solve_power_laws(compute[:-1], optimum[:-1], floor=floor)(compute[-1])
        low, high = interval(solve_power_laws(compute[:-1], draws[whole, :-1], floor=floor)(compute[-1]))
        predicted = Prediction(compute=float(compute[-1]), value=float(earlier), low=low, high=high, extrapolated=True)
        left_out = LeftOut(predicted=predicted, optimum=float(optimum[-1]))
    return Relation(
        name=name,
        symbol=symbol,
        unit=unit,
        law=law,
        draws=drawn,
        compute=compute,
        optimum=optimum,
        failed=failed,
        left_out=left_out,
        flags=tuple(flags),
    )


def _scatter(symbol: str, law: PowerLaw, compute: Array, optimum: Array, draws: Array) -> Sequence[str]:
    """A flag where the optima lie further from the law than their own uncertainty explains (chi-squared)."""
    from scipy.special import chdtrc

    low, high = np.quantile(np.log(draws - law.floor), [0.158655, 0.841345], axis=0)
    sd = (high - low) / 2  # by quantiles: the draws' tails are long
    if (sd <= 0).any():
        return []
    fitted = np.array([float(law(budget)) for budget in compute])
    residuals = np.log((optimum - law.floor) / (fitted - law.floor))
    chi_squared, dof = float(((residuals / sd) ** 2).sum()), len(compute) - 2
    probability = float(chdtrc(dof, chi_squared))
    if probability >= SUSPICIOUS:
        return []
    return [
        f"{symbol}: the optima lie further from the power law than their intervals explain (chi-squared "
        f"{chi_squared:.1f} on {dof} degrees of freedom, p = {probability:.1g}): the form or the error bars are "
        "in doubt"
    ]

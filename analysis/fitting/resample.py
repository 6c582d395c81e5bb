"""The bootstrap of an additive power law: thousands of refits as one batch.

    draws = bootstrap_additive(fit, resamples=4000, rng=np.random.default_rng(0))
    draws.standard_errors["E"], draws.interval("a_N"), draws.interval("a_N", bca=True)
    draws.predict({"N": 1e10, "D": 1e12})

Points are drawn with replacement, within strata where there are any (budgets, say: then every resample has all of them).
Each resample is refitted from the optimum of the data, from its rivals, and once more through a wider Huber loss, and the
best is kept: a resample's own optimum need not be the nearest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.fitting.additive import AdditiveFit, centred, natural, uncentred
from analysis.fitting.intervals import bca_interval, interval
from analysis.fitting.losses import LogHuber
from analysis.fitting.newton import Solved, Terms, minimise
from analysis.fitting.results import LEVEL, Array, FitError, Interval

APPROACH = 6
"""Steps after which a second start is compared with where the first one ended ..."""

ELSEWHERE = 1e-3
"""... and given up if no parameter is further from it than this ..."""

PROMISING = 1.01
"""... or its objective is above this multiple."""


@dataclass(frozen=True, kw_only=True)
class AdditiveDraws:
    """An additive power law fitted to r resamples of its points."""

    fit: AdditiveFit
    """Of the data themselves."""
    parameters: Array
    """Shape (r - failed, 1 + 2k), as `AdditiveFit.parameters`."""
    objective: Array
    """Shape (r - failed,)."""
    failed: int
    """Resamples that did not converge; they are left out."""

    @cached_property
    def values(self) -> dict[str, Array]:
        """Draws of E, A_i and a_i by name, each of shape (r - failed,)."""
        return dict(zip(self.fit.names, natural(self.parameters).T, strict=True))

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard deviation of the draws by name."""
        return {name: float(values.std()) for name, values in self.values.items()}

    @cached_property
    def jackknife(self) -> dict[str, Array]:
        """Estimates without each point in turn, by name, each of shape (n,)."""
        points = self.fit.points
        base = np.ones(points) if self.fit.weights is None else self.fit.weights
        left_out = base - np.minimum(np.eye(points), base)
        solved, terms = _refit(self.fit, left_out)
        return dict(zip(self.fit.names, natural(uncentred(solved.parameters, terms)).T, strict=True))

    def interval(self, name: str, *, level: float = LEVEL, bca: bool = False) -> Interval:
        """Of one parameter, by percentiles or bias-corrected and accelerated.

        Raises:
            FitError: `name` is none of `AdditiveFit.names`, or no resample converged.
        """
        if name not in self.values:
            raise FitError(f"no parameter is called {name!r}; there are {', '.join(self.fit.names)}")
        draws = self.values[name]
        if bca:
            estimate = dict(zip(self.fit.names, self.fit.values, strict=True))[name]
            low, high = bca_interval(float(estimate), draws, self.jackknife[name], level)
        else:
            low, high = interval(draws, level)
        return Interval(low=low, high=high, level=level, method="BCa" if bca else "percentile")

    def predict(self, variables: Mapping[str, float], *, level: float = LEVEL, noise: bool = True) -> Interval:
        """Where an observation at `variables` will lie, by percentiles; ``noise=False``: where the model will.

        The noise is that of the data's own residuals, widened by the parameters that they were fitted with.
        """
        logs = self.parameters[:, 1 : 1 + len(variables)] - self.parameters[:, 1 + len(variables) :] * np.log(
            [variables[name] for name in self.fit.variables]
        )
        with np.errstate(over="ignore"):
            drawn = self.values["E"] + np.exp(logs).sum(axis=1)
        if noise:
            rng = np.random.default_rng(0)
            residuals = rng.choice(self.fit.residuals, len(drawn)) * np.sqrt(self.fit.points / max(self.fit.dof, 1))
            drawn = drawn * np.exp(residuals) if isinstance(self.fit.loss, LogHuber) else drawn + residuals
        low, high = interval(drawn, level)
        return Interval(low=low, high=high, level=level, method="percentile")


def bootstrap_additive(
    fit: AdditiveFit,
    *,
    resamples: int = 1000,
    rng: np.random.Generator | None = None,
    strata: Array | None = None,
    counts: Array | None = None,
) -> AdditiveDraws:
    """Refit `fit` to resamples of its points.

    Args:
        fit: with a result.
        resamples: how many.
        rng: draws them; None: a generator with seed 0.
        strata: shape (n,), any labels: as many points of each as there are; None: one stratum.
        counts: (r, n), how often each point is in each resample, in place of drawing (to repeat published draws).

    Raises:
        FitError: `fit` has no coefficients, or `counts` or `strata` do not fit its points.
    """
    if not np.isfinite(fit.parameters).all():
        raise FitError(f"nothing to resample: the fit ended with {fit.status.value!r}")
    if counts is None:
        counts = draw_counts(fit.points, resamples, rng or np.random.default_rng(0), strata)
    if counts.ndim != 2 or counts.shape[1] != fit.points:
        raise FitError(f"counts of shape {counts.shape} for {fit.points} points: give one column a point")
    weights = np.asarray(counts, dtype=float) if fit.weights is None else counts * fit.weights
    solved, terms = _refit(fit, weights)
    kept = solved.converged & np.isfinite(solved.parameters).all(axis=1)
    return AdditiveDraws(
        fit=fit,
        parameters=uncentred(solved.parameters, terms)[kept],
        objective=solved.objective[kept],
        failed=int((~kept).sum()),
    )


def draw_counts(points: int, resamples: int, rng: np.random.Generator, strata: Array | None = None) -> Array:
    """How often each point is in each resample, shape (resamples, points); each stratum keeps its size.

    Raises:
        FitError: `strata` does not name one stratum a point.
    """
    if strata is not None and len(strata) != points:
        raise FitError(f"{len(strata)} strata for {points} points: name one a point")
    labels = np.zeros(points) if strata is None else np.asarray(strata)
    counts = np.zeros((resamples, points))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    return counts


def _refit(fit: AdditiveFit, weights: Array) -> tuple[Solved, Terms]:
    """The best optimum for each row of `weights` (r, n), centred."""
    terms = Terms.of(np.stack(list(fit.variables.values())))
    prepared = fit.loss.prepare(fit.y)
    starts = [np.tile(centred(start, terms), (len(weights), 1)) for start in (fit.parameters, *fit.rivals)]
    if isinstance(fit.loss, LogHuber):
        wide = LogHuber(delta=10 * fit.loss.delta)
        starts.append(minimise(terms, prepared, wide, starts[0], weights=weights, steps=8, decrease=1e-4).parameters)
    best = minimise(terms, prepared, fit.loss, starts[0], weights=weights)
    for start in starts[1:]:
        near = minimise(terms, prepared, fit.loss, start, weights=weights, steps=APPROACH, decrease=1e-6)
        # Most are about to end where the first one did: only the others are followed to their end.
        elsewhere = np.abs(near.parameters - best.parameters).max(axis=1) > ELSEWHERE
        rows = np.flatnonzero(elsewhere & (near.objective < PROMISING * best.objective))
        if not len(rows):
            continue
        other = minimise(terms, prepared, fit.loss, near.parameters[rows], weights=weights[rows])
        better = other.objective < best.objective[rows]
        for old, new in ((best.parameters, other.parameters), (best.objective, other.objective)):
            old[rows[better]] = new[better]
        best.converged[rows[better]] = other.converged[better]
    return best, terms

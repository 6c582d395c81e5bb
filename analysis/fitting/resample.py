"""The bootstrap of an additive power law: thousands of refits as one batch.

    draws = bootstrap_additive(fit, resamples=4000, rng=np.random.default_rng(0))
    draws.standard_errors["E"], draws.interval("a_N"), draws.interval("a_N", bca=True)
    draws.predict({"N": 1e10, "D": 1e12})

Points are drawn with replacement, within strata where there are any (budgets, say: then every resample has all of them).
A point brings its weight along, inside the loss; how often it was drawn multiplies its loss.
Each resample is refitted from the optimum of the data, from its rivals, and once more through a wider Huber loss, and the
best is kept: a resample's own optimum need not be the nearest one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.fitting.additive import AdditiveFit, natural
from analysis.fitting.frame import Frame, precisions
from analysis.fitting.inputs import places_of
from analysis.fitting.intervals import bca_interval, interval
from analysis.fitting.losses import LogHuber, weighed
from analysis.fitting.newton import Solved, minimise
from analysis.fitting.results import LEVEL, Array, FitError, Interval, Mask, check_level

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
    """Resamples that are left out: they did not converge, or have too few different points to determine the parameters."""

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
        """Estimates without each point that has weight in turn, by name; NaN where such a fit did not converge."""
        frame = self.fit.frame
        without = 1.0 - np.eye(len(frame.y))
        solved = _refit(self.fit, frame, without)
        estimates = natural(frame.outward(solved.parameters))
        estimates[~(solved.converged & _determined(frame, without))] = np.nan
        return dict(zip(self.fit.names, estimates.T, strict=True))

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

        The noise is that of the data's own residuals, widened by the parameters that they were fitted with; of weighted data,
        that of a point of the median weight.

        Raises:
            FitError: a variable is missing, unknown or not a positive number, or no resample converged.
        """
        check_level(level)
        places = np.array(list(places_of(tuple(self.fit.variables), variables).values()))
        scales, exponents = np.split(self.parameters[:, 1:], 2, axis=1)
        with np.errstate(over="ignore"):
            drawn = self.values["E"] + np.exp(scales - exponents * np.log(places)).sum(axis=1)
        if noise:
            rng = np.random.default_rng(0)
            residuals = self.fit.standardised
            residuals = rng.choice(residuals, len(drawn)) * np.sqrt(len(residuals) / max(self.fit.dof, 1))
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
        FitError: `fit` has no coefficients, `counts` or `strata` do not fit its points, or no resample is asked for.
    """
    if not fit.determined:
        raise FitError(f"nothing to resample: the fit ended with {fit.status.value!r}")
    used = fit.used
    if counts is None:
        labels = None if strata is None else np.asarray(strata)
        if labels is not None and labels.shape == used.shape:
            labels = labels[used]
        drawn = draw_counts(int(used.sum()), resamples, rng or np.random.default_rng(0), labels)
    else:
        drawn = _checked(counts, fit.points)[:, used]
    frame = fit.frame
    solved = _refit(fit, frame, drawn)
    kept = solved.converged & _determined(frame, drawn) & np.isfinite(solved.parameters).all(axis=1)
    return AdditiveDraws(
        fit=fit,
        parameters=frame.outward(solved.parameters)[kept],
        objective=solved.objective[kept] * frame.factor,
        failed=int((~kept).sum()),
    )


def draw_counts(points: int, resamples: int, rng: np.random.Generator, strata: Array | None = None) -> Array:
    """How often each point is in each resample, shape (resamples, points); each stratum keeps its size.

    Raises:
        FitError: `strata` does not name one stratum a point, or there are no resamples.
    """
    if resamples < 1:
        raise FitError(f"{resamples} resamples: at least one is needed, and 1,000 for an interval")
    labels = np.zeros(points) if strata is None else np.asarray(strata)
    if labels.shape != (points,):
        raise FitError(f"{labels.size} strata for {points} points: name one a point")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise FitError("strata hold a NaN: name the stratum of every point")
    counts = np.zeros((resamples, points))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        counts[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=resamples)
    return counts


def _checked(counts: Array, points: int) -> Array:
    try:
        rows = np.array(counts, dtype=float)
    except (TypeError, ValueError) as error:
        raise FitError(f"counts are no table of numbers ({error})") from error
    if rows.ndim != 2 or rows.shape[1] != points or not len(rows):
        raise FitError(
            f"counts of shape {rows.shape} for {points} points: give one column a point, and at least one row"
        )
    if not np.isfinite(rows).all() or rows.min() < 0:
        raise FitError(f"counts hold {rows.min():g}: each must be finite and at least 0")
    return rows


def _determined(frame: Frame, counts: Array) -> Mask:
    """Which rows of `counts` (r, n) have as many different points as there are parameters, and three of each variable."""
    points = frame.terms.log_x.T
    enough = np.ones(len(counts), dtype=bool)
    for columns, least in ((points, 1 + 2 * points.shape[1]), *((points[:, [i]], 3) for i in range(points.shape[1]))):
        _, place = np.unique(columns, axis=0, return_inverse=True)
        held = (counts > 0).astype(float) @ np.eye(place.max() + 1)[place.ravel()]
        enough &= (held > 0).sum(axis=1) >= least
    return enough


def _refit(fit: AdditiveFit, frame: Frame, counts: Array) -> Solved:
    """The best optimum for each row of `counts` (r, n), as `frame` sees it."""
    terms, prepared, loss = frame.terms, frame.prepared, frame.loss
    starts = [np.tile(frame.inward(start), (len(counts), 1)) for start in (fit.parameters, *fit.rivals)]
    if isinstance(fit.loss, LogHuber):
        relative = None if fit.weights is None else precisions(fit.weights)[fit.used]
        wide = weighed(LogHuber(delta=10 * fit.loss.delta), relative)
        starts.append(minimise(terms, prepared, wide, starts[0], weights=counts, steps=8, decrease=1e-4).parameters)
    best = minimise(terms, prepared, loss, starts[0], weights=counts)
    for start in starts[1:]:
        near = minimise(terms, prepared, loss, start, weights=counts, steps=APPROACH, decrease=1e-6)
        # Most are about to end where the first one did: only the others are followed to their end.
        elsewhere = np.abs(near.parameters - best.parameters).max(axis=1) > ELSEWHERE
        rows = np.flatnonzero(elsewhere & (near.objective < PROMISING * best.objective))
        if not len(rows):
            continue
        other = minimise(terms, prepared, loss, near.parameters[rows], weights=counts[rows])
        better = other.objective < best.objective[rows]
        for old, new in ((best.parameters, other.parameters), (best.objective, other.objective)):
            old[rows[better]] = new[better]
        best.converged[rows[better]] = other.converged[better]
    return best

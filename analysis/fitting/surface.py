"""The loss surface L = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022), fitted two ways that check each other.

    surface = fit_surface(params, tokens, loss)
    surface.robust      log-Huber, delta 1e-3, as published
    surface.squares     least squares of the loss, by variable projection
    surface.gap         largest difference between the two over the data, relative

One call gives both because they fail differently: a few outliers move the squares, a small delta makes the robust fit pass
through as many points as it has parameters. Where they differ by more than the data scatter, look at the residuals.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, nnls

from analysis.fitting.additive import DELTA, AdditiveFit, fit_additive
from analysis.fitting.frame import Frame, precisions
from analysis.fitting.losses import LogHuber, Squares
from analysis.fitting.results import Array, FitError, HeldOut, check_points
from analysis.fitting.starts import SMALLEST, projected_starts

PROJECTED = 3
"""Starts that variable projection takes from the grid."""


@dataclass(frozen=True, kw_only=True)
class SurfaceFit:
    """L = E + A/N^alpha + B/D^beta through n points, twice. Names of the parameters: E, A_N, A_D, a_N, a_D."""

    robust: AdditiveFit
    """Log-Huber."""
    squares: AdditiveFit
    """Least squares of L."""
    projected: float
    """Objective (half the sum of squares) that variable projection by scipy reached: as a check on `squares.objective`."""
    held_out: HeldOut | None
    """Mean loss at the largest budget, predicted by the robust fit without it; None where no budgets were given."""

    @property
    def gap(self) -> float:
        """Largest relative difference between the two fits over the data."""
        return float(np.abs(self.robust.fitted / self.squares.fitted - 1).max())

    @property
    def scatter(self) -> float:
        """Standard deviation of the robust fit's residuals (in logarithms): what `gap` is to be held against."""
        return float(np.sqrt((self.robust.residuals**2).mean()))


def fit_surface(
    params: Array,
    tokens: Array,
    loss: Array,
    *,
    delta: float = DELTA,
    weights: Array | None = None,
    budgets: Array | None = None,
    units: tuple[str, str, str] = ("", "", ""),
) -> SurfaceFit:
    """Fit the surface by Huber's loss of logarithms and by least squares.

    Args:
        params: N, shape (n,), positive.
        tokens: D, shape (n,), positive.
        loss: L, shape (n,), positive.
        delta: of Huber's loss.
        weights: of the points, inverse variances up to a factor; None: all equal.
        budgets: shape (n,), any numbers: for the error of predicting the largest without it.
        units: of N, D and L, for print.

    Raises:
        FitError: a value is impossible, or lengths differ.
    """
    variables, y = {"N": params, "D": tokens}, loss
    named = dict(zip(("N", "D", "y"), units, strict=True))
    robust = fit_additive(variables, y, loss=LogHuber(delta=delta), weights=weights, units=named)
    if not robust.determined:
        empty = fit_additive(variables, y, loss=Squares(), weights=weights, units=named)
        return SurfaceFit(robust=robust, squares=empty, projected=float("nan"), held_out=None)
    start, projected = project(robust.variables, robust.y, robust.weights)
    squares = fit_additive(variables, y, loss=Squares(), weights=weights, units=named, starts=start[None])
    return SurfaceFit(
        robust=robust,
        squares=squares,
        projected=projected,
        held_out=None if budgets is None else leave_largest_out(robust, budgets),
    )


def project(variables: dict[str, Array], y: Array, weights: Array | None = None) -> tuple[Array, float]:
    """Least squares by variable projection (Golub & Pereyra 1973): scipy searches the exponents, NNLS gives the rest.

    Returns parameters as of `AdditiveFit.parameters`, and half the weighted sum of squares.
    """
    frame = Frame.of(variables, y, weights, Squares())
    terms, y, count = frame.terms, frame.y, len(variables)
    relative = None if weights is None else precisions(weights)[weights > 0]
    root = np.ones(len(y)) if relative is None else np.sqrt(relative)

    def linear(exponents: Array) -> tuple[Array, Array]:
        design = np.concatenate([np.ones((1, len(y))), np.exp(-exponents[:, None] * terms.log_x)]) * root
        coefficients, _ = nnls(design.T, y * root)
        return coefficients, coefficients @ design - y * root

    starts = projected_starts(terms, y, relative)
    values = [float((linear(start[1 + count :])[1] ** 2).sum()) for start in starts]
    best = min(
        (
            least_squares(
                lambda exponents: linear(exponents)[1],
                starts[index][1 + count :],
                method="trf",
                jac="3-point",
                xtol=1e-15,
                ftol=1e-15,
                gtol=1e-15,
            )
            for index in np.argsort(values)[:PROJECTED]
        ),
        key=lambda found: found.cost,
    )
    coefficients, _ = linear(best.x)
    logs = np.log(np.maximum(coefficients, SMALLEST * 1e-8))
    return frame.outward(np.concatenate([logs, best.x])[None])[0], float(best.cost) * frame.factor


def leave_largest_out(fit: AdditiveFit, budgets: Array) -> HeldOut | None:
    """What `fit`, refitted without the points of the largest budget, says of their mean; None if too few are left.

    Raises:
        FitError: `budgets` does not have one finite value a point.
    """
    budgets = np.asarray(budgets, dtype=float)
    if len(budgets) != fit.points:
        raise FitError(f"{len(budgets)} budgets for {fit.points} points: give one a point")
    check_points(budgets=budgets)
    largest = budgets == budgets.max()
    earlier = (
        fit_additive(
            {name: column[~largest] for name, column in fit.variables.items()},
            fit.y[~largest],
            loss=fit.loss,
            weights=None if fit.weights is None else fit.weights[~largest],
        )
        if (~largest).any()
        else None
    )
    if earlier is None or not earlier.determined:
        return None
    predicted = earlier({name: column[largest] for name, column in fit.variables.items()})
    return HeldOut(at=float(budgets.max()), predicted=float(predicted.mean()), observed=float(fit.y[largest].mean()))

"""Power laws of several variables, y = k prod_i (x_i / x0_i)^e_i, by least squares in logarithms.

fit = fit_product_law({"N": params, "D": tokens}, learning_rate)
fit.exponents["N"], fit.intervals["N"], fit.coefficient, fit.predict({"N": 1e9, "D": 1e11}), fit.held_out
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.inputs import column_of, columns_of, places_of, weights_of
from analysis.fitting.linear import LeastSquares
from analysis.fitting.results import (
    LEVEL,
    NO_FIT,
    UNKNOWN,
    Array,
    FitStatus,
    HeldOut,
    Interval,
    Prediction,
    check_level,
    check_points,
)


@dataclass(frozen=True, kw_only=True)
class ProductLawFit:
    """y = at_reference prod_i (x_i / reference_i)^exponent_i through n points."""

    status: FitStatus
    at_reference: float
    """y at the geometric means of the variables, in the unit of y."""
    exponents: dict[str, float]
    """By variable."""
    references: dict[str, float]
    """Geometric mean of each variable."""
    residuals: Array
    """Shape (n,), in logarithms."""
    residual_sd: float
    """NaN without degrees of freedom."""
    dof: int
    """Points that have weight, less coefficients."""
    covariance: Array
    """Of (ln at_reference, exponents), shape (1 + k, 1 + k)."""
    intervals: dict[str, Interval]
    """Of the exponents under their variables' names, of ``at_reference`` and of ``coefficient``; by Student's t."""
    held_out: HeldOut | None
    """Mean (of ln y) at the largest budget, predicted without it; None without budgets, or where the rest determines no law."""
    unit: str
    """Of y, and so of `at_reference`; an exponent has none."""

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)

    @property
    def coefficient(self) -> float:
        """y where every variable is 1."""
        return self(dict.fromkeys(self.exponents, 1.0))

    def __call__(self, variables: Mapping[str, float]) -> float:
        """y at `variables`; infinite beyond the largest number.

        Raises:
            FitError: a variable is missing, unknown or not a positive number.
        """
        places = places_of(tuple(self.exponents), variables)
        power = sum(e * np.log(places[name] / self.references[name]) for name, e in self.exponents.items())
        with np.errstate(over="ignore"):
            return float(np.exp(np.log(self.at_reference) + power))

    def predict(self, variables: Mapping[str, float], *, level: float = LEVEL) -> Prediction:
        """y at `variables`, with the interval of the law there and that of one more observation.

        Raises:
            FitError: a variable is missing, unknown or not a positive number, or `level` is no probability.
        """
        check_level(level)
        value = self(variables)
        if np.isnan(self.at_reference) or not self.dof:
            why = NO_FIT if np.isnan(self.at_reference) else UNKNOWN
            return Prediction(value=value, law=why, observation=why)
        at = np.array([1.0, *(np.log(variables[name] / self.references[name]) for name in self.exponents)])
        quantile = float(stdtrit(self.dof, (1 + level) / 2))
        made = []
        for more in (0.0, self.residual_sd**2):
            factor = float(np.exp(quantile * np.sqrt(at @ self.covariance @ at + more)))
            made.append(Interval(low=value / factor, high=value * factor, level=level, method="t, logarithms"))
        return Prediction(value=value, law=made[0], observation=made[1])


def fit_product_law(
    variables: Mapping[str, Array],
    y: Array,
    *,
    weights: Array | None = None,
    budgets: Array | None = None,
    level: float = LEVEL,
    unit: str = "",
) -> ProductLawFit:
    """Least squares of ln y on the logarithms of `variables`.

    Args:
        variables: each of shape (n,), positive.
        y: shape (n,), positive.
        weights: shape (n,), inverse variances in logarithms up to a factor; None: all equal.
        budgets: shape (n,), any numbers: for the error of predicting the largest without it.
        level: of the intervals.
        unit: of y, for print.

    Raises:
        FitError: a value is impossible, lengths differ, there is no variable, or one is called ``y``, ``at_reference`` or
            ``coefficient``.
    """
    columns, y = columns_of(variables, y, reserved=("at_reference", "coefficient"))
    check_level(level)
    given = weights_of(weights, len(y))
    weight = np.ones(len(y)) if given is None else given
    held_out = None if budgets is None else _held_out(columns, y, weight, column_of("budgets", budgets))
    log_x = np.log(np.stack(list(columns.values())))
    centre = log_x.mean(axis=1)
    squares = LeastSquares(np.concatenate([np.ones((1, len(y))), log_x - centre[:, None]]).T, weight)
    names = ("at_reference", *columns, "coefficient")
    references = dict(zip(columns, np.exp(centre).tolist(), strict=True))
    dof = max(int((weight > 0).sum()) - len(columns) - 1, 0)
    if not squares.full_rank:
        nothing = float("nan")
        return ProductLawFit(
            status=FitStatus.TOO_FEW_POINTS if (weight > 0).sum() <= len(columns) else FitStatus.NOT_IDENTIFIABLE,
            at_reference=nothing,
            exponents=dict.fromkeys(columns, nothing),
            references=references,
            residuals=np.full(len(y), np.nan),
            residual_sd=nothing,
            dof=dof,
            covariance=np.full((len(names) - 1, len(names) - 1), np.nan),
            intervals=dict.fromkeys(names, NO_FIT),
            held_out=None,
            unit=unit,
        )
    solved = squares.solve(np.log(y))
    residuals = np.log(y) - squares.design @ solved
    sd = float(np.sqrt((weight * residuals**2).sum() / dof)) if dof else float("nan")
    covariance = squares.covariance * sd**2
    intervals = dict.fromkeys(names, UNKNOWN)
    if dof:
        quantile = float(stdtrit(dof, (1 + level) / 2))
        rows = np.concatenate([np.eye(len(solved)), np.concatenate([[1.0], -centre])[None]])
        middle, half = rows @ solved, quantile * np.sqrt(np.einsum("ri,ij,rj->r", rows, covariance, rows))
        for name, low, high in zip(names, middle - half, middle + half, strict=True):
            ends = (low, high) if name in columns else (float(np.exp(low)), float(np.exp(high)))
            intervals[name] = Interval(low=float(ends[0]), high=float(ends[1]), level=level, method="t")
    return ProductLawFit(
        status=FitStatus.CONVERGED,
        at_reference=float(np.exp(solved[0])),
        exponents=dict(zip(columns, solved[1:].tolist(), strict=True)),
        references=references,
        residuals=residuals,
        residual_sd=sd,
        dof=dof,
        covariance=covariance,
        intervals=intervals,
        held_out=held_out,
        unit=unit,
    )


def _held_out(columns: dict[str, Array], y: Array, weight: Array, budgets: Array) -> HeldOut | None:
    """What a law without the largest budget that has weight says there, on average of the logarithms."""
    check_points(budgets=budgets, y=y)
    used = weight > 0
    at = float(budgets[used].max())
    largest, earlier = used & (budgets == at), used & (budgets != at)
    if not earlier.any():
        return None
    law = fit_product_law({name: of[earlier] for name, of in columns.items()}, y[earlier], weights=weight[earlier])
    if law.status is not FitStatus.CONVERGED:
        return None
    points = [
        dict(zip(columns, row, strict=True)) for row in np.stack([of[largest] for of in columns.values()], axis=1)
    ]
    logs = np.log([law(point) for point in points])
    means = [float(np.exp(np.average(of, weights=weight[largest]))) for of in (logs, np.log(y[largest]))]
    return HeldOut(at=at, predicted=means[0], observed=means[1])

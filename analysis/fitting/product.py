"""Power laws of several variables, y = k prod_i (x_i / x0_i)^e_i, by least squares in logarithms.

fit = fit_product_law({"N": params, "D": tokens}, learning_rate)
fit.exponents["N"], fit.intervals["N"], fit.coefficient, fit.predict({"N": 1e9, "D": 1e11})
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.linear import LeastSquares
from analysis.fitting.results import (
    LEVEL,
    UNKNOWN,
    Array,
    FitError,
    FitStatus,
    Interval,
    Prediction,
    check_above,
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
    unit: str
    """Of y, and so of `at_reference`; an exponent has none."""

    @property
    def points(self) -> int:
        """n."""
        return len(self.residuals)

    @property
    def coefficient(self) -> float:
        """y where every variable is 1."""
        return float(self.at_reference * math.prod(self.references[name] ** -e for name, e in self.exponents.items()))

    def __call__(self, variables: Mapping[str, float]) -> float:
        """y at `variables`."""
        powers = ((variables[name] / self.references[name]) ** e for name, e in self.exponents.items())
        return float(self.at_reference * math.prod(powers))

    def predict(self, variables: Mapping[str, float], *, level: float = LEVEL) -> Prediction:
        """y at `variables`, with the interval of the law there and that of one more observation."""
        check_level(level)
        value = self(variables)
        if not self.dof:
            return Prediction(value=value, law=UNKNOWN, observation=UNKNOWN)
        at = np.array([1.0, *(np.log(variables[name] / self.references[name]) for name in self.exponents)])
        quantile = float(stdtrit(self.dof, (1 + level) / 2))
        made = []
        for more in (0.0, self.residual_sd**2):
            factor = float(np.exp(quantile * np.sqrt(at @ self.covariance @ at + more)))
            made.append(Interval(low=value / factor, high=value * factor, level=level, method="t, logarithms"))
        return Prediction(value=value, law=made[0], observation=made[1])


def fit_product_law(
    variables: Mapping[str, Array], y: Array, *, weights: Array | None = None, level: float = LEVEL, unit: str = ""
) -> ProductLawFit:
    """Least squares of ln y on the logarithms of `variables`.

    Args:
        variables: each of shape (n,), positive.
        y: shape (n,), positive.
        weights: shape (n,), inverse variances in logarithms up to a factor; None: all equal.
        level: of the intervals.
        unit: of y, for print.

    Raises:
        FitError: a value is impossible, lengths differ, or there is no variable.
    """
    columns = {name: np.asarray(column, dtype=float) for name, column in variables.items()}
    y = np.asarray(y, dtype=float)
    if not columns:
        raise FitError("no variables: a power law needs at least one")
    check_points(**columns, y=y)
    check_level(level)
    for name, column in {**columns, "y": y}.items():
        check_above(name, column, 0.0)
    weight = np.ones(len(y)) if weights is None else np.asarray(weights, dtype=float)
    check_points(weights=weight, y=y)
    log_x = np.log(np.stack(list(columns.values())))
    centre = log_x.mean(axis=1)
    squares = LeastSquares(np.concatenate([np.ones((1, len(y))), log_x - centre[:, None]]).T, weight)
    names = ("at_reference", *columns, "coefficient")
    references = dict(zip(columns, np.exp(centre).tolist(), strict=True))
    dof = max(int((weight > 0).sum()) - len(columns) - 1, 0)
    if not squares.full_rank:
        nothing = float("nan")
        return ProductLawFit(
            status=FitStatus.TOO_FEW_POINTS if len(y) <= len(columns) else FitStatus.NOT_IDENTIFIABLE,
            at_reference=nothing,
            exponents=dict.fromkeys(columns, nothing),
            references=references,
            residuals=np.full(len(y), np.nan),
            residual_sd=nothing,
            dof=dof,
            covariance=np.full((len(names) - 1, len(names) - 1), np.nan),
            intervals=dict.fromkeys(names, UNKNOWN),
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
        unit=unit,
    )

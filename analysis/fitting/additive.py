"""The additive power law y = E + sum_i A_i x_i^-a_i of any number of variables, robust or by least squares.

    fit = fit_additive({"N": params, "D": tokens}, loss)                        # log-Huber, delta 1e-3
    fit.constant, fit.scales["N"], fit.exponents["N"], fit.status, fit.intervals["E"]
    fit({"N": 1e9, "D": 1e11})                                                  # predicted loss

With N and D it is the surface of Hoffmann et al. (2022), section 3.3; with width, depth and tokens a shape law (McLeish et
al. 2025). The objective is the sum over points that they print.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from analysis.fitting.edges import EQUAL
from analysis.fitting.frame import NOTHING, Frame, precisions
from analysis.fitting.inputs import columns_of, weights_of
from analysis.fitting.losses import LogHuber, Loss, Squares
from analysis.fitting.newton import Terms
from analysis.fitting.results import Array, Coefficient, FitError, FitStatus, Interval, Mask
from analysis.fitting.search import solve

DELTA = 1e-3
"""Of Huber's loss, as in Hoffmann et al."""

APART = 0.1
"""Two optima are different when an exponent differs by more than this share, or E by half of it times the mean y."""


@dataclass(frozen=True, kw_only=True)
class AdditiveFit:
    """y = E + sum_i A_i x_i^-a_i, fitted to n points."""

    status: FitStatus
    parameters: Array
    """Shape (1 + 2k,): ln E, ln A_i, a_i, at x_i = 1; ln E is -inf where E has vanished; NaN where `status` names no fit."""
    objective: float
    """Sum of the loss over the points: weight times loss under least squares, else the loss of residuals in units of the
    standard error of a point of the median weight."""
    rivals: tuple[Array, ...]
    """Other optima, as `parameters`, whose objective is within 1% of the best."""
    loss: Loss
    """What was minimised."""
    variables: dict[str, Array]
    """Each of shape (n,)."""
    y: Array
    """Observations, shape (n,)."""
    weights: Array | None
    """Of the points, shape (n,): inverse variances up to a factor."""
    units: dict[str, str]
    """Unit of each variable, and of `y` under ``y``."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the parameters: E, A_<variable>, a_<variable>."""
        return "E", *(f"A_{name}" for name in self.variables), *(f"a_{name}" for name in self.variables)

    @property
    def constant(self) -> float:
        """E, in the unit of y; 0 where it has vanished."""
        return float(self.values[0])

    @property
    def scales(self) -> dict[str, float]:
        """A_i by variable: a term's size at x_i = 1."""
        return dict(zip(self.variables, self.values[1 : 1 + len(self.variables)].tolist(), strict=True))

    @property
    def exponents(self) -> dict[str, float]:
        """a_i by variable."""
        return dict(zip(self.variables, self.values[1 + len(self.variables) :].tolist(), strict=True))

    @cached_property
    def values(self) -> Array:
        """Shape (1 + 2k,): E, A_i, a_i."""
        return np.asarray(natural(self.parameters[None])[0])

    @property
    def points(self) -> int:
        """n."""
        return len(self.y)

    @property
    def used(self) -> Mask:
        """Shape (n,): the points that have weight."""
        return np.ones(len(self.y), dtype=bool) if self.weights is None else self.weights > 0

    @property
    def dof(self) -> int:
        """Points that have weight, less parameters: a weight says how precise a point is, not how many it is."""
        return max(int(self.used.sum()) - len(self.parameters), 0)

    @property
    def determined(self) -> bool:
        """Whether there are parameters."""
        return not np.isnan(self.parameters).any()

    @property
    def frame(self) -> Frame:
        """Where it was searched for."""
        return Frame.of(self.variables, self.y, self.weights, self.loss)

    @property
    def fitted(self) -> Array:
        """Shape (n,)."""
        return self(self.variables)

    @property
    def residuals(self) -> Array:
        """Shape (n,): ln y - ln model under a loss of logarithms, else y - model."""
        model = self.fitted
        return np.asarray(self.y - model if isinstance(self.loss, Squares) else np.log(self.y / model))

    @property
    def standardised(self) -> Array:
        """Residuals of the points that have weight, each as large as one of the median weight would be."""
        return (
            self.residuals if self.weights is None else (self.residuals * np.sqrt(precisions(self.weights)))[self.used]
        )

    def __call__(self, variables: Mapping[str, Array | float]) -> Array:
        """The model elsewhere; each variable a number or of one shape (m,).

        Raises:
            FitError: a variable is missing.
        """
        missing = [name for name in self.variables if name not in variables]
        if missing:
            raise FitError(f"no value of {missing[0]!r}: the model needs {', '.join(self.variables)}")
        scales, exponents = np.split(self.parameters[1:], 2)
        with np.errstate(over="ignore"):
            terms = [  # in logarithms: a scale alone may be beyond a double
                np.exp(scale - exponent * np.log(np.asarray(variables[name], dtype=float)))
                for name, scale, exponent in zip(self.variables, scales, exponents, strict=True)
            ]
        return np.asarray(self.constant + sum(terms))

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Profile intervals of every parameter in `names`, found when first asked for."""
        from analysis.fitting.profile import profile_intervals

        return profile_intervals(self)

    @property
    def coefficients(self) -> dict[str, Coefficient]:
        """Every parameter with unit and interval."""
        unit, count = self.units.get("y", ""), len(self.variables)
        scales = [f"{unit} {self.units[name]}^a".strip() if self.units.get(name) else unit for name in self.variables]
        units = [unit, *scales, *[""] * count]
        return {
            name: Coefficient(value=float(value), unit=of, interval=self.intervals[name])
            for name, value, of in zip(self.names, self.values, units, strict=True)
        }


def fit_additive(
    variables: Mapping[str, Array],
    y: Array,
    *,
    loss: Loss | None = None,
    weights: Array | None = None,
    units: Mapping[str, str] | None = None,
    starts: Array | None = None,
) -> AdditiveFit:
    """Fit y = E + sum_i A_i x_i^-a_i.

    Args:
        variables: each of shape (n,), positive.
        y: shape (n,), positive.
        loss: what is summed; None: `LogHuber` with delta 1e-3.
        weights: of the points, shape (n,), at least 0: inverse variances, up to a factor (not how often a point was seen).
            Huber's loss takes residuals in units of each point's standard error; delta is that of a point of the median weight.
        units: for print, of each variable, and of y under ``y``.
        starts: further starts, (s, 1 + 2k) as `AdditiveFit.parameters`, besides the grid.

    Raises:
        FitError: a value is not finite or not positive, lengths differ, there is no variable, or weights or starts are
            unusable.
    """
    loss = LogHuber(delta=DELTA) if loss is None else loss
    columns, y = columns_of(variables, y)
    weights = weights_of(weights, len(y))
    width = 1 + 2 * len(columns)
    extra = None if starts is None else _checked(starts, width)
    made = {
        "loss": loss, "variables": columns, "y": y, "weights": weights, "units": dict(units or {}),
    }  # fmt: skip
    used = np.ones(len(y), dtype=bool) if weights is None else weights > 0
    trouble = FitStatus.TOO_FEW_POINTS if used.sum() < width else None
    if any(len(np.unique(column[used])) < 3 for column in columns.values()):
        trouble = trouble or FitStatus.NOT_IDENTIFIABLE
    if trouble:
        return AdditiveFit(status=trouble, parameters=np.full(width, np.nan), objective=float("nan"), rivals=(), **made)  # type: ignore[arg-type]
    frame = Frame.of(columns, y, weights, loss)
    solved = solve(frame, None if extra is None else frame.inward(extra))
    order = np.argsort(solved.objective)
    best = int(order[0])
    parameters = frame.outward(solved.parameters)
    rivals = _rivals(parameters[order], solved.objective[order], float(y[used].mean()))
    status = _status(frame.terms, solved.parameters[best], bool(solved.converged[best]), rivals)
    return AdditiveFit(
        status=status,
        parameters=parameters[best],
        objective=float(solved.objective[best]) * frame.factor,
        rivals=rivals,
        **made,  # type: ignore[arg-type]
    )


def natural(parameters: Array) -> Array:
    """E, A_i, a_i of shape (batch, 1 + 2k) from ln E, ln A_i, a_i."""
    values = parameters.copy()
    count = (parameters.shape[1] - 1) // 2
    with np.errstate(over="ignore"):
        values[:, : 1 + count] = np.exp(parameters[:, : 1 + count])
    return values


def _checked(starts: Array, width: int) -> Array:
    rows = np.array(starts, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise FitError(f"starts of shape {rows.shape}: each must be a row of {width} parameters (ln E, ln A_i, a_i)")
    if not (np.isfinite(rows[:, 1:]).all() and (rows[:, 0] < np.inf).all()):  # ln E may be -inf
        raise FitError("starts hold a NaN or an infinity: only ln E may be -inf, where E is 0")
    return rows


def _rivals(parameters: Array, objectives: Array, level: float) -> tuple[Array, ...]:
    """Optima (by rising objective) within 1% of the best that differ from it and from one another."""
    kept = [parameters[0]]
    for candidate, value in zip(parameters[1:], objectives[1:], strict=True):
        if value > (1 + EQUAL) * objectives[0]:
            break
        if all(_apart(candidate, other, level) for other in kept):
            kept.append(candidate)
    return tuple(kept[1:])


def _apart(one: Array, two: Array, level: float) -> bool:
    here, there = natural(np.stack([one, two]))
    exponents = slice(1 + (len(here) - 1) // 2, None)  # the scales follow from them
    largest = np.maximum(np.abs(here), np.abs(there))[exponents]
    different = np.abs(here - there)[exponents] > APART * largest
    return bool(different.any() or abs(here[0] - there[0]) > APART / 2 * level)


def _status(terms: Terms, parameters: Array, converged: bool, rivals: tuple[Array, ...]) -> FitStatus:
    logs = terms.log_terms(parameters[None])[0]
    shares = np.exp(logs - logs.max(axis=0))
    shares /= shares.sum(axis=0)
    if (shares.max(axis=1) < NOTHING).any():
        return FitStatus.AT_BOUND
    jacobian = np.concatenate([shares, shares[1:] * terms.log_x])
    lengths = np.linalg.norm(jacobian, axis=1, keepdims=True)
    singular = np.linalg.svd(jacobian / np.maximum(lengths, 1e-300), compute_uv=False)
    if singular[-1] < 1e-7 * singular[0]:
        return FitStatus.NOT_IDENTIFIABLE
    if not converged:
        return FitStatus.NOT_CONVERGED
    return FitStatus.AMBIGUOUS if rivals else FitStatus.CONVERGED

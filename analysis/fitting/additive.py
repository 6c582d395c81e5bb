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
from analysis.fitting.losses import LogHuber, Loss, Squares
from analysis.fitting.newton import VANISHED, Solved, Terms, minimise, objective
from analysis.fitting.results import Array, Coefficient, FitError, FitStatus, Interval, check_above, check_points
from analysis.fitting.starts import projected_starts

DELTA = 1e-3
"""Of Huber's loss, as in Hoffmann et al."""

POLISHED = 8
"""Starts that are polished to the end."""

APPROACH = 25
"""Steps that a start has at each width of Huber's loss; those that are not near anything by then are seldom best."""

PROMISING = 1.1
"""Starts are polished to the end whose objective is by then at most this multiple of the best."""

APART = 0.1
"""Two optima are different when an exponent differs by more than this share, or E by half of it times the mean y."""

NOTHING = 1e-8
"""A term that is nowhere a larger share of the model has vanished."""


@dataclass(frozen=True, kw_only=True)
class AdditiveFit:
    """y = E + sum_i A_i x_i^-a_i, fitted to n points."""

    status: FitStatus
    parameters: Array
    """Shape (1 + 2k,): ln E, ln A_i, a_i, at x_i = 1; NaN where `status` names no fit."""
    objective: float
    """Sum of the loss over the points."""
    rivals: tuple[Array, ...]
    """Other optima, as `parameters`, whose objective is within 1% of the best."""
    loss: Loss
    """What was minimised."""
    variables: dict[str, Array]
    """Each of shape (n,)."""
    y: Array
    """Observations, shape (n,)."""
    weights: Array | None
    """Of the points, shape (n,)."""
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
    def dof(self) -> int:
        """Points that have weight, less parameters: a weight says how precise a point is, not how many it is."""
        used = len(self.y) if self.weights is None else int((self.weights > 0).sum())
        return max(used - len(self.parameters), 0)

    @property
    def fitted(self) -> Array:
        """Shape (n,)."""
        return self(self.variables)

    @property
    def residuals(self) -> Array:
        """Shape (n,): ln y - ln model under a loss of logarithms, else y - model."""
        model = self.fitted
        return np.asarray(self.y - model if isinstance(self.loss, Squares) else np.log(self.y / model))

    def __call__(self, variables: Mapping[str, Array | float]) -> Array:
        """The model elsewhere; each variable a number or of one shape (m,)."""
        terms = [
            scale * np.asarray(variables[name], dtype=float) ** -exponent
            for (name, scale), exponent in zip(self.scales.items(), self.exponents.values(), strict=True)
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
        weights: of the points, shape (n,), at least 0: inverse variances, up to a factor.
        units: for print, of each variable, and of y under ``y``.
        starts: further starts, (s, 1 + 2k) as `AdditiveFit.parameters`, besides the grid.

    Raises:
        FitError: a value is not finite or not positive, lengths differ, there is no variable, or weights are unusable.
    """
    loss = LogHuber(delta=DELTA) if loss is None else loss
    columns = {name: np.asarray(column, dtype=float) for name, column in variables.items()}
    y = np.asarray(y, dtype=float)
    weights = None if weights is None else np.asarray(weights, dtype=float)
    _check(columns, y, weights)
    made = {
        "loss": loss, "variables": columns, "y": y, "weights": weights, "units": dict(units or {}),
    }  # fmt: skip
    width = 1 + 2 * len(columns)
    stacked = np.stack(list(columns.values()))
    used = np.ones(len(y), dtype=bool) if weights is None else weights > 0
    trouble = FitStatus.TOO_FEW_POINTS if used.sum() < width else None
    if any(len(np.unique(row[used])) < 3 for row in stacked):
        trouble = trouble or FitStatus.NOT_IDENTIFIABLE
    if trouble:
        return AdditiveFit(status=trouble, parameters=np.full(width, np.nan), objective=float("nan"), rivals=(), **made)  # type: ignore[arg-type]
    terms = Terms.of(stacked)
    solved = solve(terms, y, loss, weights, None if starts is None else centred(starts, terms))
    order = np.argsort(solved.objective)
    best = int(order[0])
    parameters = uncentred(solved.parameters, terms)
    rivals = _rivals(parameters[order], solved.objective[order], float(y.mean()))
    status = _status(terms, solved.parameters[best], bool(solved.converged[best]), rivals)
    return AdditiveFit(
        status=status,
        parameters=parameters[best],
        objective=float(solved.objective[best]),
        rivals=rivals,
        **made,  # type: ignore[arg-type]
    )


def solve(terms: Terms, y: Array, loss: Loss, weights: Array | None, extra: Array | None = None) -> Solved:
    """Minimise from the best of the projected starts and from `extra` (s, 1 + 2k); every optimum found, centred.

    Huber's loss is approached from the square: 100 delta, 10 delta, delta. The starts come from least squares, and the
    kinks of a small delta would stop them early.
    """
    prepared = loss.prepare(y)
    starts = projected_starts(terms, y, weights)
    order = np.argsort(objective(terms, prepared, loss, starts, weights), kind="stable")
    half = POLISHED // 2
    thinly = order[half :: max((len(order) - half) // half, 1)][:half]  # the rest of the grid
    current = starts[np.concatenate([order[:half], thinly])]
    if isinstance(loss, LogHuber):
        for factor in (100.0, 10.0):
            wide = LogHuber(delta=factor * loss.delta)
            found = minimise(terms, prepared, wide, current, weights=weights, steps=APPROACH, decrease=1e-4)
            current = found.parameters[_distinct(found)]
    if extra is not None:
        current = np.concatenate([current, extra])
    near = minimise(terms, prepared, loss, current, weights=weights, steps=APPROACH, decrease=1e-9)
    kept = _distinct(near)
    kept = kept[near.objective[kept] <= PROMISING * near.objective.min()]
    return minimise(terms, prepared, loss, near.parameters[kept], weights=weights)


def _distinct(found: Solved) -> Array:
    """Indices of fits that did not end where a better one did, by rising objective."""
    kept: list[int] = []
    for index in np.argsort(found.objective, kind="stable"):
        gaps = np.abs(found.parameters[kept] - found.parameters[index]).max(axis=1)
        if not (gaps < 1e-3).any():
            kept.append(int(index))
    return np.array(kept)


def natural(parameters: Array) -> Array:
    """E, A_i, a_i of shape (batch, 1 + 2k) from ln E, ln A_i, a_i; a vanished E is 0."""
    values = parameters.copy()
    count = (parameters.shape[1] - 1) // 2
    with np.errstate(over="ignore"):
        values[:, : 1 + count] = np.exp(parameters[:, : 1 + count])
    values[parameters[:, 0] <= VANISHED + 10, 0] = 0.0  # on its way to the bound
    return values


def centred(parameters: Array, terms: Terms) -> Array:
    """Parameters at x_i = 1 seen from the centre of `terms`."""
    return _moved(parameters, terms, -1.0)


def uncentred(parameters: Array, terms: Terms) -> Array:
    """Parameters at the centre of `terms` seen from x_i = 1."""
    return _moved(parameters, terms, 1.0)


def _moved(parameters: Array, terms: Terms, sign: float) -> Array:
    count = len(terms.log_x)
    moved = np.array(parameters, dtype=float)
    moved[..., 1 : 1 + count] += sign * moved[..., 1 + count :] * terms.centre
    return moved


def _check(columns: dict[str, Array], y: Array, weights: Array | None) -> None:
    if not columns:
        raise FitError("no variables: an additive power law needs at least one")
    if "y" in columns:
        raise FitError("a variable is called 'y', which names the observations: give it another name")
    check_points(**columns, y=y)
    for name, column in {**columns, "y": y}.items():
        check_above(name, column, 0.0)
    if weights is not None:
        check_points(weights=weights, y=y)
        if weights.min() < 0 or not weights.any():
            raise FitError("weights must be at least 0, and one of them above it")


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

"""What fits of several columns take: checked, as arrays of their own, so that a caller's later changes do not reach a result.

columns, y = columns_of({"N": params, "D": tokens}, loss, reserved=("E",))
weights = weights_of(weights, len(y))
x = place_of("x", 1e24)
"""

from collections.abc import Mapping

import numpy as np

from analysis.fitting.results import Array, FitError, check_above, check_points


def column_of(name: str, values: object) -> Array:
    """A copy of `values`, of shape (n,).

    Raises:
        FitError: they are no numbers, or of more or fewer dimensions.
    """
    try:
        column = np.array(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise FitError(f"{name} is no column of numbers ({error})") from error
    if column.ndim != 1:
        raise FitError(f"{name} has shape {column.shape}: it must be one column, of shape (n,)")
    return column


def columns_of(
    variables: Mapping[str, object], y: object, *, reserved: tuple[str, ...] = ()
) -> tuple[dict[str, Array], Array]:
    """Copies of positive columns, and of what is observed.

    Args:
        variables: each of shape (n,), positive.
        y: shape (n,), positive.
        reserved: names that the result uses itself, besides ``y``.

    Raises:
        FitError: there is no variable, one has a reserved name, lengths differ, or a value is not finite or not positive.
    """
    if not variables:
        raise FitError("no variables: the law needs at least one")
    taken = [name for name in variables if name in ("y", *reserved)]
    if taken:
        raise FitError(f"a variable is called {taken[0]!r}, which the result uses itself: give it another name")
    columns = {name: column_of(name, column) for name, column in variables.items()}
    observed = column_of("y", y)
    check_points(**columns, y=observed)
    for name, column in {**columns, "y": observed}.items():
        check_above(name, column, 0.0)
    return columns, observed


def weights_of(weights: object, points: int) -> Array | None:
    """A copy of the weights of `points` points; None stays.

    Raises:
        FitError: one is negative or not finite, all are 0, or there is not one a point.
    """
    if weights is None:
        return None
    column = column_of("weights", weights)
    if len(column) != points:
        raise FitError(f"{len(column)} weights for {points} points: give one a point")
    check_points(weights=column)
    if column.min() < 0 or not column.any():
        raise FitError(
            f"weights from {column.min():g} to {column.max():g}: none may be below 0, and one must be above it"
        )
    return column


def place_of(name: str, value: object) -> float:
    """Where a law is asked for: one positive number.

    Raises:
        FitError: it is none.
    """
    shape = np.asarray(value).shape
    if shape:
        raise FitError(f"{name} has shape {shape}: ask for one place at a time")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise FitError(f"{name} is {value!r}: it must be a number") from error
    if not (np.isfinite(number) and number > 0):
        raise FitError(f"{name} is {number:g}: it must be finite and above 0")
    return number


def places_of(names: tuple[str, ...], variables: Mapping[str, object]) -> dict[str, float]:
    """Where a law of several variables is asked for: one positive number for each of `names`, in their order.

    Raises:
        FitError: one is missing or no positive number, or there is one that the law does not have.
    """
    if set(names) != set(variables):
        raise FitError(f"the law is one of {', '.join(names)}, asked for at {', '.join(variables) or 'nothing'}")
    return {name: place_of(name, variables[name]) for name in names}

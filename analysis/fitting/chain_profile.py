"""Intervals of a law through the curves below it, without draws: a profile over all laws that the runs allow.

    profile = ChainProfile(curves, free, noise, u, floor, log_optima, errors)
    profile.ends((1.0, 0.0), level)        # of the exponent
    profile.ends((c, 1.0), level)          # of ln(law - floor) at u = c

A law ln(optimum - floor) = l + e u fixes where each budget's curve has its minimum; the rest of the curve is linear. What
that costs in squares, over the variance of the noise, is added up over budgets. A value of the wanted number is refuted
where the least sum over all laws that have it is above the least of all by more than t^2. Only the noise is taken for
normal, so the interval stays right, and opens, where optima are too uncertain for an error of first order.

A curve's cost depends on its two bending coefficients alone: with R the triangle of what the intercepts leave of their
columns, over the noise, it is the squared distance of R times the free estimate from the half-line of R times
`Curve.direction`.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from analysis.fitting.curve import Curve
from analysis.fitting.results import Array, Noise

OFFSETS = np.sinh(np.linspace(-6, 6, 25)) / 2
"""Where a profile is looked at first, in standard errors of first order: a quarter apart in the middle, out to 100."""

ZOOMS, FINE = 3, np.linspace(-1, 1, 9)
"""Each zoom looks at nine places between the neighbours of the best one, so that three divide the step by 64."""


class ChainProfile:
    """The costs of laws for m budgets."""

    def __init__(
        self,
        curves: Sequence[Curve],
        free: Sequence[Array],
        noise: Sequence[Noise],
        u: Array,
        floor: float,
        log_optima: Array,
        errors: Array,
    ):
        """Bind it to m budgets.

        Args:
            curves: of each budget.
            free: their coefficients without sign constraints.
            noise: of one ordinate of each, with an sd above 0.
            u: ln of the budgets less its mean, (m,).
            floor: of the law.
            log_optima: ln(optimum - floor) of each budget by itself, (m,): with `errors` it tells where to look.
            errors: their standard errors of first order, (m,), above 0.
        """
        self._curves, self._noise, self._u, self._floor, self._errors = curves, noise, u, floor, errors
        line = np.stack([u, np.ones_like(u)], axis=1) / errors[:, None]
        self._covariance = np.linalg.inv(line.T @ line)
        self._weights = self._covariance @ line.T / errors  # (2, m): exponent and log value, to first order
        self._centre = self._weights @ log_optima
        self._roots, self._estimates = [], []
        for curve, of, estimate in zip(curves, noise, free, strict=True):
            bends = curve.design[:, curve.bends]
            intercepts, _ = np.linalg.qr(np.delete(curve.design, curve.bends, axis=1))
            root = np.linalg.qr(bends - intercepts @ (intercepts.T @ bends), mode="r") / of.sd
            self._roots.append(root)
            self._estimates.append(root @ estimate[curve.bends])

    def costs(self, exponent: Array, log_value: Array) -> Array:
        """What laws (...) cost beyond the free curves, in variances of the noise; infinite where a curve has no such place."""
        total = np.zeros(np.broadcast(exponent, log_value).shape)
        for curve, root, z, u in zip(self._curves, self._roots, self._estimates, self._u, strict=True):
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                optimum = self._floor + np.exp(np.clip(log_value + exponent * u, -300, 300))
                # Next to a pole at the floor rounding must not put it on the pole: the rising branch alone is possible.
                optimum = np.maximum(optimum, np.nextafter(self._floor, np.inf))
                possible = (optimum > curve.axis[0]) & (optimum < curve.axis[1])
                direction = curve.direction(np.where(possible, optimum, np.nan))
                first, second = direction[..., 0], direction[..., 1]
                # In units of the larger: their squares may overflow.
                size = np.maximum(np.abs(first * root[0, 0]), np.abs(second * root[1, 1]))
                first, second = first / size, second / size
                x, y = root[0, 0] * first + root[0, 1] * second, root[1, 1] * second
                across = (z[0] * y - z[1] * x) ** 2 / (x**2 + y**2)
            total += np.where(possible, np.where(z[0] * x + z[1] * y > 0, across, z @ z), np.inf)
        return total

    def law(self) -> tuple[float, float]:
        """Exponent and log value at u = 0 of the law of least cost."""
        best, _, _, _ = self._search((0.0, 1.0))
        exponent = self._along((0.0, 1.0), np.array([best]))[1]
        return float(exponent[0]), best

    def ends(self, row: tuple[float, float], level: float) -> tuple[float, float]:
        """Of row[0] exponent + row[1] log value, where row[1] is 0 or 1; an end that the runs leave open is infinite."""
        best, lowest, places, values = self._search(row)
        bound = lowest + float(stdtrit(self.dof(row), (1 + level) / 2)) ** 2
        brackets = []
        for side in (-1, 1):
            outward = np.flatnonzero((side * (places - best) > 0) & (values > bound))[::side]
            if len(outward):
                first = outward[0]
                inside = places[first - side] if 0 <= first - side < len(places) else best
                brackets.append((side, inside if side * (inside - best) > 0 else best, places[first]))
        ends = {-1: -np.inf, 1: np.inf}
        for _ in range(2):
            if not brackets:
                break
            between = np.array([np.linspace(inside, outside, len(FINE)) for _, inside, outside in brackets])
            excess = self._along(row, between.ravel())[0].reshape(between.shape) - bound
            for index, (side, _, _) in enumerate(brackets):
                # The first crossing; the outer place is beyond the bound, save for the search's own rounding.
                at = max(int(np.argmax(np.r_[excess[index, :-1] > 0, True])), 1)
                inside, outside = between[index, at - 1], between[index, at]
                brackets[index] = (side, inside, outside)
                under, over = min(excess[index, at - 1], 0.0), max(excess[index, at], 0.0)
                share = -under / (over - under) if np.isfinite(over) and over > under else 1.0
                ends[side] = float(inside + share * (outside - inside))
        return ends[-1], ends[1]

    def dof(self, row: tuple[float, float]) -> float:
        """Degrees of freedom of the noise of the number, by Satterthwaite (1946); budgets of the same noise share its own."""
        parts: dict[Noise, float] = {}
        for of, share in zip(self._noise, (np.array(row) @ self._weights * self._errors) ** 2, strict=True):
            parts[of] = parts.get(of, 0.0) + float(share)
        return sum(parts.values()) ** 2 / sum(part**2 / of.dof for of, part in parts.items())

    def _search(self, row: tuple[float, float]) -> tuple[float, float, Array, Array]:
        """The best value of the number, its cost, and the profile (k,) at places (k,) about the estimate of first order."""
        step = float(np.sqrt(np.array(row) @ self._covariance @ np.array(row)))
        places = float(np.array(row) @ self._centre) + step * OFFSETS
        values, _ = self._along(row, places)
        near, costs, width = places, values, 0.0
        for zoom in range(ZOOMS):
            at = int(np.argmin(costs))
            width = width / 4 if zoom else float(np.abs(places - places[at])[max(at - 1, 0) : at + 2].max())
            near = near[at] + width * FINE
            costs, _ = self._along(row, near)
        at = int(np.argmin(costs))
        return float(near[at]), float(costs[at]), places, values

    def _along(self, row: tuple[float, float], values: Array) -> tuple[Array, Array]:
        """The least cost (k,) of laws whose number is each of `values` (k,), and where: log value, or exponent if row[1] is 1."""
        other = np.array([0.0, 1.0] if row[1] == 0 else [1.0, 0.0])
        of_row, mixed = np.array(row) @ self._covariance @ np.array(row), other @ self._covariance @ np.array(row)
        # Given the number, the other one is normal to first order, with this mean and standard deviation.
        middle = other @ self._centre + mixed / of_row * (values - np.array(row) @ self._centre)
        spread = np.sqrt(
            max(other @ self._covariance @ other - mixed**2 / of_row, 1e-12 * (other @ self._covariance @ other))
        )

        def cost(free: Array) -> Array:
            fixed = values[:, None]
            return self.costs(fixed / row[0], free) if row[1] == 0 else self.costs(free, fixed - row[0] * free)

        places = middle[:, None] + spread * OFFSETS
        width = np.full(len(values), np.nan)
        for zoom in range(ZOOMS + 1):
            found = cost(places)
            at = np.argmin(found, axis=1)
            rows = np.arange(len(values))
            best = places[rows, at]
            if zoom == 0:
                width = np.maximum(
                    best - places[rows, np.maximum(at - 1, 0)],
                    places[rows, np.minimum(at + 1, len(OFFSETS) - 1)] - best,
                )
            else:
                width = width / 4
            places = best[:, None] + width[:, None] * FINE
        return found[rows, at], best

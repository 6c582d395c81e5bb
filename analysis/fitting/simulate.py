"""Curves with known truth, to try fits on: what the error bars claim can be counted.

truth = HyperbolaTruth(a=0.05, b=0.012, intercept=2.9, floor=6.0, sd=0.002)
y = truth.observe(x, rng, repetitions=300)      # shape (300, n)
"""

from dataclasses import dataclass

import numpy as np

from analysis.fitting.results import Array


@dataclass(frozen=True, kw_only=True)
class ParabolaTruth:
    """y = minimum + curvature (ln x/optimum)^2 + noise."""

    optimum: float
    """Abscissa of the minimum."""
    minimum: float
    """Ordinate of the minimum."""
    curvature: float
    """Per squared unit of ln x."""
    sd: float
    """Standard deviation of the noise of one observation."""

    def __call__(self, x: Array) -> Array:
        """The curve without noise, shape of `x`."""
        return np.asarray(self.minimum + self.curvature * np.log(x / self.optimum) ** 2)

    def observe(self, x: Array, rng: np.random.Generator, repetitions: int) -> Array:
        """Noisy observations, shape (repetitions, n)."""
        return np.asarray(self(x) + self.sd * rng.standard_normal((repetitions, len(x))))


@dataclass(frozen=True, kw_only=True)
class HyperbolaTruth:
    """y = a/(x - floor) + b x + intercept + noise."""

    a: float
    """Of the falling branch, at least 0."""
    b: float
    """Slope of the rising branch, at least 0."""
    intercept: float
    """c."""
    floor: float
    """Pole."""
    sd: float
    """Standard deviation of the noise of one observation."""

    @property
    def optimum(self) -> float:
        """Abscissa of the minimum: floor + sqrt(a/b)."""
        return float(self.floor + np.sqrt(self.a / self.b))

    def __call__(self, x: Array) -> Array:
        """The curve without noise, shape of `x`."""
        return np.asarray(self.a / (x - self.floor) + self.b * x + self.intercept)

    def observe(self, x: Array, rng: np.random.Generator, repetitions: int) -> Array:
        """Noisy observations, shape (repetitions, n)."""
        return np.asarray(self(x) + self.sd * rng.standard_normal((repetitions, len(x))))

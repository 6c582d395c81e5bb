"""Curves and surfaces with known truth, to try fits on: what the error bars claim can be counted.

truth = HyperbolaTruth(a=0.05, b=0.012, intercept=2.9, floor=6.0, sd=0.002)
y = truth.observe(x, rng, repetitions=300)      # shape (300, n)

params, tokens = grid(sizes, lengths, missing=0.2)
loss = SurfaceTruth(sd=0.003).observe(params, tokens, rng, repetitions=1)[0]
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


@dataclass(frozen=True, kw_only=True)
class SurfaceTruth:
    """L = E + A/N^alpha + B/D^beta, times noise."""

    constant: float = 1.8172
    """E, nats a token."""
    params_scale: float = 482.0
    """A."""
    tokens_scale: float = 2085.0
    """B."""
    params_exponent: float = 0.3478
    """alpha."""
    tokens_exponent: float = 0.3658
    """beta."""
    sd: float = 0.0
    """Standard deviation of the noise of ln L."""

    def __call__(self, params: Array, tokens: Array) -> Array:
        """The surface without noise, shape of the arguments."""
        return np.asarray(
            self.constant
            + self.params_scale * params**-self.params_exponent
            + self.tokens_scale * tokens**-self.tokens_exponent
        )

    def observe(self, params: Array, tokens: Array, rng: np.random.Generator, repetitions: int) -> Array:
        """Noisy observations, shape (repetitions, n)."""
        noise = np.exp(self.sd * rng.standard_normal((repetitions, len(params))))
        return np.asarray(self(params, tokens) * noise)

    def optimum(self, compute: float | Array) -> Array:
        """N that minimises L at 6 N D = `compute`, in closed form."""
        a, b = self.params_exponent, self.tokens_exponent
        scale = (a * self.params_scale / (b * self.tokens_scale)) ** (1 / (a + b))
        return np.asarray(scale * (np.asarray(compute) / 6) ** (b / (a + b)))


def grid(
    params: Array, tokens: Array, *, missing: float = 0.0, rng: np.random.Generator | None = None
) -> tuple[Array, Array]:
    """Every pair of a size and a length, less the share `missing` of them, drawn: (n,) and (n,)."""
    n, d = (part.ravel() for part in np.meshgrid(params, tokens, indexing="ij"))
    if not missing:
        return n, d
    chosen = np.sort((rng or np.random.default_rng(0)).permutation(len(n))[: round((1 - missing) * len(n))])
    return n[chosen], d[chosen]


def isoflop(compute: float, centre: float, factors: Array) -> tuple[Array, Array]:
    """Sizes `centre` times `factors` at one budget, and their tokens, with 6 N D = `compute`; off centre as `centre` is."""
    params = centre * np.asarray(factors, dtype=float)
    return params, compute / 6 / params

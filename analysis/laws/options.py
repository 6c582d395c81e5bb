"""What a person may choose about the fits."""

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Choices behind laws.json; configs/refit.yaml has them."""

    resamples: int = 2000
    """Simulated repetitions of the experiment."""
    seed: int = 0
    """Of their noise."""
    window: float | None = 3.0
    """IsoFLOP parabolas are fitted to sizes within this factor of the one with the least loss: further out the loss bends
    differently on both sides (capacity on one, steps on the other). None: to all."""
    band: float = 1e-3
    """Relative height of the near-optimal band (paper, section 5.3: 0.1%)."""
    flat_range: tuple[float, float] = (18.0, 25.0)
    """N/N_a over which the change of loss is stated (paper, section 5.3 and F.4)."""
    near: float = 2e-3
    """Settings with a loss within this share of the least one are near-optimal (paper, F.2: 0.2%)."""
    ahead: float = 1e23
    """Compute that the losses by width ratio are extrapolated to (paper, Appendix E), FLOPs."""

    def generator(self, law: str, compute: float = 0.0) -> np.random.Generator:
        """The noise of one budget of one law: it does not change when other budgets come or go."""
        return np.random.default_rng([self.seed, zlib.crc32(f"{law} {compute:.6e}".encode())])

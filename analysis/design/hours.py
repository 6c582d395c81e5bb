"""A budget in GPU-hours in place of FLOPs: the C whose design's bill on the cluster is as long."""

import math
from collections.abc import Callable

from analysis.design.result import Design
from harness.errors import ConfigError
from harness.settings import LEAST_BUDGET, MOST_BUDGET, Settings

CLOSE = 0.002
"""Relative width of the bracket at which the search ends."""

MOST_STEPS = 60


def budget_for(hours: float, settings: Settings, design: Callable[[float], Design]) -> float:
    """C at which the estimate of the run is `hours` GPU-hours, to three digits.

    Raises:
        ConfigError: the cluster's largest layout cannot hold any model so large, or start-up alone takes longer.
    """
    cluster = settings.cluster

    def bill(compute: float) -> float:
        found = design(compute)
        if found.estimate is None:
            raise ConfigError(
                f"gpu_hours={hours:g}: at {compute:.3g} FLOPs no layout holds the model, so that there is no "
                f"bill: {found.no_layout}"
            )
        return found.estimate.gpu_hours

    # real FLOPs are M D and the output layer: the first guess leaves the latter out, and the search corrects it
    guess = min(MOST_BUDGET, max(LEAST_BUDGET, hours * 3600 * cluster.peak_flops * cluster.mfu))
    low = high = guess
    while bill(low) > hours:
        high, low = low, low / 3
        if low < LEAST_BUDGET:
            raise ConfigError(f"gpu_hours={hours:g} is less than the smallest run takes on cluster {cluster.name}")
    while high == low or bill(high) < hours:
        low, high = (low, high * 3) if high == low else (high, high * 3)
    for _ in range(MOST_STEPS):
        if high / low - 1 < CLOSE:
            break
        middle = math.sqrt(low * high)
        low, high = (middle, high) if bill(middle) <= hours else (low, middle)
    return float(f"{low:.3g}")

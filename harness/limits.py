"""How much may be spent without asking: above the limit a launch needs a person's word, or ``yes=true``."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from harness.cluster import Cluster
from harness.errors import ConfigError
from harness.resources import Estimate


@dataclass(frozen=True, kw_only=True)
class Limit:
    """``limit`` of ``configs/sweep.yaml``; null: none."""

    gpu_hours: float | None = None
    """GPU-hours (core-hours on a machine without GPUs) of all runs that are not done."""
    cost: float | None = None
    """Money, at the cluster's price."""

    def __post_init__(self) -> None:
        for name in ("gpu_hours", "cost"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"limit.{name}={value:g}: it must be at least 0, or null for no limit")

    def exceeded(self, estimates: Iterable[Estimate], cluster: Cluster) -> str | None:
        """By what the estimates together are above the limit, for a person; None where they are not."""
        hours = sum(estimate.gpu_hours for estimate in estimates)
        unit = "core-hours" if cluster.gpus_per_node == 0 else "GPU-hours"
        if self.gpu_hours is not None and hours > self.gpu_hours:
            return f"{_number(hours)} {unit} are above limit.gpu_hours={_number(self.gpu_hours)}"
        if self.cost is not None and cluster.price_per_gpu_hour is None:
            return (
                f"limit.cost={_number(self.cost)} is set, and cluster {cluster.name} has no price_per_gpu_hour to hold "
                "against it"
            )
        if self.cost is not None and cluster.price_per_gpu_hour is not None:
            money = hours * cluster.price_per_gpu_hour
            if money > self.cost:
                return f"a cost of {_number(money)} is above limit.cost={_number(self.cost)}"
        return None


def consent(
    limit: Limit, estimates: Iterable[Estimate], cluster: Cluster, *, yes: bool, simulated: bool = False
) -> bool:
    """Whether runs of these estimates may be launched: below the limit, told so by `yes`, or by the person at the terminal.

    `simulated`: the estimates are those of training, and the runs hold the same machines for a shorter time.

    Raises:
        ConfigError: above the limit, and nobody to ask.
    """
    excess = limit.exceeded(estimates, cluster)
    if excess is None or yes:
        return True
    if simulated:
        excess += " (by what training would take: simulated runs are given the same machines, if for a shorter time)"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError(
            f"{excess}: nothing was launched (the sweep is planned); give yes=true to launch it, or raise the limit"
        )
    try:
        answer = input(f"\n{excess}. Launch? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("nothing was launched; the sweep is planned")
    return False


def _number(value: float) -> str:
    """For a person: 12,018, 3.25, 0.2; never a 0 that is none."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

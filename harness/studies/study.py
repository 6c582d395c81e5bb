"""What a study is: for each budget, the experiments that it asks for, before any architecture is solved for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.architecture import Backbone
from harness.equations import Targets
from harness.experiment import Experiment
from harness.scales import Scale
from harness.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Request:
    """One experiment as a study asks for it."""

    backbone: Backbone
    flops_per_token: float
    """Target M, FLOPs."""
    m_over_na: float
    n_over_na: float
    quantity: str = "hidden_size"
    """What fills the last degree of freedom: a key of `harness.equations.QUANTITIES`."""
    value: float | None = None
    """Of `quantity`; None: the proxy width."""
    repeated: bool = False
    """Whether it is repeated over seeds."""
    marks: tuple[str, ...] = ()
    spend_budget: bool = False
    """D = C / realised M, whatever ``training.tokens`` says."""
    learning_rate_factor: float = 1.0
    """Of the budget's learning rate."""
    global_batch_size: int | None = None
    """Sequences; None: the budget's."""
    recipe: Scale | None = None
    """The budget whose learning rate and batch are taken; None: the budget itself."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One experiment with what the study asked for."""

    study: str
    compute: float
    """Nominal budget C, FLOPs."""
    request: Request
    targets: Targets
    experiment: Experiment
    marks: tuple[str, ...] = ()
    """``inferred``: the target M is the one that the published tables imply; ``extrapolated``: the budget is not in the
    backbone's table."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A named study."""

    name: str
    """Its key in the configuration, and its column in tables."""
    label: str
    """In the names of sweeps."""
    requests: Callable[[Settings, Scale], Iterator[Request]]
    """The experiments at one budget, in a fixed order."""

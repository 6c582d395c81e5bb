"""How real-valued solutions become architectures, as an option (``rules=``); `harness.solver` applies it."""

from dataclasses import dataclass

from harness.errors import ConfigError, nearest

PROXIES = ("lower_median", "upper_median", "nearest_to_middle", "smallest", "largest")
"""How one of the feasible widths is chosen to stand for all; the paper's is the lower median."""

LARGEST_STEP, MOST_LAYERS = 2**16, 10_000
"""Of `Rules`."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How real-valued solutions become architectures; the defaults are the published ones."""

    hidden_size_step: int = 8
    """d is a multiple of it."""
    moe_ffn_hidden_size_step: int = 8
    """d_m is the nearest multiple of it, at least one."""
    min_dense_layers: int = 1
    """L_d is at least this."""
    tolerance: float = 0.10
    """M, N_a and N of the rounded architecture may each be this far off, relatively. (The text says 5%, the tables 10%.)"""
    flops_per_token_tolerance: float | None = None
    """For M alone; None: `tolerance`."""
    active_params_tolerance: float | None = None
    """For N_a alone; None: `tolerance`."""
    total_params_tolerance: float | None = None
    """For N alone; None: `tolerance`."""
    proxy: str = "lower_median"
    """One of `PROXIES`."""

    def __post_init__(self) -> None:
        for name in ("hidden_size_step", "moe_ffn_hidden_size_step"):
            if not 1 <= getattr(self, name) <= LARGEST_STEP:
                raise ConfigError(
                    f"rules.{name}={getattr(self, name)}: a step must be at least 1 and at most {LARGEST_STEP}"
                )
        if not 0 <= self.min_dense_layers <= MOST_LAYERS:
            raise ConfigError(
                f"rules.min_dense_layers={self.min_dense_layers}: it must be at least 0 and at most {MOST_LAYERS}"
            )
        for name in ("tolerance", "flops_per_token_tolerance", "active_params_tolerance", "total_params_tolerance"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ConfigError(
                    f"rules.{name}={value:g}: a tolerance must be above 0 and at most 1, as a share (0.1 is 10%)"
                )
        if self.proxy not in PROXIES:
            raise ConfigError(
                f"rules.proxy={self.proxy}: choose one of {', '.join(PROXIES)}{nearest(self.proxy, PROXIES)}"
            )

    @property
    def tolerances(self) -> tuple[float, float, float]:
        """Of M, N_a and N."""
        given = (self.flops_per_token_tolerance, self.active_params_tolerance, self.total_params_tolerance)
        m, active, total = (self.tolerance if value is None else value for value in given)
        return m, active, total

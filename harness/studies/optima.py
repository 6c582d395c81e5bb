"""Studies at the optimum (M, N_a, N) of each budget that vary the one quantity left (sections 6 and 4.2.2, Appendix E).

Phase 2 varies d; the same definition varies (K + 1) d_m / d, the share of dense layers, or the granularity d / d_m.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

from harness.errors import ConfigError
from harness.scales import Scale
from harness.settings import Settings
from harness.studies.numbers import is_repeated, numbers, optimum, refuse_options, spread_of_widths, stated_at
from harness.studies.study import Request
from harness.typed import whole

MOST_FACTOR = 1e4
"""Of a learning rate or a batch; more is a slip of the pen."""


def at_optima(study: str, quantity: str) -> Callable[[Settings, Scale], Iterator[Request]]:
    """The study that varies `quantity` (a key of `harness.equations.QUANTITIES`)."""
    return partial(_at_optima, study, quantity)


def _at_optima(study: str, quantity: str, settings: Settings, scale: Scale) -> Iterator[Request]:
    backbone = settings.backbone(scale)
    own = settings.study(study)
    if quantity != "hidden_size":
        refuse_options(settings, study, ("num_widths",), "values=[...]")
    densities, expansions = optimum(settings, scale)
    for density in densities:
        for expansion in expansions:
            if settings.config["values"] is not None:
                values = numbers(settings.config["values"], "values")
            elif quantity == "hidden_size" and not _is_listed(settings, scale, density, expansion):
                ratios = {"m_over_na": density, "n_over_na": expansion}
                widths = spread_of_widths(settings, study, backbone, flops_per_token=scale.flops_per_token, **ratios)
                values = [float(width) for width in widths]
            else:
                values = numbers(stated_at(scale, own["values"]), f"studies.{study}.values")
            asked: list[float] | list[None] = values or [None]  # none feasible: asked for, so that the reason is told
            for value in asked:
                yield Request(
                    backbone=backbone,
                    flops_per_token=scale.flops_per_token,
                    m_over_na=density,
                    n_over_na=expansion,
                    quantity=quantity,
                    value=value,
                    repeated=value is not None and is_repeated(own.get("repeat_at"), values=value),
                    marks=settings.marks(study, scale),
                )


def _is_listed(settings: Settings, scale: Scale, density: float, expansion: float) -> bool:
    """Whether the study's own list of widths is meant: it is for the stated optimum, and ``num_widths`` asks for another."""
    if settings.num_widths is not None or stated_at(scale, settings.study("width").get("values") or {}) is None:
        return False
    stated = [stated_at(scale, settings.study("optima").get(name)) for name in ("m_over_na", "n_over_na")]
    return stated == [density, expansion]


def hyperparameters(settings: Settings, scale: Scale) -> Iterator[Request]:
    """Learning rate x batch size around the budget's own, at the proxy width of the optimum (Appendix F.2)."""
    refuse_options(settings, "hyperparameters", ("values", "num_widths"), "studies.hyperparameters.*")
    backbone = settings.backbone(scale)
    own = settings.study("hyperparameters")
    step = whole(own["batch_step"], "studies.hyperparameters.batch_step", 1)
    factors = {
        name: numbers(own[f"{name}_factors"], f"studies.hyperparameters.{name}_factors")
        for name in ("learning_rate", "batch")
    }
    for name, values in factors.items():
        if not 0 < min(values) <= max(values) <= MOST_FACTOR:
            raise ConfigError(
                f"studies.hyperparameters.{name}_factors={values}: each must be above 0, and {MOST_FACTOR:g} at most"
            )
    batches = dict.fromkeys(max(1, round(f * scale.global_batch_size / step)) * step for f in factors["batch"])
    for density, expansion, rate, batch in product(*optimum(settings, scale), factors["learning_rate"], batches):
        yield Request(
            backbone=backbone,
            flops_per_token=scale.flops_per_token,
            m_over_na=density,
            n_over_na=expansion,
            learning_rate_factor=rate,
            global_batch_size=batch,
            repeated=is_repeated(own.get("repeat_at"), learning_rate_factors=rate),
            marks=settings.marks("hyperparameters", scale),
        )

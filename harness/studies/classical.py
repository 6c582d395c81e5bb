"""IsoFLOP sets around M_opt(C) (section 4.2.1): sizes x budgets with D = C / M, in the shapes that the configuration states."""

from collections.abc import Iterator

from harness.accounting import score_flops
from harness.architecture import Backbone
from harness.equations import MIN_M_OVER_NA
from harness.errors import ConfigError, InfeasibleError
from harness.scales import Scale
from harness.settings import Settings
from harness.studies.numbers import is_repeated, numbers, refuse_options
from harness.studies.study import Request


def classical(settings: Settings, scale: Scale) -> Iterator[Request]:
    """Sizes around the budget's M, each with the tokens that spend the budget."""
    refuse_options(settings, "classical", ("m_over_na", "n_over_na", "values", "num_widths"), "studies.classical.*")
    own = settings.study("classical")
    for size in numbers(own["sizes"] or [], "studies.classical.sizes"):
        if not size > 0:
            raise ConfigError(f"studies.classical.sizes: {size:g} is not above 0")
        flops = size * scale.flops_per_token
        shape = next((shape for shape in own["shapes"] if flops <= shape["up_to"]), None)
        if shape is None:
            raise ConfigError(f"studies.classical.shapes has no shape for M = {flops:.4g}: add one with a larger up_to")
        backbone = settings.backbone(shape)
        yield Request(
            backbone=backbone,
            flops_per_token=flops,
            m_over_na=float(shape["m_over_na"])
            if "m_over_na" in shape
            else _density(backbone, flops, shape["num_layers"]),
            n_over_na=numbers(own["n_over_na"], "studies.classical.n_over_na")[0],
            repeated=is_repeated(own.get("repeat_at"), sizes=size),
            spend_budget=True,
        )


def _density(backbone: Backbone, flops: float, num_layers: float) -> float:
    """M/N_a of a model of `num_layers` layers: M = 6 N_a + scores."""
    left = 1 - score_flops(backbone, num_layers) / flops
    if left <= 0:
        raise InfeasibleError(
            f"M={flops:.4g} FLOPs a token do not pay for the attention scores of {num_layers} layers "
            f"({score_flops(backbone, num_layers):.4g}): use fewer layers or heads"
        )
    return MIN_M_OVER_NA / left

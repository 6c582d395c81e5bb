"""IsoFLOP sets around M_opt(C) (section 4.2.1): sizes x budgets with D = C / M, in the shapes that the configuration states.

With ``wsd.share_trunk=true`` the sizes are those of one ladder common to all budgets, so that budgets have models in common,
whose runs share a trunk. For that, learning rate and batch follow the model, not the budget: they are those of the table's budget
whose M_opt is nearest in log M. (The heads follow the model through ``shapes``, as ever.)
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

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
    sizes = numbers(own["sizes"] or [], "studies.classical.sizes")
    if not min(sizes) > 0:
        raise ConfigError(f"studies.classical.sizes: {min(sizes):g} is not above 0")
    models = {size * scale.flops_per_token: is_repeated(own.get("repeat_at"), sizes=size) for size in sizes}
    common = settings.share_trunk and own.get("ladder") is not None
    if common:
        models = _on_ladder(settings.scales, scale, own["ladder"], models)
    for flops, repeated in models.items():
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
            repeated=repeated,
            spend_budget=True,
            recipe=_nearest(flops, settings.scales) if common else None,
        )


def _on_ladder(table: Sequence[Scale], scale: Scale, ratio: Any, models: dict[float, bool]) -> dict[float, bool]:
    """The M of the ladder within the range of `models` (M -> whether it is repeated), in the same form.

    The ladder begins at M_opt of the least budget of `table` and goes both ways by `ratio`. A repeated M makes the rung nearest
    to it a repeated one.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not ratio > 1:
        raise ConfigError(
            f"studies.classical.ladder={ratio}: the ratio of neighbouring sizes is wanted, above 1, or null for each budget's own"
        )
    anchor = min(table, key=lambda one: one.compute).flops_per_token
    low, high = (math.log(pick(models) / anchor, ratio) for pick in (min, max))
    rungs = [anchor * ratio**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    if not rungs:
        raise ConfigError(
            f"studies.classical.ladder={ratio:g} has no M between {min(models):.4g} and {max(models):.4g}, the range of "
            f"{scale.label}: choose a smaller ratio, or further sizes"
        )
    repeated = {min(rungs, key=lambda rung: abs(math.log(rung / flops))) for flops, again in models.items() if again}
    return {rung: rung in repeated for rung in rungs}


def _nearest(flops: float, table: Sequence[Scale]) -> Scale:
    """The budget of `table` whose M_opt is nearest to `flops` in log M."""
    return min(table, key=lambda scale: abs(math.log(scale.flops_per_token / flops)))


def _density(backbone: Backbone, flops: float, num_layers: float) -> float:
    """M/N_a of a model of `num_layers` layers: M = 6 N_a + scores."""
    left = 1 - score_flops(backbone, num_layers) / flops
    if left <= 0:
        raise InfeasibleError(
            f"M={flops:.4g} FLOPs a token do not pay for the attention scores of {num_layers} layers "
            f"({score_flops(backbone, num_layers):.4g}): use fewer layers or heads"
        )
    return MIN_M_OVER_NA / left

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
    repeat_at, recipes = own.get("repeat_at"), dict[float, Scale]()
    if settings.share_trunk and own.get("ladder") is not None:
        sizes, recipes, repeat_at = _ladder(settings, scale, own["ladder"], sizes, repeat_at)
    for size in sizes:
        flops = size * scale.flops_per_token
        shape = next((shape for shape in own["shapes"] if flops <= shape["up_to"]), None)
        if shape is None:
            raise ConfigError(f"studies.classical.shapes has no shape for M = {flops:.4g}: add one with a larger up_to")
        backbone = settings.backbone(shape)
        yield Request(
            backbone=backbone,
            flops_per_token=flops,
            m_over_na=shape["m_over_na"] if "m_over_na" in shape else _density(backbone, flops, shape["num_layers"]),
            n_over_na=own["n_over_na"],
            repeated=is_repeated(repeat_at, sizes=size),
            spend_budget=True,
            recipe=recipes.get(size),
        )


def _ladder(
    settings: Settings, scale: Scale, ratio: Any, sizes: list[float], repeat_at: Any
) -> tuple[list[float], dict[float, Scale], Any]:
    """The rungs within the budget's range of `sizes` (times its M_opt), the recipe of each, and which are repeated.

    The ladder begins at M_opt of the table's least budget and goes both ways by `ratio`. In the place of a repeated size stands
    the rung nearest to it.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not ratio > 1:
        raise ConfigError(
            f"studies.classical.ladder={ratio}: the ratio of neighbouring sizes is wanted, above 1, or null for each budget's own"
        )
    anchor = min(settings.scales, key=lambda one: one.compute).flops_per_token
    low, high = (math.log(pick(sizes) * scale.flops_per_token / anchor, ratio) for pick in (min, max))
    rungs = [anchor * ratio**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    if not rungs:
        raise ConfigError(
            f"studies.classical.ladder={ratio:g} has no size between {min(sizes):g} and {max(sizes):g} times M_opt of "
            f"{scale.label}: choose a smaller ratio, or further sizes"
        )
    found = {rung / scale.flops_per_token: _nearest(rung, settings.scales) for rung in rungs}
    if isinstance(repeat_at, dict) and "sizes" in repeat_at:
        near = [min(found, key=lambda size: abs(math.log(size / wanted))) for wanted in repeat_at["sizes"]]
        repeat_at = {**repeat_at, "sizes": near}
    return list(found), found, repeat_at


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

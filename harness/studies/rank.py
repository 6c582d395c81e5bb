"""Is the median width a fair proxy (section 4.3)? A few configurations, each at many of its feasible widths."""

from collections.abc import Iterator

from harness.scales import Scale
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, thinned
from harness.studies.numbers import is_repeated, num_widths, numbers, refuse_options
from harness.studies.study import Request


def rank(settings: Settings, scale: Scale) -> Iterator[Request]:
    """The stated configurations at the stated widths, or at ``num_widths`` feasible ones where none are stated."""
    refuse_options(settings, "rank", ("m_over_na", "n_over_na", "values"), "studies.rank.configurations")
    own = settings.study("rank")
    backbone = settings.backbone(scale)
    for configuration in own["configurations"]:
        flops, density, expansion = (
            scale.grid_flops_per_token,
            float(configuration["m_over_na"]),
            float(configuration["n_over_na"]),
        )
        listed = configuration.get("hidden_size")
        if (
            listed is None
            or settings.num_widths is not None
            or scale.compute not in map(float, own.get("budgets") or [])
        ):
            targets = Targets.from_ratios(backbone, flops_per_token=flops, m_over_na=density, n_over_na=expansion)
            widths = thinned(feasible_widths(backbone, targets, settings.rules), num_widths(settings, own, "rank"))
        else:
            widths = [int(width) for width in numbers(listed, "studies.rank.configurations.hidden_size")]
        asked: list[int] | list[None] = widths or [
            None
        ]  # none feasible: asked for all the same, so that the reason is told
        for width in asked:
            yield Request(
                backbone=backbone,
                flops_per_token=flops,
                m_over_na=density,
                n_over_na=expansion,
                value=width,
                repeated=is_repeated(
                    own.get("repeat_at"), m_over_na=density, n_over_na=expansion, hidden_size=width or 0
                ),
                marks=settings.marks("rank", scale),
            )

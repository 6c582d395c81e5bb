"""Is the median width a fair proxy (section 4.3)? A few configurations, each at many of its feasible widths."""

from collections.abc import Iterator

from harness.scales import Scale
from harness.settings import Settings
from harness.studies.numbers import is_repeated, numbers, refuse_options, spread_of_widths
from harness.studies.study import Request


def rank(settings: Settings, scale: Scale) -> Iterator[Request]:
    """The stated configurations at the stated widths, or at ``num_widths`` feasible ones where none are stated."""
    refuse_options(settings, "rank", ("m_over_na", "n_over_na", "values"), "studies.rank.configurations")
    own = settings.study("rank")
    backbone = settings.backbone(scale)
    for configuration in own["configurations"]:
        flops = scale.grid_flops_per_token
        density, expansion = (float(configuration[name]) for name in ("m_over_na", "n_over_na"))
        listed = configuration.get("hidden_size")
        stated = listed is not None and scale.compute in map(float, own.get("budgets") or [])
        if stated and settings.num_widths is None:
            widths = [int(width) for width in numbers(listed, "studies.rank.configurations.hidden_size")]
        else:
            widths = spread_of_widths(
                settings, "rank", backbone, flops_per_token=flops, m_over_na=density, n_over_na=expansion
            )
        # none feasible: one is asked for all the same, so that the reason is told
        asked: list[int] | list[None] = widths or [None]
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

"""Phase 1 (section 5.2): every M/N_a with every N/N_a at the proxy width; and its refinement (section 5.3)."""

from collections.abc import Iterator

from harness.scales import Scale
from harness.settings import Settings
from harness.studies.numbers import is_repeated, ratios, refuse_options
from harness.studies.study import Request


def grid(settings: Settings, scale: Scale) -> Iterator[Request]:
    """M/N_a x N/N_a at the M that the published tables imply."""
    yield from _product(settings, scale, "grid", scale.grid_flops_per_token)


def refine(settings: Settings, scale: Scale) -> Iterator[Request]:
    """A finer list of M/N_a at one N/N_a, at the M of Table 2."""
    yield from _product(settings, scale, "refine", scale.flops_per_token)


def _product(settings: Settings, scale: Scale, study: str, flops: float) -> Iterator[Request]:
    refuse_options(settings, study, ("values", "num_widths"), "m_over_na= and n_over_na=, at the proxy width")
    backbone = settings.backbone(scale)
    repeat_at = settings.study(study).get("repeat_at")
    expansions = ratios(settings, scale, study, "n_over_na")
    for density in ratios(settings, scale, study, "m_over_na"):
        for expansion in expansions:
            yield Request(
                backbone=backbone,
                flops_per_token=flops,
                m_over_na=density,
                n_over_na=expansion,
                repeated=is_repeated(repeat_at, m_over_na=density, n_over_na=expansion),
                marks=settings.marks(study, scale),
            )

"""From a composed configuration to the rows of a sweep: every experiment with its layout and its price. Nothing is written."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from harness.cli import text
from harness.data.manifest import check_size
from harness.errors import ConfigError, InfeasibleError
from harness.limits import Limit
from harness.measured import Measurements, read_measurements
from harness.resources import Cluster, Estimate, Layout, estimate, layout
from harness.scales import budget_label
from harness.settings import Settings
from harness.studies import Point, Study, find_study
from harness.studies.build import Infeasible, build
from harness.sweepfile import SIMULATED
from harness.trunks import share_trunks


@dataclass(frozen=True, kw_only=True)
class Row:
    """A point with what it costs."""

    point: Point
    layout: Layout
    estimate: Estimate

    @property
    def run_id(self) -> str:
        """Of the point's experiment."""
        return self.point.experiment.run_id


def deviations(row: Row) -> tuple[float, float, float]:
    """Relative deviations of the realised M, N_a and N from their targets."""
    counts = row.point.experiment.counts
    return row.point.targets.deviations(counts.flops_per_token, counts.active_params, counts.total_params)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A planned study."""

    name: str
    rows: tuple[Row, ...]
    config: DictConfig
    cluster: Cluster
    limit: Limit
    measured: Measurements
    data_path: Path | None
    skipped: tuple[Infeasible, ...] = ()
    """Points without an architecture (``infeasible=skip``)."""
    repeated: int = 0
    """Points that are the same experiment as an earlier one of the sweep, after rounding."""

    @property
    def root(self) -> Path:
        """Where it is written."""
        return Path(self.config.root)

    def file(self, suffix: str) -> Path:
        """One of the sweep's files: ``.yaml``, ``.csv``, ``.jsonl``."""
        return self.root / "sweeps" / f"{self.name}{suffix}"


def plan(config: DictConfig) -> Sweep:
    """The sweep that `config` asks for; nothing is written.

    Raises:
        ConfigError: an option's value cannot be used.
        InfeasibleError: a point has no architecture.
        DataError: a run needs more tokens than its dataset has.
    """
    study = find_study(config.phase)
    settings = Settings(config)
    text(config.root, "root")
    for option in ("extend", "yes"):
        if not isinstance(config[option], bool):
            raise ConfigError(f"{option}={config[option]}: true or false is wanted")
    if settings.data_path is not None:
        config.data.path = str(settings.data_path.absolute())  # the sweep may be launched from anywhere
    if config.laws is not None:
        config.laws = str(Path(config.laws).absolute())  # likewise
    scales = settings.choose_scales(config.scale, study.name)
    measured = read_measurements(Path(config.root))
    rows: dict[str, Row] = {}
    skipped: list[Infeasible] = []
    asked: list[Point] = []
    for scale in scales:
        points, infeasible = build(study, settings, scale)
        if infeasible and settings.infeasible == "refuse":
            raise _refusal(infeasible, len(points))
        skipped += infeasible
        asked += points
    planned = share_trunks(asked) if settings.share_trunk else asked
    if settings.job.simulation is not None:
        planned = [replace(point, marks=(*point.marks, SIMULATED)) for point in planned]
    for point in planned:
        check_size(point.experiment)
        run_layout = layout(point.experiment, settings.cluster)
        cost = estimate(point.experiment, point.experiment.counts, run_layout, settings.cluster, measured)
        rows.setdefault(point.experiment.run_id, Row(point=point, layout=run_layout, estimate=cost))
    if not rows:
        raise _refusal(skipped, 0) if skipped else ConfigError(f"phase={config.phase} asks for no experiment")
    name = (
        _checked_name(config.name)
        if config.name is not None
        else _name(study, config, [scale.label for scale in scales], settings)
    )
    return Sweep(
        name=name,
        rows=tuple(rows.values()),
        config=config,
        cluster=settings.cluster,
        limit=settings.limit,
        measured=measured,
        data_path=settings.data_path,
        skipped=tuple(skipped),
        repeated=len(planned) - len(rows),
    )


def _refusal(infeasible: list[Infeasible], others: int) -> InfeasibleError:
    """The first infeasible point's reason, and what to do where it is not the only one."""
    first = infeasible[0]
    if len(infeasible) == 1 and not others:
        return first.reason
    return InfeasibleError(
        f"{first.reason}\n({len(infeasible)} of {len(infeasible) + others} points at {budget_label(first.compute)} have no "
        "architecture; infeasible=skip plans the others)"
    )


def _checked_name(name: Any) -> str:
    """A name that can stand in a path and in ``sweep=``.

    Raises:
        ConfigError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", str(name)) or str(name) == "all":
        raise ConfigError(
            f"name={str(name)[:120]}: at most 100 letters, digits, '.', '_', '-', a letter or digit first, and not 'all'"
        )
    return str(name)


def _name(study: Study, config: DictConfig, labels: list[str], settings: Settings) -> str:
    scales = "all" if config.scale == "all" else "-".join(labels)
    backbone = "" if settings.backbone_name == "paper" else f"-{settings.backbone_name}"
    return f"{study.label}-{scales}{backbone}"

"""The command ``python -m analysis.collect``: the runs of one source into losses.parquet and losses.csv.

    python -m analysis.collect sweep=all
    python -m analysis.collect source=console path=logs root=foreign
    python -m analysis.collect source=csv path=runs.csv root=foreign '+columns.final_validation_loss=loss'

Exit codes: 0 every run can be used, 1 some cannot (the files are written and say why), 2 the request was wrong, or strict=true
and a run cannot be used (nothing is written).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.cli import text
from harness.errors import ConfigError, nearest

if TYPE_CHECKING:
    import pandas as pd

SOURCES = ("runs", "wandb", "wandb_offline", "tensorboard", "console", "csv")

SHOWN = 10
"""Rows left out that are printed."""


def task(config: DictConfig) -> int:
    """`config` is configs/collect.yaml with overrides."""
    from analysis.losses import write_losses

    root = Path(text(config.root, "root"))
    table = table_of(config, root)
    root.mkdir(parents=True, exist_ok=True)
    written = write_losses(table, root)
    out = table[table["left_out"].notna()]
    marked = "SIMULATED: these are not findings\n" if table["simulated"].any() else ""
    print(f"{marked}{len(table)} rows, {len(table) - len(out)} can be used; written: {', '.join(map(str, written))}")
    for row in out.head(SHOWN).itertuples():
        print(f"  left out: {row.run_id}: {row.left_out}")
    if len(out) > SHOWN:
        print(f"  ... and {len(out) - SHOWN} more (column left_out)")
    return 1 if len(out) else 0


def table_of(config: DictConfig, root: Path) -> "pd.DataFrame":
    """The table of the source that `config` names; what was read of files is kept under `root`.

    Raises:
        HarnessError: the source is unknown, cannot be read, or holds nothing; or ``strict=true`` and a run is left out.
    """
    if config.source not in SOURCES:
        raise ConfigError(
            f"source={config.source}: choose one of {', '.join(SOURCES)}{nearest(config.source, SOURCES)}"
        )
    for option in ("strict", "simulated"):
        if not isinstance(config[option], bool):
            raise ConfigError(f"{option}={config[option]}: true or false is wanted")
    from analysis.collect import choose_sweeps, collect

    if config.source == "runs":
        wanted = OmegaConf.to_container(config.sweep) if OmegaConf.is_list(config.sweep) else config.sweep
        sweeps = choose_sweeps(root, [wanted] if isinstance(wanted, int | float) else wanted)  # type: ignore[arg-type]
        return collect(root, sweeps, strict=config.strict)
    from analysis.losses import finish

    return finish(_foreign_rows(config, root), strict=config.strict)


def _foreign_rows(config: DictConfig, root: Path) -> list[dict[str, Any]]:
    from analysis.cache import Cache
    from analysis.collect import CACHE
    from analysis.sources.table import Reading, rows_of

    values: Any = OmegaConf.to_container(config, resolve=True)
    reading = Reading(
        study=text(values["study"], "study"),
        loss=values["loss"],
        budgets=_budgets(values["budgets"]),
        simulated=values["simulated"],
    )
    project, group = values["wandb"]["project"], values["wandb"]["group"]
    if config.source == "wandb":
        from analysis.sources.wandb_online import read_online

        name = text(project, "wandb.project")
        return rows_of(read_online(name, group, entity=values["wandb"]["entity"]), reading, group or name)
    path = Path(text(config.path, "path"))
    if not path.exists():
        raise ConfigError(f"path={path} does not exist")
    if config.source == "csv":
        from analysis.sources.csv_table import Mapping, read_csv

        mapping = Mapping(
            columns=values["columns"],
            factors=values["factors"],
            loss_unit=values["loss_unit"],
            where=values["where"] or {},
        )
        return read_csv(path, mapping, reading)
    cache = Cache(root / CACHE)
    if config.source == "wandb_offline":
        from analysis.sources.wandb_offline import read_offline

        records = read_offline(path, cache, project=project, group=group)
    elif config.source == "tensorboard":
        from analysis.sources.tensorboard import read_event_files

        records = read_event_files(path, cache)
    else:
        from analysis.sources.console import read_logs

        records = read_logs(path, cache)
    root.mkdir(parents=True, exist_ok=True)
    cache.save()
    return rows_of(records, reading, path.name)


def _budgets(value: Any) -> tuple[float, ...]:
    if value is None:
        return ()
    given = value if isinstance(value, list) else [value]
    try:
        return tuple(sorted(float(budget) for budget in given))
    except (TypeError, ValueError):
        raise ConfigError(f"budgets={value}: a list of budgets in FLOPs is wanted, as in budgets=[1e18,1e19]") from None

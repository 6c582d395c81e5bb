"""Sweeps that were written: find one by name, read its experiments and its configuration."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness.errors import ConfigError, nearest
from harness.experiment import Experiment
from harness.files import read_json_lines, write_atomically


@dataclass(frozen=True, kw_only=True)
class WrittenSweep:
    """A sweep on disk."""

    name: str
    root: Path
    experiments: tuple[Experiment, ...]
    config: Any
    """The resolved configuration that it was planned with."""

    @property
    def data_path(self) -> Path | None:
        """The dataset named at planning."""
        return Path(self.config.data.path) if self.config.data.path else None


JOB_OPTIONS = ("megatron", "logging", "cluster", "container", "train")
"""Parts of a sweep's configuration that say how its runs are trained, not what they are."""


SIMULATED = "simulated"
"""Mark of a row whose run is (to be) simulated, and the name of that trainer."""


def update_job_options(root: Path, name: str, config: Any, keys: Iterable[str] = JOB_OPTIONS) -> None:
    """Let the sweep `name` be launched with the job options `keys` of `config`; its experiments stay.

    Its table is marked as the trainer wants it.
    """
    path = root / "sweeps" / f"{name}.yaml"
    written: Any = OmegaConf.load(path)
    before = OmegaConf.to_yaml(written)
    for key in keys:
        if key in config:
            written[key] = config[key]
    if (text := OmegaConf.to_yaml(written, resolve=True)) != before:
        write_atomically(path, text)
    _mark_trainer(path.with_suffix(".csv"), (written.get("train") or {}).get("name") == SIMULATED)


def _mark_trainer(path: Path, simulated: bool) -> None:
    """Let every row of a sweep's table bear the mark of simulated runs, or none."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    changed = False
    for row in rows:
        marks = [mark for mark in (row.get("marks") or "").split(";") if mark]
        if (SIMULATED in marks) != simulated:
            row["marks"] = ";".join([*marks, SIMULATED] if simulated else [m for m in marks if m != SIMULATED])
            changed = True
    if changed:
        write_atomically(path, table_text(rows))


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A sweep's table as CSV; an older sweep may lack a column that its last rows have."""
    header = dict.fromkeys(name for row in (rows[-1], rows[0]) for name in row)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(header), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


def sweep_names(root: Path) -> list[str]:
    """The sweeps under `root`, sorted; a sweep's table is written last, so what is listed is whole."""
    return sorted(path.stem for path in (root / "sweeps").glob("[!.]*.csv"))


def choose_sweeps(root: Path, wanted: Any) -> list[str]:
    """The sweeps that ``sweep=`` names: one, several in a list or separated by commas, or all (also where it is null).

    Raises:
        ConfigError: one is unknown, or there is none; with the ones that are there.
    """
    there = sweep_names(root)
    if not there:
        raise ConfigError(f"{root}/sweeps holds no sweep: plan one (python -m harness.sweep), or give another root=")
    words = wanted.split(",") if isinstance(wanted, str) else wanted if isinstance(wanted, list) else [wanted]
    names = [str(word).strip() for word in words if word is not None]
    if names in ([], ["all"]):
        return there
    for name in names:
        if name not in there:
            raise ConfigError(
                f"sweep={name}: no such sweep in {root}/sweeps{nearest(name, there)} (there are {', '.join(there)})"
            )
    return list(dict.fromkeys(names))


def load_sweep(root: Path, name: str | None) -> WrittenSweep:
    """The sweep `name` under `root`.

    Raises:
        ConfigError: there is none; with the ones that are there.
        RunError: it was written by a newer version.
    """
    names = sweep_names(root)
    if name not in names:
        start = (
            "sweep is not set"
            if name is None
            else f"sweep={name}: no such sweep in {root}/sweeps{nearest(name, names)}"
        )
        there = f"there are {', '.join(names)}" if names else "there is none; plan one with python -m harness.sweep"
        raise ConfigError(f"{start} ({there})")
    return WrittenSweep(
        name=name,
        root=root,
        experiments=tuple(read_experiments(root, name).values()),
        config=OmegaConf.load(root / "sweeps" / f"{name}.yaml"),
    )


def read_experiments(root: Path, name: str) -> dict[str, Experiment]:
    """The experiments of a sweep by run id, in order; empty where there is no such sweep.

    Raises:
        ConfigError: one of its three files is missing or torn, or they do not agree: part of a sweep must not pass for it.
    """
    paths = {suffix: root / "sweeps" / f"{name}{suffix}" for suffix in (".yaml", ".jsonl", ".csv")}
    there = [suffix for suffix, path in paths.items() if path.exists()]
    if not there:
        return {}

    def damaged(what: str) -> ConfigError:
        return ConfigError(
            f"sweep {name} in {root}/sweeps is damaged ({what}): restore its files, or remove {name}.yaml, .jsonl and .csv and "
            "plan it again (runs are kept)"
        )

    if len(there) < len(paths):
        raise damaged(f"{' and '.join(suffix for suffix in paths if suffix not in there)} missing")
    lines = paths[".jsonl"].read_text(encoding="utf-8", errors="replace").splitlines()
    values = read_json_lines(paths[".jsonl"])
    with paths[".csv"].open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    if len(values) < len(lines) or not values:
        raise damaged(".jsonl torn or empty")
    experiments = {e.run_id: e for e in (Experiment.from_canonical(value) for value in values)}
    if {row.get("run_id") for row in rows} != set(experiments) or any(None in row.values() for row in rows):
        raise damaged(".csv and .jsonl do not agree")
    try:
        whole = "phase" in OmegaConf.load(paths[".yaml"])
    except Exception:
        whole = False
    if not whole:
        raise damaged(".yaml torn")
    return experiments

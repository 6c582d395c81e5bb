"""Sweeps that were written: find one by name, read its experiments and its configuration."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness.errors import ConfigError, nearest
from harness.experiment import Experiment
from harness.files import read_json_lines


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


def sweep_names(root: Path) -> list[str]:
    """The sweeps under `root`, sorted; a sweep's table is written last, so what is listed is whole."""
    return sorted(path.stem for path in (root / "sweeps").glob("[!.]*.csv"))


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
    values = read_json_lines(root / "sweeps" / f"{name}.jsonl")
    return WrittenSweep(
        name=name,
        root=root,
        experiments=tuple(Experiment.from_canonical(value) for value in values),
        config=OmegaConf.load(root / "sweeps" / f"{name}.yaml"),
    )

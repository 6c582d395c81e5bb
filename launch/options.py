"""What a site says about its Slurm (``cluster.slurm``) and its containers (``container``)."""

import re
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness.errors import ConfigError, nearest
from harness.typed import build

CONTAINERS = ("none", "pyxis", "apptainer")

TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d+):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)")

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """``configs/cluster/slurm/default.yaml`` says what each is."""

    account: str | int | None = None
    partition: str | int | None = None
    qos: str | int | None = None
    constraint: str | int | None = None
    exclude: str | int | None = None
    time: str | int | None = None
    gpu_resource: str | None = "gpu"
    cpus_per_gpu: int | None = None
    memory_per_gpu: str | int | None = None
    whole_nodes: bool = False
    runs_per_node: int | None = None
    seconds_to_save: int = 300
    max_array_size: int | None = None
    transformer_engine: bool = True
    apex: bool = True
    python: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    pre_commands: tuple[Any, ...] = ()
    options: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.time is not None and seconds_of(self.time, "cluster.slurm.time") < 60:
            raise ConfigError(f"cluster.slurm.time={self.time}: a minute at least, as in 24:00:00")
        for name, low in (("cpus_per_gpu", 1), ("runs_per_node", 1), ("max_array_size", 2), ("seconds_to_save", 5)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"cluster.slurm.{name}={value}: it must be at least {low}")
        for name, value in self.environment.items():
            if not NAME.fullmatch(name):
                raise ConfigError(f"cluster.slurm.environment.{name}: this is no name of a variable")
            if value is None or isinstance(value, bool | dict | list):
                raise ConfigError(
                    f"cluster.slurm.environment.{name}={value}: a text is wanted ('true' in quotes, if it is one)"
                )
        for word in self.options:
            if not str(word).startswith("-"):
                raise ConfigError(
                    f"cluster.slurm.options has {word!r}: options of sbatch are wanted, as in --reservation=x"
                )
        for name, value in vars(self).items():
            if "\n" in str(value):
                raise ConfigError(f"cluster.slurm.{name}={value!r}: it must be on one line")


@dataclass(frozen=True, kw_only=True)
class Container:
    """``configs/container/``."""

    kind: str = "none"
    image: str | None = None
    mounts: tuple[Any, ...] = ()
    options: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in CONTAINERS:
            raise ConfigError(
                f"container.kind={self.kind}: choose of {', '.join(CONTAINERS)}{nearest(self.kind, CONTAINERS)}"
            )
        if self.kind != "none" and not self.image:
            raise ConfigError(f"container={self.kind} wants container.image=<image>")


def read_slurm(cluster: DictConfig) -> SlurmOptions:
    """The options of a composed ``cluster``; the defaults where it was planned before there were any.

    Raises:
        ConfigError: one is unknown or cannot be used.
    """
    return build(SlurmOptions, _plain(cluster.get("slurm")), "cluster.slurm")


def read_container(container: DictConfig | None) -> Container:
    """The composed ``container``; none where there is none.

    Raises:
        ConfigError: it names no image.
    """
    if container is not None and OmegaConf.is_missing(container, "image"):
        raise ConfigError(f"container={container.kind} wants container.image=<image>")
    return build(Container, _plain(container), "container")


def _plain(config: DictConfig | None) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(config, resolve=True) if config is not None else {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def seconds_of(time: str | int, name: str) -> int:
    """Seconds of ``24:00:00`` or ``2-00:00:00``; YAML reads the former, without quotes, as the number itself.

    Raises:
        ConfigError: it is written otherwise.
    """
    if isinstance(time, int) and time > 0:
        return time
    found = TIME.fullmatch(str(time))
    if not found:
        raise ConfigError(f"{name}={time}: a time as in 24:00:00 or 2-00:00:00 is wanted")
    days, hours, minutes, seconds = (int(part or 0) for part in found.group("days", "hours", "minutes", "seconds"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

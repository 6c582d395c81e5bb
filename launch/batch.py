"""The batch file of a job array, from ``templates/array.sbatch.j2``."""

import shlex
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from harness.cli import CONFIGS
from launch.journal import comment
from launch.options import Container, SlurmOptions, seconds_of
from launch.tasks import Array, Shape

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where jobs run: a cluster's Slurm, its containers, and the paths that jobs need."""

    slurm: SlurmOptions
    container: Container
    paths: tuple[Path, ...]
    """Directories that jobs read and write: containers mount them, at the same place."""


def batch_file(
    array: Array, site: Site, *, sweep: str, table: Path, logs: Path, fingerprint: str, parallel: int | None
) -> str:
    """The text of the batch file for `array`, whose tasks are in `table`; `parallel`: most elements at once."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    templates.filters["quote"] = shlex.quote
    shape, slurm = array.shape, site.slurm
    seconds = array.time_limit if slurm.time is None else seconds_of(slurm.time, "cluster.slurm.time")
    packed = shape.runs > 1
    tasks = shape.gpus_per_node if shape.gpus_per_node and not packed else 1
    cpus = (slurm.cpus_per_gpu or (0 if shape.gpus_per_node else 1)) * (shape.runs if packed else 1)
    program, step = _program(site)
    return templates.get_template("array.sbatch.j2").render(
        what=_what(array, sweep),
        sweep=sweep,
        comment=comment(fingerprint),
        indices=_ranges(array.indices),
        parallel=parallel,
        shape=shape,
        tasks_per_node=tasks,
        options=_options(shape, slurm, cpus),
        time=clock(seconds),
        seconds_to_save=min(slurm.seconds_to_save, seconds // 2),
        logs=logs,
        after=array.after,
        table=str(table),
        program=program,
        step=" ".join(["srun", *([f"--cpus-per-task={cpus}"] if cpus else []), *step]),
        environment=slurm.environment,
        project=str(CONFIGS.parent) if site.container.kind == "none" else "",
        pre_commands=slurm.pre_commands,
    )


def _what(array: Array, sweep: str) -> str:
    """The array in a sentence."""
    shape, runs = array.shape, len(array.tasks)
    size = f"{shape.nodes} x " * (shape.nodes > 1) + f"{shape.gpus_per_node} GPU{'s' * (shape.gpus_per_node > 1)} each"
    if shape.runs > 1:
        size = f"up to {shape.runs} on a node"
    elif shape.gpus_per_node == 0:
        size = "one core each"
    return f"{runs} run{'s' if runs > 1 else ''} of sweep {sweep}, {size}; written by launch.slurm"


def _options(shape: Shape, slurm: SlurmOptions, cpus: int) -> list[str]:
    """Further options of sbatch; those that are null are left out."""
    gpus = shape.gpus_per_node
    given = {
        "account": slurm.account,
        "partition": slurm.partition,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "exclude": slurm.exclude,
        "gres": f"{slurm.gpu_resource}:{gpus}" if gpus and slurm.gpu_resource else None,
        "cpus-per-task": cpus or None,
        "mem-per-gpu": slurm.memory_per_gpu if gpus else None,
        "mem": 0 if slurm.whole_nodes and slurm.memory_per_gpu is None else None,
    }
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [*words, *(["--exclusive"] if slurm.whole_nodes else []), *map(str, slurm.options)]


def _program(site: Site) -> tuple[str, list[str]]:
    """How Python is started on a node, and the options of srun that this takes."""
    container = site.container
    if container.kind == "none":
        return shlex.quote(site.slurm.python or sys.executable), []
    python = shlex.quote(site.slurm.python or "python")
    mounts = [f"{path}:{path}" for path in site.paths]
    mounts += [mount if ":" in mount else f"{mount}:{mount}" for mount in map(str, container.mounts)]
    image = shlex.quote(str(container.image))
    if container.kind == "pyxis":
        step = [f"--container-image={image}", f"--container-mounts={shlex.quote(','.join(mounts))}"]
        return python, [*step, *map(str, container.options)]
    binds = [f"--bind {shlex.quote(mount)}" for mount in mounts]
    return " ".join(["apptainer exec", *map(str, container.options), *binds, image, python]), []


def clock(seconds: int) -> str:
    """Slurm's way to write a time: ``2-03:00:00``."""
    days, rest = divmod(seconds, 86400)
    return (f"{days}-" if days else "") + str(timedelta(seconds=rest)).zfill(8)


def _ranges(numbers: tuple[int, ...]) -> str:
    """``0-3,7`` for 0, 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)

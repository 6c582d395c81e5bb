"""TensorBoard event files that Megatron wrote (``--tensorboard-dir``), with TensorBoard's own reader. A directory is a run.

Megatron writes its arguments as text, the training loss as "lm loss" and the evaluation as "lm loss validation".
"""

from functools import partial
from pathlib import Path
from typing import Any

from analysis.cache import Cache
from analysis.sources.record import ARGUMENTS, TRAINING, Record, argument
from harness.errors import HarnessError
from harness.megatron.metrics import VALIDATION

TEXT = "/text_summary"
"""What the writer of texts adds to their names."""


def read_event_files(path: Path, cache: Cache) -> list[Record]:
    """The runs below the directory `path`: each directory that holds event files.

    Raises:
        HarnessError: there is none, or tensorboard is not installed.
    """
    directories = sorted({file.parent for file in path.rglob("events.out.tfevents.*")})
    if not directories:
        raise HarnessError(f"{path}: no TensorBoard event file (events.out.tfevents.*) is there or below")
    records = []
    for directory in directories:
        files = sorted(directory.glob("events.out.tfevents.*"))
        name = str(directory.relative_to(path)) if directory != path else directory.name
        value = cache.remember(
            f"tensorboard {directory.resolve()} {len(files)}",
            files,
            partial(_plain, directory, name),
        )
        records.append(Record.from_plain(value))
    return records


def _plain(directory: Path, name: str) -> dict[str, Any]:
    return read_directory(directory, name).plain()


def read_directory(directory: Path, name: str) -> Record:
    """The run whose event files `directory` holds, under the id `name`. Of a step that was made twice, the later counts."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
            EventAccumulator,
        )
    except ImportError as error:
        raise HarnessError("source=tensorboard needs tensorboard: pip install 'moe-scaling-harness[train]'") from error
    everything = {"scalars": 0, "tensors": 0}
    events: Any = EventAccumulator(str(directory), size_guidance=everything, purge_orphaned_data=False)
    events.Reload()
    tags = events.Tags()
    series = {
        tag: {event.step: event.value for event in events.Scalars(tag)} if tag in tags["scalars"] else {}
        for tag in (TRAINING, VALIDATION)
    }
    arguments = {}
    for argument_name in ARGUMENTS:
        if argument_name + TEXT in tags["tensors"]:
            tensor = events.Tensors(argument_name + TEXT)[-1].tensor_proto
            arguments[argument_name] = argument(b"".join(tensor.string_val).decode(errors="replace"))
    return Record(
        run_id=name,
        place=str(directory),
        arguments=arguments,
        training=series[TRAINING],
        validation=series[VALIDATION],
    )

"""The flags that say where a run reads and writes."""

from collections.abc import Sequence
from pathlib import Path

from harness.data.manifest import Part, read_parts
from harness.megatron.flags import flag


def data_flags(dataset: Path) -> list[str]:
    """The two parts of a dataset; of a blend, those of its datasets with their weights."""
    return blend_flags(read_parts(dataset)) or [
        *flag("train-data-path", dataset / "train"),
        *flag("valid-data-path", dataset / "validation"),
    ]


def blend_flags(parts: Sequence[Part]) -> list[str]:
    """Both parts of each dataset of a blend, the training as the validation parts by weight; no flags without parts."""
    if not parts:
        return []
    return [
        *flag("train-data-path", *(word for part in parts for word in (part.weight, part.path / "train"))),
        *flag("valid-data-path", *(word for part in parts for word in (part.weight, part.path / "validation"))),
    ]


def run_directory_flags(run: Path, *, tensorboard: bool = False, wandb: bool = False) -> list[str]:
    """Where a run's own files go; the training program adds them, so that they always follow its ``--run-dir``."""
    return [
        *flag("save", run / "checkpoints"),
        *flag("load", run / "checkpoints"),
        *flag("data-cache-path", run / "cache"),
        *(flag("tensorboard-dir", run / "tensorboard") if tensorboard else []),
        *(flag("wandb-save-dir", run) if wandb else []),  # wandb makes its own folder in it
    ]

"""W&B runs of Megatron on a server, by project and group, through wandb's public API and its own settings (``WANDB_API_KEY``)."""

from typing import Any

from analysis.sources.record import TRAINING, Record, kept
from analysis.sources.wandb_offline import loss_of
from harness.errors import HarnessError
from harness.megatron.metrics import VALIDATION

ENDED = ("finished", "crashed", "failed", "killed")
"""States of a run that goes on no more."""


def read_online(project: str, group: str | None, *, entity: str | None = None, api: Any = None) -> list[Record]:
    """The runs of `project` (of `entity`; None: the user's own), of `group` where it is given.

    `api`: a `wandb.Api`; None: one from the environment.

    Raises:
        HarnessError: there is none, the server refuses or cannot be reached, or wandb is not installed.
    """
    address = f"{entity}/{project}" if entity else project
    try:
        import wandb
    except ImportError as error:
        raise HarnessError("source=wandb needs wandb: pip install 'moe-scaling-harness[train]'") from error
    try:
        runs = list((api or wandb.Api()).runs(address, filters={"group": group} if group else {}))
        records = [_record(run) for run in runs]
    except (wandb.errors.CommError, wandb.errors.UsageError, ValueError, OSError) as error:
        raise HarnessError(
            f"W&B project {address}: {error} (source=wandb_offline reads runs without a server)"
        ) from error
    if not records:
        raise HarnessError(f"W&B project {address}, group {group or '(any)'}: no run")
    return records


def _record(run: Any) -> Record:
    series: dict[str, dict[int, float]] = {TRAINING: {}, VALIDATION: {}}
    for name, losses in series.items():
        for row in run.scan_history(keys=["_step", name]):
            if (loss := loss_of(row.get(name))) is not None:
                losses[int(row["_step"])] = loss
    return Record(
        run_id=run.id,
        place=run.url,
        arguments=kept(run.config),
        training=series[TRAINING],
        validation=series[VALIDATION],
        trouble=None if run.state in ENDED else str(run.state),
    )

"""Offline W&B runs of Megatron (``WANDB_MODE=offline``), read from their transaction logs without a server.

All attempts of a run have its id, and are merged; the configuration holds Megatron's arguments.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from analysis.cache import Cache
from analysis.sources.record import TRAINING, Record, kept, merged
from analysis.sources.wandb_log import TornLog, read_records
from harness.errors import HarnessError
from harness.megatron.metrics import VALIDATION


def read_offline(path: Path, cache: Cache, *, project: str | None = None, group: str | None = None) -> list[Record]:
    """The runs whose ``*.wandb`` files lie at or below `path`, of `project` and `group` where these are given.

    Raises:
        HarnessError: there is none, or wandb is not installed.
    """
    files = sorted(path.rglob("*.wandb"), key=lambda file: (file.parent.name, file.name))  # offline-run-<time>-<id>
    if not files:
        raise HarnessError(f"{path}: no offline W&B run (offline-run-*/run-*.wandb) is there or below")
    runs: dict[tuple[str, str], list[Record]] = {}
    others = set()
    for file in files:
        value = cache.remember(f"wandb {file.resolve()}", [file], partial(read_file, file))
        if project not in (None, value["project"]) or group not in (None, value["group"]):
            others.add(f"{value['project']}/{value['group']}")
            continue
        record = Record.from_plain(value["record"])
        runs.setdefault((value["project"], record.run_id), []).append(record)
    if not runs:
        raise HarnessError(
            f"{path}: no run of project {project or '(any)'}, group {group or '(any)'}; there are {', '.join(sorted(others))}"
        )
    return [merged(attempts) for attempts in runs.values()]


def read_file(file: Path) -> dict[str, Any]:
    """The attempt in one log, with its ``project`` and ``group``, as JSON values. One that is torn is used up to there."""
    run_id, project, group = file.stem.removeprefix("run-"), "", ""
    config: dict[str, Any] = {}
    series: dict[str, dict[int, float]] = {TRAINING: {}, VALIDATION: {}}
    trouble = None
    try:
        for record in read_records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run_id, project, group = record.run.run_id, record.run.project, record.run.run_group
                config |= _values(record.run.config.update)
            elif kind == "config":
                config |= _values(record.config.update)
            elif kind == "history":
                row = _values(record.history.item)
                step = row.get("_step", record.history.step.num)
                for name, losses in series.items():
                    if isinstance(loss := loss_of(row.get(name)), float):
                        losses[int(step)] = loss
    except TornLog:
        trouble = "its W&B log is torn"
    found = Record(
        run_id=run_id,
        place=str(file.parent),
        arguments=kept(config),
        training=series[TRAINING],
        validation=series[VALIDATION],
        trouble=None if series[VALIDATION] else trouble,
    )
    return {"project": project, "group": group, "record": found.plain()}


def _values(items: Iterable[Any]) -> dict[str, Any]:
    """Of items with a key (or a path of keys) and a JSON value."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def loss_of(value: Any) -> float | None:
    """A loss; wandb writes what is no number as a word."""
    if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

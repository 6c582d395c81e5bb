"""Console logs of Megatron's training loop (megatron-core 0.19): arguments, a loss every so many steps, and the last evaluation.

Printed losses have seven digits. Several attempts in one file, or one log an attempt with the same ``--save``, are one run.
"""

import re
from functools import partial
from pathlib import Path
from typing import Any

from analysis.cache import Cache
from analysis.sources.record import ARGUMENTS, Record, argument, kept, merged
from harness.errors import HarnessError

ARGUMENT = re.compile(r"^(?:\S*[:\]] *)?  (?P<name>\w+) \.{2,} (?P<value>.*)$")
ITERATION = re.compile(r"iteration +(?P<step>\d+)/ *\d+ \|.*?\blm loss: (?P<loss>\S+) \|")
EVALUATION = re.compile(
    r"validation loss at iteration (?P<step>\d+) on validation set \| lm loss value: (?P<loss>\S+) \|"
)

WANTED = frozenset(ARGUMENTS)


def read_logs(path: Path, cache: Cache) -> list[Record]:
    """The runs in the log `path`, or in all ``*.log``, ``*.out``, ``*.txt`` below the directory `path`; other text is no run.

    Raises:
        HarnessError: there is no such file, or no log of a Megatron training below it.
    """
    if path.is_file():
        files, base = [path], path.parent
    else:
        files, base = sorted(file for kind in ("log", "out", "txt") for file in path.rglob(f"*.{kind}")), path
    found = []
    for file in files:
        name = str(file.relative_to(base))
        value = cache.remember(f"log {file.resolve()}", [file], partial(_plain, file, name))
        record = Record.from_plain(value)
        if record.arguments or record.training:
            found.append(record)
    if not found:
        raise HarnessError(
            f"{path}: no log of a Megatron training is there (*.log, *.out, *.txt with its arguments or iterations)"
        )
    attempts: dict[str, list[Record]] = {}
    for record in found:
        attempts.setdefault(str(record.arguments.get("save") or record.place), []).append(record)
    return [merged(one) for one in attempts.values()]


def _plain(file: Path, name: str) -> dict[str, Any]:
    return read_log(file, name).plain()


def read_log(file: Path, name: str) -> Record:
    """The run in one log, under the id `name`."""
    arguments, training, validation = {}, {}, {}
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if (match := ITERATION.search(line)) is not None:
                if (loss := _loss(match["loss"])) is not None:
                    training[int(match["step"])] = loss
            elif (match := EVALUATION.search(line)) is not None:
                if (loss := _loss(match["loss"])) is not None:
                    validation[int(match["step"])] = loss
            elif (match := ARGUMENT.match(line)) is not None and match["name"] in WANTED:
                arguments[match["name"]] = argument(match["value"])
    return Record(run_id=name, place=str(file), arguments=kept(arguments), training=training, validation=validation)


def _loss(text: str) -> float | None:
    try:
        return float(text)  # NAN and INF are losses too: of a run that diverged
    except ValueError:
        return None  # a line that was torn

"""Stop runs, whoever launched them: ``python -m launch.cancel sweep=NAME`` or ``runs=[id,...]``.

A run that runs saves a checkpoint first. A later launch of the sweep goes on with them. Exit code 0, or 1 where a launcher could
not be asked.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.errors import ConfigError, nearest
from harness.sweepfile import choose_sweeps, sweep_names
from launch.launchers import cancel_all, poll_all
from launch.runview import sweep_rows
from launch.selection import some_of

SHOWN = 10
"""So many run ids are printed of a list."""


def main(config: DictConfig) -> int:
    """Cancel, and say what was stopped and what there was nothing to stop of."""
    root = Path(cli.text(config.root, "root"))
    if (config.sweep is None) == (config.runs is None):
        raise ConfigError("name what to stop: either sweep=NAME or runs=[id,...]")
    if config.runs is None:
        wanted = OmegaConf.to_container(config.sweep) if OmegaConf.is_list(config.sweep) else config.sweep
        ids = _runs_of(root, choose_sweeps(root, wanted))
    else:
        ids = _known(root, list(config.runs) if OmegaConf.is_list(config.runs) else [config.runs])
    polled = poll_all(root)
    done, troubles = cancel_all(root, ids)
    for sentence in done:
        print(sentence)
    idle = [run_id for run_id in ids if run_id not in polled.seen]
    if idle:
        print(f"{len(idle)} of {len(ids)} runs have no job to stop: {some_of(idle, SHOWN)}")
    for trouble in troubles:
        print(f"error: {trouble}", file=sys.stderr)
    return 1 if troubles else 0


def _runs_of(root: Path, names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(row["run_id"] for name in names for row in sweep_rows(root, name)))


def _known(root: Path, runs: list[Any]) -> list[str]:
    """`runs`, each of which must be planned or there.

    Raises:
        ConfigError: one is not; with the nearest ids.
    """
    known = {*_runs_of(root, sweep_names(root)), *(path.name for path in (root / "runs").glob("[!.]*"))}
    for run in runs:
        if str(run) not in known:
            raise ConfigError(f"runs: there is no run {run} under {root}{nearest(run, known)}")
    return [str(run) for run in runs]


def quoted(words: Iterable[str]) -> list[str]:
    """Command-line words in which the run ids of ``runs=`` are text: 12 hexadecimal digits may read as a number (1e5...)."""
    return [
        re.sub(
            r"[^\s,\[\]'\"=]+(?=[,\]\s'\"]|$)", lambda found: f"'{found[0]}'", word.replace("'", "").replace('"', "")
        )
        if word.startswith("runs=")
        else word
        for word in words
    ]


if __name__ == "__main__":
    sys.argv[1:] = quoted(sys.argv[1:])
    cli.run("cancel", main)

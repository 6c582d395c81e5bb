"""How the runs of sweeps are getting on: ``python -m launch.status sweep=NAME [--json] [--watch]``; without a name, all sweeps.

The states of the run directories are held against the queues of all launchers: a run that claims to run and has no job is lost.
Exit code 0, whatever the states are.
"""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.errors import ConfigError
from harness.quantities import duration, short
from harness.scales import budget_label
from harness.sweepfile import choose_sweeps
from launch.launchers import Polled, poll_all
from launch.queue import how_they_ended
from launch.runview import STATES, TROUBLE, RunView, sweep_rows, view_run

MOST_LISTED = 20
"""Running runs, and runs in trouble, that are listed one by one unless ``all=true``."""


def status_text(name: str, views: Sequence[RunView], width: int, *, every: bool = False) -> str:
    """One sweep for people, in lines of `width` columns (but for the paths of logs, which are not cut)."""
    mark = " (SIMULATED)" if any(view.simulated for view in views) else ""
    counts = Counter(view.state for view in views)
    unit = "GPU-hours" if any(view.gpus for view in views) else "core-hours"
    ahead = sum(view.hours_predicted for view in views if view.state not in ("done", "diverged"))
    lines = [
        f"sweep {name}{mark}: {len(views):,} runs",
        ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state]),
        f"{unit}: {sum(view.hours_spent for view in views):,.2f} spent, "
        f"{sum(view.hours_predicted for view in views):,.2f} predicted for all, {ahead:,.2f} for those not done",
    ]
    running = [view for view in views if view.state == "running"]
    trouble = [view for view in views if view.state in TROUBLE]
    if every:
        lines += ["", *_table(views, width)]
    elif running:
        lines += ["", *_table(running[:MOST_LISTED], width), *_more(running)]
    if trouble:
        lines.append("")
        for view in trouble if every else trouble[:MOST_LISTED]:
            lines.append(_cut(f"{view.state:8s} {view.run_id} at step {view.step}: {view.message or 'no word'}", width))
            if view.log:
                lines.append(f"         log {view.log}")
        lines += [] if every else _more(trouble)
    return "\n".join(lines)


def _table(views: Iterable[RunView], width: int) -> list[str]:
    """Aligned columns; the last one is cut to the width."""
    rows = [("run", "state", "budget", "step", "loss", "tokens/s", "left", "job")]
    rows += [
        (
            view.run_id,
            view.state,
            budget_label(view.compute),
            f"{view.step}/{view.steps}",
            "-" if view.loss is None else f"{view.loss:.4f}",
            "-" if view.tokens_per_second is None else short(round(view.tokens_per_second)),
            "-" if view.seconds_left is None else duration(view.seconds_left),
            f"{view.job or '-'}{f' ({view.reason})' if view.reason else ''}",
        )
        for view in views
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(7)]
    lines = []
    for row in rows:
        left = [row[column].ljust(widths[column]) for column in (0, 1)]
        right = [row[column].rjust(widths[column]) for column in range(2, 7)]
        lines.append(_cut("  ".join([*left, *right, row[7]]), width))
    return lines


def _more(views: Sequence[RunView]) -> list[str]:
    hidden = len(views) - MOST_LISTED
    return [f"... and {hidden} more (all=true shows them)"] if hidden > 0 else []


def _cut(line: str, width: int) -> str:
    line = " ".join(line.splitlines())
    return line if len(line) <= width else f"{line[: width - 3]}..."


def status_document(root: Path, sweeps: dict[str, list[RunView]], polled: Polled) -> dict[str, Any]:
    """The same for programs."""
    return {
        "schema": 1,
        "root": str(root),
        "unknown_queues": list(polled.unknown),
        "sweeps": [
            {
                "name": name,
                "simulated": any(view.simulated for view in views),
                "states": dict(Counter(view.state for view in views)),
                "hours_spent": sum(view.hours_spent for view in views),
                "hours_predicted": sum(view.hours_predicted for view in views),
                "runs": [dict(vars(view)) for view in views],
            }
            for name, views in sweeps.items()
        ],
    }


def document_text(document: dict[str, Any], *, lines: bool) -> str:
    """`status_document` as JSON; `lines`: each run on one. (With an indent Python's encoder is four times slower.)"""
    text = json.dumps(document)
    first = f'{{"{fields(RunView)[0].name}": '  # in a string its quotes would be escaped
    return text.replace(first, f"\n{first}") if lines else text


def look(root: Path, names: Sequence[str], *, details: bool) -> tuple[dict[str, list[RunView]], Polled]:
    """Every run of the sweeps `names`, and what the launchers said."""
    polled = poll_all(root)
    sweeps = {name: [view_run(root, row, polled, details=details) for row in sweep_rows(root, name)] for name in names}
    return {name: _with_ends(views) for name, views in sweeps.items()}, polled


def _with_ends(views: list[RunView]) -> list[RunView]:
    """The first lost runs with what Slurm's accounting says of their jobs, where there is any."""
    lost = [view.job for view in views if view.state == "lost" and view.job][:MOST_LISTED]
    ends = how_they_ended(lost)
    return [
        replace(view, message=f"Slurm: {ends[view.job]}; {view.message or 'no word'}")
        if view.state == "lost" and view.job in ends
        else view
        for view in views
    ]


def main(config: DictConfig) -> int:
    """Show the status once, or again and again."""
    for option in ("all", "json", "watch"):
        if not isinstance(config[option], bool):
            raise ConfigError(f"{option}={config[option]}: true or false is wanted")
    if not isinstance(config.seconds, int | float) or isinstance(config.seconds, bool) or not config.seconds > 0:
        raise ConfigError(f"seconds={config.seconds}: a number above 0 is wanted")
    root = Path(cli.text(config.root, "root"))
    wanted = OmegaConf.to_container(config.sweep) if OmegaConf.is_list(config.sweep) else config.sweep
    if not config.watch:
        print(_picture(root, wanted, config))
        return 0
    try:
        while True:
            picture = _picture(root, wanted, config)
            clear = "\x1b[H\x1b[2J\x1b[3J" if sys.stdout.isatty() and not config.json else ""
            print(f"{clear}{picture}", flush=True)
            time.sleep(config.seconds)
    except KeyboardInterrupt:
        return 0


def _picture(root: Path, wanted: Any, config: DictConfig) -> str:
    names = choose_sweeps(root, wanted)
    sweeps, polled = look(root, names, details=config.all or config.json)
    if config.json:
        return document_text(status_document(root, sweeps, polled), lines=not config.watch)
    width = shutil.get_terminal_size((200, 24)).columns
    parts = [status_text(name, views, width, every=config.all) for name, views in sweeps.items()]
    notes = [f"the queue is not known, so that no run is called lost: {problem}" for problem in polled.unknown]
    return "\n\n".join([*notes, *parts])


if __name__ == "__main__":
    cli.run("status", main, flags=("json", "watch", "all"))

"""Plan a study: ``python -m harness.sweep phase=1 scale=1e19``.

Composes the configuration, solves every architecture, prints the table and the bill, writes the sweep
(``<root>/sweeps/<name>.yaml .csv .jsonl``) and hands it to the launcher that ``launch=`` names. Nothing is written
before every value was checked.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.bill import print_plan
from harness.errors import ConfigError, DataError
from harness.limits import consent
from harness.measured import save_measurements
from harness.megatron.argv import Paths, command, megatron_argv
from harness.plan import Row, Sweep, plan
from harness.resources import Estimate, estimate, layout
from harness.rundir import RunDirectory
from harness.scales import budget_label
from harness.settings import job_options
from harness.sweepfile import read_experiments
from harness.sweepwrite import columns, write

__all__ = ["Row", "Sweep", "columns", "main", "plan", "show", "to_do", "write"]

SHOWN_SKIPPED = 5
"""So many infeasible points are printed with their reason."""


def show(sweep: Sweep, number: int) -> str:
    """The whole command of the sweep's `number`-th experiment (from 1)."""
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(sweep.rows):
        raise ConfigError(f"show={number}: sweep {sweep.name!r} has experiments 1 to {len(sweep.rows)}")
    row = sweep.rows[number - 1]
    paths = run_paths(sweep.root, row.run_id, sweep.data_path)
    return command(row.point.experiment, row.layout, paths, job_options(sweep.config, sweep.name))


def run_paths(root: Path, run_id: str, data: Path | None) -> Paths:
    """Absolute paths of a run; a placeholder where no dataset was named."""
    return Paths(run=(root / "runs" / run_id).absolute(), data=(data or Path("/path/to/dataset")).absolute())


def _kinds(rows: Iterable[Row]) -> Iterable[Row]:
    """One row of each kind that flags may refuse: the recipe is one for the whole sweep, so these values tell kinds apart."""
    kinds: dict[Any, Row] = {}
    for row in rows:
        training = row.point.experiment.training
        kind = (row.point.experiment.backbone, row.layout, training.global_batch_size, training.validation_sequences)
        kinds.setdefault(kind, row)
    return kinds.values()


def to_do(sweep: Sweep) -> list[Estimate]:
    """What a launch would take: of every run that the sweep holds, also from earlier plans, and that is not done."""
    known = {row.run_id: row.estimate for row in sweep.rows}
    return [
        known.get(run_id)
        or estimate(experiment, experiment.counts, layout(experiment, sweep.cluster), sweep.cluster, sweep.measured)
        for run_id, experiment in read_experiments(sweep.root, sweep.name).items()
        if RunDirectory(sweep.root, run_id).status().state != "done"
    ]


def main(config: DictConfig) -> int:
    """Plan, print, write, and launch if a launcher is named."""
    sweep = plan(config)
    job = job_options(config, sweep.name)
    for row in _kinds(sweep.rows):  # what flags refuse is found before anything is written
        megatron_argv(row.point.experiment, row.layout, run_paths(sweep.root, row.run_id, sweep.data_path), job)
    if config.show is not None:
        print(show(sweep, config.show), end="")
        if sweep.data_path is None:
            print("no dataset is named (data=none): /path/to/dataset stands for it", file=sys.stderr)
        return 0
    launcher = cli.build(config.launch, "launch")
    if launcher is not None and job.simulation is None and sweep.rows[0].point.experiment.data is None:
        where = f"no dataset in {config.data.path}" if config.data.path else "no dataset is named (data=none)"
        raise DataError(
            f"{where}: prepare one (python -m harness.data) and name it (data=demo, or data.path=<directory>)"
        )
    run_ids = write(sweep)
    save_measurements(sweep.root, sweep.measured)
    print_plan(sweep.rows, sweep.cluster)
    _print_left_out(sweep)
    print(f"\nsweep {sweep.name}: {len(run_ids)} runs, in {sweep.file('.csv')} (.yaml, .jsonl)", flush=True)
    if len(run_ids) > len(sweep.rows):
        print(f"({len(sweep.rows)} of them are planned above; the others were before)")
    if config.data.path and job.simulation is None and sweep.rows[0].point.experiment.data is None:
        print(
            f"no dataset in {config.data.path} yet: prepare it (python -m harness.data) and plan again before launching"
        )
    if launcher is None:
        return 0
    simulated = job.simulation is not None
    asked = launcher.allocates or not simulated
    if asked and not consent(sweep.limit, to_do(sweep), sweep.cluster, yes=config.yes, simulated=simulated):
        return 1
    return int(launcher.launch(sweep.root, sweep.name))


def _print_left_out(sweep: Sweep) -> None:
    """Points that are no experiment of their own: infeasible, or equal to another after rounding."""
    asked = OmegaConf.select(sweep.config, "wsd.share_trunk")
    if asked and not any(row.point.experiment.training.trunk for row in sweep.rows):
        print(
            "wsd.share_trunk=true: no two runs differ in their token count only, so there is no trunk (docs/branches.md)"
        )
    if sweep.repeated:
        print(f"{sweep.repeated} points round to an experiment that the sweep has already; each is trained once")
    if sweep.skipped:
        print(f"{len(sweep.skipped)} points have no architecture and are skipped:")
        for point in sweep.skipped[:SHOWN_SKIPPED]:
            asked = point.request
            free = "" if asked.value is None else f", {asked.quantity}={asked.value:g}"
            where = f"{budget_label(point.compute)} m_over_na={asked.m_over_na:g} n_over_na={asked.n_over_na:g}{free}"
            print(f"  {where}: {point.reason}")
        if len(sweep.skipped) > SHOWN_SKIPPED:
            print(f"  ... and {len(sweep.skipped) - SHOWN_SKIPPED} more")


if __name__ == "__main__":
    cli.run("sweep", main)

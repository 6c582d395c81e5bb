"""Rehearse the whole programme on losses with a known truth: plan every study, simulate it, refit, compare.

    python -m analysis.rehearsal
    python -m analysis.rehearsal truth=holistic hostile=[] noise_seed=7

It ends with a table: each coefficient's truth, what the same runs give without noise, the estimate with its interval, and whether
that covers them; and, for hostile truths, which warnings fired. Nothing is trained: everything under the root is marked so.

Exit codes: 0 the rehearsal ran; 1 a hostile truth was not warned of; 2 the request was wrong.
"""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.cli import run, text
from harness.errors import ConfigError, HarnessError, nearest

if TYPE_CHECKING:
    from analysis.covered import Row
    from analysis.laws import LawsFile

ONE_BUDGET = {"rank": "1e18"}
"""Studies that the paper ran at one budget."""

REPEATED = ("classical", "1")
"""Studies that repeat points over seeds."""

WORKERS = 2
"""Truths that are played through at a time, each in a process."""

EXPECTED = {
    "outside": ("classical", "m_over_na"),
    "not_rank_preserving": ("rank",),
}
"""By hostile truth: the laws of which a refit must say that they do not hold."""


@dataclass(frozen=True, kw_only=True)
class Rehearsed:
    """One truth, played through."""

    truth: str
    root: Path
    laws: "LawsFile"
    rows: "list[Row]"
    """Empty for hostile truths."""


def simulate(root: Path, truth: str, studies: Sequence[str], seeds: int, noise_seed: int) -> None:
    """Plan `studies` at all budgets and run them on this machine with the simulated trainer, as a user would.

    Raises:
        HarnessError: a study could not be planned or run; with the last lines that it printed.
    """
    for study in studies:
        command = [
            *(sys.executable, "-m", "harness.sweep", f"phase={study}", f"scale={ONE_BUDGET.get(study, 'all')}"),
            *(
                "train=simulated",
                f"truth={truth}",
                f"train.truth.seed={noise_seed}",
                f"root={root}",
                "launch=local",
                "yes=true",
            ),
            *((f"seeds={seeds}",) if study in REPEATED else ()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
            raise HarnessError(f"the study {study} with truth {truth} ended with exit code {done.returncode}:\n{last}")


def rehearse(root: Path, truth: str, *, resamples: int, compared: bool) -> Rehearsed:
    """Refit what `simulate` left under `root`; with figures and report, and held against the truth, if `compared`."""
    from analysis.collect import choose_sweeps, collect
    from analysis.covered import compare, without_noise
    from analysis.laws import FitOptions, fit_laws, write_laws
    from analysis.refit import refit
    from harness.simulated.truth import read_truth
    from harness.sweepfile import load_sweep

    sweeps = choose_sweeps(root, "all")
    options = FitOptions(resamples=resamples)
    if not compared:
        laws = fit_laws(collect(root, sweeps), options, variants=False)
        write_laws(root / "laws.json", laws)
        return Rehearsed(truth=truth, root=root, laws=laws, rows=[])
    done = refit(root, sweeps, options)
    written = [load_sweep(root, sweep) for sweep in sweeps]
    experiments = {experiment.run_id: experiment for sweep in written for experiment in sweep.experiments}
    config = OmegaConf.load(root / "sweeps" / f"{sweeps[0]}.yaml")
    known = read_truth(OmegaConf.to_container(config.train.truth))
    clean = fit_laws(without_noise(done.table, experiments, known), options, variants=False)
    budgets = sorted(done.table.loc[done.table["study"] != "rank", "compute"].unique())
    rows = compare(done.laws, clean, known, [float(budget) for budget in budgets], options)
    return Rehearsed(truth=truth, root=root, laws=done.laws, rows=rows)


def warned(laws: "LawsFile", law_id: str) -> bool:
    """Whether the law says that it does not hold: minima at the edge and no law, or a rank not shown to be kept."""
    from analysis.laws import AT_THE_EDGE

    law = laws.law(law_id)
    if law is None:
        return False
    if law_id == "rank":
        return any("not shown to preserve ranks" in flag for flag in law.flags)
    return not law.fitted and any(budget.status == AT_THE_EDGE for budget in law.per_budget)


def task(config: DictConfig) -> int:
    """The command: `config` is configs/rehearsal.yaml with overrides."""
    root = Path(text(config.root, "root"))
    hostile = [str(one) for one in config.hostile or []]
    truths = [text(config.truth, "truth"), *hostile]
    known = sorted(path.stem for path in (Path(__file__).parents[1] / "configs" / "truth").glob("*.yaml"))
    for truth in truths:
        if truth not in known:
            raise ConfigError(
                f"truth={truth}: there is none of that name; choose one of {', '.join(known)}{nearest(truth, known)}"
            )
    numbers = {
        name: _whole(config[name], name, least) for name, least in (("seeds", 1), ("noise_seed", 0), ("resamples", 200))
    }
    phases = [str(phase) for phase in config.phases]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_play, root / truth, truth, phases, numbers, truth == truths[0]) for truth in truths]
        main_one, *others = (job.result() for job in jobs)
    from analysis.rehearsal_text import show

    return 0 if show(main_one, others) else 1


def _play(root: Path, truth: str, phases: Sequence[str], numbers: dict[str, int], compared: bool) -> Rehearsed:
    simulate(root, truth, phases, numbers["seeds"], numbers["noise_seed"])
    return rehearse(root, truth, resamples=numbers["resamples"], compared=compared)


def _whole(value: Any, name: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}={value}: a whole number of at least {least} is wanted")
    return value


def main() -> None:
    """Entry point."""
    run("rehearsal", task)


if __name__ == "__main__":
    main()

"""Refit the laws from the runs of sweeps: losses, laws.json, figures and report.html, all under the root.

    python -m analysis.refit sweep=phase1-demo
    python -m analysis.refit sweep=[classical-demo,grid-demo]
    python -m analysis.refit sweep=all root=runs_root

Exit codes: 0 every run could be used, whether or not they resolve a law; 1 some could not (unfinished, failed, diverged:
the files are written and name them); 2 the request was wrong (nothing is written).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.cli import run, text
from harness.errors import ConfigError

if TYPE_CHECKING:  # pandas, scipy and matplotlib start slowly; a mistake on the command line should not wait for them
    import pandas as pd

    from analysis.laws import Law
    from analysis.minima import Bootstrap
    from analysis.noise import SeedNoise

FEWEST_RESAMPLES = 200
"""Fewer leave a handful of draws outside a 95% interval."""


@dataclass(frozen=True, kw_only=True)
class Refit:
    """What a refit found and wrote."""

    table: "pd.DataFrame"
    """Of `analysis.collect.collect`."""
    laws: "list[Law]"
    """Those whose study is there."""
    noise: "dict[str, SeedNoise]"
    """Between seeds, by study and pooled."""
    written: list[Path]
    """Files, in the order they were written."""

    @property
    def complete(self) -> bool:
        """Whether every run could be used. (That the runs do not resolve a law is a finding, and no failure.)"""
        return bool(self.table["left_out"].isna().all()) and not any(law.points_left_out for law in self.laws)


def refit(root: Path, sweeps: Sequence[str], bootstrap: "Bootstrap", window: float | None) -> Refit:
    """Collect the runs of `sweeps` under `root`, fit every law, write losses, laws.json, figures and the report.

    `window`: see `analysis.laws.WINDOW`.

    Raises:
        HarnessError: a sweep's table is unusable.
    """
    from analysis.collect import collect, write_losses
    from analysis.figures import draw_figures
    from analysis.laws import fit_laws
    from analysis.laws_file import laws_document, write_laws
    from analysis.report import report_page, write_report

    table = collect(root, sweeps)
    written = write_losses(table, root)
    laws, noise = fit_laws(table, bootstrap, window)
    write_laws(root / "laws.json", laws_document(laws, noise, bootstrap))
    figures = draw_figures(table, laws, root)
    write_report(root / "report.html", report_page(table, laws, noise, figures, bootstrap, sweeps))
    written += [root / "laws.json", *figures.values(), root / "report.html"]
    return Refit(table=table, laws=laws, noise=noise, written=written)


def task(config: DictConfig) -> int:
    """The command: `config` is configs/refit.yaml with overrides."""
    bootstrap = _bootstrap(config.bootstrap)
    window = config.window
    if window is not None and not (isinstance(window, int | float) and window > 1):
        raise ConfigError(f"window={window}: a factor above 1 is wanted, or null for all sizes")
    root = Path(text(config.root, "root"))
    from analysis.collect import choose_sweeps

    wanted = OmegaConf.to_container(config.sweep) if OmegaConf.is_list(config.sweep) else config.sweep
    sweeps = choose_sweeps(root, [wanted] if isinstance(wanted, int | float) else wanted)  # type: ignore[arg-type]
    from analysis.console import show

    done = refit(root, sweeps, bootstrap, window)
    show(done.table, done.laws, done.noise, done.written)
    return 0 if done.complete else 1


def _bootstrap(config: Any) -> "Bootstrap":
    if config is None:
        raise ConfigError("bootstrap=null: give bootstrap.resamples and bootstrap.seed, or leave it out")
    for name, least in (("resamples", FEWEST_RESAMPLES), ("seed", 0)):
        value = config[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"bootstrap.{name}={value}: it must be a whole number of at least {least}")
    from analysis.minima import Bootstrap

    return Bootstrap(resamples=config.resamples, seed=config.seed)


def main() -> None:
    """Entry point."""
    run("refit", task)


if __name__ == "__main__":
    main()

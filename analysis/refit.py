"""Refit the laws from the runs of sweeps: losses, laws.json, figures and report.html, all under the root.

    python -m analysis.refit sweep=phase1-demo
    python -m analysis.refit sweep=[classical-demo,grid-demo]
    python -m analysis.refit sweep=all root=runs_root
    python -m analysis.refit losses=elsewhere/losses.parquet        # of analysis.collect; results go beside it

Exit codes: 0 every run could be used, whether or not they resolve a law; 1 some could not (unfinished, failed, diverged:
the files are written and name them); 2 the request was wrong (nothing is written).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness.cli import run, text
from harness.errors import ConfigError

if TYPE_CHECKING:  # pandas, scipy and matplotlib start slowly; a mistake on the command line should not wait for them
    import pandas as pd

    from analysis.laws import FitOptions, LawsFile

FEWEST_RESAMPLES = 200
"""Fewer leave a handful of draws outside a 95% interval."""


@dataclass(frozen=True, kw_only=True)
class Refit:
    """What a refit found and wrote."""

    table: "pd.DataFrame"
    """Of `analysis.collect.collect`."""
    laws: "LawsFile"
    """Those whose study is there, and why others are missing."""
    written: list[Path]
    """Files, in the order they were written."""

    @property
    def complete(self) -> bool:
        """Whether every run could be used. (That the runs do not resolve a law is a finding, and no failure.)"""
        unused = any(not run.usable for law in self.laws.laws for run in law.points_left_out)
        return bool(self.table["left_out"].isna().all()) and not unused


def refit(
    root: Path, sweeps: Sequence[str], options: "FitOptions", *, correct: bool = False, strict: bool = False
) -> Refit:
    """Collect the runs of `sweeps` under `root`, fit every law, write losses, laws.json, figures and the report.

    `correct`: see `analysis.laws.fit_laws`. `strict`: a run that cannot be used is an error.

    Raises:
        HarnessError: a sweep's table is unusable, or holds no run.
        LeftOutError: `strict`, and a run is left out.
    """
    from analysis.collect import collect, write_losses

    table = collect(root, sweeps, strict=strict)
    written = write_losses(table, root)
    return fit_table(table, root, sweeps, options, correct=correct, written=written)


def fit_table(
    table: "pd.DataFrame",
    root: Path,
    sources: Sequence[str],
    options: "FitOptions",
    *,
    correct: bool = False,
    written: Sequence[Path] = (),
) -> Refit:
    """Fit every law to a collected `table` and write laws.json, figures and the report under `root`.

    `sources` are named in the report; `written` are files that precede these.

    Raises:
        FitError: the table holds no run.
    """
    from analysis.figures import draw_figures
    from analysis.laws import fit_laws, write_laws
    from analysis.report import report_page, write_report

    laws = fit_laws(table, options, correct=correct)
    write_laws(root / "laws.json", laws)
    figures = draw_figures(table, laws, root)
    write_report(root / "report.html", report_page(table, laws, figures, sources))
    files = [*written, root / "laws.json", *figures.files, root / "report.html"]
    return Refit(table=table, laws=laws, written=files)


def task(config: DictConfig) -> int:
    """The command: `config` is configs/refit.yaml with overrides."""
    root = Path(text(config.root, "root"))
    for name in ("correct", "strict"):
        if not isinstance(config[name], bool):
            raise ConfigError(f"{name}={config[name]}: true or false is wanted")
    choices = check_options(config)
    if config.losses is not None:
        return _foreign(config, choices)
    from analysis.collect import choose_sweeps

    wanted = OmegaConf.to_container(config.sweep) if OmegaConf.is_list(config.sweep) else config.sweep
    sweeps = choose_sweeps(root, [wanted] if isinstance(wanted, int | float) else wanted)  # type: ignore[arg-type]
    from analysis.console import show
    from analysis.laws import FitOptions

    done = refit(root, sweeps, FitOptions(**choices), correct=config.correct, strict=config.strict)
    show(done.table, done.laws, done.written)
    return 0 if done.complete else 1


def _foreign(config: DictConfig, choices: dict[str, Any]) -> int:
    """Refit the table that ``losses=`` names."""
    path = Path(text(config.losses, "losses"))
    if config.sweep is not None:
        raise ConfigError(f"losses={path} and sweep={config.sweep}: name one of them")
    from analysis.console import show
    from analysis.laws import FitOptions
    from analysis.losses import read_losses

    table = read_losses(path, strict=config.strict)
    done = fit_table(table, path.parent, [str(path)], FitOptions(**choices), correct=config.correct)
    show(done.table, done.laws, done.written)
    return 0 if done.complete else 1


def check_options(config: DictConfig) -> dict[str, Any]:
    """The fields of `analysis.laws.FitOptions` from configs/refit.yaml.

    Raises:
        ConfigError: a value cannot be used.
    """
    bootstrap = config.bootstrap
    if bootstrap is None:
        raise ConfigError("bootstrap=null: give bootstrap.resamples and bootstrap.seed, or leave it out")
    for name, least in (("resamples", FEWEST_RESAMPLES), ("seed", 0)):
        value = bootstrap[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"bootstrap.{name}={value}: it must be a whole number of at least {least}")
    window = config.window
    if window is not None and not (_is_number(window) and window > 1):
        raise ConfigError(f"window={window}: a factor above 1 is wanted, or null for all sizes")
    for name in ("band", "near"):
        if not (_is_number(config[name]) and 0 < config[name] < 1):
            raise ConfigError(f"{name}={config[name]}: a share of the loss between 0 and 1 is wanted, 0.001 is 0.1%")
    flat = config.flat_range
    if not (OmegaConf.is_list(flat) and len(flat) == 2 and all(map(_is_number, flat)) and 1 < flat[0] < flat[1]):
        raise ConfigError(f"flat_range={flat}: two values of N/N_a above 1, the lower first, are wanted: [18,25]")
    if not (_is_number(config.ahead) and 0 < config.ahead < float("inf")):
        raise ConfigError(f"ahead={config.ahead}: a budget in FLOPs is wanted, above 0")
    return {
        "resamples": bootstrap.resamples,
        "seed": bootstrap.seed,
        "window": None if window is None else float(window),
        "band": float(config.band),
        "near": float(config.near),
        "flat_range": (float(flat[0]), float(flat[1])),
        "ahead": float(config.ahead),
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def main() -> None:
    """Entry point."""
    run("refit", task)


if __name__ == "__main__":
    main()

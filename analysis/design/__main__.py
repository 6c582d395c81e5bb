"""``python -m analysis.design compute=1e22``: the recommended architecture with its uncertainty, its price and its neighbours.

Exit codes: 0 a design was found; 1 its Megatron command was refused by the real parser (``check=true``); 2 the request was wrong.
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.errors import ConfigError, nearest
from harness.scales import LEAST_BUDGET, MOST_BUDGET, budget_label
from harness.typed import whole

if TYPE_CHECKING:  # analysis.laws starts slowly; a mistake on the command line should not wait for it
    from analysis.design.neighbours import Neighbours
    from analysis.design.public import PublicModel
    from analysis.design.result import Design
    from analysis.laws.records import LawsFile
    from harness.settings import Settings

PUBLISHED = "published"

PUBLISHED_PATH = cli.CONFIGS.parent / "laws" / "published.json"

MOST_BUDGETS = 100

FLAGS = ("json", "check", "command")

NARROWEST = 80
"""Columns that the tables need."""


def main(config: DictConfig) -> int:
    """Design at each budget that `config` names, and show it."""
    for option in FLAGS:
        if not isinstance(config[option], bool):
            raise ConfigError(f"{option}={config[option]}: true or false is wanted")
    budgets = _budgets(config)
    most = whole(config.neighbours, "neighbours", 0)
    path = _laws_path(config.laws)
    from analysis.design.constraints import Limits
    from analysis.design.draws import Chains
    from analysis.design.neighbours import Neighbours, Wish, neighbours
    from analysis.design.recommend import Fixed
    from analysis.design.result import design, settings_of

    settings = settings_of(config)
    limits = Limits(
        **{
            name: None if config[name] is None else _number(config[name], name)
            for name in ("tokens", "overtraining", "max_active_params", "max_total_params")
        }
    )
    fixed = Fixed(
        m_over_na=None if config.m_over_na is None else _number(config.m_over_na, "m_over_na"),
        n_over_na=None if config.n_over_na is None else _number(config.n_over_na, "n_over_na"),
        hidden_size=None if config.hidden_size is None else whole(config.hidden_size, "hidden_size", 1),
    )
    wish = Wish(
        **{
            name: None if config[name] is None else whole(config[name], name, 1)
            for name in ("stages", "tensor", "experts")
        },
        within=_number(config.within, "within"),
    )
    from harness.measured import read_measurements

    laws, measured = _read(path), read_measurements(Path(cli.text(config.root, "root")))
    chains = Chains(laws)
    where = "the published laws" if config.laws == PUBLISHED else str(path)

    def at(compute: float) -> "Design":
        return design(settings, laws, where, compute, limits=limits, fixed=fixed, measured=measured, chains=chains)

    if budgets is None:
        from analysis.design.hours import within_hours

        designs = [within_hours(_number(config.gpu_hours, "gpu_hours"), settings, at)]
    else:
        designs = [at(compute) for compute in budgets]
    if config.command:
        return _print_commands(designs, settings)
    model = None
    if config.compare is not None:
        from analysis.design.config_json import read_model

        model = read_model(Path(cli.text(config.compare, "compare")))
    found = [neighbours(one, settings, limits, wish, most) if most else Neighbours() for one in designs]
    if config.json:
        return _print_json(designs, found, where, settings, model, check=config.check)
    return _print_text(designs, found, where, settings, model, config)


def _print_commands(designs: Sequence["Design"], settings: "Settings") -> int:
    from analysis.design.export import command_of

    for one in designs:
        if one.layout is None:
            raise ConfigError(one.no_layout)
        if len(designs) > 1:
            print(f"# {budget_label(one.compute)} FLOPs")
        print(command_of(one, settings.job), end="")
    print("/path/to/runs and /path/to/dataset stand for where a run and its data lie", file=sys.stderr)
    return 0


def _print_json(
    designs: Sequence["Design"],
    found: Sequence["Neighbours"],
    where: str,
    settings: "Settings",
    model: "PublicModel | None",
    *,
    check: bool,
) -> int:
    from analysis.design.export import document

    documents: list[dict[str, Any]] = []
    for one, near in zip(designs, found, strict=True):
        value = document(one, near, where=where, kept=_kept(), job=settings.job)
        if model is not None:
            from analysis.design.beside import comparison

            value["compared"] = comparison(model, one)
        if check:
            value["parsed"] = _parsed(one, settings)
        documents.append(value)
    print(json.dumps(documents[0] if len(documents) == 1 else documents, indent=2, allow_nan=False))
    return int(any("error" in value.get("parsed", {}) for value in documents))


def _print_text(
    designs: Sequence["Design"],
    found: Sequence["Neighbours"],
    where: str,
    settings: "Settings",
    model: "PublicModel | None",
    config: DictConfig,
) -> int:
    from rich.console import Console

    from analysis.design.export import sweep_command, sweep_options
    from analysis.design.text import print_design, print_neighbours

    console = Console(highlight=False, markup=False)
    console.width = max(console.width, NARROWEST)
    code = 0
    if len(designs) > 1:
        from analysis.design.scaling import print_scaling, write_scaling

        print_scaling(designs, where, console)
        written = write_scaling(designs, Path(cli.text(config.root, "root")), where)
        print(f"\nwritten: {', '.join(map(str, written))}")
    else:
        print_design(designs[0], where, settings.cluster, console)
        if config.neighbours:
            print_neighbours(found[0], designs[0], console)
    for one in designs:
        if model is not None:
            from analysis.design.beside import print_comparison

            print_comparison(model, one, console)
        if config.check:
            code = max(code, _show_parsed(one, settings))
    if len(designs) == 1:
        print("\nPlan this run (launch=slurm or launch=local trains it):\n")
        print(sweep_command(sweep_options(designs[0], _kept())))
        print("\nThe Megatron command: --command; everything for programs: --json")
    return code


def _parsed(design: "Design", settings: "Settings") -> dict[str, Any]:
    from analysis.design.export import flags_of
    from harness.megatron.parsed import parse

    if design.layout is None:
        return {"error": design.no_layout}
    return parse(flags_of(design, settings.job), design.layout.gpus)


def _show_parsed(design: "Design", settings: "Settings") -> int:
    answer = _parsed(design, settings)
    if "error" in answer:
        print(f"\nMegatron's parser refuses the command: {answer['error']}")
        return 1
    counted = design.experiment.counts.megatron_flops_per_token
    print(
        f"\nMegatron's parser takes the command; it counts {answer['flops_per_token']:.10g} FLOPs a token, the design "
        f"{counted:.10g}"
    )
    return 0


def _kept() -> list[str]:
    """This command line's options that mean the same to `harness.sweep`."""
    from hydra.core.hydra_config import HydraConfig

    from analysis.design.export import kept_options

    return kept_options(list(HydraConfig.get().overrides.task)) if HydraConfig.initialized() else []


def _budgets(config: DictConfig) -> list[float] | None:
    """The budgets in FLOPs, rising; None where GPU-hours are given in their place."""
    if (config.compute is None) == (config.gpu_hours is None):
        both = "both are given" if config.compute is not None else "neither is given"
        raise ConfigError(
            f"compute=<FLOPs> or gpu_hours=<hours> is wanted, and {both}: python -m analysis.design compute=1e22"
        )
    if config.compute is None:
        return None
    given = config.compute
    values = list(given) if OmegaConf.is_list(given) else [given]
    if not 1 <= len(values) <= MOST_BUDGETS:
        raise ConfigError(f"compute={given}: 1 to {MOST_BUDGETS} budgets are wanted")
    budgets = sorted({_number(value, "compute") for value in values})
    if not LEAST_BUDGET <= budgets[0] <= budgets[-1] <= MOST_BUDGET:
        raise ConfigError(f"compute={given}: a budget in FLOPs must be between {LEAST_BUDGET:g} and {MOST_BUDGET:g}")
    return budgets


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{name}={value}: a positive number is wanted")
    return float(value)


def _laws_path(given: Any) -> Path:
    name = cli.text(given, "laws")
    if name != PUBLISHED:
        path = Path(name)
        if not path.exists() and (close := nearest(name, (PUBLISHED,))):
            raise ConfigError(f"laws={name}: there is no such file{close}")
        return path
    return PUBLISHED_PATH


def _read(path: Path) -> "LawsFile":
    from analysis.laws.file import read_laws

    if path == PUBLISHED_PATH and not path.exists():  # an installation of the packages alone, as in the image
        from analysis.design.published import published

        return published()
    return read_laws(path)


if __name__ == "__main__":
    cli.run("design", main, flags=FLAGS)

"""Plan a study: ``python -m harness.sweep phase=1 scale=1e19``.

Composes the configuration, solves every architecture, prints the table and the bill, writes the sweep
(``<root>/sweeps/<name>.yaml .csv .jsonl``) and hands it to the launcher that ``launch=`` names. Nothing is written
before every value was checked.
"""

import csv
import io
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.bill import Row, deviations, print_plan
from harness.cli import text
from harness.data.manifest import check_size
from harness.errors import ConfigError, DataError, InfeasibleError
from harness.experiment import Experiment
from harness.files import write_atomically
from harness.limits import Limit, consent
from harness.measured import Measurements, read_measurements, save_measurements
from harness.megatron.argv import Paths, command, megatron_argv
from harness.resources import Cluster, Estimate, estimate, layout
from harness.rundir import RunDirectory
from harness.scales import budget_label
from harness.settings import Settings, job_options
from harness.studies import Point, Study, find_study
from harness.studies.build import Infeasible, build
from harness.sweepfile import read_experiments, update_job_options
from harness.trunks import refuse_other_trunks, share_trunks, without_data

NOT_SETTINGS = (
    "extensions",
    "root",
    "name",
    "extend",
    "show",
    "launch",
    "cluster",
    "infeasible",
    "limit",
    "yes",
    "logging",
)
"""Options that change nothing about the experiments."""

DEVIATIONS = ("flops_per_token_deviation", "active_params_deviation", "total_params_deviation")
"""Columns: realised over target, less 1."""

SHOWN_SKIPPED = 5
"""So many infeasible points are printed with their reason."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A planned study."""

    name: str
    rows: tuple[Row, ...]
    config: DictConfig
    cluster: Cluster
    limit: Limit
    measured: Measurements
    data_path: Path | None
    skipped: tuple[Infeasible, ...] = ()
    """Points without an architecture (``infeasible=skip``)."""
    repeated: int = 0
    """Points that are the same experiment as an earlier one of the sweep, after rounding."""

    @property
    def root(self) -> Path:
        """Where it is written."""
        return Path(self.config.root)

    def file(self, suffix: str) -> Path:
        """One of the sweep's files: ``.yaml``, ``.csv``, ``.jsonl``."""
        return self.root / "sweeps" / f"{self.name}{suffix}"


def plan(config: DictConfig) -> Sweep:
    """The sweep that `config` asks for; nothing is written.

    Raises:
        ConfigError: an option's value cannot be used.
        InfeasibleError: a point has no architecture.
        DataError: a run needs more tokens than its dataset has.
    """
    study = find_study(config.phase)
    settings = Settings(config)
    text(config.root, "root")
    for option in ("extend", "yes"):
        if not isinstance(config[option], bool):
            raise ConfigError(f"{option}={config[option]}: true or false is wanted")
    if settings.data_path is not None:
        config.data.path = str(settings.data_path.absolute())  # the sweep may be launched from anywhere
    if config.laws is not None:
        config.laws = str(Path(config.laws).absolute())  # likewise
    scales = settings.choose_scales(config.scale, study.name)
    measured = read_measurements(Path(config.root))
    rows: dict[str, Row] = {}
    skipped: list[Infeasible] = []
    asked: list[Point] = []
    for scale in scales:
        points, infeasible = build(study, settings, scale)
        if infeasible and settings.infeasible == "refuse":
            raise _refusal(infeasible, len(points))
        skipped += infeasible
        asked += points
    planned = share_trunks(asked) if settings.share_trunk else asked
    for point in planned:
        check_size(point.experiment)
        run_layout = layout(point.experiment, settings.cluster)
        cost = estimate(point.experiment, point.experiment.counts, run_layout, settings.cluster, measured)
        rows.setdefault(point.experiment.run_id, Row(point=point, layout=run_layout, estimate=cost))
    if not rows:
        raise _refusal(skipped, 0) if skipped else ConfigError(f"phase={config.phase} asks for no experiment")
    name = (
        _checked_name(config.name)
        if config.name is not None
        else _name(study, config, [scale.label for scale in scales], settings)
    )
    return Sweep(
        name=name,
        rows=tuple(rows.values()),
        config=config,
        cluster=settings.cluster,
        limit=settings.limit,
        measured=measured,
        data_path=settings.data_path,
        skipped=tuple(skipped),
        repeated=len(planned) - len(rows),
    )


def _refusal(infeasible: list[Infeasible], others: int) -> InfeasibleError:
    """The first infeasible point's reason, and what to do where it is not the only one."""
    first = infeasible[0]
    if len(infeasible) == 1 and not others:
        return first.reason
    return InfeasibleError(
        f"{first.reason}\n({len(infeasible)} of {len(infeasible) + others} points at {budget_label(first.compute)} have no "
        "architecture; infeasible=skip plans the others)"
    )


def _checked_name(name: Any) -> str:
    """A name that can stand in a path and in ``sweep=``.

    Raises:
        ConfigError: it cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", str(name)) or str(name) == "all":
        raise ConfigError(
            f"name={str(name)[:120]}: at most 100 letters, digits, '.', '_', '-', a letter or digit first, and not 'all'"
        )
    return str(name)


def _name(study: Study, config: DictConfig, labels: list[str], settings: Settings) -> str:
    scales = "all" if config.scale == "all" else "-".join(labels)
    backbone = "" if settings.backbone_name == "paper" else f"-{settings.backbone_name}"
    return f"{study.label}-{scales}{backbone}"


def columns(row: Row) -> dict[str, Any]:
    """A row of the sweep's table: realised values unless named otherwise, in the order of the file."""
    point, experiment = row.point, row.point.experiment
    counts, backbone, request = experiment.counts, experiment.backbone, point.request
    architecture, training, targets = experiment.architecture, experiment.training, point.targets
    return {
        "run_id": experiment.run_id,
        "study": point.study,
        "compute": point.compute,
        "flops_per_token": counts.flops_per_token,
        "tokens": experiment.tokens,
        "active_params": counts.active_params,
        "total_params": counts.total_params,
        "m_over_na": counts.m_over_na,
        "n_over_na": counts.n_over_na,
        "hidden_size": architecture.hidden_size,
        "num_layers": architecture.num_layers,
        "num_dense_layers": architecture.num_dense_layers,
        "num_moe_layers": architecture.num_moe_layers,
        "ffn_hidden_size": architecture.ffn_hidden_size,
        "moe_ffn_hidden_size": architecture.moe_ffn_hidden_size,
        "num_query_heads": backbone.num_query_heads,
        "num_kv_heads": backbone.num_kv_heads,
        "head_dim": backbone.head_dim,
        "num_experts": backbone.num_experts,
        "top_k": backbone.top_k,
        "seq_length": backbone.seq_length,
        "learning_rate": training.learning_rate,
        "global_batch_size": training.global_batch_size,
        "train_iters": training.train_iters,
        "embedding_params": counts.embedding_params,
        "megatron_params": counts.megatron_params,
        "megatron_flops_per_token": counts.megatron_flops_per_token,
        "gpus": row.layout.gpus,
        "est_gpu_hours": row.estimate.gpu_hours,
        "target_flops_per_token": targets.flops_per_token,
        "target_active_params": targets.active_params,
        "target_total_params": targets.total_params,
        "target_m_over_na": float(request.m_over_na),
        "target_n_over_na": float(request.n_over_na),
        "realised_compute": counts.flops_per_token * experiment.tokens,
        "r_attention": counts.r_attention,
        "r_dense": counts.r_dense,
        "r_moe": counts.r_moe,
        "granularity": architecture.hidden_size / architecture.moe_ffn_hidden_size,
        "seed": training.seed,
        "trunk": training.trunk or None,
        "marks": ";".join(point.marks),
        **dict(zip(DEVIATIONS, deviations(row), strict=True)),
        "width_ratio": backbone.active_experts * architecture.moe_ffn_hidden_size / architecture.hidden_size,
        "dense_share": architecture.num_dense_layers / architecture.num_layers,
        "free_quantity": request.quantity,
        "free_target": "proxy" if request.value is None else request.value,
    }


def write(sweep: Sweep) -> list[str]:
    """Write the sweep's three files and return its run ids; a sweep that exists already keeps every run.

    Raises:
        ConfigError: a sweep of this name was planned with other settings (and ``extend=true`` is not given).
    """
    rows = [columns(row) for row in sweep.rows]
    experiments = {row.run_id: row.point.experiment for row in sweep.rows}
    present = read_experiments(sweep.root, sweep.name)
    settings = OmegaConf.to_yaml(sweep.config, resolve=True)
    if present and not _is_prepared(present.values(), experiments.values()):
        same = set(experiments) == set(present) or (set(experiments) < set(present) and _was_planned(sweep))
        if same or (sweep.config.extend and set(experiments) <= set(present)):
            update_job_options(sweep.root, sweep.name, sweep.config)
            return list(present)  # all of it is planned already, perhaps with more that was added since
        if not sweep.config.extend:
            raise _other_settings(sweep, all(experiment.data is None for experiment in present.values()))
        phase = dict(OmegaConf.load(sweep.file(".yaml")))["phase"]
        if phase != sweep.config.phase:
            raise ConfigError(f"sweep {sweep.name!r} is of phase={phase}, not {sweep.config.phase}: give another name=")
        refuse_other_trunks(present.values(), experiments.values())
        others = {e.data for e in present.values()} - {e.data for e in experiments.values()}
        if others:
            names = ", ".join(sorted(f"{data.name} ({data.digest})" if data else "none yet" for data in others))
            raise ConfigError(
                f"sweep {sweep.name!r} was planned on dataset {names}: one sweep has one dataset; give another name="
            )
        with sweep.file(".csv").open(encoding="utf-8", newline="") as file:
            rows = [*csv.DictReader(file), *(row for row in rows if row["run_id"] not in present)]
        experiments = present | experiments
        settings = _with_extension(sweep)
    sweep.file(".csv").parent.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    header = dict.fromkeys(name for row in (rows[-1], rows[0]) for name in row)  # an older sweep may lack a column
    writer = csv.DictWriter(table, fieldnames=list(header), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(sweep.file(".yaml"), settings)
    lines = "".join(f"{experiment.canonical_text}\n" for experiment in experiments.values())
    write_atomically(sweep.file(".jsonl"), lines)
    write_atomically(sweep.file(".csv"), table.getvalue())
    return list(experiments)


def _other_settings(sweep: Sweep, idle: bool) -> ConfigError:
    """The refusal to write over a sweep; `idle`: it was planned without data and cannot have run."""
    remove = f", or remove its files ({sweep.file('.*')}): planned without data, it cannot have run" if idle else ""
    return ConfigError(
        f"sweep {sweep.name!r} is there already, planned with other settings ({_difference(sweep)}): give another name=, or add "
        f"the new experiments to it with extend=true{remove}"
    )


def _with_extension(sweep: Sweep) -> str:
    """The sweep's first configuration, with what this plan has otherwise added to its list of extensions."""
    held: Any = OmegaConf.load(sweep.file(".yaml"))
    old, new = _flat(held), _flat(sweep.config)
    changed = {key: new.get(key) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)}
    held.extensions = [*(held.get("extensions") or []), changed]
    return OmegaConf.to_yaml(held, resolve=True)


def _was_planned(sweep: Sweep) -> bool:
    """Whether the sweep on disk was planned, or extended, with just these settings (wherever its data lies now)."""
    held: Any = OmegaConf.load(sweep.file(".yaml"))
    first, new = _flat(held), _flat(sweep.config)
    extensions = OmegaConf.to_container(held.get("extensions") or OmegaConf.create([]))
    assert isinstance(extensions, list)

    def decisive(flat: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in flat.items() if value is not None and not key.startswith("data.")}

    return any(decisive(new) == decisive(first | dict(each)) for each in [{}, *extensions])


def _is_prepared(present: Iterable[Experiment], planned: Iterable[Experiment]) -> bool:
    """Whether `planned` is `present` (and perhaps more) with the data that had not been prepared then.

    Without data nothing of it can have run, so that the new plan may take its place.
    """
    before = list(present)
    if any(experiment.data is not None for experiment in before):
        return False
    now = [experiment for experiment in planned if experiment.data is not None]
    return bool(now) and {e.run_id for e in before} <= without_data(now)


def _difference(sweep: Sweep) -> str:
    """The settings of the sweep on disk that differ from those given, as ``key: old -> new``."""
    if not sweep.file(".yaml").exists():
        return "its .yaml is missing"
    old, new = (_flat(config) for config in (OmegaConf.load(sweep.file(".yaml")), sweep.config))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed) or "its data was prepared anew"


def _flat(config: Any) -> dict[str, Any]:
    """Dotted key -> value, of the options that determine experiments."""
    flat: dict[str, Any] = {}

    def walk(value: Any, prefix: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                if prefix or key not in NOT_SETTINGS:
                    walk(item, f"{prefix}{key}.")
        elif not prefix.startswith("megatron.") or prefix == "megatron.extra.":
            flat[prefix[:-1]] = value

    walk(OmegaConf.to_container(config, resolve=True), "")
    return flat


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
    if launcher is not None and sweep.rows[0].point.experiment.data is None:
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
    if config.data.path and sweep.rows[0].point.experiment.data is None:
        print(
            f"no dataset in {config.data.path} yet: prepare it (python -m harness.data) and plan again before launching"
        )
    if launcher is None:
        return 0
    if not consent(sweep.limit, to_do(sweep), sweep.cluster, yes=config.yes):
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

"""Plan a study: ``python -m harness.sweep phase=1 scale=1e19``.

Composes the configuration, solves every architecture, prints the table and the bill, writes the sweep
(``<root>/sweeps/<name>.yaml .csv .jsonl``) and hands it to the launcher that ``launch=`` names. Nothing is written
before every value was checked.
"""

import csv
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from harness import cli
from harness.bill import Row, print_plan
from harness.cli import text
from harness.data.manifest import check_size
from harness.errors import ConfigError, DataError
from harness.files import write_atomically, write_json_lines
from harness.megatron.argv import Paths, command, megatron_argv
from harness.resources import Cluster, estimate, layout
from harness.settings import Settings, job_options
from harness.studies import Study, find_study
from harness.sweepfile import read_experiments, update_job_options

NOT_SETTINGS = ("root", "name", "extend", "show", "launch", "cluster", "logging")
"""Options that change nothing about the experiments."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A planned study."""

    name: str
    rows: tuple[Row, ...]
    config: DictConfig
    cluster: Cluster
    data_path: Path | None

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
    if not isinstance(config.extend, bool):
        raise ConfigError(f"extend={config.extend}: true or false is wanted")
    if settings.data_path is not None:
        config.data.path = str(settings.data_path.absolute())  # the sweep may be launched from anywhere
    scales = settings.choose_scales(config.scale)
    rows: dict[str, Row] = {}
    for scale in scales:
        for point in study.points(settings, scale):
            check_size(point.experiment)
            run_layout = layout(point.experiment, settings.cluster)
            cost = estimate(point.experiment, point.experiment.counts, run_layout, settings.cluster)
            rows.setdefault(point.experiment.run_id, Row(point=point, layout=run_layout, estimate=cost))
    name = (
        _checked_name(config.name)
        if config.name is not None
        else _name(study, config, [scale.label for scale in scales], settings)
    )
    return Sweep(
        name=name, rows=tuple(rows.values()), config=config, cluster=settings.cluster, data_path=settings.data_path
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
    counts, backbone = experiment.counts, experiment.backbone
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
        "target_m_over_na": _asked(targets.flops_per_token / targets.active_params),
        "target_n_over_na": _asked(targets.total_params / targets.active_params),
        "realised_compute": counts.flops_per_token * experiment.tokens,
        "r_attention": counts.r_attention,
        "r_dense": counts.r_dense,
        "r_moe": counts.r_moe,
        "granularity": architecture.hidden_size / architecture.moe_ffn_hidden_size,
        "seed": training.seed,
        "trunk": None,
        "marks": ";".join(point.marks),
    }


def write(sweep: Sweep) -> list[str]:
    """Write the sweep's three files and return its run ids; a sweep that exists already keeps every run.

    Raises:
        ConfigError: a sweep of this name was planned with other settings (and ``extend=true`` is not given).
    """
    rows = [{key: _text(value) for key, value in columns(row).items()} for row in sweep.rows]
    experiments = {row.run_id: row.point.experiment.canonical() for row in sweep.rows}
    held = read_experiments(sweep.root, sweep.name)
    present = {run_id: experiment.canonical() for run_id, experiment in held.items()}
    # a plan made before its data was prepared cannot have run: the new plan takes its place
    never_run = bool(present) and all(value["data"] is None for value in present.values())
    if present and not never_run:
        if set(experiments) <= set(present):
            update_job_options(sweep.root, sweep.name, sweep.config)
            return list(present)  # all of it is planned already, perhaps with more that was added since
        if not sweep.config.extend:
            raise ConfigError(
                f"sweep {sweep.name!r} is there already, planned with other settings ({_difference(sweep)}): give another "
                "name=, or add the new experiments to it with extend=true"
            )
        others = {experiment.data for experiment in held.values()} - {row.point.experiment.data for row in sweep.rows}
        if others:
            names = ", ".join(sorted(f"{data.name} ({data.digest})" for data in others if data))
            raise ConfigError(
                f"sweep {sweep.name!r} was planned on dataset {names}: one sweep has one dataset; give another name="
            )
        with sweep.file(".csv").open(encoding="utf-8", newline="") as file:
            rows = [*csv.DictReader(file), *(row for row in rows if row["run_id"] not in present)]
        experiments = present | experiments
    sweep.file(".csv").parent.mkdir(parents=True, exist_ok=True)
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(sweep.file(".yaml"), OmegaConf.to_yaml(sweep.config, resolve=True))
    write_json_lines(sweep.file(".jsonl"), experiments.values())
    write_atomically(sweep.file(".csv"), table.getvalue())
    return list(experiments)


def _asked(ratio: float) -> float:
    """A target ratio as it was asked for, without the rounding of having been multiplied and divided."""
    return float(f"{ratio:.12g}")


def _text(value: Any) -> Any:
    """Floats in the shortest form that reads back as the same number."""
    return repr(value) if isinstance(value, float) else value


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
        else:
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


def main(config: DictConfig) -> int:
    """Plan, print, write, and launch if a launcher is named."""
    sweep = plan(config)
    job = job_options(config, sweep.name)
    for (
        row
    ) in sweep.rows:  # a batch that does not divide, or a flag of megatron.extra, is found before anything is written
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
    print_plan(sweep.rows, sweep.cluster)
    print(f"\nsweep {sweep.name}: {len(run_ids)} runs, written to {sweep.file('.csv')} (.yaml, .jsonl)", flush=True)
    if config.data.path and sweep.rows[0].point.experiment.data is None:
        print(
            f"no dataset in {config.data.path} yet: prepare it (python -m harness.data) and plan again before launching"
        )
    return 0 if launcher is None else int(launcher.launch(sweep.root, sweep.name))


if __name__ == "__main__":
    cli.run("sweep", main)

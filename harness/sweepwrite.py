"""A planned sweep to its three files: the resolved configuration, the table, the experiments; and how a sweep grows."""

import csv
from collections.abc import Iterable
from typing import Any

from omegaconf import OmegaConf

from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.files import write_atomically
from harness.plan import Row, Sweep, deviations
from harness.rundir import RunDirectory
from harness.sweepfile import read_experiments, table_text, update_job_options
from harness.trunks import refuse_other_trunks, without_data

NOT_SETTINGS = (
    "extensions",
    "root",
    "name",
    "extend",
    "show",
    "launch",
    "cluster",
    "container",
    "infeasible",
    "limit",
    "yes",
    "logging",
    "train",
)
"""Options that change nothing about the experiments."""

DEVIATIONS = ("flops_per_token_deviation", "active_params_deviation", "total_params_deviation")
"""Columns: realised over target, less 1."""


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
    begun = any(RunDirectory(sweep.root, run_id).path.exists() for run_id in present)
    if present and (begun or not _is_prepared(present.values(), experiments.values())):
        same = set(experiments) == set(present) or (set(experiments) < set(present) and _was_planned(sweep))
        if same or (sweep.config.extend and set(experiments) <= set(present)):
            update_job_options(sweep.root, sweep.name, sweep.config)
            return list(present)  # all of it is planned already, perhaps with more that was added since
        if not sweep.config.extend:
            idle = not begun and all(experiment.data is None for experiment in present.values())
            raise _other_settings(sweep, idle)
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
    write_atomically(sweep.file(".yaml"), settings)
    lines = "".join(f"{experiment.canonical_text}\n" for experiment in experiments.values())
    write_atomically(sweep.file(".jsonl"), lines)
    write_atomically(sweep.file(".csv"), table_text(rows))
    update_job_options(sweep.root, sweep.name, sweep.config, ["train"])  # one trainer, also for rows of before
    return list(experiments)


def _other_settings(sweep: Sweep, idle: bool) -> ConfigError:
    """The refusal to write over a sweep; `idle`: it was planned without data and has no run."""
    remove = f", or remove its files ({sweep.file('.*')}): planned without data, it has no run" if idle else ""
    return ConfigError(
        f"sweep {sweep.name!r} is there already, planned with other settings ({_difference(sweep)}): give another name=, or add "
        f"the new experiments to it with extend=true{remove}"
    )


def _with_extension(sweep: Sweep) -> str:
    """The sweep's first configuration, with what this plan has otherwise added to its list of extensions."""
    held: Any = OmegaConf.load(sweep.file(".yaml"))
    added = {key: new for key, (_, new) in _changed(held, sweep.config).items()}
    held.extensions = [*(held.get("extensions") or []), added]
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

    Without data nothing of it can have been trained, so that the new plan may take its place (unless it was simulated).
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
    changed = _changed(OmegaConf.load(sweep.file(".yaml")), sweep.config)
    return "; ".join(f"{key}: {old} -> {new}" for key, (old, new) in changed.items()) or "its data was prepared anew"


def _changed(before: Any, after: Any) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> value before and after, of the settings in which two configurations differ; sorted."""
    old, new = _flat(before), _flat(after)
    return {
        key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)
    }


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

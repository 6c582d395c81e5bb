"""Every law that a table of losses has a study for, each also on corrected losses and against real FLOPs.

laws = fit_laws(table, FitOptions(resamples=2000))         # table: analysis.collect.collect
laws.law("m_over_na").relation("m_over_na_minus_6").predict(1e22), laws.missing
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from analysis.fitting import LEVEL, FitError
from analysis.laws import curves
from analysis.laws.correction import Slope, corrected, in_real_flops, real_scale, slope_of
from analysis.laws.hyperparameters import batch_size, learning_rate
from analysis.laws.options import FitOptions
from analysis.laws.rank import rank
from analysis.laws.records import Law, LawsFile, SeedNoiseRecord, Variant
from analysis.laws.rows import Data
from analysis.laws.width_ratio import width_ratio
from analysis.noise import seed_noise

FITS: Mapping[str, tuple[tuple[str, ...], Callable[[Data], Law]]] = {
    "classical": (("classical",), curves.classical),
    "rank": (("rank",), rank),
    "n_over_na": (("grid",), curves.n_over_na),
    "m_over_na": (("grid", "refine"), curves.m_over_na),
    "hidden_size": (("width",), curves.hidden_size),
    "width_ratio": (("ratio",), width_ratio),
    "learning_rate": (("hyperparameters",), learning_rate),
    "batch_size": (("hyperparameters",), batch_size),
}
"""By law: the studies that it can be fitted to, and the fit. The paper's order."""

VARIED = ("classical", "n_over_na", "m_over_na", "hidden_size", "width_ratio")
"""Laws that are fitted again as variants: the others compare runs of one architecture, or only their order."""

VARIANT_RESAMPLES = 400
"""Of variants: their intervals are profiles, which need none."""

HASHED = (
    "run_id", "study", "compute", "realised_compute", "flops_per_token", "tokens", "m_over_na", "n_over_na", "hidden_size",
    "learning_rate", "global_batch_size", "seed", "final_validation_loss", "left_out", "simulated",
)  # fmt: skip
"""Columns that make the data's hash; those that a table lacks are passed over."""


def fit_laws(
    table: pd.DataFrame, options: FitOptions | None = None, *, correct: bool = False, variants: bool = True
) -> LawsFile:
    """Every law that `table` (of `analysis.collect.collect`) has a study for.

    Args:
        table: collected runs, usable or not.
        options: None: the defaults.
        correct: fit the laws themselves to losses moved to their budgets (`analysis.laws.correction`), not only as a variant.
        variants: whether to fit the variants too: twice the time.

    Raises:
        FitError: `table` holds no run, or simulated and real ones.
    """
    options = options or FitOptions()
    if table.empty:
        raise FitError("no runs: the table is empty; name a sweep that has some (python -m launch.status)")
    table = _usable_first(table)
    collected = data_hash(table)
    kinds = table.loc[table["left_out"].isna(), "simulated"].astype(bool)
    if kinds.nunique() > 1:
        raise FitError(
            f"{int(kinds.sum())} of {len(kinds)} runs are simulated and the others are not: fit one kind at a time"
        )
    noise = seed_noise(table[table["left_out"].isna()])
    laws, missing = _fit(Data(table=table, noise=noise, options=options))
    slope = slope_of(laws) if correct or variants else None
    if correct and slope:
        table = corrected(table, slope)
        laws, missing = _fit(Data(table=table, noise=noise, options=options))
    few = replace(options, resamples=min(options.resamples, VARIANT_RESAMPLES))
    if variants:
        found = _variants(table, laws, Data(table=table, noise=noise, options=few, variant=True), slope)
        laws = [replace(law, variants=tuple(found.get(law.id, ()))) for law in laws]
    return LawsFile(
        laws=tuple(laws),
        missing=missing,
        data_hash=collected,
        version=_version(),
        simulated=any(law.simulated for law in laws),
        corrected=bool(correct and slope),
        interval_level=LEVEL,
        resamples=options.resamples,
        seed=options.seed,
        noise={
            study: SeedNoiseRecord(sd=of.sd, degrees_of_freedom=of.dof, configurations=of.groups, runs=of.runs)
            for study, of in noise.items()
        },
    )


def data_hash(table: pd.DataFrame) -> str:
    """SHA-256 of what the laws were fitted to: the same runs with the same losses, in any order, give the same."""
    columns = [name for name in HASHED if name in table]
    text = table[columns].astype(object).where(table[columns].notna(), "").sort_values(["study", "run_id"])
    lines = "\n".join("\t".join(str(value) for value in row) for row in text.itertuples(index=False))
    return hashlib.sha256(lines.encode()).hexdigest()


def _fit(data: Data, only: Sequence[str] = tuple(FITS)) -> tuple[list[Law], dict[str, str]]:
    """The laws, and why others are missing. A study without a usable run gives a law that says so, and lists why."""
    laws, missing = [], {}
    for law_id in only:
        studies, fit = FITS[law_id]
        rows = data.study(*studies)
        needed = " or ".join(studies)
        if rows.empty:
            missing[law_id] = f"no run of study {needed}: plan it (python -m harness.sweep phase={studies[0]})"
        else:
            try:
                laws.append(fit(data))
            except FitError as error:
                missing[law_id] = f"could not be fitted: {error}"
    return laws, missing


def _variants(table: pd.DataFrame, laws: Sequence[Law], data: Data, slope: Slope | None) -> dict[str, list[Variant]]:
    """By law: itself on corrected losses, and in real FLOPs."""
    found: dict[str, list[Variant]] = {}
    if slope is None:
        return found
    only = [law.id for law in laws if law.id in VARIED]
    words = f"losses moved to their nominal budgets with dL/dln C of the law {slope.law}"
    for law in _fit(replace(data, table=corrected(table, slope)), only)[0]:
        found.setdefault(law.id, []).append(_variant("corrected", words, law, {}))
    if "megatron_flops_per_token" not in table or not (table["megatron_flops_per_token"] > 0).all():
        return found
    scale = real_scale(table)
    of_law = next(law for law in laws if law.id == slope.law)
    first = table["study"].isin(of_law.studies)
    steeper = slope_of(laws, dict(zip(table["compute"][first], scale[first], strict=True)))
    if steeper is None:
        return found
    nominal = dict(zip(zip(table["study"], table["compute"] * scale, strict=True), table["compute"], strict=True))
    words = "M and C with the output layer (Megatron's count), losses moved to each study's median real compute"
    for law in _fit(replace(data, table=in_real_flops(table, steeper, scale)), only)[0]:
        back = {compute: plain for (study, compute), plain in nominal.items() if study in law.studies}
        found.setdefault(law.id, []).append(_variant("real_flops", words, law, back))
    return found


def _variant(variant_id: str, text: str, law: Law, nominal: Mapping[float, float]) -> Variant:
    return Variant(
        id=variant_id,
        text=text,
        relations=law.relations,
        optima=tuple(
            (nominal.get(budget.compute, budget.compute), budget.optimum.value)
            for budget in law.per_budget
            if budget.resolved
        ),
    )


def _usable_first(table: pd.DataFrame) -> pd.DataFrame:
    """Rows without a finite loss above 0 are left out, whoever collected them."""
    loss = pd.to_numeric(table["final_validation_loss"], errors="coerce")
    wrong = table["left_out"].isna() & ~((loss > 0) & (loss < float("inf")))
    reasons = table["left_out"].astype(object)
    reasons[wrong] = [f"final_validation_loss is {value}" for value in table["final_validation_loss"][wrong]]
    return table.assign(left_out=reasons, final_validation_loss=loss)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("moe-scaling-harness")
    except PackageNotFoundError:
        return "unknown"

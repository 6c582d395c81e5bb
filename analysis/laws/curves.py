"""The laws of optima (size and tokens, N/N_a, M/N_a, d): a curve at every budget, its minimum, the minima against compute."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.fitting import Array, ChainFit, FlooredHyperbola, Parabola, ParabolaInLog, TwoPoles, interval
from analysis.laws.budget import Estimate
from analysis.laws.minima import SCATTERS, Family, Minimum
from analysis.laws.records import Law, LeftOutRun, Relation, Statement
from analysis.laws.relation import band_widens, chain_of, crossing, edges_of, relation_of, tokens_of
from analysis.laws.rows import Data, backbone_of, fit_budgets, floats, losses, near_minimum, split
from analysis.text import flops
from harness.equations import MIN_M_OVER_NA


def classical(data: Data) -> Law:
    """M_opt(C) and D_opt(C) = C / M_opt from IsoFLOP curves, loss against ln M, M realised (paper, section 4.2.1)."""
    window = data.options.window
    used, left_out = split(data.study("classical"), ["flops_per_token"])
    minima = fit_budgets(
        Family(law="classical", x="flops_per_token", curve=lambda x, _: ParabolaInLog(x)),
        used,
        data,
        lambda rows: near_minimum(floats(rows, "flops_per_token"), losses(rows), window),
    )
    relations: list[Relation] = []
    if chain := chain_of(minima, data.options):
        size = relation_of(chain, "flops_per_token", "M_opt", "FLOPs per token")
        relations = [size, tokens_of(size)]
    near = f", within a factor {window:g} of the least loss" if window else ""
    return law_of(
        minima,
        relations,
        left_out,
        used,
        data,
        id="classical",
        studies=("classical",),
        title="Compute-optimal size and tokens",
        form=f"loss = c0 + c1 u + c2 u^2, u = ln(M / x0), at each C{near}; "
        "M_opt = k C^e; D_opt = C / M_opt = k' C^(1 - e)",
        unit="FLOPs per token",
        x="flops_per_token",
        x_label="M, training FLOPs per token",
    )


def m_over_na(data: Data) -> Law:
    """The optimum of M/N_a against C, from loss = a/(x - 6) + b x + c with one c a slice of N/N_a (section 5.3).

    Both forms are given: of the excess M/N_a - 6, which stays above the bound at every C, and of M/N_a itself, the
    paper's form, which does not; likewise for the edges of the near-optimal band.
    """
    used, left_out = split(
        data.study("grid", "refine"),
        ["m_over_na", "target_n_over_na"],
        {"m_over_na": (MIN_M_OVER_NA, np.inf)},
    )
    family = Family(
        law="m_over_na",
        x="m_over_na",
        curve=lambda x, group: FlooredHyperbola(x, MIN_M_OVER_NA, group),
        slices=_slices(used, "target_n_over_na"),
    )
    minima = fit_budgets(family, used, data)
    relations: list[Relation] = []
    statements: list[Statement] = []
    flags: list[str] = []
    if excess := chain_of(minima, data.options, floor=MIN_M_OVER_NA):
        relations += [
            relation_of(excess, "m_over_na_minus_6", "(M/N_a)_opt"),
            *edges_of(excess, "m_over_na_minus_6", "(M/N_a)_opt"),
        ]
        statements += _widens(excess, "M/N_a")
    if plain := chain_of(minima, data.options):
        relation = relation_of(plain, "m_over_na", "(M/N_a)_opt, plain power law")
        relations += [relation, *edges_of(plain, "m_over_na", "(M/N_a)_opt, plain power law")]
        flags += [
            f"{flag}: extrapolate with the law of M/N_a - 6" for flag in crossing(relation, MIN_M_OVER_NA, "M/N_a")
        ]
    return law_of(
        minima,
        relations,
        left_out,
        used,
        data,
        statements=statements,
        flags=flags,
        id="m_over_na",
        studies=_studies(used, ("grid", "refine")),
        title="Optimal compute density M/N_a",
        form="loss = a / (x - 6) + b x + c_s, x = M/N_a, one c_s a slice of N/N_a and study, at each C; x_opt = 6 + sqrt(a / b); "
        "x_opt - 6 = k C^e, and x_opt = k' C^e'",
        unit="",
        x="m_over_na",
        x_label="M/N_a, FLOPs per active parameter",
    )


def n_over_na(data: Data) -> Law:
    """The optimum of N/N_a against C, from loss = a/(x - 1) + b/(B - x) + c, one c a slice of M/N_a (F.4); how flat it is."""
    rows = data.study("grid")
    bound = _expansion_bound(rows)
    used, left_out = split(rows, ["n_over_na", "target_m_over_na"], {"n_over_na": (1.0, bound)})
    family = Family(
        law="n_over_na",
        x="n_over_na",
        curve=lambda x, group: TwoPoles(x, 1.0, bound, group),
        slices=("target_m_over_na",),
    )
    minima = fit_budgets(family, used, data)
    relations: list[Relation] = []
    flags: list[str] = []
    if chain := chain_of(minima, data.options):
        relation = relation_of(chain, "n_over_na", "(N/N_a)_opt")
        relations = [relation, *edges_of(chain, "n_over_na", "(N/N_a)_opt")]
        flags += crossing(relation, bound, "N/N_a")
    return law_of(
        minima,
        relations,
        left_out,
        used,
        data,
        statements=[flat for one in minima if (flat := _flatness(one, data.options.flat_range, bound))],
        flags=flags,
        id="n_over_na",
        studies=("grid",),
        title="Optimal expansion ratio N/N_a",
        form=f"loss = a / (x - 1) + b / (B - x) + c_s, x = N/N_a, B = {bound:.4f}, one c_s a slice of M/N_a, at each C; "
        "x_opt = (B + s) / (1 + s) with s = sqrt(b / a); x_opt = k C^e",
        unit="",
        x="n_over_na",
        x_label="N/N_a, total over active parameters",
    )


def hidden_size(data: Data) -> Law:
    """d_opt and both edges of its near-optimal band against C, from a parabola in d at the budget's optimum (section 6)."""
    rows = data.study("width")
    used, left_out = split(rows, ["hidden_size"])
    used, others = _one_configuration(used)
    minima = fit_budgets(Family(law="hidden_size", x="hidden_size", curve=lambda x, _: Parabola(x)), used, data)
    relations: list[Relation] = []
    statements: list[Statement] = []
    if chain := chain_of(minima, data.options):
        relations = [relation_of(chain, "hidden_size", "d_opt"), *edges_of(chain, "hidden_size", "d_opt")]
        statements = _widens(chain, "d")
    return law_of(
        minima,
        relations,
        left_out + others,
        used,
        data,
        statements=statements,
        id="hidden_size",
        studies=("width",),
        title="Optimal hidden size d",
        form="loss = c0 + c1 u + c2 u^2, u = d - x0, at each C; d_opt, d_l, d_r (edges of the near-optimal band) = k C^e",
        unit="",
        x="hidden_size",
        x_label="d, hidden size",
    )


def law_of(
    minima: Sequence[Minimum],
    relations: Sequence[Relation],
    left_out: Sequence[LeftOutRun],
    used: pd.DataFrame,
    data: Data,
    *,
    statements: Sequence[Statement] = (),
    flags: Sequence[str] = (),
    id: str,
    studies: tuple[str, ...],
    title: str,
    form: str,
    unit: str,
    x: str,
    x_label: str,
) -> Law:
    """The record of a law with curves, and the flags that all of them share."""
    resolved = sum(one.budget.resolved for one in minima)
    said = [flag for relation in relations for flag in relation.flags]
    said = [*dict.fromkeys(said), *flags]
    if not minima:
        said.append("law not fitted: no run can be used")
    elif not relations:
        said.append(
            f"law not fitted: {resolved} of {len(minima)} budgets have a resolved minimum, a law of C needs two"
        )
    elif resolved < len(minima):
        said.append(f"fitted to {resolved} of {len(minima)} budgets: the others have no resolved minimum")
    doubtful = sum(any(SCATTERS in flag for flag in one.budget.flags) for one in minima)
    if doubtful:
        said.append(
            f"at {doubtful} of {len(minima)} budgets the runs scatter further about the curve than seeds do: what else differs "
            "between runs (realised sizes, proxy widths) bends this law too, and is not in its intervals"
        )
    if minima and not data.noise["pooled"].dof:
        said.append("no seeds were repeated: the noise is the scatter about each curve alone")
    far = [
        LeftOutRun(
            run_id=run,
            reason=f"outside the window: {x} = {value:.4g}, and the curve is fitted near the least loss",
            usable=True,
        )
        for one in minima
        for run, value in zip(one.budget.outside.run_ids, one.budget.outside.x, strict=True)
    ]
    return Law(
        id=id,
        studies=studies,
        title=title,
        form=form,
        unit=unit,
        x=x,
        x_label=x_label,
        per_budget=tuple(one.budget for one in minima),
        relations=tuple(relations),
        statements=tuple(statements),
        points_left_out=tuple(sorted([*left_out, *far], key=lambda one: (one.run_id, one.reason))),
        flags=tuple(said),
        simulated=bool(len(used) and used["simulated"].any()),
    )


def _widens(chain: ChainFit, what: str) -> list[Statement]:
    statement = band_widens(chain, what)
    return [statement] if statement else []


def _slices(used: pd.DataFrame, target: str) -> tuple[str, ...]:
    """Slices by target, and by study where several are fitted together: they were built for different M."""
    return ("study", target) if used["study"].nunique() > 1 else (target,)


def _studies(used: pd.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    present = set(used["study"])
    return tuple(name for name in names if name in present) or (names[0],)


def _expansion_bound(rows: pd.DataFrame) -> float:
    """The least upper bound of N/N_a over the rows' backbones; a little above the data where they do not say."""
    names = [name for name in ("num_experts", "top_k") if name in rows]
    once = rows.drop_duplicates(names) if names else rows.iloc[:0]
    bounds = [backbone.max_n_over_na for _, row in once.iterrows() if (backbone := backbone_of(row))]
    return min(bounds) if bounds else float(rows["n_over_na"].max()) * 1.05


def _one_configuration(used: pd.DataFrame) -> tuple[pd.DataFrame, list[LeftOutRun]]:
    """At each budget the rows of the (M/N_a, N/N_a) that most have; the others, which lie on another curve."""
    names = ["target_m_over_na", "target_n_over_na"]
    if used.empty or any(name not in used for name in names):
        return used, []
    keep = pd.Series(data=True, index=used.index)
    for _, rows in used.groupby("compute", sort=True):
        most = Counter(rows[names].itertuples(index=False, name=None)).most_common(1)[0][0]
        keep[rows.index] = (rows[names] == list(most)).all(axis=1)
    out = [
        LeftOutRun(
            run_id=str(row["run_id"]),
            reason=f"M/N_a = {row[names[0]]:g}, N/N_a = {row[names[1]]:g}: most runs of this budget have others",
            usable=True,
        )
        for _, row in used[~keep].iterrows()
    ]
    return used[keep], out


def _flatness(minimum: Minimum, wanted: tuple[float, float], bound: float) -> Statement | None:
    """How much the loss changes over a range of N/N_a, in percent of the least loss, with its interval over repetitions."""
    budget, resamples = minimum.budget, minimum.resamples
    low, high = wanted
    if resamples is None or budget.curve is None or not 1 < low < high < bound:
        return None
    x = np.linspace(low, high, 57)

    def change(coefficients: Array) -> float:
        loss = minimum.curve.profile(coefficients, x)
        return float(100 * (loss.max() / loss.min() - 1))

    drawn = np.array([change(one) for one in resamples.coefficients[:1000]])
    free = [float(value) for value in budget.curve(x)]
    value = 100 * (max(free) / min(free) - 1)
    ends = interval(drawn)
    reach = "" if budget.sampled[0] <= low and budget.sampled[1] >= high else " (the range reaches beyond the runs)"
    return Statement(
        id=f"flatness_{budget.compute:g}",
        text=f"At {flops(budget.compute)} the loss changes by {value:.2f}% ({ends[0]:.2f} to {ends[1]:.2f}) over N/N_a from "
        f"{low:g} to {high:g}{reach}.",
        estimate=Estimate(value=value, low=ends[0], high=ends[1]),
        unit="%",
    )

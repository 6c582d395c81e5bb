"""What the paper states of its laws, as a laws.json: ``python -m analysis.design.published`` writes laws/published.json anew.

Only numbers that the paper prints, each law with its source. Three lines are ours, least squares through printed numbers, and
say so: M/N_a - 6 through the six optima of Figure 5(b), learning rate and batch through Table 4. What is printed only in
figures (edges of the bands, the law of d, loss curves, intervals) is absent, and `LawsFile.missing` says why.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.laws.budget import NAN, RESOLVED, Budget, Estimate, Points
from analysis.laws.file import write_laws
from analysis.laws.records import Law, LawsFile, Relation, Statement
from analysis.laws.relation import crossing, relation_through

PATH = Path(__file__).resolve().parent.parent.parent / "laws" / "published.json"

ARXIV = "arXiv 2603.21862"

BUDGETS = (1e18, 3e18, 1e19, 3e19, 1e20, 3e20)

SEQ_LENGTH = 8192
"""Section 3.4."""

MAX_N_OVER_NA = 289 / 9
"""Of the paper's backbone: 288 routed experts and a shared one, of which a token passes 8 and 1."""

M_OPT, D_OPT = (0.04368, 0.5437), (22.8929, 0.4563)
"""Coefficient and exponent, Eq. 2 (section 4.2.1)."""

FLOPS_PER_TOKEN = (0.2672e9, 0.4856e9, 0.9345e9, 1.6983e9, 3.2681e9, 5.9390e9)
"""Table 2."""

TOKENS = (3.7420e9, 6.1775e9, 10.7004e9, 17.6649e9, 30.5985e9, 50.5138e9)
"""Table 2."""

M_OVER_NA = (10.973, 9.907, 9.230, 8.780, 8.349, 8.221)
"""The targets that tables 16 to 21 need: the optima behind Figure 5(b)."""

N_OVER_NA = (19.23, 19.33, 20.69, 20.78, 21.29, 22.07)
"""Optima of Appendix F.4."""

N_OVER_NA_CHOSEN = (19, 20, 21, 21, 22, 22)
"""What F.4 says was chosen."""

LEARNING_RATE = (1.20e-3, 1.00e-3, 8.28e-4, 6.95e-4, 5.74e-4, 4.82e-4)
"""Table 4."""

BATCH_SEQUENCES = (64, 80, 128, 160, 208, 288)
"""Table 4."""

OURS = "least squares through the published values (ours): intervals from their scatter about the line"


def published() -> LawsFile:
    """The paper's laws."""
    return LawsFile(
        laws=(_classical(), _rank(), _n_over_na(), _m_over_na(), _learning_rate(), _batch_size()),
        missing={
            "hidden_size": "the law of d and its band are printed only in Figure 6(b)",
            "width_ratio": "the losses of Appendix E are printed only in Figures 9 to 11; it states a best (K+1) "
            "d_m / d of 3.0 to 3.5",
        },
        noise={},
    )


def _budgets(values: Sequence[float], why: str, flags: Sequence[str] | None = None) -> tuple[Budget, ...]:
    """Budgets with an optimum that the paper states and no run."""
    return tuple(
        Budget(
            compute=compute,
            status=RESOLVED,
            why=why,
            points=Points(),
            optimum=Estimate(value=value),
            flags=(flags[index],) if flags else (),
        )
        for index, (compute, value) in enumerate(zip(BUDGETS, values, strict=True))
    )


def _stated(name: str, symbol: str, unit: str, law: tuple[float, float], values: Sequence[float]) -> Relation:
    """A power law as printed, about the middle of its budgets."""
    coefficient, exponent = law
    reference = math.exp(sum(map(math.log, BUDGETS)) / len(BUDGETS))
    return Relation(
        name=name,
        symbol=symbol,
        unit=unit,
        reference=reference,
        at_reference=Estimate(value=coefficient * reference**exponent),
        exponent=Estimate(value=exponent),
        compute=BUDGETS,
        values=tuple(values),
        method="as printed; the paper gives no interval",
    )


def _through(name: str, symbol: str, unit: str, values: Sequence[float], floor: float = 0.0) -> Relation:
    """A line of ours through published values."""
    from analysis.fitting import fit_power_law  # starts slowly, and whoever reads the file does not need it

    fit = fit_power_law(list(BUDGETS), list(values), floor=floor)  # type: ignore[arg-type]
    return replace(relation_through(fit, BUDGETS, values, name, symbol, unit), method=OURS)


def _classical() -> Law:
    return Law(
        id="classical",
        studies=("classical",),
        title="Compute-optimal M and D",
        form="M_opt = k C^a; D_opt = C / M_opt",
        unit="FLOPs per token",
        x="flops_per_token",
        x_label="M, FLOPs per token",
        per_budget=_budgets(FLOPS_PER_TOKEN, "Table 2"),
        relations=(
            _stated("flops_per_token", "M_opt", "FLOPs per token", M_OPT, FLOPS_PER_TOKEN),
            _stated("tokens", "D_opt", "tokens", D_OPT, TOKENS),
        ),
        flags=("the IsoFLOP losses are not printed",),
        source=f"{ARXIV}, section 4.2.1, Eq. 2 and Table 2",
    )


def _rank() -> Law:
    values = {"pearson": 0.9793, "spearman": 0.9758, "kendall": 0.9111, "r_squared": 0.9590}
    return Law(
        id="rank",
        studies=("rank",),
        title="Rank preservation",
        form="loss at the median proxy against the least loss over widths",
        unit="",
        x="hidden_size",
        x_label="d",
        statements=tuple(
            Statement(
                id=name,
                text=f"{name.replace('_', ' ')} of loss at the median proxy and least loss: {value:.4f}",
                estimate=Estimate(value=value),
            )
            for name, value in values.items()
        ),
        flags=("the losses behind the correlations are printed only in Figure 2",),
        source=f"{ARXIV}, section 4.3, Table 3",
    )


def _n_over_na() -> Law:
    chosen = [
        f"the paper then chose {choice} (F.4); its tables 16 to 21 have "
        f"{'21.985' if compute == 1e18 else '22.015' if compute == 3e18 else '22'}"
        for compute, choice in zip(BUDGETS, N_OVER_NA_CHOSEN, strict=True)
    ]
    return Law(
        id="n_over_na",
        studies=("grid",),
        title="Optimal N/N_a",
        form="L = a / (x - 1) + b / (289/9 - x) + c at each budget; no law of C",
        unit="",
        x="n_over_na",
        x_label="N/N_a",
        per_budget=_budgets(N_OVER_NA, "Appendix F.4", chosen),
        statements=(
            Statement(
                id="flatness",
                text="Over N/N_a from 18 to 25 the loss changes by less than 1% at every budget.",
                estimate=Estimate(value=NAN, low=0.0, high=1.0),
                unit="%",
                holds=True,
            ),
        ),
        flags=("the paper fits no law of C: the loss is flat, and it sets N/N_a by hand",),
        source=f"{ARXIV}, Appendix F.4 and section 5.3",
    )


def _m_over_na() -> Law:
    plain = _through("m_over_na", "M/N_a", "", M_OVER_NA)
    return Law(
        id="m_over_na",
        studies=("grid", "refine"),
        title="Optimal M/N_a",
        form="M/N_a = 6 + k C^e (ours)",
        unit="",
        x="m_over_na",
        x_label="M/N_a",
        per_budget=_budgets(M_OVER_NA, "the target that tables 16 to 21 were built with"),
        relations=(_through("m_over_na_minus_6", "M/N_a - 6", "", M_OVER_NA, floor=6.0), plain),
        flags=(
            "the law and its band are printed only in Figure 5(b): the line through M/N_a - 6 is ours",
            *crossing(plain, 6.0, "M/N_a"),
        ),
        source=f"{ARXIV}, section 6, tables 16 to 21 (the six optima)",
    )


def _without_interval(relation: Relation) -> Relation:
    """Table 4 holds values of the paper's own lines, rounded: their scatter about a line says nothing of the optimum."""
    return replace(
        relation,
        exponent=Estimate(value=relation.exponent.value),
        at_reference=Estimate(value=relation.at_reference.value),
        grid=tuple(replace(point, low=NAN, high=NAN) for point in relation.grid),
        method="ours, without an interval: Table 4 is the paper's own line, rounded",
    )


def _learning_rate() -> Law:
    return _of_table_4("learning_rate", "learning_rate", "rate", "learning rate", "", LEARNING_RATE, "Table 4")


def _batch_size() -> Law:
    tokens = tuple(float(batch * SEQ_LENGTH) for batch in BATCH_SEQUENCES)
    why = "Table 4, sequences of 8192 tokens"
    return _of_table_4("batch_size", "batch_tokens", "batch", "batch", "tokens", tokens, why)


def _of_table_4(law_id: str, x: str, short: str, symbol: str, unit: str, values: Sequence[float], why: str) -> Law:
    """A line of ours through a column of the paper's settings; `short`: its name in the law's form."""
    return Law(
        id=law_id,
        studies=("hyperparameters",),
        title=law_id.replace("_", " ").capitalize(),
        form=f"{short} = k C^e (ours)",
        unit=unit,
        x=x,
        x_label=f"{symbol}, {unit}" if unit else symbol,
        per_budget=_budgets(values, why),
        relations=(_without_interval(_through(x, symbol, unit, values)),),
        flags=("the law is printed only in Figure 12: the line through Table 4 is ours",),
        source=f"{ARXIV}, Table 4",
    )


def main() -> None:
    """Write laws/published.json."""
    PATH.parent.mkdir(exist_ok=True)
    write_laws(PATH, published())
    print(PATH)


if __name__ == "__main__":
    main()

"""What a rehearsal prints: the table of coefficients against the truth, and the warnings of hostile truths."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from analysis.covered import Row, counts
from analysis.rehearsal import EXPECTED, Rehearsed, warned
from analysis.text import scientific

MARKS = {True: "yes", False: "NO", None: "–"}


def show(main: Rehearsed, hostile: Sequence[Rehearsed], console: Console | None = None) -> bool:
    """Print everything; whether every hostile truth was warned of."""
    console = console or Console()
    console.print(coefficients(main))
    found = counts(main.rows)
    noise, truth = found["covers_clean"], found["covers_truth"]
    console.print(
        f"Of 95% intervals {noise[0]} of {noise[1]} hold what the same runs give without noise, {truth[0]} of {truth[1]} the "
        "truth. Where only the first is held, the runs themselves are off: at proxy widths, off their targets, or on a curve of "
        "another form.",
        highlight=False,
    )
    good = True
    for one in hostile:
        console.print(f"\nHostile truth [bold]{one.truth}[/bold] (SIMULATED)", highlight=False)
        for law_id in EXPECTED.get(one.truth, ()):
            fired = warned(one.laws, law_id)
            good &= fired
            console.print(f"  {law_id}: {'warned of' if fired else 'NOT WARNED OF'}", highlight=False)
        for law in one.laws.laws:
            edges = sum(budget.status == "at the edge" for budget in law.per_budget)
            if edges:
                console.print(
                    f"  {law.id}: the minimum of {edges} of {len(law.per_budget)} budgets is at the edge",
                    highlight=False,
                )
            for flag in law.flags:
                console.print(f"  {law.id}: {flag}", highlight=False)
    console.print(f"\nreport: {main.root / 'report.html'}", highlight=False)
    return good


def coefficients(rehearsed: Rehearsed) -> Table:
    """Each coefficient: truth, noise-free, estimate, interval, what it covers."""
    table = Table(title=f"SIMULATED: truth {rehearsed.truth}", title_justify="left")
    for name in ("law", "coefficient"):
        table.add_column(name)
    for name in ("truth", "without noise", "estimate", "95% interval"):
        table.add_column(name, justify="right")
    for name in ("holds w/o noise", "holds truth"):
        table.add_column(name)
    previous = ""
    for row in rehearsed.rows:
        table.add_row(row.law if row.law != previous else "", *_cells(row))
        previous = row.law
    return table


def _cells(row: Row) -> tuple[str, ...]:
    estimate = row.estimate
    return (
        row.name,
        *("–" if value is None else scientific(value, 4) for value in (row.truth, row.clean)),
        scientific(estimate.value, 4),
        f"{_end(estimate.low)} to {_end(estimate.high)}" if estimate.low == estimate.low else "–",
        MARKS[row.covers_clean],
        MARKS[row.covers_truth],
    )


def _end(value: float) -> str:
    return "open" if value in (float("inf"), float("-inf")) else scientific(value, 4)

"""What a rehearsal prints: the table of coefficients against the truth, and the warnings of hostile truths."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis.covered import Row, counts
from analysis.rehearsal import EXPECTED, Rehearsed, warned
from analysis.text import scientific, with_interval

MARKS = {True: "✓", False: "✗", None: "–"}


def show(main: Rehearsed, hostile: Sequence[Rehearsed], console: Console | None = None) -> bool:
    """Print everything; whether every hostile truth was warned of."""
    console = console or Console()
    console.print(coefficients(main))
    found = counts(main.rows)
    noise, truth = found["covers_clean"], found["covers_truth"]
    console.print(
        "holds: whether the interval holds what the same runs give without noise / the truth.\n"
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
    """Each coefficient: truth, noise-free, estimate with its interval, and whether that holds the two."""
    table = Table(
        title=f"SIMULATED: truth {rehearsed.truth}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("coefficient", min_width=22, no_wrap=True)
    for name in ("truth", "w/o noise"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("estimate (95%)", overflow="fold")
    table.add_column("holds", no_wrap=True)
    previous = ""
    for row in rehearsed.rows:
        if row.law != previous:
            table.add_row(f"[bold]{row.law}[/bold]")
            previous = row.law
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, ...]:
    estimate = row.estimate
    return (
        row.name.replace(" ", "\n  ", 1),
        *("–" if value is None else scientific(value) for value in (row.truth, row.clean)),
        with_interval(estimate.value, estimate.low, estimate.high),
        f"{MARKS[row.covers_clean]} / {MARKS[row.covers_truth]}",
    )

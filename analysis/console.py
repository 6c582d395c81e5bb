"""What `python -m analysis.refit` prints: noise, minima, laws, what was left out, and where the files are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.laws import Law
from analysis.noise import SeedNoise
from analysis.summary import fitted_text, law_sentences, left_out_runs, noise_sentences, unused_studies
from analysis.text import count, flops, scientific

MOST_LISTED = 20
"""Runs left out that are listed one by one; the report has them all."""


def show(table: pd.DataFrame, laws: Sequence[Law], noise: dict[str, SeedNoise], written: Iterable[Path]) -> None:
    """Print a summary of a refit to standard output."""
    console = Console(highlight=False)
    if table["simulated"].any():
        console.print("[bold red]SIMULATED DATA: these are not findings[/]")
    for sentence in noise_sentences(noise):
        console.print(escape(f"noise: {sentence}"))
    for law in laws:
        console.print(f"\n[bold]{escape(law.title)}[/]")
        if law.budgets:
            minima = Table("budget", "runs", "minimum", f"fitted {law.x} (95%)", "least loss", box=None, pad_edge=False)
            for budget in law.budgets:
                colour = "green" if budget.resolved else "red"
                minima.add_row(
                    flops(budget.compute),
                    str(len(budget.points)),
                    f"[{colour}]{budget.status}[/]",
                    fitted_text(budget),
                    scientific(budget.fit.minimum, 4),
                )
            console.print(minima)
        for sentence in law_sentences(law):
            console.print(escape(f"  {sentence}"))
    for study in unused_studies(table):
        console.print(escape(f"study {study}: collected, but no law of this version uses it"))
    _show_left_out(console, table, laws)
    console.print()
    for path in written:
        console.print(escape(str(path)), soft_wrap=True)


def _show_left_out(console: Console, table: pd.DataFrame, laws: Sequence[Law]) -> None:
    out = left_out_runs(table, laws)
    if not out:
        return
    console.print(f"\n[bold]{count(len(out), 'row')} of {len(table)} left out[/]")
    if len(out) <= MOST_LISTED:
        for left in out:
            console.print(
                escape(f"  {left.run_id}  {left.study}  {flops(left.compute)}  {left.reason}"), soft_wrap=True
            )
        return
    for reason, number in Counter(left.reason for left in out).most_common(MOST_LISTED):
        console.print(escape(f"  {count(number, 'run')}: {reason}"), soft_wrap=True)
    console.print("  losses.csv and report.html list every one")

"""What `python -m analysis.refit` prints: noise, minima, laws, what was left out, and where the files are."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from analysis.laws import NO_CURVE, Law, LawsFile
from analysis.summary import flag_sentences, law_sentences, left_out_runs, noise_sentences, optimum_text, unused_studies
from analysis.text import count, flops, scientific

MOST_LISTED = 20
"""Runs left out that are listed one by one; the report has them all."""

MOST_FILES = 6
"""Written into one folder that are named one by one."""


def show(table: pd.DataFrame, laws: LawsFile, written: Iterable[Path]) -> None:
    """Print a summary of a refit to standard output."""
    console = Console(highlight=False)
    if laws.simulated or table["simulated"].any():
        console.print("[bold red]SIMULATED DATA: these are not findings[/]")
    for sentence in noise_sentences(laws):
        console.print(escape(f"noise: {sentence}"))
    for law in laws.laws:
        console.print(f"\n[bold]{escape(law.title)}[/]")
        _show_minima(console, law)
        statements = [statement.text for statement in law.statements]
        for sentence in (*law_sentences(law), *statements, *flag_sentences(law)):
            console.print(escape(f"  {sentence}"))
    for law_id, reason in laws.missing.items():
        console.print(escape(f"no law {law_id}: {reason}"))
    for study in unused_studies(table):
        console.print(escape(f"study {study}: collected, but no law uses it"))
    _show_left_out(console, table, laws)
    console.print()
    _show_files(console, list(written))


def _show_files(console: Console, written: list[Path]) -> None:
    """Each file, or a folder of many as one line."""
    number = Counter(path.parent for path in written)
    for path in dict.fromkeys(path.parent if number[path.parent] > MOST_FILES else path for path in written):
        many = f" ({number[path]} files)" if number[path] else ""
        console.print(escape(f"{path}{many}"), soft_wrap=True)


def _show_minima(console: Console, law: Law) -> None:
    curved = [budget for budget in law.per_budget if budget.status != NO_CURVE]
    if not curved:
        return
    minima = Table("budget", "runs", "minimum", f"fitted {law.x} (95%)", "least loss", box=None, pad_edge=False)
    for budget in curved:
        colour = "green" if budget.resolved else "red"
        minima.add_row(
            flops(budget.compute),
            str(len(budget.points)),
            f"[{colour}]{budget.status}[/]",
            optimum_text(law, budget),
            scientific(budget.minimum_loss.value, 4),
        )
    console.print(minima)


def _show_left_out(console: Console, table: pd.DataFrame, laws: LawsFile) -> None:
    unused = left_out_runs(table, laws)
    if sound := sum(left.usable for left in unused):
        console.print(escape(f"\n{count(sound, 'sound row')} lie where no curve is fitted; report.html lists them"))
    out = [left for left in unused if not left.usable]
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

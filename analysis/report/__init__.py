"""report.html: one self-contained page of what was run, what it shows and what it does not show.

    write_report(path, report_page(table, laws, figures, sources))

Interactive plots (`plots`) are drawn by plotly.js, which is in the page once; figures that have no interactive twin are
inlined as PNG. The page refers to nothing outside itself but the runs' directories beside it. Templates: `analysis/templates/`.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures import FIGURES, DrawnFigures
from analysis.laws import FITS, LawsFile
from analysis.report.plots import dark_colours, plots_of
from analysis.report.sections import hover_texts, law_section, provenance, run_rows, spent_rows
from analysis.summary import five_sentences, intervals_sentence, left_out_runs, noise_sentences, unused_studies
from analysis.text import flops
from harness.files import write_atomically

TEMPLATES = Path(__file__).parents[1] / "templates"

INTERACTIVE = {
    "isoflop", "classical_laws", "rank", "n_over_na", "n_over_na_law", "m_over_na", "m_over_na_law", "hidden_size",
    "hidden_size_law", "width_ratio", "learning_rate", "batch_size",
}  # fmt: skip
"""Figures that the page has as interactive plots."""


def report_page(table: pd.DataFrame, laws: LawsFile, figures: DrawnFigures, sources: Sequence[str]) -> str:
    """The page as HTML; `sources`: names of the sweeps, or of the table of losses."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = {name: _image(name, path) for name, path in figures.images.items() if name not in INTERACTIVE}
    plots = {law.id: plots_of(law) for law in laws.laws}
    data = {
        "plots": {plot.name: {"data": plot.traces, "layout": plot.layout} for each in plots.values() for plot in each},
        "runs": hover_texts(table),
        "dark": dark_colours(max([1, *(len(law.per_budget) for law in laws.laws)])),
    }
    return environment.get_template("report.html.j2").render(
        sources=sources,
        simulated=bool(laws.simulated or table["simulated"].any()),
        summary=five_sentences(table, laws),
        intervals=intervals_sentence(laws),
        noise=noise_sentences(laws),
        spent=spent_rows(table),
        laws=[
            {
                **law_section(law),
                "plots": plots[law.id],
                "images": [images[name] for name, spec in FIGURES.items() if spec.law == law.id and name in images],
            }
            for law in laws.laws
        ],
        missing=laws.missing,
        others=[images[name] for name, spec in FIGURES.items() if name in images and laws.law(spec.law) is None],
        not_drawn=[(FIGURES[name].title, reason) for name, reason in figures.missing.items()],
        runs=run_rows(table),
        left_out=left_out_runs(table, laws),
        unused=unused_studies(table),
        provenance=provenance(table, laws, sources),
        law_count=len(FITS),
        flops=flops,
        data=Markup(_script_json(data)),
        plotly=Markup(_plotly() if any(plots.values()) else ""),
    )


def write_report(path: Path, page: str) -> None:
    """Write the page to `path`, atomically."""
    write_atomically(path, page)


def _image(name: str, path: Path) -> dict[str, str]:
    spec = FIGURES[name]
    number = f" (paper, Figure {spec.paper})" if spec.paper else ""
    data = base64.b64encode(path.read_bytes()).decode()
    return {"data": data, "title": spec.title, "caption": f"{spec.title}{number}. {spec.caption}"}


def _script_json(value: Any) -> str:
    """JSON that may stand in a script element: nothing in it can end the element, or open a comment."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _plotly() -> str:
    """The library's text, as plotly's package brings it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs()).replace("</script", "<\\/script")

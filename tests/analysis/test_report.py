"""report.html: complete, self-contained, honest; and alive in a browser."""

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from analysis.figures import FIGURES, DrawnFigures, draw
from analysis.laws import LawsFile
from analysis.report import INTERACTIVE, report_page, write_report
from analysis.report.plots import plots_of
from tests.analysis.browser import open_page, screenshot
from tests.analysis.laws_by_hand import BUDGETS, laws_of, rows

PROBE = """async () => {
  while (!document.documentElement.dataset.drawn) await new Promise(go => setTimeout(go, 50));
  const plots = [...document.querySelectorAll(".plot")].map(plot => ({
    name: plot.id, traces: plot.querySelectorAll(".scatterlayer .trace").length,
    points: plot.querySelectorAll(".points path").length,
    wide: plot.getBoundingClientRect().width, high: plot.getBoundingClientRect().height }));
  const images = [...document.images].map(image => { image.loading = "eager"; return image; });
  await Promise.all(images.map(image => image.complete && image.naturalWidth ? 0
    : new Promise(go => { image.onload = go; image.onerror = go; })));
  const plot = document.getElementById("classical-curves");
  plot.scrollIntoView();
  const trace = plot._fullData[0], area = plot.querySelector(".nsewdrag"), box = area.getBoundingClientRect();
  const at = { clientX: box.left + plot._fullLayout.xaxis.d2p(trace.x[1]), bubbles: true, view: window,
    clientY: box.top + plot._fullLayout.yaxis.d2p(trace.y[1]) };
  const opened = []; window.open = link => opened.push(link);
  area.dispatchEvent(new MouseEvent("mousemove", at));
  await new Promise(go => setTimeout(go, 300));
  const label = plot.querySelector(".hoverlayer .hovertext")?.textContent ?? "";
  for (const kind of ["mousedown", "mouseup", "click"]) {
    (kind === "mousedown" ? area : document.querySelector(".dragcover") ?? area).dispatchEvent(new MouseEvent(kind, at));
    await new Promise(go => setTimeout(go, 50));
  }
  await new Promise(go => setTimeout(go, 300));
  return { plots, images: images.map(image => image.naturalWidth), label, opened, run: trace.customdata[1],
    fetched: performance.getEntriesByType("resource").map(one => one.name).filter(name => !name.startsWith("data:")),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    background: getComputedStyle(document.body).backgroundColor, ink: plot._fullLayout.font.color };
}"""


class Outline(HTMLParser):
    """Headings, ids, links and pictures of a page."""

    def __init__(self):
        super().__init__()
        self.headings, self.ids, self.links, self.alts, self.open = [], [], [], [], 0

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in given:
            self.ids.append(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            self.alts.append(given.get("alt", ""))


STATIC = FIGURES.keys() - INTERACTIVE - {"loss_curves"}
"""Figures that the page has as pictures; by hand there are no metrics for loss curves."""


def write_page(root, static):
    """The page with the `static` figures, its table and its laws."""
    table = rows()
    laws = laws_of(table)
    images = {}
    for name in static:
        images[name] = root / f"{name}.png"
        images[name].write_bytes(draw(name, table, laws).save("png"))
    drawn = DrawnFigures(images=images, missing={"loss_curves": "no run has a metrics.jsonl"})
    write_report(root / "report.html", report_page(table, laws, drawn, ["all"]))
    return root / "report.html", table, laws


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("report"), ("profiles",))


@pytest.fixture(scope="module")
def full_page(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("full"), STATIC)


def visible(text: str) -> str:
    """The page without scripts and data."""
    return re.sub(r"<script.*?</script>|data:[^\"]*", "", text, flags=re.S)


def test_it_refers_to_nothing_outside_itself(page):
    text = visible(page[0].read_text())
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", text)
    assert "@import" not in text
    assert "url(" not in text


def test_links_lead_somewhere_and_headings_are_in_order(page):
    outline = Outline()
    outline.feed(page[0].read_text())
    assert len(outline.ids) == len(set(outline.ids))
    inside = {link[1:] for link in outline.links if link.startswith("#")}
    assert inside <= set(outline.ids)
    assert set(outline.links) - {f"#{one}" for one in inside} == {f"runs/{run}/" for run in page[1]["run_id"]}
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert all(outline.alts)


def test_it_says_what_it_must(page):
    text = visible(page[0].read_text())
    assert "SIMULATED DATA" in text
    assert text.count('<p class="summary">') == 5
    assert "diverged: loss is NaN at step 12" in text
    assert page[2].data_hash in text
    assert "the loss falls over the whole range" in text
    assert "The form is in doubt." in text
    assert "extrapolated" in text
    assert "losses moved" in text
    assert len(re.findall(r"<img [^>]*data:image/png;base64,", page[0].read_text())) == 1


def test_plots_hold_every_run_of_their_law(page):
    for law in page[2].laws:
        drawn = {run for plot in plots_of(law) for trace in plot.traces for run in trace.get("customdata", ())}
        points = {run for budget in law.per_budget for run in (*budget.points.run_ids, *budget.outside.run_ids)}
        assert drawn == points | {pair.proxy_run for pair in law.pairs}, law.id


def test_an_open_interval_and_nan_survive_as_json(page):
    plots = [plot for law in page[2].laws for plot in plots_of(law)]
    json.dumps([[plot.traces, plot.layout] for plot in plots], allow_nan=False)
    assert any(math.isinf(budget.optimum.high) for budget in page[2].law("hidden_size").per_budget)


def test_names_from_the_outside_cannot_become_markup():
    table = rows(BUDGETS[:1])
    table["run_id"] = table["run_id"].where(table.index != 3, "</script><img src=x onerror=alert(1)>")
    text = report_page(table, laws_of(table), DrawnFigures(images={}, missing={}), ["<b>bold</b>"])
    assert "<b>bold</b>" not in text
    assert "<img src=x" not in text
    assert text.count("</script><img") == 0


@pytest.mark.parametrize("study", ["grid", "classical"])
def test_partial_data_give_a_page_that_says_what_is_missing(study):
    table = rows(BUDGETS[:1])
    table = table[table["study"] == study]
    text = report_page(
        table, laws_of(table), DrawnFigures(images={}, missing={"rank": "no run of study rank"}), ["one"]
    )
    assert "no run of study" in text
    assert "Median proxy against least loss" in text


def test_no_law_at_all_needs_no_plots():
    table = rows(BUDGETS[:1]).assign(left_out="failed: lost a node", final_validation_loss=np.nan)
    laws = LawsFile(laws=(), missing={"classical": "none of the runs can be used"}, noise={})
    text = report_page(table, laws, DrawnFigures(images={}, missing={}), ["one"])
    assert len(text) < 200_000  # plotly.js is not carried along
    assert "none of the runs can be used" in text
    assert text.count("failed: lost a node") == len(table)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("desktop", (1200, 1600), ()),
        ("phone", (500, 1600), ()),
        ("dark", (1200, 1600), ("--blink-settings=preferredColorScheme=0",)),
    ],
)
def test_in_a_browser_every_figure_is_drawn_and_hovers(full_page, name, size, options):
    path, _, laws = full_page
    answer = open_page(path, PROBE, *options, size=size)
    found = answer["found"]
    assert "failed" not in found, found
    assert answer["troubles"] == []
    assert found["fetched"] == []
    assert {plot["name"] for plot in found["plots"]} == {plot.name for law in laws.laws for plot in plots_of(law)}
    assert all(
        plot["traces"] and plot["points"] and plot["wide"] > 300 and plot["high"] > 200 for plot in found["plots"]
    )
    assert len(found["images"]) == len(STATIC)
    assert all(width > 300 for width in found["images"])
    assert found["run"] in found["label"]
    assert "loss" in found["label"]
    assert "d 512" in found["label"]
    assert found["opened"] == [f"runs/{found['run']}/"]
    assert found["overflow"] <= 0
    assert (found["background"] == "rgb(255, 255, 255)") == (name != "dark")
    screenshot(path, path.parent / f"{name}.png", *options, size=(size[0], 3000))
    assert (path.parent / f"{name}.png").stat().st_size > 50_000

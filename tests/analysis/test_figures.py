"""Figures: every one is drawn from a table and laws, marked, and left out with a reason where its data are not there."""

import dataclasses

import pytest

from analysis.figures import FIGURES, NoFigure, draw, draw_figures
from analysis.figures.findings import NoFigureError
from analysis.figures.region import backbone_of
from analysis.figures.style import RED
from analysis.laws import LawsFile
from harness.errors import ConfigError
from tests.analysis.laws_by_hand import BACKBONE, BUDGETS, laws_of, rows

PAPER = {"2", "3", "4", "5a", "5b", "6a", "6b", "7", "8", "9", "10", "11", "12a", "12b"}


@pytest.fixture(scope="module")
def table():
    return rows()


@pytest.fixture(scope="module")
def laws(table):
    return laws_of(table)


def test_every_figure_of_the_paper_is_there():
    assert {spec.paper for spec in FIGURES.values()} >= PAPER


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "loss_curves"])
def test_it_is_drawn_and_marked_as_simulated(name, table, laws):
    figure = draw(name, table, laws)
    assert not isinstance(figure, NoFigure), figure
    assert "SIMULATED" in figure.get_suptitle()
    for axes in figure.axes:
        assert axes.has_data() or axes.get_label() == "<colorbar>"
        if axes.get_label() != "<colorbar>":
            labelled = axes.get_xlabel() or axes.get_ylabel()
            assert labelled, "an axis without a name"


def test_measured_data_bear_no_mark(table, laws):
    measured = dataclasses.replace(laws, simulated=False)
    assert draw("isoflop", table.assign(simulated=False), measured).get_suptitle() == ""


def test_points_of_a_figure_are_the_runs_of_the_law(table, laws):
    axes = draw("isoflop", table, laws).axes[0]
    drawn = sorted(float(x) for line in axes.lines if line.get_marker() == "o" for x in line.get_xdata())
    assert drawn == sorted(x for budget in laws.law("classical").per_budget for x in budget.points.x)


def test_what_is_extrapolated_is_dashed(table, laws):
    axes = draw("m_over_na_law", table, laws).axes[0]
    dashed = [line for line in axes.lines if line.get_label() == "extrapolated"]
    assert [line.get_linestyle() for line in dashed] == ["--"]
    assert min(dashed[0].get_xdata()) == pytest.approx(BUDGETS[-1])


def test_an_unresolved_budget_is_red_and_has_no_optimum(table, laws):
    axes = draw("m_over_na", table, laws).axes[0]
    assert axes.title.get_color() == RED
    assert "at the edge" in axes.get_title()
    assert not axes.containers  # of error bars


def test_one_budget_gives_curves_and_maps_but_no_laws():
    table = rows(BUDGETS[:1])
    laws = laws_of(table)
    for name in ("isoflop", "m_over_na", "landscape", "maps_ratios", "learning_rate", "rank", "region"):
        assert not isinstance(draw(name, table, laws), NoFigure), name
    for name in ("classical_laws", "m_over_na_law", "hidden_size_law", "width_ratio", "width_ratio_ahead"):
        assert isinstance(draw(name, table, laws), NoFigure), name


@pytest.mark.parametrize("study", ["classical", "grid", "width", "ratio", "hyperparameters", "rank"])
def test_without_a_study_its_figures_are_left_out_with_the_reason(study, table):
    rest = table[table["study"] != study]
    laws = laws_of(rest)
    for name, spec in FIGURES.items():
        figure = draw(name, rest, laws)
        if spec.law and spec.law in laws.missing:
            assert isinstance(figure, NoFigure), name
            assert study in figure.reason
            assert study in repr(figure)


def test_no_runs_at_all_leave_reasons(table):
    empty = LawsFile(laws=(), noise={}, missing={})
    none = table.assign(left_out="failed")
    assert all(isinstance(draw(name, none, empty), NoFigure) for name in FIGURES)


def test_files_are_written_twice_over_and_stale_ones_removed(table, laws, tmp_path):
    stale = tmp_path / "figures" / "loss_curves.png"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    few = dataclasses.replace(laws, laws=laws.laws[:1], missing={one.id: "left out here" for one in laws.laws[1:]})
    drawn = draw_figures(table[table["study"] == "classical"], few, tmp_path)
    assert set(drawn.images) == {"isoflop", "classical_laws"}
    assert drawn.missing.keys() == FIGURES.keys() - drawn.images.keys()
    assert not stale.exists()
    assert sorted(path.name for path in drawn.files) == sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert (tmp_path / "figures" / "isoflop.pdf").read_bytes().startswith(b"%PDF")
    again = draw("isoflop", table, few)
    assert again.save("png") == draw("isoflop", table, few).save("png")


def test_a_notebook_shows_a_figure_as_png(table, laws):
    assert draw("rank", table, laws)._repr_png_().startswith(b"\x89PNG")


def test_a_wrong_name_is_refused_with_the_nearest(table, laws):
    with pytest.raises(ConfigError, match="did you mean 'isoflop'"):
        draw("isoflops", table, laws)


def test_the_backbone_is_found_by_counting(table):
    grid = table[table["study"] == "grid"]
    found = backbone_of(grid)
    assert found.max_n_over_na == BACKBONE.max_n_over_na
    with pytest.raises(NoFigureError, match="no backbone counts"):
        backbone_of(grid.assign(active_params=grid["active_params"] + 1))
    with pytest.raises(NoFigureError, match="does not say head_dim"):
        backbone_of(grid.drop(columns="head_dim"))

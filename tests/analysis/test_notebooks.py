"""Notebooks: pairs in step, run on a root that lacks most studies, and failing loudly."""

import json

import jupytext
import pytest

from analysis.notebooks.__main__ import DIRECTORY, execute, names
from tests.analysis.builder import Root
from tests.conftest import command


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("notebooks") / "root"
    return Root(path).classical(budgets=(5e10, 1e11, 2e11), seeds=2).grid(slices=(12.0, 16.0, 22.0)).write("demo").path


@pytest.mark.parametrize("name", names())
def test_both_files_of_a_pair_say_the_same(name):
    ours, pair = (jupytext.read(DIRECTORY / f"{name}.{kind}") for kind in ("py", "ipynb"))
    assert [(cell.cell_type, cell.source) for cell in ours.cells] == [
        (cell.cell_type, cell.source) for cell in pair.cells
    ], "if meant: make notebooks"
    assert not any(cell.get("outputs") for cell in pair.cells), "outputs belong into executed copies"


@pytest.mark.parametrize("name", names())
def test_notebooks_define_no_fit(name):
    text = (DIRECTORY / f"{name}.py").read_text()
    assert "def " not in text
    assert "scipy" not in text
    assert "numpy" not in text


@pytest.mark.parametrize(
    "name", [name if name == "ratios" else pytest.param(name, marks=pytest.mark.slow) for name in names()]
)
def test_it_runs_and_shows_tables_and_figures(name, root, tmp_path):
    failure = execute(name, {"root": str(root), "sweep": "demo", "budgets_ahead": [1e13]}, tmp_path)
    assert failure is None
    cells = json.loads((tmp_path / f"{name}.ipynb").read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    text = "".join("".join(output.get("text", [])) for output in outputs)
    shown = {kind for output in outputs for kind in output.get("data", {})}
    assert "text/html" in shown
    if name in ("ratios", "classical"):
        assert "image/png" in shown
    else:
        assert "no run of study" in text


def test_the_command_says_what_is_wrong(root):
    for words, message in (
        (["only=[ratio]"], "did you mean 'ratios'?"),
        (["root=/nowhere"], "no sweeps/ there"),
    ):
        done = command("-m", "analysis.notebooks", f"root={root}", *words)
        assert done.returncode == 2
        assert message in done.stderr.replace("\n", " ")

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.collect import collect
from analysis.laws import FitOptions, document, fit_laws, write_laws
from analysis.refit import refit
from tests.analysis.builder import Root

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).parent / "golden" / "laws.json"
OPTIONS = FitOptions(resamples=500, seed=3)


def golden_root(path: Path) -> Root:
    root = Root(path).classical(seeds=2, curve=True).classical(budgets=(8e11,), off=8).grid()
    root.status(root.rows[3]["run_id"], "failed", "lost a node")
    return root.write("both")


def run(*overrides: str, cwd: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "analysis.refit", *overrides]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)


def same(value, golden, where="laws"):
    """Equal in structure and words, numbers to 1e-6 (other BLAS, other last digits)."""
    if isinstance(golden, dict):
        assert value.keys() == golden.keys(), where
        for key in golden:
            same(value[key], golden[key], f"{where}.{key}")
    elif isinstance(golden, list):
        assert len(value) == len(golden), where
        for index, pair in enumerate(zip(value, golden, strict=True)):
            same(*pair, f"{where}[{index}]")
    elif isinstance(golden, float):
        assert value == pytest.approx(golden, rel=1e-6), where
    else:
        assert value == golden, where


def test_laws_json_agrees_with_the_golden_file_and_repeats_itself(tmp_path):
    root = golden_root(tmp_path / "r")
    refit(root.path, ["both"], OPTIONS)
    first = (root.path / "laws.json").read_bytes()
    again = fit_laws(collect(root.path, ["both"]), OPTIONS)
    assert json.loads(first) == document(again)
    write_laws(root.path / "laws.json", again)
    assert (root.path / "laws.json").read_bytes() == first
    written = json.loads(first, parse_constant=lambda word: pytest.fail(f"{word} in laws.json"))
    if os.environ.get("WRITE_GOLDEN"):
        GOLDEN.write_bytes(first)
    same(written, json.loads(GOLDEN.read_text()))


def test_another_seed_gives_other_repetitions_but_the_same_laws(tmp_path):
    table = collect(golden_root(tmp_path / "r").path, ["both"])
    one, two = (fit_laws(table, FitOptions(resamples=500, seed=seed)) for seed in (0, 1))
    assert one.law("classical").relations[0].exponent == two.law("classical").relations[0].exponent
    failed = [[budget.failed_resamples for budget in laws.law("classical").per_budget] for laws in (one, two)]
    assert failed[0] != failed[1]


def test_report_is_self_contained_and_says_what_is_left_out(tmp_path):
    root = golden_root(tmp_path / "r")
    done = refit(root.path, ["both"], OPTIONS)
    # without plotly.js, whose text has addresses that it only writes into pictures; test_report opens the page in a browser
    page = re.sub(r"<script>.*?</script>", "", (root.path / "report.html").read_text(), flags=re.S)
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", page)
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert page.count("data:image/png;base64,") == 5
    assert "failed: lost a node" in page
    assert "at the edge" in page
    assert "SIMULATED" not in page
    assert not done.complete
    assert all(path.stat().st_size > 0 for path in done.written)


def test_simulated_results_are_marked_loudly(root):
    done = refit(root.classical(budgets=(1e11, 2e11), simulated=True).write("s").path, ["s"], OPTIONS)
    assert "SIMULATED DATA" in (root.path / "report.html").read_text()
    assert json.loads((root.path / "laws.json").read_text())["simulated"] is True
    assert done.complete


def test_a_figure_without_data_is_removed(root):
    refit(root.grid().write("s").path, ["s"], OPTIONS)
    assert (root.path / "figures" / "m_over_na_law.png").exists()
    root.write("one", root.rows[:12])
    refit(root.path, ["one"], OPTIONS)
    assert not (root.path / "figures" / "m_over_na_law.png").exists()
    assert (root.path / "figures" / "m_over_na.png").exists()


def test_nothing_usable_still_writes_everything(root):
    root.classical(budgets=(1e11,)).grid(budgets=(1e11,)).write("s")
    for row in root.rows:
        root.status(row["run_id"], "running")
    done = refit(root.path, ["s"], OPTIONS)
    assert not done.complete
    document = json.loads((root.path / "laws.json").read_text())
    assert {law["id"]: law["fitted"] for law in document["laws"]} == {
        "classical": False,
        "n_over_na": False,
        "m_over_na": False,
    }
    assert len(document["laws"][0]["points_left_out"]) == 5
    assert "No run can be used." in (root.path / "report.html").read_text()


def test_command_line_exit_codes(tmp_path):
    root = Root(tmp_path / "runs_root").classical(budgets=(1e11, 2e11)).write("fine")
    complete = run("sweep=fine", "bootstrap.resamples=200", cwd=tmp_path)
    assert complete.returncode == 0, complete.stderr
    assert "M_opt goes as C^" in complete.stdout
    assert str(Path("runs_root") / "report.html") in complete.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs_root"]  # Hydra leaves nothing behind
    root.result(root.rows[0]["run_id"], tokens=512)
    partial = run("sweep=[fine]", "bootstrap.resamples=200", cwd=tmp_path)
    assert partial.returncode == 1, partial.stderr
    assert "ended early: 512 of" in partial.stdout
    for words, message in (
        (["sweep=fnie"], "did you mean 'fine'"),
        ([], "give a name, a list, or all"),
        (["sweep=fine", "bootstrap.resamples=3"], "at least 200"),
        (["sweep=fine", "rot=x"], "unknown option"),
    ):
        wrong = run(*words, cwd=tmp_path)
        assert wrong.returncode == 2
        assert message in wrong.stderr
        assert "Traceback" not in wrong.stderr

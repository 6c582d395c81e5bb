"""The command as a user calls it."""

import json
import re

import pytest

from analysis.design.__main__ import main
from analysis.laws.file import write_laws
from harness.cli import compose
from harness.errors import HarnessError
from tests.analysis.design.known import known_laws
from tests.analysis.design.test_public import MODELS
from tests.conftest import command


def design(*words):
    """In a process of its own."""
    return command("-m", "analysis.design", *words)


@pytest.fixture
def call(capsys, monkeypatch):
    """The command in this process: its exit code and what it printed."""

    def run(*words, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        code = main(compose("design", list(words)))
        return code, capsys.readouterr().out

    return run


@pytest.mark.parametrize("columns", [80, 120])
def test_it_says_how_far_it_extrapolates_and_fits_the_terminal(call, columns):
    code, text = call("compute=1e22", columns=columns)
    assert code == 0
    lines = text.splitlines()
    assert "EXTRAPOLATED 33 times" in " ".join(lines[:2])
    assert max(len(line) for line in lines if not line.startswith("python -m")) <= columns
    assert "…" not in text  # no number is cut
    assert "no loss curves" in " ".join(text.split())


def test_intervals_that_leave_a_part_out_are_marked_and_told_below_the_table(call):
    text = call("compute=1e22", "neighbours=0")[1]
    table, below = text.split("* leaves out an uncertainty", maxsplit=1)
    marked = [line.split(",")[0].split()[0] for line in table.splitlines() if re.search(r"\d[GM]?\*", line)]
    assert marked == ["N_a", "N", "d", "L"]
    assert "that of M (in N_a, N, d, L) and that of N/N_a (in N, d)" in " ".join(below.split())


def test_a_limit_that_no_architecture_keeps_is_named_with_how_far_it_reaches():
    done = design("compute=1e22", "max_total_params=1e6")
    assert done.returncode == 2
    assert "max_total_params=1e+06 cannot be kept: it takes M from 3.997e+10 to 4.034e+05" in done.stderr


def test_the_published_laws_need_no_file(call, monkeypatch, tmp_path):
    with_file = json.loads(call("compute=1e22", "json=true")[1])
    monkeypatch.setattr("analysis.design.__main__.PUBLISHED_PATH", tmp_path / "none.json")
    without = json.loads(call("compute=1e22", "json=true")[1])
    assert without["architecture"] == with_file["architecture"]
    for name, quantity in with_file["recommended"].items():  # the file has ten digits
        assert without["recommended"][name]["value"] == pytest.approx(quantity["value"], rel=1e-9)


def test_neither_torch_nor_megatron_is_imported():
    script = (
        "import sys, runpy; sys.argv = ['design', 'compute=1e20'];\n"
        "try: runpy.run_module('analysis.design', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('IMPORTED', [name for name in ('torch', 'megatron', 'matplotlib') if name in sys.modules])"
    )
    assert "IMPORTED []" in command("-c", script).stdout


def test_programs_get_json_and_the_options_plan_the_same_run(tmp_path):
    root = tmp_path / "with space"
    done = design("compute=1e20", "neighbours=2", "--json", f"compare={MODELS / 'olmoe-1b-7b.json'}", f"root={root}")
    value = json.loads(done.stdout)
    assert len(value["neighbours"]) == 2
    assert value["compared"]["active_params"] == 1_073_741_824
    planned = command("-m", "harness.sweep", *value["sweep_options"])
    assert planned.returncode == 0, planned.stderr
    assert value["run_id"] in planned.stdout
    assert (root / "sweeps" / "design-1e20.csv").exists()  # where the design was called to


def test_own_laws_price_neighbours_and_limits(call, tmp_path):
    write_laws(tmp_path / "laws.json", known_laws())
    _, text = call("compute=1e21", f"laws={tmp_path / 'laws.json'}", "max_total_params=20e9", "stages=2")
    text = " ".join(text.split())
    assert "SIMULATED" in text
    assert "limit: max_total_params=20G is below" in text
    assert "the limits cost +" in text
    assert "Hardware-friendly neighbours" in text


def test_it_says_how_many_neighbours_are_too_far_off(call):
    text = " ".join(call("compute=3.6e22")[1].split())
    value = json.loads(call("compute=3.6e22", "json=true")[1])
    assert value["neighbours_left_out"] > 0
    assert f"Left out: {value['neighbours_left_out']} that are more than 10% off the targets" in text
    assert max(one["distance"] for one in value["neighbours"]) <= 0.1
    assert "This one, the nearest, is not within 0.01%" in " ".join(call("compute=3.6e22", "within=1e-4")[1].split())


def test_several_budgets_make_a_table_and_a_figure(call, tmp_path):
    code, text = call("compute=[1e20,1e21,1e24]", f"root={tmp_path}")
    assert code == 0
    lines = text.splitlines()
    assert "…" not in text
    assert max(map(len, lines[:9])) <= 80
    rows = (tmp_path / "designs" / "scaling.csv").read_text().splitlines()
    assert len(rows) == 4
    assert (tmp_path / "designs" / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_the_megatron_command_is_printed_alone():
    done = design("compute=1e19", "--command")
    assert done.stdout.rstrip().splitlines()[0].endswith("\\")
    assert "--moe-ffn-hidden-size" in done.stdout
    assert "/path/to/dataset stand" in done.stderr


@pytest.mark.parametrize("hours", [500, 16_000, 50_000])
def test_gpu_hours_are_used_to_within_a_hundredth_and_never_exceeded(call, hours):
    value = json.loads(call(f"gpu_hours={hours}", "neighbours=0", "json=true")[1])
    assert 0.99 * hours <= value["resources"]["gpu_hours"] <= hours
    assert not [note for note in value["notes"] if "gpu_hours" in note]
    again = json.loads(call(f"compute={value['compute']!r}", "neighbours=0", "json=true")[1])
    assert again["run_id"] == value["run_id"]  # the printed budget is the one that was tried


def test_gpu_hours_that_no_design_uses_up_say_what_is_left_and_why(call):
    words = ("neighbours=0", "json=true", "cluster.layout.gpus=64")
    value = json.loads(call("gpu_hours=18000", *words)[1])
    spent = value["resources"]["gpu_hours"]
    assert spent < 0.99 * 18_000
    assert value["notes"][0].startswith(f"gpu_hours=18000: {spent:,.6g} are used, {1 - spent / 18_000:.1%} are left")
    beyond, hours = re.search(r"(\S+) FLOPs take (\S+)$", value["notes"][0]).groups()
    there = json.loads(call(f"compute={beyond}", *words)[1])["resources"]["gpu_hours"]
    assert there == pytest.approx(float(hours.replace(",", "")), rel=1e-5)
    assert there > 18_000
    assert "no layout of up to 512 GPUs" in json.loads(call("gpu_hours=50000", *words)[1])["notes"][0]


def test_a_larger_budget_that_takes_fewer_hours_is_pointed_out(call):
    value = json.loads(call("gpu_hours=28200", "neighbours=0", "json=true")[1])
    larger, hours = re.match(r"compute=(\S+) trains 13% more FLOPs in (\S+) GPU-hours", value["notes"][0]).groups()
    there = json.loads(call(f"compute={larger}", "neighbours=0", "json=true")[1])["resources"]["gpu_hours"]
    assert there == pytest.approx(float(hours.replace(",", "")), rel=1e-5)
    assert there < value["resources"]["gpu_hours"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "compute=<FLOPs> or gpu_hours=<hours> is wanted, and neither"),
        (["compute=1e22", "gpu_hours=5"], "both are given"),
        (["compute=lots"], "compute=lots: a positive number"),
        (["compute=1e40"], "must be between"),
        (["compute=1e22", "laws=publishd"], "did you mean 'published'"),
        (["compute=1e22", "laws=none.json"], "none.json does not exist"),
        (["compute=1e22", "stages=0"], "stages=0: a whole number of at least 1"),
        (["compute=1e22", "m_over_na=5"], "M/N_a is always above 6"),
        (["compute=1e22", "n_over_na=40"], "N/N_a lies strictly between 1"),
        (["compute=1e22", "overtraining=2", "max_total_params=1e9"], "2.89 times the limit"),
        (
            ["gpu_hours=1380", "cluster=cpu"],
            "gpu_hours=1380 is less than the smallest run takes on cluster cpu: 4.49e+03",
        ),
        (["gpu_hours=500", "m_over_na=5"], "gpu_hours=500: no budget from 4.453e+20 FLOPs down has a design"),
        (["compute=1e22", "json=maybe"], "json=maybe: true or false"),
        (["compute=1e20", "compare=none.json"], "it does not exist"),
    ],
)
def test_bad_input_is_refused(call, words, message):
    with pytest.raises(HarnessError, match=re.escape(message)):
        call(*words)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("max_total_param=1e9", "did you mean 'max_total_params'"),
        ("cluster=h1000", "did you mean 'h100'"),
        ("tokens=-1", "tokens=-1"),
    ],
)
def test_mistakes_end_in_one_plain_message(word, message):
    done = design("compute=1e22", word)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.slow
def test_megatrons_own_parser_takes_the_command():
    done = design("compute=1e19", "neighbours=0", "--check", "--json")
    value = json.loads(done.stdout)
    assert done.returncode == 0
    assert value["parsed"]["parameters"]["hidden_size"] == value["architecture"]["hidden_size"]
    assert value["parsed"]["flops_per_token"] == value["counts"]["megatron_flops_per_token"]


@pytest.mark.slow
def test_what_the_parser_refuses_is_told():
    from harness.megatron.parsed import parse

    assert "no-such-flag" in parse(["--no-such-flag"], 1)["error"]

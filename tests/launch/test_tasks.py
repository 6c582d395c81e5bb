"""How runs become arrays, how tables, commands and the journal are read, and when a run is given up."""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ConfigError, RunError
from harness.rundir import Attempt, RunDirectory
from harness.settings import named_cluster
from launch.batch import _ranges, clock
from launch.journal import Journal, may_still_come, unsettled
from launch.options import SlurmOptions, seconds_of
from launch.slurm import _check_name
from launch.slurmjobs import runs_per_node
from launch.task import exit_code_of, fruitless_attempts, read_command, rendezvous
from launch.tasks import (
    Array,
    Shape,
    Task,
    Wanted,
    dependent_arrays,
    independent_arrays,
    read_table,
    shares,
    write_table,
)
from tests.conftest import tiny_experiment

SHAPES = [Shape(nodes=1, gpus_per_node=1), Shape(nodes=4, gpus_per_node=8), Shape(nodes=1, gpus_per_node=8, runs=8),
          Shape(nodes=1, gpus_per_node=0)]  # fmt: skip


@st.composite
def wanted_runs(draw):
    count = draw(st.integers(1, 60))
    seconds = draw(st.lists(st.floats(1, 1e6), min_size=count, max_size=count))
    return [
        Wanted(
            task=Task(run_id=f"{number:012x}", gpus=1, seconds=seconds[number], directory=f"/r/{number}"),
            shape=draw(st.sampled_from(SHAPES)),
        )
        for number in range(count)
    ]


@given(wanted_runs(), st.integers(2, 20))
def test_every_run_is_in_one_array_of_its_shape_the_longest_first(wanted, size):
    arrays = independent_arrays(wanted, size)
    placed = [task.run_id for array in arrays for task in array.tasks]
    assert sorted(placed) == sorted(one.task.run_id for one in wanted)
    shape_of = {one.task.run_id: one.shape for one in wanted}
    for array in arrays:
        assert {shape_of[task.run_id] for task in array.tasks} == {array.shape}
        assert array.indices == tuple(range(len(array.indices)))
        assert len(array.indices) <= size
        assert [task.seconds for task in array.tasks] == sorted((task.seconds for task in array.tasks), reverse=True)
        for index in array.indices:
            assert 1 <= sum(task.index == index for task in array.tasks) <= array.shape.runs
        assert 3600 <= array.time_limit <= 24 * 3600
        assert array.time_limit % 1800 == 0


@given(wanted_runs(), st.data())
def test_branches_have_the_numbers_of_their_trunks(wanted, data):
    trunks = [f"trunk{number}" for number in range(5)]
    places = {trunk: (str(100 + number % 2), number // 2) for number, trunk in enumerate(trunks)}
    wanted = [replace(one, trunk=data.draw(st.sampled_from([*trunks, ""]))) for one in wanted]
    trunk_of = {one.task.run_id: one.trunk for one in wanted}
    arrays = dependent_arrays(wanted, places)
    assert sorted(task.run_id for array in arrays for task in array.tasks) == sorted(
        run for run, trunk in trunk_of.items() if trunk
    )
    for array in arrays:
        assert all(places[trunk_of[task.run_id]] == (array.after, task.index) for task in array.tasks)
        assert all(sum(t.index == task.index for t in array.tasks) <= array.shape.runs for task in array.tasks)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=20), st.integers(1, 1000))
def test_shares_are_at_least_one_and_no_more_than_there_are(sizes, most):
    shared = shares(most, sizes)
    assert all(1 <= share <= size for share, size in zip(shared, sizes, strict=True))
    assert sum(shared) == max(len(sizes), min(most, sum(sizes)))


@given(st.sets(st.integers(0, 200), min_size=1))
def test_ranges_say_the_numbers(numbers):
    text = _ranges(tuple(sorted(numbers)))
    told = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        told |= set(range(int(first), int(last or first) + 1))
    assert told == numbers


@given(st.integers(1, 10**7))
def test_times_are_read_as_they_are_written(seconds):
    assert seconds_of(clock(seconds), "time") == seconds


def test_times_that_are_none_are_refused():
    for wrong in ("1:2", "tomorrow", "24", ""):
        with pytest.raises(ConfigError, match=r"24:00:00"):
            SlurmOptions(time=wrong)
    assert seconds_of(86400, "time") == 86400  # what YAML makes of 24:00:00 without quotes


def test_a_table_round_trips_and_a_damaged_one_is_named(tmp_path):
    tasks = [Task(run_id="a", gpus=8, seconds=10, directory="/x y/a", index=0), Task(run_id="b", gpus=0, seconds=5,
             directory="/x y/b", index=3)]  # fmt: skip
    write_table(tmp_path / "t.tsv", tasks)
    assert read_table(tmp_path / "t.tsv") == tasks
    whole = (tmp_path / "t.tsv").read_text()
    first_line = whole.splitlines()[0]
    for text in (
        "index\trun_id\n0\ta\n",
        "garbage",
        "",
        f"{first_line}\n",
        whole.replace("\t8\t", "\teight\t"),
        f"{whole}1\tb",
    ):
        (tmp_path / "t.tsv").write_text(text)
        with pytest.raises(RunError, match=r"t\.tsv is missing or damaged"):
            read_table(tmp_path / "t.tsv")
    with pytest.raises(RunError, match=r"absent\.tsv is missing"):
        read_table(tmp_path / "absent.tsv")


def test_what_a_run_executes_is_its_command(tmp_path):
    run = RunDirectory(tmp_path, "0" * 12)
    torchrun = "python -m torch.distributed.run"
    for start, variables in (
        ("OMP_NUM_THREADS=1 python -m harness.megatron.pretrain", {"OMP_NUM_THREADS": "1"}),
        (
            f"A=1 B='x y' /p/{torchrun} --standalone --nproc-per-node=8 -m harness.megatron.pretrain",
            {"A": "1", "B": "x y"},
        ),
        (f"# a note\n{torchrun} --rdzv-endpoint=$MASTER_ADDR:$MASTER_PORT -m harness.megatron.pretrain", {}),
    ):
        run.create(tiny_experiment(None), f"{start} \\\n    --run-dir '/a b/c' \\\n    --lr 0.1 \\\n    --swiglu\n")
        program = read_command(run)
        words = ["--run-dir", "/a b/c", "--lr", "0.1", "--swiglu"]
        assert program.argv == [sys.executable, "-m", "harness.megatron.pretrain", *words]
        assert program.environment == variables
    (run.path / "command.txt").write_text("echo")
    with pytest.raises(RunError, match="holds no training program"):
        read_command(run)


def test_ranks_come_from_slurm():
    assert rendezvous({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}) == {}
    variables = {"SLURM_NTASKS": "16", "SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "9", "SLURM_LOCALID": "1",
                 "SLURM_NTASKS_PER_NODE": "8"}  # fmt: skip
    assert rendezvous(variables) == {"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}


@pytest.mark.parametrize(
    ("attempts", "reached", "fruitless"),
    [([], 0, 0), ([("killed", 0)], 0, 1), ([("killed", 0)], 50, 0), ([("killed", 0), ("crash", 0)], 0, 2),
     ([("killed", 0), ("crash", 40)], 40, 1), ([("killed", 0), ("crash", 40), (None, 40)], 40, 2),
     ([("limit", 0), ("limit", 50), ("limit", 90)], 120, 0), ([("limit", 90), ("limit", 90)], 90, 2),
     ([("signal", 0), ("signal", 0), ("crash", 0)], 0, 1), ([("crash", 10), ("signal", 10), ("crash", 10)], 10, 2)],
)  # fmt: skip
def test_attempts_count_as_fruitless_that_left_no_newer_checkpoint(attempts, reached, fruitless):
    made = [
        Attempt(number=number, host="h", pid=1, command="", started="", first_step=first, end=end)
        for number, (end, first) in enumerate(attempts, 1)
    ]
    assert fruitless_attempts(made, reached) == fruitless


@pytest.mark.parametrize(
    ("codes", "stopped", "code"),
    [([0, 0], False, 0), ([0, 3], False, 3), ([4, 1, 3], False, 1), ([0, -9], False, 9), ([0, 75, 1], False, 75),
     ([0, 0], True, 75), ([], False, 0)],
)  # fmt: skip
def test_a_pack_s_exit_code(codes, stopped, code):
    assert exit_code_of(codes, stopped=stopped) == code


def test_the_journal_survives_torn_lines_and_unknown_ones(tmp_path):
    journal = Journal(tmp_path)
    journal.directory.mkdir()
    journal.begin("aa", journal.directory / "0001-x" / "t.tsv")
    journal.write("submitted", "aa", job="7")
    journal.begin("bb", journal.directory / "0001-x" / "u.tsv")
    with journal.path.open("a") as file:
        file.write('{"event": "submitted", "finger')  # torn by a crash
    journal.write("refused", "cc", error="no")
    entries = {entry.fingerprint: entry for entry in journal.entries()}
    assert entries["aa"].job == "7"
    assert entries["aa"].table == "0001-x/t.tsv"
    assert entries["cc"].end == "refused"
    assert [entry.fingerprint for entry in unsettled(entries.values())] == ["bb"]
    assert json.loads(journal.path.read_text().splitlines()[0])["event"] == "submitting"


def test_an_sbatch_is_waited_for_while_it_lives(tmp_path):
    journal = Journal(tmp_path)
    journal.directory.mkdir()
    fingerprint = f"feed{os.getpid():012x}"
    journal.begin(fingerprint, journal.directory / "t.tsv")
    (entry,) = journal.entries()
    late = time.time() + 3600
    assert may_still_come(entry, time.time())
    assert not may_still_come(entry, late)
    with subprocess.Popen(["bash", "-c", f"exec -a sbatch sleep 60 # {fingerprint}"]) as shell:
        shell.kill()
    with subprocess.Popen(
        ["sbatch", "-c", "import time; time.sleep(60)", fingerprint], executable=sys.executable
    ) as alive:
        time.sleep(0.2)
        assert may_still_come(entry, late)
        alive.kill()
    assert not may_still_come(entry, late)
    assert may_still_come(replace(entry, host=socket.gethostname() + "-other"), entry.at + 60)
    assert not may_still_come(replace(entry, host=socket.gethostname() + "-other"), entry.at + 80)


@pytest.mark.parametrize("name", ['/a"b', "/a'b", "/a$b", "/a`b", "/a\\b", "/a\nb", "/a|b"])
def test_paths_that_no_batch_file_can_hold_are_refused(name):
    with pytest.raises(ConfigError, match="cannot be written into a batch file"):
        _check_name(Path(name))
    _check_name(Path("/a b/%j/é"))


@pytest.mark.parametrize(("runs", "gpus", "whole", "expected"), [(None, 8, False, 1), (None, 8, True, 8), (4, 8, True, 4),
                         (None, 0, True, 1), (3, 0, False, 3), (9, 8, True, None)])  # fmt: skip
def test_how_many_runs_share_a_node(runs, gpus, whole, expected):
    cluster = replace(named_cluster("h100" if gpus else "cpu"), gpus_per_node=gpus)
    slurm = SlurmOptions(runs_per_node=runs, whole_nodes=whole)
    if expected is None:
        with pytest.raises(ConfigError, match="has 8 GPUs"):
            runs_per_node(slurm, cluster)
    else:
        assert runs_per_node(slurm, cluster) == expected


def test_a_shape_s_array_limits_its_time_by_the_longest_run():
    tasks = tuple(Task(run_id=f"{s}", gpus=1, seconds=s, directory="") for s in (100, 5000))
    assert Array(shape=SHAPES[0], tasks=tasks).time_limit == 10800

"""Planning of trunks and branches: what they share, what they save, how a sweep with them grows."""

import csv
import itertools
import json
from dataclasses import replace

import pandas as pd
import pytest

from analysis.collect import collect
from harness.cli import compose
from harness.data.manifest import check_size
from harness.errors import ConfigError, DataError
from harness.experiment import Data, Experiment
from harness.sweep import plan, show, write
from harness.trunks import TRUNK, branches_of, savings, share_trunks
from tests.conftest import command, tiny_experiment

DATA = Data(name="d", digest="0123", tokenizer="byte", vocab_size=257, train_tokens=10**6, validation_tokens=10**5)


def planned(*words):
    return plan(compose("sweep", ["phase=classical", "wsd.share_trunk=true", *words]))


def experiments(sweep) -> list[Experiment]:
    return [row.point.experiment for row in sweep.rows]


@pytest.fixture(scope="module")
def paper():
    return planned()


@pytest.fixture(scope="module")
def demo():
    return planned("backbone=demo", "data=none")


def family(trunk, runs):
    return [run for run in runs if run.training.trunk == trunk.run_id]


@pytest.mark.parametrize("name", ["paper", "demo"])
def test_branches_share_all_that_they_must_with_their_trunk(name, request):
    runs = experiments(request.getfixturevalue(name))
    trunks = [run for run in runs if run.training.branch_points]
    assert len(trunks) == 7
    assert sum(len(family(trunk, runs)) for trunk in trunks) == sum(bool(run.training.trunk) for run in runs)
    for trunk in trunks:
        own, branches = trunk.training, family(trunk, runs)
        assert len(branches) >= 2
        assert sorted({branch.training.first_iters for branch in branches}) == list(own.kept_steps)
        assert own.dataset_iters == max(branch.training.train_iters for branch in branches)
        assert (own.decay_iters, own.train_iters) == (0, own.kept_steps[-1])
        for branch in branches:
            same = replace(
                branch.training, train_iters=own.train_iters, decay_iters=0, trunk="", branch_points=own.branch_points
            )
            assert replace(branch, training=same) == trunk  # learning rate, batch, heads, warm-up, samples, seed, all
            assert branch.training.decay_iters == round(0.2 * branch.training.train_iters)
        shares = [branch.training.warmup_iters / branch.training.train_iters for branch in branches]
        assert max(shares) == pytest.approx(0.01 if name == "paper" else 0.05, rel=0.1)  # the shortest run's


def test_learning_rate_batch_and_heads_follow_the_model(paper):
    recipes = {}
    for run in experiments(paper):
        recipe = (run.training.learning_rate, run.training.global_batch_size, run.backbone)
        assert recipes.setdefault(run.architecture, recipe) == recipe
    assert len(recipes) == 9
    by_size = sorted(recipes, key=lambda architecture: architecture.hidden_size * architecture.num_layers)
    assert [recipes[one][1] for one in by_size] == sorted(recipe[1] for recipe in recipes.values())


def test_every_budget_takes_the_rungs_in_its_range_and_spends_itself(paper):
    optima = {scale.compute: scale.flops_per_token for scale in paper_scales()}
    asked = {}
    for row in paper.rows:
        if row.point.study == TRUNK:
            assert row.point.marks == (TRUNK,)
            continue
        target, run = row.point.request.flops_per_token, row.point.experiment
        asked.setdefault(row.point.compute, []).append(target)
        assert 0.25 <= target / optima[row.point.compute] * (1 + 1e-9) <= 4.001
        assert run.tokens * run.counts.flops_per_token == pytest.approx(row.point.compute, rel=1e-3)
    assert sorted(map(len, asked.values())) == [4, 4, 4, 4, 4, 5]
    ladder = sorted({size for sizes in asked.values() for size in sizes})
    assert all(high / low == pytest.approx(2) for low, high in itertools.pairwise(ladder))
    assert 0.2672e9 in [pytest.approx(size) for size in ladder]


def paper_scales():
    from harness.settings import Settings

    return Settings(compose("sweep", ["phase=classical"])).scales


def test_what_the_six_budgets_save(paper):
    saved = savings(experiments(paper))
    assert (saved.trunks, saved.branches) == (7, 23)
    assert saved.factor == pytest.approx(1.258, abs=0.001)
    assert saved.factor < 1 / 0.2  # the decays alone cost a fifth
    shorter = savings(experiments(planned("training.decay_share=0.1")))
    assert shorter.factor == pytest.approx(1.300, abs=0.001)


def test_hours_and_the_csv_count_a_shared_phase_once(paper, tmp_path):
    paper.config.root = str(tmp_path)
    write(paper)
    with (tmp_path / "sweeps" / f"{paper.name}.csv").open(newline="") as file:
        rows = {row["run_id"]: row for row in csv.DictReader(file)}
    runs = {run.run_id: run for run in experiments(paper)}
    hours = {run_id: float(row["est_gpu_hours"]) for run_id, row in rows.items()}
    for run_id, row in rows.items():
        assert row["trunk"] == runs[run_id].training.trunk
        assert (
            (row["study"] == TRUNK) == (TRUNK in row["marks"].split(";")) == bool(runs[run_id].training.branch_points)
        )
        assert float(row["tokens"]) == runs[run_id].tokens  # D, whole
    whole = {row.run_id: row for row in plan(compose("sweep", ["phase=classical", "wsd.share_trunk=true"])).rows}
    assert whole.keys() == rows.keys()
    branch = next(run for run in runs.values() if run.training.trunk)
    trunk, start = runs[branch.training.trunk], paper.cluster.seconds_per_run / 3600
    assert rows[branch.run_id]["gpus"] == rows[trunk.run_id]["gpus"] == "1"
    a_step = (hours[trunk.run_id] - start) / trunk.training.train_iters
    assert hours[branch.run_id] == pytest.approx(start + a_step * branch.training.decay_iters)
    assert branch.training.own_iters == branch.training.decay_iters == round(0.2 * branch.training.train_iters)


def test_seeds_have_trunks_of_their_own_and_one_warm_up(demo):
    runs = experiments(demo)
    by_architecture = {}
    for run in runs:
        by_architecture.setdefault(run.architecture, []).append(run)
    repeated = [group for group in by_architecture.values() if len({run.training.seed for run in group}) > 1]
    assert repeated
    for group in repeated:
        assert len({run.training.warmup_iters for run in group}) == 1 or not any(run.training.trunk for run in group)
        for run in group:
            if run.training.trunk:
                (trunk,) = [other for other in runs if other.run_id == run.training.trunk]
                assert trunk.training.seed == run.training.seed
    assert any(run.training.trunk and run.training.seed == 2 for run in runs)


def points_of(*runs):
    (point,) = [row.point for row in plan(compose("sweep", ["phase=classical", "scale=1e18"])).rows][:1]
    return [replace(point, experiment=run) for run in runs]


def test_two_branches_may_leave_at_the_same_step_and_equal_runs_stay_equal():
    runs = [tiny_experiment(DATA, train_iters=12, decay_iters=4), tiny_experiment(DATA, train_iters=10, decay_iters=2)]
    trunk, *branches = (point.experiment for point in share_trunks(points_of(*runs)))
    assert (trunk.training.branch_points, trunk.training.dataset_iters) == ("8", 12)
    assert [branch.training.first_iters for branch in branches] == [8, 8]
    assert len({branch.run_id for branch in branches}) == 2
    same = points_of(runs[0], runs[0])
    assert share_trunks(same) == same


def test_runs_that_share_nothing_stay_as_they_are():
    runs = [tiny_experiment(DATA), tiny_experiment(DATA, train_iters=24, learning_rate=0.02)]
    assert share_trunks(points_of(*runs)) == points_of(*runs)
    assert [row.run_id for row in plan(compose("sweep", ["phase=1", "scale=1e18", "wsd.share_trunk=true"])).rows] == [
        row.run_id for row in plan(compose("sweep", ["phase=1", "scale=1e18"])).rows
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset_iters": 11}, "takes samples for 12 steps"),
        ({"trunk": "abc", "decay_iters": 0}, "needs a decay of its own"),
        ({"trunk": "abc", "branch_points": "4 12"}, "no branch points"),
        ({"branch_points": "4 12"}, "no decay"),
        ({"branch_points": "4 8", "decay_iters": 0}, "the last one the trunk's train_iters"),
        ({"branch_points": "8 4 12", "decay_iters": 0}, "rising"),
        ({"branch_points": "0 12", "decay_iters": 0}, "above 0"),
        ({"branch_points": "four 12", "decay_iters": 0}, "whole numbers"),
    ],
)
def test_a_trunk_or_branch_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_experiment(DATA, **changes)


def test_a_trunk_s_runs_need_the_longest_one_s_tokens():
    branch = tiny_experiment(replace(DATA, train_tokens=1900), trunk="abc", dataset_iters=15)  # 12 x 128 tokens itself
    with pytest.raises(DataError, match="shares a trunk with a run that trains on 1,921 tokens, but"):
        check_size(branch)


def test_the_command_of_a_branch_says_all_that_a_run_by_hand_needs(demo, tmp_path):
    number = next(n for n, row in enumerate(demo.rows, start=1) if row.point.experiment.training.trunk)
    training = demo.rows[number - 1].point.experiment.training
    text = show(demo, number)
    assert f"--dataset-iters {training.dataset_iters} \\" in text
    assert f"/runs/{training.trunk} \\\n" in text
    assert f"--branch-point {training.first_iters} \\" in text
    assert f"--branch-points {demo.rows[0].point.experiment.training.branch_points.replace(' ', ',')}" in show(demo, 1)


SMALL = ["phase=classical", "backbone=demo", "wsd.share_trunk=true", "data=none", "name=grown"]


def sweep(tmp_path, *words):
    return command("-m", "harness.sweep", *SMALL, f"root={tmp_path}", *words, cwd=tmp_path)


def test_a_sweep_grows_only_where_no_trunk_changes(tmp_path):
    assert sweep(tmp_path, "scale=[1.5e10,4e10]").returncode == 0
    before = (tmp_path / "sweeps/grown.csv").read_text()
    longer = sweep(tmp_path, "scale=all", "extend=true")
    assert longer.returncode == 2
    assert "the sweep has trunk" in longer.stderr
    assert "Give the larger plan another name=" in longer.stderr
    alone = sweep(tmp_path, "scale=1.5e10", "extend=true", "wsd.share_trunk=false", "studies.classical.sizes=[0.35]")
    assert alone.returncode == 0  # other models: the sweep takes them in
    grown = (tmp_path / "sweeps/grown.csv").read_text()
    assert grown.startswith(before)
    assert sweep(tmp_path, "scale=[1.5e10,4e10]").returncode == 0  # nothing new
    assert (tmp_path / "sweeps/grown.csv").read_text() == grown


def test_a_run_of_the_sweep_does_not_become_a_branch(tmp_path):
    assert sweep(tmp_path, "scale=1.5e10").returncode == 0  # one budget: nothing to share
    done = sweep(tmp_path, "scale=[1.5e10,4e10]", "extend=true")
    assert done.returncode == 2
    assert "(a whole run), which would be" in done.stderr


def test_a_plan_without_data_gives_way_to_the_same_with_data(tmp_path):
    assert sweep(tmp_path, "scale=[1.5e10,4e10]").returncode == 0
    data = {"name": "d", "digest": "0", "tokenizer": "byte", "vocab_size": 257, "train_tokens": 10**8,
            "validation_tokens": 10**7}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "data": data, "bytes": {}}))
    done = sweep(tmp_path, "scale=[1.5e10,4e10]", f"data.path={tmp_path}")
    assert done.returncode == 0, done.stderr
    runs = [Experiment.from_canonical(json.loads(line)) for line in (tmp_path / "sweeps/grown.jsonl").open()]
    assert all(run.data is not None for run in runs)
    trunk = next(run for run in runs if run.training.branch_points)
    assert set(branches_of(tmp_path, trunk.run_id)) == {
        run.run_id for run in runs if run.training.trunk == trunk.run_id
    }


def test_no_law_sees_a_trunk(tmp_path):
    assert sweep(tmp_path, "scale=[1.5e10,4e10]").returncode == 0
    table = collect(tmp_path, ["grown"])
    assert set(table["study"]) == {"classical"}
    whole = pd.read_csv(tmp_path / "sweeps/grown.csv")
    assert len(table) == (whole["study"] == "classical").sum() < len(whole)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wsd.share_trunk=maybe"], "true or false is wanted"),
        (["wsd.share_trunks=true"], "did you mean 'wsd.share_trunk'"),
        (["studies.classical.ladder=1"], "the ratio of neighbouring sizes is wanted, above 1"),
        (["scale=1e11", "studies.classical.ladder=100", "studies.classical.sizes=[2.8]"], "has no M between"),
        (["training.decay_share=0"], "there is no branch to train"),
    ],
)
def test_mistakes_are_explained(tmp_path, words, message):
    done = sweep(tmp_path, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "sweeps").exists()

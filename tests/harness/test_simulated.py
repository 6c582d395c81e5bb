"""The stand-in trainer: the contract of a run's directory, its rates, its signals, and the wall to trained runs."""

import csv
import json
import math
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time

import pytest

from analysis.collect import collect
from harness.cli import compose
from harness.errors import ConfigError, HarnessError, RunError
from harness.experiment import Experiment
from harness.files import read_json
from harness.megatron import pretrain
from harness.megatron.argv import Paths
from harness.megatron.argv import command as run_command
from harness.resources import layout
from harness.rundir import RunDirectory
from harness.settings import job_options, named_cluster
from harness.simulated.marker import refuse_mixture
from harness.simulated.program import main
from harness.simulated.truth import read_truth
from harness.sweep import plan, write
from harness.sweepfile import load_sweep
from tests.conftest import REPOSITORY, command, tiny_experiment

ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


def simulation(*options: str):
    return job_options(compose("sweep", ["phase=1", "train=simulated", *options])).simulation


TRUTH = simulation().truth


class Simulated:
    """A run directory as a launcher makes it, and its command."""

    def __init__(self, root, experiment: Experiment, *options: str):
        self.run = RunDirectory(root, experiment.run_id)
        config = compose("sweep", ["phase=1", "train=simulated", *options])
        paths = Paths(run=self.run.path.absolute(), data=root)
        run_layout = layout(experiment, named_cluster("cpu"))
        self.run.create(experiment, run_command(experiment, run_layout, paths, job_options(config), sys.executable))

    @property
    def words(self):
        text = (self.run.path / "command.txt").read_text()
        return shlex.split(text.replace("\\\n", ""), comments=True)

    def start(self):
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(self.words, env=ENVIRONMENT, **pipe)

    def train(self):
        """As `start`, to its end."""
        process = self.start()
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


def tiny(number: int = 0, **changes) -> Experiment:
    return tiny_experiment(None, **({"train_iters": 40, "seed": number} | changes))


def in_process(run: Simulated) -> int:
    """What the command does, without a process of its own; the handlers of this process stay."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    try:
        return main(run.words[run.words.index("harness.simulated") + 1 :])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_the_command_writes_the_files_of_a_trained_run(tmp_path):
    simulated = Simulated(tmp_path, tiny())
    run = simulated.run
    code, output = simulated.train()
    assert code == 0, output
    assert output.startswith(f"SIMULATED run {run.run_id}, attempt 1")
    status = run.status()
    assert status.state == "done"
    (attempt,) = status.attempts
    assert (attempt.end, attempt.exit_code, attempt.first_step, attempt.last_step) == ("done", 0, 0, 40)
    rows = run.metrics()
    assert len(rows) == 20
    assert (rows[0]["step"], rows[-1]["step"]) == (1, 40)
    assert [row["lm_loss"] for row in rows] == sorted((row["lm_loss"] for row in rows), reverse=True)
    result = run.result()
    assert result["simulated"] is True
    assert result["final_validation_loss"] == TRUTH.final_loss(run.experiment())
    assert result["tokens"] == run.experiment().tokens
    assert read_json(run.path / "simulated.json") == {"schema": 1, "simulated": True, "truth": TRUTH.describe()}
    assert not run.checkpoints.exists()
    assert not (run.path / "lease.json").exists()
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    code, output = simulated.train()
    assert code == 0
    assert "is done: final validation loss" in output
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_its_result_has_the_keys_of_a_real_one(tmp_path):
    text = (REPOSITORY / "harness/megatron/result.py").read_text() + (
        REPOSITORY / "harness/megatron/throughput.py"
    ).read_text()
    real = set(re.findall(r'^        "(\w+)": ', text, re.MULTILINE))
    assert {"final_validation_loss", "mfu", "versions"} <= real
    simulated = Simulated(tmp_path, tiny())
    assert in_process(simulated) == 0
    assert set(simulated.run.result()) == real


def test_its_metrics_have_the_columns_of_real_ones(tmp_path):
    from harness.megatron.metrics import COLUMNS, MetricsWriter

    writer = MetricsWriter(tmp_path / "metrics.jsonl", batch_tokens=4)
    for name in COLUMNS:
        if name != "z_loss":  # only where training.z_loss_coeff asks for it
            writer.add_scalar(name, 1.0, 1)
    writer.close()
    simulated = Simulated(tmp_path, tiny())
    assert in_process(simulated) == 0
    assert simulated.run.metrics()[0].keys() == json.loads((tmp_path / "metrics.jsonl").read_text()).keys()


def test_the_truth_is_the_formula_that_is_stated():
    values = TRUTH.describe()
    exact, experiment = read_truth(values | {"noise": 0.0}), tiny()
    counts = experiment.counts
    stated = (
        1.69 + 406.4 / (counts.flops_per_token / 6) ** 0.34 + 410.7 / experiment.tokens**0.28
        + 0.1 * math.log(counts.m_over_na / 8.5) ** 2 + 0.02 * math.log(counts.n_over_na / 22) ** 2
    )  # fmt: skip
    assert exact.final_loss(experiment) == pytest.approx(stated, rel=1e-12)
    # the noise: of the stated size, another for each seed of the training and of the truth, the same each time
    runs = [tiny(seed) for seed in range(400)]
    noise = [TRUTH.final_loss(run) - exact.final_loss(run) for run in runs]
    assert statistics.stdev(noise) == pytest.approx(0.002, rel=0.12)
    assert abs(statistics.mean(noise)) < 4 * 0.002 / 20
    assert noise == [TRUTH.final_loss(run) - exact.final_loss(run) for run in runs]
    assert read_truth(values | {"seed": 1}).final_loss(runs[0]) != TRUTH.final_loss(runs[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["train.truth.form=power_lav"], "did you mean 'power_law'"),
        (["+train.truth.tokens_expnent=1"], "did you mean 'tokens_exponent'"),
        (["train.truth.noise=-1"], "train.truth.noise=-1"),
        (["train.truth.seed=0.5"], "train.truth.seed=0.5"),
        (["train.truth.m_over_na_optimum=0"], "above 0"),
        (["train.failure_rate=2"], "train.failure_rate=2: a share between 0 and 1"),
        (["train.seconds=-1"], "train.seconds=-1"),
        (["train.name=real"], "choose train=megatron or train=simulated"),
    ],
)
def test_wrong_options_are_refused_with_the_rule(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        simulation(*options)


def test_failures_come_at_their_rate_and_a_retry_may_succeed(tmp_path):
    options = simulation("train.failure_rate=0.3")
    failing = [run for run in (tiny(seed) for seed in range(300)) if options.failing_step(run, 1, 0) is not None]
    assert 60 <= len(failing) <= 120  # 0.3 of 300, within four standard deviations
    assert all(1 <= options.failing_step(run, 1, 0) <= 40 for run in failing)
    twice = [run for run in failing if options.failing_step(run, 2, 0) is not None]
    assert 0 < len(twice) < 0.6 * len(failing)
    unlucky = next(run for run in failing if run not in twice)
    simulated = Simulated(tmp_path, unlucky, "train.failure_rate=0.3")
    assert in_process(simulated) == 1
    (attempt,) = simulated.run.status().attempts
    assert (simulated.run.status().state, attempt.end) == ("failed", "crash")
    assert attempt.message == f"simulated failure at step {attempt.last_step} (train.failure_rate)"
    assert in_process(simulated) == 0
    assert simulated.run.status().state == "done"


def test_divergence_is_a_property_of_the_run(tmp_path):
    options = simulation("train.divergence_rate=0.2")
    diverging = [run for run in (tiny(seed) for seed in range(300)) if options.diverging_step(run) is not None]
    assert 32 <= len(diverging) <= 88
    simulated = Simulated(tmp_path, diverging[0], "train.divergence_rate=0.2")
    for _ in range(2):
        assert in_process(simulated) == 3
        assert simulated.run.status().state == "diverged"
    assert simulated.run.metrics()[-1]["lm_loss"] is None
    assert simulated.run.result() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_the_step_and_the_same_command_goes_on(tmp_path, number):
    simulated = Simulated(tmp_path, tiny(train_iters=400), "train.seconds=6")
    run = simulated.run
    process = simulated.start()
    deadline = time.monotonic() + 30
    while len(run.metrics()) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run.status().state == "running"
    assert run.lease_is_alive()
    process.send_signal(number)
    assert process.wait(timeout=10) == 75
    (attempt,) = run.status().attempts
    assert (run.status().state, attempt.end) == ("queued", "limit" if number == signal.SIGUSR1 else "signal")
    assert 0 < attempt.last_step < 400
    assert read_json(run.checkpoints / "record.json") == {
        "run_id": run.run_id, "step": attempt.last_step, "simulated": True
    }  # fmt: skip
    code, output = simulated.train()
    assert code == 0, output
    assert run.status().attempts[1].first_step == attempt.last_step
    steps = [json.loads(line)["step"] for line in run.metrics_path.read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert run.result()["final_validation_loss"] == TRUTH.final_loss(run.experiment())


def test_a_second_copy_stops(tmp_path):
    simulated = Simulated(tmp_path, tiny(), "train.seconds=20")
    first = simulated.start()
    deadline = time.monotonic() + 30
    while simulated.run.status().state != "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    code, output = simulated.train()
    first.terminate()
    first.communicate(timeout=10)
    assert code == 4
    assert "being written by process" in output
    assert len(simulated.run.status().attempts) == 1


def test_of_several_ranks_the_last_one_writes(tmp_path):
    simulated = Simulated(tmp_path, tiny(), "train.seconds=0.5")
    ranks = [
        subprocess.Popen(
            simulated.words, env=ENVIRONMENT | {"RANK": str(rank), "WORLD_SIZE": "3"}, stdout=subprocess.PIPE
        )
        for rank in range(3)
    ]
    output = [rank.communicate(timeout=30)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 0]
    assert [bool(text) for text in output] == [False, False, True]
    assert len(simulated.run.status().attempts) == 1


def test_a_branch_goes_on_from_its_simulated_trunk(tmp_path):
    trunk = Simulated(tmp_path, tiny(decay_iters=0, dataset_iters=45, branch_points="36 40"))
    branch = Simulated(tmp_path, tiny(decay_iters=4, dataset_iters=45, trunk=trunk.run.run_id))
    assert in_process(branch) == 4  # no checkpoint of its trunk
    assert in_process(trunk) == 0
    assert sorted(path.name for path in trunk.run.checkpoints.glob("iter_*")) == ["iter_0000036", "iter_0000040"]
    assert in_process(branch) == 0
    assert [row["step"] for row in branch.run.metrics()] == [37, 38, 39, 40]
    assert branch.run.status().attempts[-1].first_step == 36
    (trunk.run.path / "simulated.json").unlink()
    shutil.rmtree(branch.run.path)
    branch = Simulated(tmp_path, tiny(decay_iters=4, dataset_iters=45, trunk=trunk.run.run_id))
    assert in_process(branch) == 4  # a trained trunk


@pytest.mark.parametrize("trace", ["status.json has attempts", "metrics.jsonl", "result.json", "checkpoints"])
def test_a_trained_run_is_not_simulated_over(tmp_path, trace, capsys):
    simulated = Simulated(tmp_path, tiny())
    run = simulated.run
    if trace == "status.json has attempts":
        run.begin_attempt(command="real")
    elif trace == "checkpoints":
        (run.checkpoints / "iter_0000007").mkdir(parents=True)
    else:
        (run.path / trace).write_text('{"step": 1}\n')
    before = sorted(run.path.rglob("*"))
    assert in_process(simulated) == 4
    message = capsys.readouterr().err
    assert f"{run.path} was trained" in message
    assert trace in message
    assert sorted(run.path.rglob("*")) == before
    with pytest.raises(RunError, match="was trained"):
        refuse_mixture(tmp_path, [run.run_id], TRUTH)


def test_a_simulated_run_is_not_trained_over(tmp_path):
    simulated = Simulated(tmp_path, tiny())
    assert in_process(simulated) == 0
    before = {path: path.read_bytes() for path in simulated.run.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=r"is simulated \(simulated.json\): nothing was trained there"):
        pretrain.train(simulated.run, ["--distributed-backend", "gloo"])
    assert before == {path: path.read_bytes() for path in simulated.run.path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="is simulated"):
        refuse_mixture(tmp_path, [simulated.run.run_id], None)


def test_another_truth_is_refused_with_the_difference(tmp_path, capsys):
    assert in_process(Simulated(tmp_path, tiny())) == 0
    other = Simulated(tmp_path, tiny(), "train.truth.noise=0.01", "train.truth.seed=3")
    assert in_process(other) == 4
    assert "simulated from another truth (noise: 0.002 -> 0.01; seed: 0 -> 3)" in capsys.readouterr().err
    # rates and times are no part of the truth
    assert in_process(Simulated(tmp_path, tiny(), "train.failure_rate=0.9")) == 0


def sweep_words(root, *more):
    return ["phase=classical", "scale=1e19", f"root={root}", "train=simulated", *more]


def test_a_simulated_sweep_has_the_run_ids_of_a_trained_one_and_is_marked(tmp_path):
    simulated = plan(compose("sweep", sweep_words(tmp_path)))
    trained = plan(compose("sweep", ["phase=classical", "scale=1e19", f"root={tmp_path}"]))
    assert [row.run_id for row in simulated.rows] == [row.run_id for row in trained.rows]

    def marks():
        with (tmp_path / "sweeps" / "classical-1e19.csv").open(newline="") as file:
            return {row["marks"] for row in csv.DictReader(file)}

    write(simulated)
    assert marks() == {"simulated"}
    assert load_sweep(tmp_path, "classical-1e19").config.train.name == "simulated"
    write(trained)  # the same experiments: only their trainer is another one
    assert marks() == {""}
    assert load_sweep(tmp_path, "classical-1e19").config.train.name == "megatron"


def test_a_sweep_is_simulated_without_data_by_the_local_launcher_and_refitted_as_such(tmp_path):
    done = command("-m", "harness.sweep", *sweep_words(tmp_path, "launch=local"))
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(load_sweep(tmp_path, "classical-1e19").experiments)
    assert f"SIMULATING {count}" in done.stdout
    assert f"sweep classical-1e19 (SIMULATED): {count} of {count} runs done, 0 failed" in done.stdout
    assert "simulated: train=simulated: nothing is trained" in done.stdout
    table = collect(tmp_path, ["classical-1e19"])
    assert table["left_out"].isna().all()
    assert table["simulated"].all()
    assert set(table["marks"]) == {"simulated"}
    # a real launch of the same sweep is refused before anything starts
    again = command("-m", "launch.local", "sweep=classical-1e19", f"root={tmp_path}", "train=megatron")
    assert again.returncode == 2
    assert f"(and {count - 1} more runs of the sweep)" in again.stderr
    # without train= it is the trainer that the sweep was planned with
    again = command("-m", "launch.local", "sweep=classical-1e19", f"root={tmp_path}")
    assert again.returncode == 0, again.stderr
    # no law is fitted to simulated and trained runs together
    victim = RunDirectory(tmp_path, table["run_id"][0])
    (victim.path / "simulated.json").unlink()
    (victim.path / "result.json").write_text(json.dumps(victim.result() | {"simulated": False}))
    with pytest.raises(HarnessError, match=rf"runs are simulated .* and 1 were trained \({victim.run_id}\)"):
        collect(tmp_path, ["classical-1e19"])


def test_a_simulated_sweep_without_data_is_not_planned_over(tmp_path, dataset):
    words = ["phase=classical", "scale=1.5e10", "backbone=demo", f"root={tmp_path}", "training.validation_sequences=64",
             "name=one", "data=none", "training.epochs=100"]  # fmt: skip
    run_ids = write(plan(compose("sweep", [*words, "train=simulated"])))
    RunDirectory(tmp_path, run_ids[0]).path.mkdir(parents=True)
    with pytest.raises(ConfigError, match="planned with other settings"):
        write(plan(compose("sweep", [*words, f"data.path={dataset[0]}"])))
    RunDirectory(tmp_path, run_ids[0]).path.rmdir()
    assert write(plan(compose("sweep", [*words, f"data.path={dataset[0]}"]))) != run_ids


def test_it_starts_quickly_and_without_torch_or_numpy(tmp_path):
    simulated = Simulated(tmp_path, tiny())
    code = (
        "import sys; from harness.simulated.program import main; main(sys.argv[1:]); "
        "print([name for name in ('torch', 'numpy', 'hydra', 'omegaconf', 'megatron.core') if name in sys.modules])"
    )
    words = simulated.words[simulated.words.index("harness.simulated") + 1 :]
    done = command("-c", code, *words)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr

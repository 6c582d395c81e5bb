"""``megatron.extra``: checked at planning, without torch, and split into what can change the loss and what cannot."""

import json
import re
from pathlib import Path

import pytest

from harness.cli import compose
from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.megatron.argv import megatron_argv
from harness.megatron.device import TE_ONLY, WITHOUT_TE
from harness.megatron.flags import FILES, LAYOUT, LOSS_NEUTRAL, group_flags, is_neutral, megatron_flags, read_extra
from harness.settings import job_options
from harness.sweep import plan, run_paths
from harness.sweepfile import load_sweep
from tests.conftest import command

ONE = ["phase=1", "scale=1e18", "m_over_na=9", "n_over_na=22"]


def rows(*overrides):
    return plan(compose("sweep", [*ONE, *overrides])).rows


def flags_of(*overrides) -> dict[str, list[str]]:
    sweep = plan(compose("sweep", [*ONE, *overrides]))
    row = sweep.rows[0]
    paths = run_paths(sweep.root, row.run_id, None)
    return group_flags(megatron_argv(row.point.experiment, row.layout, paths, job_options(sweep.config)))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("--moe-z-los-coeff 1e-3", "Megatron has no flag --moe-z-los-coeff; did you mean '--moe-z-loss-coeff'"),
        ("--moe-z-loss-coeff", "--moe-z-loss-coeff takes 1 value(s), not none"),
        ("--log-params-norm yes", "--log-params-norm takes no value, not yes"),
        ("--moe-z-loss-coeff small", "--moe-z-loss-coeff small: a number (float) is wanted"),
        ("--attention-backend flsh", "choose one of flash, fused, unfused, local, auto; did you mean 'flash'"),
        ("--lr 1", "--lr sets 'lr', which the experiment sets (--lr): use the options of backbone and training"),
        ("--micro-batch-size 2", "--micro-batch-size follows from the layout"),
        ("--save /elsewhere", "--save follows from the run's directory"),
        ("log-params-norm", "a Megatron flag is wanted first"),
        ("--log-params-norm 'x", "No closing quotation"),
        ("--no-log-loss-scale-to-tensorboard --disable-log-loss-scale-to-tensorboard", "set the same argument"),
    ],
)
def test_wrong_extra_flags_are_refused_at_planning(extra, message, tmp_path):
    done = command("-m", "harness.sweep", *ONE, f"root={tmp_path}", f"megatron.extra='{extra}'" if "'" not in extra
                   else f'megatron.extra="{extra}"')  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert not any(tmp_path.iterdir())


def test_refusing_needs_no_torch():
    probe = (
        "import sys\nfrom harness.megatron.flags import read_extra\n"
        "try: read_extra('--nope')\nexcept Exception as error: print(error)\n"
        "assert not {'torch', 'megatron.core'} & set(sys.modules)"
    )
    done = command("-c", probe)
    assert done.returncode == 0, done.stderr
    assert "Megatron has no flag --nope" in done.stdout


def test_flags_that_may_change_the_loss_are_part_of_the_run_id_and_others_are_not():
    plain = rows()[0].point.experiment
    logged = rows("megatron.extra='--log-params-norm --attention-backend=flash'")[0].point.experiment
    jittered = rows("megatron.extra='--moe-input-jitter-eps 1e-2 --log-params-norm'")[0].point.experiment
    same = rows("megatron.extra='--log-params-norm --moe-input-jitter-eps=1e-2'")[0].point.experiment
    assert plain.run_id == logged.run_id
    assert plain.training.extra_flags == ""
    assert jittered.run_id == same.run_id != plain.run_id
    assert jittered.training.extra_flags == "--moe-input-jitter-eps 1e-2"
    assert Experiment.from_canonical(json.loads(json.dumps(jittered.canonical()))) == jittered


def test_extra_flags_arrive_and_replace_what_the_machine_decides():
    flags = flags_of("megatron.extra='--attention-backend flash --log-params-norm --moe-input-jitter-eps 1e-2'")
    assert flags["--attention-backend"] == ["flash"]
    assert flags["--moe-input-jitter-eps"] == ["1e-2"]
    assert "--log-params-norm" in flags


def test_typed_options_arrive():
    flags = flags_of("megatron.dispatcher=deepep", "megatron.router_fusion=false", "megatron.async_save=true",
                     "megatron.log_interval=7", "logging.wandb.entity=us")  # fmt: skip
    assert (flags["--moe-token-dispatcher-type"], flags["--moe-flex-dispatcher-backend"]) == (["flex"], ["deepep"])
    assert "--moe-router-fusion" not in flags
    assert flags["--async-strategy"] == ["mcore"]  # nvrx needs a package that images may lack
    assert flags["--log-interval"] == ["7"]
    assert flags["--wandb-entity"] == ["us"]
    assert not {"--wandb-project", "--wandb-exp-name"} & flags_of("logging=metrics").keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["megatron.dispatcher=altoall"], "megatron.dispatcher=altoall: choose one of .*did you mean 'alltoall'"),
        (["megatron.checkpoint_minutes=-1"], "must not be negative"),
        (["megatron.log_interval=0"], "at least 1"),
        (["megatron.spike_nats=abc"], "a value of type float"),
        (["logging.wandb.mode=on"], "choose one of offline, online, disabled"),
        (["logging.wandb.project=''"], "name one, or logging.wandb.mode=disabled"),
        (["logging.tensorbord=true"], "did you mean 'logging.tensorboard'"),
        (["training.warmup_tokens=-1"], "training.warmup_tokens=-1"),
        (["training.decay_tokens=1e15"], "take more than the .* steps of the run.*decay_tokens"),
    ],
)
def test_wrong_options_are_explained(words, message):
    done = command("-m", "harness.sweep", *ONE, "show=1", *words)
    assert done.returncode == 2, done.stdout
    assert re.search(message, done.stderr), done.stderr
    assert "Traceback" not in done.stderr


def test_warmup_and_decay_in_tokens():
    """A batch of the 1e18 budget is 64 x 8192 tokens."""
    shares = rows()[0].point.experiment.training
    tokens = rows("training.warmup_tokens=52428800", "training.decay_tokens=1e9")[0].point.experiment.training
    assert (shares.warmup_iters, shares.decay_iters) == (
        round(0.01 * shares.train_iters),
        round(0.2 * shares.train_iters),
    )
    assert (tokens.warmup_iters, tokens.decay_iters) == (100, round(1e9 / (64 * 8192)))
    assert tokens.train_iters == shares.train_iters


def test_every_listed_flag_is_one_of_megatrons():
    known = megatron_flags()
    for entry in [entry for entries in LOSS_NEUTRAL.values() for entry in entries.split()]:
        assert any(name == entry or (entry.endswith("-") and name.startswith(entry)) for name in known), entry
    assert known.keys() >= LAYOUT | FILES | TE_ONLY.keys() | {words[0] for words in WITHOUT_TE}


def test_the_harness_emits_nothing_beyond_the_experiment_that_could_change_a_loss():
    """What the training program lets pass is what `megatron_argv` adds to the experiment's flags, on any machine."""
    from harness.megatron.argv import experiment_flags
    from harness.megatron.options import JobOptions, Kernels

    for overrides in ([], ["cluster=cpu", "training.precision=fp32"]):
        row = rows(*overrides)[0]
        experiment = row.point.experiment
        for kernels in (Kernels(), Kernels(transformer_engine=False, apex=False)):
            flags = group_flags(
                megatron_argv(experiment, row.layout, run_paths(Path(), "r", None),
                              JobOptions(kernels=kernels))
            )  # fmt: skip
            added = flags.keys() - group_flags(experiment_flags(experiment)).keys() - FILES - LAYOUT - {"--spec"}
            assert [name for name in added if not is_neutral(name)] == []


def test_reading_extra_twice_gives_the_same():
    once = read_extra("--moe-input-jitter-eps 0.01 --moe-apply-probs-on-input")
    assert read_extra(once.experiment) == once


def test_planning_again_with_other_job_options_keeps_the_experiments_and_takes_the_options(tmp_path):
    data = {"name": "d", "digest": "0", "tokenizer": "byte", "vocab_size": 152064, "train_tokens": 10**11,
            "validation_tokens": 10**9}  # fmt: skip
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": 1, "data": data, "bytes": {}}))
    words = [*ONE, f"root={tmp_path}", f"data.path={tmp_path}", "name=s"]
    assert command("-m", "harness.sweep", *words).returncode == 0
    table = (tmp_path / "sweeps/s.csv").stat().st_mtime_ns
    again = command("-m", "harness.sweep", *words, "megatron.log_interval=7", "logging.wandb.mode=online")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "sweeps/s.csv").stat().st_mtime_ns == table
    sweep = load_sweep(tmp_path, "s")
    options = job_options(sweep.config, sweep.name)
    assert (options.megatron.log_interval, options.logging.wandb.mode, options.sweep) == (7, "online", "s")


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ("--mtp-num-layers 1", "would be counted wrongly"),
        ("--train-samples 100", "number of steps"),
        ("--lr-warmup-fraction 0.1", "number of steps"),
        ("--skip-train", "number of steps"),
        ("--fp16", "training.precision"),
        ("--finetune", "breaks the resuming"),
        ("--no-save-optim", "breaks the resuming"),
        ("--moe-layer-recompute", "cluster.layout.recompute"),
    ],
)
def test_flags_that_extra_is_not_for_are_refused_with_the_reason(extra, why):
    with pytest.raises(ConfigError, match=f"{extra.split()[0]} .*{why}"):
        read_extra(extra)

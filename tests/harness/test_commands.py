"""Whole commands, kept in docs/commands/ for people to read: what changes in them is seen in review.

``python -m tests.harness.test_commands`` writes them anew.
"""

import dataclasses
from pathlib import Path

import pytest

from harness.cli import compose
from harness.megatron.argv import Paths, command
from harness.megatron.options import Kernels
from harness.settings import job_options
from harness.sweep import plan
from tests.conftest import REPOSITORY

DIRECTORY = REPOSITORY / "docs/commands"

POINT = ["phase=1", "m_over_na=9", "n_over_na=22"]
COMMANDS = {
    **{f"paper-{budget}": [*POINT, f"scale={budget}"] for budget in ("1e18", "3e18", "1e19", "3e19", "1e20", "3e20")},
    "paper-1e19-classical-largest": ["phase=classical", "scale=1e19", "studies.classical.sizes=[4]"],
    "paper-1e19-expert-bias": [*POINT, "scale=1e19", "training.load_balancing=expert_bias",
                               "backbone.router_score_function=sigmoid"],
    "paper-1e19-global-balance-z-loss": [*POINT, "scale=1e19", "training.load_balancing=global_aux_loss",
                                         "training.z_loss_coeff=1e-3"],
    "paper-3e20-deepep": [*POINT, "scale=3e20", "megatron.dispatcher=deepep", "logging.wandb.mode=online",
                          "megatron.async_save=true"],
    "paper-1e19-extra": [*POINT, "scale=1e19", "megatron.extra='--moe-input-jitter-eps 1e-2 --log-params-norm'"],
    "paper-1e19-without-transformer-engine": [*POINT, "scale=1e19", "megatron.transformer_impl=local"],
    "paper-1e18-trunk": ["phase=classical", "scale=[1e18,3e18]", "wsd.share_trunk=true", "studies.classical.sizes=[0.55,1]"],
    "paper-1e18-branch": ["phase=classical", "scale=[1e18,3e18]", "wsd.share_trunk=true", "studies.classical.sizes=[0.55,1]"],
    "demo": ["phase=1", "backbone=demo", "scale=4e10"],
}  # fmt: skip
"""File -> what was planned; its first experiment is shown, of a branch the second, which follows its trunk."""


def written(name: str) -> str:
    sweep = plan(compose("sweep", COMMANDS[name]))
    number = 2 if "branch" in name else 1
    row = sweep.rows[number - 1]
    options = job_options(sweep.config, sweep.name)
    if "without" in name:
        options = dataclasses.replace(options, kernels=Kernels(transformer_engine=False, apex=False))
    paths = Paths(run=Path("/runs_root/runs") / row.run_id, data=Path("/datasets/tokens"))
    text = command(row.point.experiment, row.layout, paths, options)
    return f"# python -m harness.sweep {' '.join(COMMANDS[name])} show={number}\n{text}"


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_as_the_documents_show(name):
    assert written(name) == (DIRECTORY / f"{name}.txt").read_text(), "if meant: python -m tests.harness.test_commands"


def test_no_other_command_lies_there():
    assert {path.stem for path in DIRECTORY.glob("*.txt")} == COMMANDS.keys()


if __name__ == "__main__":
    for name in COMMANDS:
        (DIRECTORY / f"{name}.txt").write_text(written(name))

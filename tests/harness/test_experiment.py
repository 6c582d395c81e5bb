import json
from dataclasses import replace

import pytest

from harness.cli import compose
from harness.errors import ConfigError, RunError
from harness.experiment import Data, Experiment
from harness.studies import STUDIES
from harness.sweep import plan
from tests.conftest import tiny_backbone, tiny_experiment

DATA = Data(name="d", digest="0123", tokenizer="byte", vocab_size=257, train_tokens=10**6, validation_tokens=10**5)


GOLDEN = {
    "classical": "1c9e86c9e5f0 3a2ebaf00c1c",
    "rank": "e4fa59de8473 3519a1f612b7",
    "grid": "5fcd6c325105 b79bd572578e",
    "refine": "96ee2c5e1ac6 8a4b6fdeb7c7",
    "width": "6359dde532af 022fb40fef2b",
    "ratio": "ef9ff1911541 0c932d337485",
    "dense_share": "568d1687f6cf 94be55013d35",
    "granularity": "218e9abaaca9 d32fe60935fa",
    "hyperparameters": "182e571e1c4d a90921de89e4",
}


def test_golden_run_ids():
    """A change here means that runs of the past are no longer recognised: raise SCHEMA and say why."""
    assert tiny_experiment(None).run_id == "458f4450dddd"
    rows = plan(compose("sweep", ["phase=1", "scale=1e19"])).rows
    assert [row.run_id for row in rows[:3]] == ["98cfd01cabd5", "ceb0d0b16381", "631f5ae4c0f1"]


@pytest.mark.parametrize(("study", "ids"), GOLDEN.items())
def test_golden_run_ids_of_every_study(study, ids):
    """The first and the last run of each study of the paper."""
    rows = plan(compose("sweep", [f"phase={study}"])).rows
    assert f"{rows[0].run_id} {rows[-1].run_id}" == ids


def test_every_study_has_golden_run_ids():
    assert set(GOLDEN) == {study.name for study in STUDIES}


def test_the_canonical_form_survives_json():
    experiment = tiny_experiment(DATA)
    again = Experiment.from_canonical(json.loads(json.dumps(experiment.canonical())))
    assert again == experiment
    assert again.run_id == experiment.run_id


def test_everything_that_changes_the_loss_changes_the_run_id():
    base = tiny_experiment(DATA)
    others = [
        tiny_experiment(DATA, seed=2),
        tiny_experiment(DATA, learning_rate=0.02),
        tiny_experiment(replace(DATA, digest="4567")),
        tiny_experiment(None),
        replace(base, backbone=tiny_backbone(qk_norm=False)),
        replace(base, architecture=replace(base.architecture, hidden_size=24)),
    ]
    assert len({experiment.run_id for experiment in [base, *others]}) == len(others) + 1


def test_a_newer_schema_is_refused():
    value = tiny_experiment(DATA).canonical() | {"schema": 99}
    with pytest.raises(RunError, match="schema 99"):
        Experiment.from_canonical(value)


def test_a_schedule_longer_than_the_run_is_refused():
    with pytest.raises(ConfigError, match="12 steps"):
        tiny_experiment(DATA, warmup_iters=9, decay_iters=4)

"""A real training on a blend."""

import math

import pytest

from harness.data.blend import make_blend
from harness.data.prepare import prepare
from tests.conftest import tiny_experiment
from tests.harness.data_samples import corpus_of, texts
from tests.megatron.conftest import Trainer


@pytest.fixture
def blend(tmp_path):
    for name, seed in (("web", 1), ("code", 2)):
        prepare(corpus_of(texts(300, seed=seed)), tmp_path / name, name=name, validation_share=0.3)
    return tmp_path / "mix", make_blend(
        {str(tmp_path / "web"): 0.75, str(tmp_path / "code"): 0.25}, tmp_path / "mix", "mix"
    )


@pytest.mark.slow
def test_a_blend_trains_and_resumes_and_refuses_other_weights(blend, tmp_path):
    directory, data = blend
    trainer = Trainer(tmp_path, directory)
    run = trainer.prepare(tiny_experiment(data))
    done = trainer.train(run)
    assert done.returncode == 0, done.stderr[-2000:]
    result = run.result()
    assert math.isfinite(result["final_validation_loss"])
    assert run.metrics()[-1]["lm_loss"] < run.metrics()[0]["lm_loss"]
    assert "--train-data-path" in (run.path / "command.txt").read_text()

    stopped = trainer.prepare(tiny_experiment(data), name="stopped")
    assert trainer.train(stopped, "--exit-interval", "5").returncode == 75
    assert trainer.train(stopped).returncode == 0
    assert [row["lm_loss"] for row in stopped.metrics()] == [row["lm_loss"] for row in run.metrics()]
    assert stopped.result()["final_validation_loss"] == result["final_validation_loss"]

    other = trainer.prepare(tiny_experiment(data), name="other")
    make_blend({str(tmp_path / "web"): 0.5, str(tmp_path / "code"): 0.5}, directory, "mix")
    refused = trainer.train(other)
    assert refused.returncode == 4
    assert "was planned on 'mix' (" in refused.stderr
    assert "but the command blends" in refused.stderr

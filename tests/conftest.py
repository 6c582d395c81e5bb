import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from harness.architecture import Architecture, Backbone
from harness.experiment import Data, Experiment, Training

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("shared", deadline=None)  # two jobs on two cores: time says nothing about a property
settings.load_profile("shared")


def tiny_backbone(**changes) -> Backbone:
    values = {
        "num_query_heads": 2, "num_kv_heads": 1, "head_dim": 8, "seq_length": 32, "num_experts": 4, "top_k": 2,
        "vocab_size": 257, "vocab_divisor": 8, "qk_norm": True, "router_score_function": "sigmoid",
    }  # fmt: skip
    return Backbone(**(values | changes))


def tiny_experiment(data: Data | None, *, train_iters: int = 12, **changes) -> Experiment:
    values = {
        "train_iters": train_iters, "global_batch_size": 4, "learning_rate": 0.01, "min_learning_rate": 0.0001,
        "warmup_iters": 2, "decay_iters": 4, "decay_style": "minus_sqrt", "seed": 1, "validation_sequences": 64,
        "epochs": 1.0, "init_std": 0.08, "load_balancing": "aux_loss", "aux_loss_coeff": 0.01, "precision": "fp32",
    }  # fmt: skip
    architecture = Architecture(
        hidden_size=16, num_dense_layers=1, num_moe_layers=1, ffn_hidden_size=48, moe_ffn_hidden_size=16
    )
    training = Training(**(values | changes))
    return Experiment(backbone=tiny_backbone(), architecture=architecture, training=training, data=data)


def command(*words: str, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run ``python <words>`` as a user would, in `cwd`."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd or REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> tuple[Path, Data]:
    """A small real dataset of this project's own source, in Megatron's format."""
    from harness.data.corpus import read_corpus
    from harness.data.prepare import prepare

    directory = tmp_path_factory.mktemp("dataset")
    return directory, prepare(
        read_corpus(str(REPOSITORY / "harness" / "**" / "*.py")), directory, name="own-source", validation_share=0.3
    )

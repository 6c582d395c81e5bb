"""What Megatron 0.19 does with the balancing flags (docs/load-balancing.md), seen in real runs."""

import pytest
import torch

from tests.conftest import tiny_backbone, tiny_experiment

SMALLER = ["--micro-batch-size", "2"]


def balanced(trainer, dataset, kind, *more, name, **changes):
    run = trainer.prepare(
        tiny_experiment(dataset[1], load_balancing=kind, train_iters=6, decay_iters=2, **changes), name
    )
    done = trainer.train(run, *more)
    assert done.returncode == 0, done.stderr[-2000:]
    return run


@pytest.mark.slow
def test_the_bias_moves_by_its_rate_and_there_is_no_loss(trainer, dataset):
    assert tiny_backbone().router_score_function == "sigmoid"
    run = balanced(trainer, dataset, "expert_bias", name="bias", expert_bias_update_rate=0.01, z_loss_coeff=1e-3)
    rows = run.metrics()
    assert all("load_balancing_loss" not in row for row in rows)
    assert all(row["z_loss"] > 0 for row in rows)
    (file,) = run.checkpoints.rglob("*.pt")
    weights = torch.load(file, weights_only=False)["model"]
    (bias,) = [value for name, value in weights.items() if name.endswith("expert_bias")]
    moves = bias / 0.01
    assert torch.allclose(moves, moves.round(), atol=1e-4)  # whole steps up or down
    assert 1 <= moves.abs().max() <= 6


@pytest.mark.slow
def test_the_auxiliary_loss_is_of_a_micro_batch_and_the_sequence_one_is_not(trainer, dataset):
    loss = {}
    for kind in ("aux_loss", "seq_aux_loss", "global_aux_loss"):
        for more in ([], SMALLER):
            run = balanced(trainer, dataset, kind, *more, name=f"{kind}-{len(more)}", aux_loss_coeff=0.1)
            loss[kind, len(more)] = run.metrics()[0]["load_balancing_loss"]
            assert loss[kind, len(more)] >= 0.9  # 1 is perfect balance
    # how much the losses differ is up to the tokens; that of the sequences differs by rounding alone
    assert loss["seq_aux_loss", 0] == pytest.approx(loss["seq_aux_loss", 2], rel=1e-6)
    assert loss["aux_loss", 0] != pytest.approx(loss["aux_loss", 2], rel=1e-5)

"""Loss spikes: told apart from noise, recovered or not; the rule is stated in `harness.megatron.divergence`."""

import math
import random

import pytest

from harness.megatron.divergence import Spike, find_spikes, why_diverged

FINE = {"final_validation_loss": 2.0, "first_training_loss": 5.0, "final_training_loss": 2.1, "spikes": []}


def rows(losses):
    return [{"step": step, "lm_loss": loss} for step, loss in enumerate(losses, start=1)]


def curve(steps=400, noise=0.1):
    draw = random.Random(1)
    return [2 + 3 * math.exp(-step / 50) + draw.gauss(0, noise) for step in range(steps)]


def test_noise_and_a_single_bad_batch_are_no_spikes():
    losses = curve()
    losses[200] += 4  # one batch: 0.4 nats in the mean of ten
    assert find_spikes(rows(losses), nats=0.5, steps=10) == []


def test_a_spike_that_recovers_is_recorded():
    losses = curve(noise=0)
    for step in range(200, 230):
        losses[step] += 2
    (spike,) = find_spikes(rows(losses), nats=0.5, steps=10)
    assert 201 <= spike.first_step <= 205
    assert 230 <= spike.last_step <= 240
    assert spike.height == pytest.approx(2, abs=0.05)
    assert why_diverged(FINE | {"spikes": [vars(spike)]}) is None


def test_one_that_does_not_is_diverged():
    losses = [loss + (1.5 if step >= 300 else 0) for step, loss in enumerate(curve())]
    (spike,) = find_spikes(rows(losses), nats=0.5, steps=10)
    assert spike.last_step is None
    reason = why_diverged(FINE | {"spikes": [vars(spike)]})
    assert "did not come back" in reason
    assert f"from step {spike.first_step} on" in reason


def test_a_higher_threshold_lets_it_pass():
    losses = [loss + (1.5 if step >= 300 else 0) for step, loss in enumerate(curve())]
    assert find_spikes(rows(losses), nats=2.0, steps=10) == []


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_a_loss_that_is_no_number_is_a_spike_of_any_height(bad):
    losses = curve(noise=0)
    losses[350] = bad
    assert find_spikes(rows(losses), nats=100.0, steps=10) == [Spike(first_step=351, last_step=361, height=None)]
    losses[-1] = bad
    assert find_spikes(rows(losses), nats=100.0, steps=10)[-1].last_step is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"final_validation_loss": None}, "not finite"),
        ({"final_training_loss": 5.5}, "rose from 5.0000 to 5.5000"),
        ({"spikes": [{"first_step": 3, "last_step": None, "height": None}]}, "more than any number of nats"),
    ],
)
def test_why_a_run_is_diverged(change, words):
    assert why_diverged(FINE) is None
    assert words in why_diverged(FINE | change)

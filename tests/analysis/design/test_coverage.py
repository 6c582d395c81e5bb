"""Whether intervals hold what they promise on a truth that nothing was chosen by; more of it: benchmarks/design_intervals.py."""

import pytest

from benchmarks.design_intervals import OPTIMA, UNSEEN, count


@pytest.mark.slow
def test_predicted_losses_and_optima_of_an_unseen_truth_are_held():
    assert "gentle" in UNSEEN
    counted = count("gentle", repetitions=3, budgets=(1e20, 1e21, 1e22), first=101)
    assert (counted["no design"] == 0).all()
    assert counted["neighbours"].min() >= 10
    outside = counted["below"] + counted["above"]
    assert outside.sum() <= 0.05 * counted["neighbours"].sum()
    held = [tuple(map(int, value.split("/"))) for name in OPTIMA for value in counted[name]]
    assert sum(inside for inside, _ in held) >= 0.9 * sum(number for _, number in held)

"""The design itself: what it asks for, what it builds, limits, and what it refuses."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from analysis.design.constraints import Limits
from analysis.design.draws import Chains
from analysis.design.export import document, flags_of, kept_options, sweep_options
from analysis.design.neighbours import Neighbours, Wish, neighbours
from analysis.design.published import PATH
from analysis.design.recommend import Fixed
from analysis.design.result import design, settings_of
from analysis.laws.budget import Estimate
from analysis.laws.file import read_laws
from harness.accounting import count
from harness.cli import compose
from harness.errors import ConfigError, InfeasibleError
from harness.plan import plan
from harness.solver import Rules, check_tolerance
from tests.analysis.design.known import DENSITY, EXACTLY, WIDTH, M, known_laws

PUBLISHED = read_laws(PATH)


def settings(*words):
    return settings_of(compose("design", ["compute=1e22", *words]))


def published(compute=1e22, *words, **options):
    return design(settings(*words), PUBLISHED, "the published laws", compute, **options)


def known(compute=1e21, *words, **options):
    return design(settings(*words), known_laws(), "known", compute, **options)


def exactly(compute=1e21, **options):
    """With nothing allowed for beyond the laws."""
    return design(settings(), known_laws(), "known", compute, chains=Chains(known_laws(), EXACTLY), **options)


def test_section_7_by_the_published_laws():
    found = published()
    assert found.optima["flops_per_token"].value == pytest.approx(0.04368 * 1e22**0.5437, rel=1e-6)
    assert found.optima["m_over_na"].value == pytest.approx(7.26, abs=0.01)
    assert found.optima["active_params"].value == pytest.approx(
        found.optima["flops_per_token"].value / found.optima["m_over_na"].value
    )
    assert found.optima["n_over_na"].origin == "held"  # the paper fits no law of C
    check_tolerance(found.backbone, found.targets, found.architecture, Rules())
    spent = found.experiment.counts.flops_per_token * found.experiment.tokens
    assert spent == pytest.approx(1e22, rel=1e-3)
    assert found.real_flops / spent == pytest.approx(
        1 + 6 * found.architecture.hidden_size * 152064 / found.experiment.counts.flops_per_token
    )
    assert found.excess is None
    assert found.extrapolation == pytest.approx(1e22 / 3e20)
    assert any("Figure 6(b)" in note for note in found.notes)


def test_at_a_measured_budget_its_own_optimum_is_taken():
    found = published(1e20)
    assert found.optima["m_over_na"].value == 8.349
    assert found.extrapolation == 1
    assert (found.backbone.num_query_heads, found.backbone.head_dim) == (8, 128)  # Table 4
    assert found.experiment.training.global_batch_size == 208


def test_intervals_of_what_follows_are_those_of_joint_draws():
    optima = known().optima
    size, density, expansion = (optima[name].draws for name in ("flops_per_token", "m_over_na", "n_over_na"))
    assert optima["active_params"].draws == pytest.approx(size / density)
    assert optima["total_params"].draws == pytest.approx(size / density * expansion)
    assert optima["tokens"].draws == pytest.approx(1e21 / size)
    for quantity in optima.values():
        if quantity.draws is not None:
            assert quantity.low <= quantity.value <= quantity.high
            assert quantity.without == ()
    inside = np.mean(
        (optima["num_layers"].low <= optima["num_layers"].draws)
        & (optima["num_layers"].draws <= optima["num_layers"].high)
    )
    assert inside == pytest.approx(0.95, abs=0.01)


def test_intervals_that_leave_a_part_out_name_it():
    """The published M has no interval, and N/N_a is held: N_a's and N's are those of M/N_a alone."""
    optima = published().optima
    assert optima["flops_per_token"].without == ()
    assert optima["active_params"].without == ("M",)
    assert optima["total_params"].without == ("M", "N/N_a")
    assert optima["num_layers"].without == ("M",)
    ratio = optima["m_over_na"]
    assert optima["active_params"].high == pytest.approx(optima["flops_per_token"].value / ratio.low, rel=0.01)
    given = published(fixed=Fixed(n_over_na=20)).optima
    assert given["total_params"].without == ("M",)  # what the user gave is exact
    nothing = published(fixed=Fixed(m_over_na=7.5, n_over_na=20)).optima["total_params"]
    assert not nothing.known
    assert nothing.without == ()


def test_the_proxys_interval_is_that_of_the_proxies_of_the_draws():
    without = design(settings(), known_laws(without=("hidden_size",)), "known", 1e21)
    width = without.optima["hidden_size"]
    assert width.low < width.value < width.high
    assert width.without == ()
    assert published().optima["hidden_size"].without == ("M", "N/N_a")


def test_runs_are_counted_of_the_budgets_that_were_used():
    laws = known_laws()
    law = laws.law("hidden_size")
    points = [
        replace(one, points=replace(one.points, run_ids=(f"{one.compute:g}", "shared"))) for one in law.per_budget
    ]
    points[0] = replace(points[0], status="not resolved")
    relation = replace(law.relations[0], compute=law.relations[0].compute[1:], values=law.relations[0].values[1:])
    counted = replace(law, per_budget=tuple(points), relations=(relation,))
    of_law = replace(laws, laws=tuple(counted if one is law else one for one in laws.laws))
    far = design(settings(), of_law, "known", 1e21)
    assert far.optima["hidden_size"].basis == "law of hidden_size through 2 budgets (3 runs)"
    assert "own optimum (2 runs)" in design(settings(), of_law, "known", 1e20).optima["hidden_size"].basis


def test_d_is_the_feasible_width_nearest_to_its_law():
    found = known()
    d = found.architecture.hidden_size
    assert abs(d - WIDTH(1e21)) == min(abs(width - WIDTH(1e21)) for width in found.widths)
    assert exactly().excess.value < 1e-3
    far = known(fixed=Fixed(m_over_na=DENSITY(1e21), n_over_na=28))
    assert abs(far.architecture.hidden_size / WIDTH(1e21) - 1) > 0.02
    assert any("is the nearest" in note for note in far.notes)


@pytest.mark.parametrize(
    "words",
    [[], ["backbone.num_experts=64", "backbone.top_k=4"], ["backbone.seq_length=4096"], ["rules.hidden_size_step=64"]],
)
@pytest.mark.parametrize("limits", [Limits(), Limits(overtraining=3), Limits(max_total_params=40e9)])
def test_the_sweep_plans_the_same_run(words, limits):
    """The options, as text through Hydra, give the same experiment to the last digit."""
    found = published(1e22, *words, limits=limits)
    options = sweep_options(found, kept_options(words))
    (row,) = plan(compose("sweep", options)).rows
    assert row.point.experiment == found.experiment
    assert row.layout == found.layout


def test_a_neighbours_options_give_its_architecture():
    found = known()
    for one in neighbours(found, settings(), Limits(), Wish(stages=2), 5).listed:
        described = one.describe()["sweep_rules"]
        moved = replace(found, aim=replace(found.aim, m_over_na=one.m_over_na),
                        experiment=replace(found.experiment, architecture=one.architecture))  # fmt: skip
        (row,) = plan(compose("sweep", sweep_options(moved, rules=one.rules))).rows
        assert row.point.experiment.architecture == one.architecture
        assert described["rules.hidden_size_step"] == one.rules.hidden_size_step


def test_neighbours_are_hardware_friendly_divide_as_wished_and_are_ranked():
    found = known()
    near = neighbours(found, settings(), Limits(), Wish(stages=4, tensor=8, experts=64), 8).listed
    assert near
    for one in near:
        assert one.architecture.hidden_size % 128 == 0
        assert one.architecture.moe_ffn_hidden_size % 64 == 0
        assert one.architecture.num_layers % 4 == 0
        assert one.backbone.num_kv_heads % 8 == 0
        assert one.backbone.num_experts % 64 == 0
        assert one.backbone_changes  # 288 experts do not divide by 64
    plain = neighbours(found, settings(), Limits(), Wish(), 8).listed
    values = [one.change.value for one in plain]
    assert values == sorted(values)
    assert all(one.excess.low <= one.excess.value <= one.excess.high for one in plain)
    assert not any(one.backbone_changes for one in plain)
    assert all(one.change.low <= one.change.value <= one.change.high for one in plain)
    near = min(plain, key=lambda one: abs(one.architecture.hidden_size - found.architecture.hidden_size))
    assert near.change.high - near.change.low < (near.excess.high - near.excess.low) / 2  # what both share cancels


def test_neighbours_far_off_the_targets_are_counted_and_not_listed():
    found = published(3.6e22)
    everything = neighbours(found, settings(), Limits(), Wish(within=10), 99)
    assert everything.left_out == 0
    far = [one for one in everything.listed if one.distance > 0.1]
    assert far  # else this shows nothing
    near = neighbours(found, settings(), Limits(), Wish(), 99)
    assert near.left_out == len(far)
    assert near.unlisted == 0
    few = neighbours(found, settings(), Limits(), Wish(), 2)
    assert (len(few.listed), few.unlisted) == (2, len(near.listed) - 2)
    assert near.listed == tuple(one for one in everything.listed if one.distance <= 0.1)
    for one in everything.listed:
        off = [
            one.counts.flops_per_token / found.targets.flops_per_token,
            one.counts.active_params / found.targets.active_params,
            one.counts.total_params / found.targets.total_params,
            one.architecture.hidden_size / found.architecture.hidden_size,
        ]
        assert one.distance == pytest.approx(max(abs(ratio - 1) for ratio in off))


def test_the_nearest_neighbour_is_listed_where_none_is_near():
    found = published(3.6e22)
    everything = neighbours(found, settings(), Limits(), Wish(within=10), 99).listed
    alone = neighbours(found, settings(), Limits(), Wish(within=1e-4), 8)
    assert [one.distance for one in alone.listed] == [min(one.distance for one in everything)]
    assert alone.left_out == len(everything) - 1
    with pytest.raises(ConfigError, match="within=-1"):
        Wish(within=-1)


def test_a_fixed_d_and_overtraining_fix_m():
    found = published(limits=Limits(tokens=1e12))
    assert found.experiment.tokens == pytest.approx(1e12, rel=1e-4)
    assert found.aim.flops_per_token == pytest.approx(1e10)
    three = published(limits=Limits(overtraining=3))
    assert three.aim.flops_per_token == pytest.approx(three.optima["flops_per_token"].value / 3)
    assert "3 times the optimal D" in three.aim.binding[0]


@pytest.mark.parametrize("most", [1e9, 3e9, 30e9])
def test_the_built_architecture_keeps_its_limits(most):
    limits = Limits(max_active_params=most, max_total_params=12 * most)
    for found in (published(limits=limits), known(1e22, limits=limits)):
        assert found.experiment.counts.active_params <= most
        assert found.experiment.counts.total_params <= 12 * most


def test_a_limit_that_does_not_bind_changes_nothing():
    loose = known(limits=Limits(max_total_params=1e15, max_active_params=1e15))
    assert loose.aim.binding == ()
    assert loose.experiment == known().experiment


def test_the_cheapest_way_to_fewer_parameters_is_found():
    """No other point on the limit is predicted to lose less, and the cost is stated."""
    free = known()
    most = free.aim.total_params / 2
    found = known(limits=Limits(max_total_params=most))
    own = found.cost_of_limits.value
    for ratio in (0.3, 0.5, 0.7, 0.9, 1.0):
        expansion = free.aim.n_over_na * ratio
        flops = min(free.aim.flops_per_token, most / expansion * free.aim.m_over_na)
        values = {"flops_per_token": flops, "m_over_na": free.aim.m_over_na, "n_over_na": expansion}
        if expansion * flops / free.aim.m_over_na <= most * 1.001:
            assert own <= free.model(values).value + 1e-6
    assert 0 < own < 0.1
    assert "cheapest by the loss curves" in found.aim.binding[0]


def test_a_ratio_that_is_given_does_not_move():
    given = Fixed(n_over_na=22.0, m_over_na=8.0)
    free = known(fixed=given)
    found = known(fixed=given, limits=Limits(max_total_params=free.aim.total_params / 2))
    assert (found.aim.n_over_na, found.aim.m_over_na) == (22.0, 8.0)
    assert found.aim.total_params <= free.aim.total_params / 2
    assert "as N/N_a is given" in found.aim.binding[0]
    with pytest.raises(InfeasibleError, match="D and N/N_a are both given"):
        known(fixed=given, limits=Limits(overtraining=1, max_total_params=free.aim.total_params / 2))
    with pytest.raises(InfeasibleError, match="D and M/N_a are both given"):
        known(fixed=given, limits=Limits(overtraining=1, max_active_params=free.aim.active_params / 2))


def test_an_unreachable_limit_says_by_how_much():
    with pytest.raises(InfeasibleError, match=r"cannot be reached: D is fixed.*2\.89 times the limit"):
        published(limits=Limits(overtraining=2, max_total_params=1e9))
    with pytest.raises(ConfigError, match="both fix D"):
        Limits(tokens=1e12, overtraining=2)
    with pytest.raises(ConfigError, match="max_total_params=-1"):
        Limits(max_total_params=-1)


def test_other_experts_take_the_same_share_of_the_way_to_their_bound():
    found = published(1e22, "backbone.num_experts=64", "backbone.top_k=4")
    bound = found.backbone.max_n_over_na
    assert (found.optima["n_over_na"].value - 1) / (bound - 1) == pytest.approx((22.07 - 1) / (289 / 9 - 1))
    assert any("assumed" in note for note in found.notes)


def test_missing_laws_name_their_study():
    with pytest.raises(ConfigError, match=r"no law of m_over_na.*phase=1 .*phase=refine.*or give m_over_na="):
        design(settings(), known_laws(without=("m_over_na",)), "mine.json", 1e21)
    with pytest.raises(ConfigError, match=r"no law of flops_per_token.*phase=classical"):
        design(settings(), known_laws(without=("classical",)), "mine.json", 1e21)
    without_d = design(settings(), known_laws(without=("hidden_size",)), "mine.json", 1e21)
    assert "median" in without_d.optima["hidden_size"].basis
    assert without_d.model.missing == ["hidden_size"]


def test_a_law_that_leaves_the_possible_region_says_where():
    laws = known_laws()
    law = laws.law("m_over_na")
    plain = replace(
        law.relations[0], name="m_over_na", floor=0.0, at_reference=Estimate(value=9.0), exponent=Estimate(value=-0.05)
    )
    low = replace(
        laws, laws=tuple(replace(one, relations=(plain,)) if one.id == "m_over_na" else one for one in laws.laws)
    )
    there = plain.reference * (6 / 9) ** (1 / -0.05)
    with pytest.raises(InfeasibleError, match=r"reads 5\.\d+ at 1e24.*passes 6 at " + re.escape(f"{there:.3g}")):
        design(settings(), low, "mine.json", 1e24)
    assert design(settings(), low, "mine.json", 1e24, fixed=Fixed(m_over_na=6.6)).aim.m_over_na == 6.6


@pytest.mark.parametrize("compute", [1e17, 1e18, 1e24, 1e27])
def test_budgets_far_outside_are_allowed(compute):
    found = published(compute)
    assert found.experiment.counts.flops_per_token == pytest.approx(found.aim.flops_per_token, rel=0.1)
    assert found.extrapolation == pytest.approx(max(1, compute / 3e20, 1e18 / compute))


def test_an_infeasible_width_names_the_nearest():
    with pytest.raises(InfeasibleError, match=r"hidden_size=30000 is not feasible.*nearest is"):
        published(fixed=Fixed(hidden_size=30000))


def test_laws_of_one_budget_predict_without_an_interval_and_are_still_json():
    laws = known_laws()
    alone = replace(
        laws,
        laws=tuple(replace(one, per_budget=one.per_budget[1:2]) if one.id == "n_over_na" else one for one in laws.laws),
    )
    found = design(settings(), alone, "known", 1e21)
    near = neighbours(found, settings(), Limits(), Wish(), 3)
    value = document(found, near, where="w", kept=[], job=settings().job)
    assert json.loads(json.dumps(value, allow_nan=False))["predicted_excess_loss"]["high"] is None
    assert value["neighbours"][0]["predicted_excess_loss"]["value"] > 0


def test_the_document_is_json_and_has_the_flags():
    found = published(1e19)
    value = document(found, neighbours(found, settings(), Limits(), Wish(), 3), where="w", kept=[], job=settings().job)
    text = json.loads(json.dumps(value, allow_nan=False))
    assert text["recommended"]["total_params"]["interval_without"] == []  # at 1e19 M/N_a is stated, without an interval
    far = document(published(), Neighbours(), where="w", kept=[], job=settings().job)["recommended"]
    assert far["total_params"]["interval_without"] == ["M", "N/N_a"]
    assert text["run_id"] == found.experiment.run_id
    assert text["recommended"]["flops_per_token"]["low"] is None
    flags = flags_of(found, settings().job)
    assert flags[flags.index("--hidden-size") + 1] == str(found.architecture.hidden_size)
    assert text["counts"]["total_params"] == count(found.backbone, found.architecture).total_params
    assert M(1e19) == pytest.approx(0.9e9)


def test_numbers_of_the_users_own_are_priced_against_the_laws():
    free, own = exactly(), exactly(fixed=Fixed(m_over_na=DENSITY(1e21) * 1.1))
    assert own.optima["m_over_na"].origin == "given"
    assert np.median(own.model.penalties["m_over_na"].optimum) == pytest.approx(DENSITY(1e21), rel=1e-4)
    assert own.excess.value > free.excess.value
    wide = exactly(fixed=Fixed(hidden_size=int(free.widths[-1])))
    assert wide.model.penalties["hidden_size"](float(free.widths[-1])).value > 1e-4

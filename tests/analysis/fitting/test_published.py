"""Published results, from the published data. Tolerances are those of ../shared/reference/losses/*.md."""

import json

import numpy as np
import pytest

from analysis.fitting import (
    FitStatus,
    LogHuber,
    ParabolaInLog,
    akima_optimum,
    bootstrap_additive,
    fit_additive,
    fit_band,
    fit_curve,
    fit_power_law,
    fit_product_law,
    fit_surface,
)
from analysis.fitting.frame import centred
from analysis.fitting.newton import Terms, minimise, objective
from analysis.fitting.starts import projected_starts
from tests.analysis.fitting.published import chinchilla, table


def test_chinchilla_surface():
    """Besiroglu et al. (2024): their headline values are not the least objective; their grid's are, to 3 digits."""
    points = chinchilla()
    surface = fit_surface(points["N"], points["D"], points["loss"])
    fit = surface.robust
    assert fit.status is FitStatus.CONVERGED
    assert fit.objective <= 0.00101828
    assert [fit.constant, *fit.exponents.values()] == pytest.approx([1.8172, 0.3478, 0.3658], abs=1.5e-3)
    assert abs(fit.constant - 1.8172) < 1e-3
    assert abs(fit.exponents["N"] - 0.3478) < 1e-3
    assert fit.scales["N"] == pytest.approx(482.01, rel=0.02)
    assert fit.scales["D"] == pytest.approx(2085.43, rel=0.04)
    grid = [1.8172355, 477.84171, 2143.86379, 0.34731266, 0.36718262]  # their replication by 4,500 starts
    assert fit.values[[0, 3, 4]] == pytest.approx(np.array(grid)[[0, 3, 4]], abs=3e-5)
    assert fit.values[[1, 2]] == pytest.approx(np.array(grid)[[1, 2]], rel=1e-3)
    assert surface.projected == pytest.approx(surface.squares.objective, rel=1e-9)


def test_chinchilla_with_its_outliers():
    points = table("chinchilla_epoch")
    fit = fit_additive({"N": points["N"], "D": points["D"]}, points["loss"])
    assert fit.objective == pytest.approx(0.001826011, abs=1e-9)
    assert fit.values == pytest.approx([1.89134, 495.73, 12845.6, 0.34931, 0.45305], rel=1e-3)


def test_chinchilla_bootstrap():
    """4,000 resamples with numpy's old seed 42, as in the notebook."""
    points = chinchilla()
    fit = fit_additive({"N": points["N"], "D": points["D"]}, points["loss"])
    state = np.random.RandomState(42)
    counts = np.array([np.bincount(state.choice(240, 240), minlength=240) for _ in range(4000)])
    draws = bootstrap_additive(fit, counts=counts)
    assert draws.failed == 0
    published = {"A_N": 124.58, "A_D": 1293.28, "E": 0.02566, "a_N": 0.0154, "a_D": 0.0206}
    assert draws.standard_errors == pytest.approx(published, rel=0.05)
    assert (draws.interval("E").low, draws.interval("E").high) == pytest.approx((1.769, 1.871), abs=1e-3)
    assert (draws.interval("a_D").low, draws.interval("a_D").high) == pytest.approx((0.331, 0.415), abs=1e-3)


GEMSTONES = {
    "parameters": ["params_active_precise", "tokens"],
    "width_depth": ["width", "depth", "tokens"],
    "width_depth_parameters": ["width", "depth", "params_active_precise", "tokens"],
}


def test_gemstones_objectives():
    """McLeish et al. (2025): all fits whose subset is in the table, 24 of them."""
    points, published = table("gemstones"), table("gemstones_published_fits")
    published = published[published["subset"].isin(points["subset"])]
    assert len(published) == 24
    for row in published.itertuples():
        subset = points[points["subset"] == row.subset]
        variables = {name: subset[name].to_numpy(dtype=float) for name in GEMSTONES[row.law]}
        loss = LogHuber(delta=row.delta)
        terms = Terms.of(np.stack(list(variables.values())))
        theirs = np.array([row.log_E, *json.loads(row.log_coefs), *json.loads(row.exponents)])
        prepared = loss.prepare(subset["final_loss"].to_numpy())
        there = objective(terms, prepared, loss, centred(theirs[None], terms))[0]
        assert there == pytest.approx(row.objective, abs=6e-11), row
        assert fit_additive(variables, subset["final_loss"], loss=loss).objective <= there + 1e-12, row


@pytest.mark.slow
@pytest.mark.parametrize("delta", [1e-3, 1e-4])
@pytest.mark.parametrize("subset", ["hot", "cool_end", "lr_ablation_hot"])
def test_no_start_of_the_whole_grid_ends_lower(subset, delta):
    """`fit_additive` polishes a few starts: with four variables and nine parameters too, none of the others is better."""
    points = table("gemstones")
    points = points[points["subset"] == subset]
    variables = {name: points[name].to_numpy(dtype=float) for name in GEMSTONES["width_depth_parameters"]}
    fit = fit_additive(variables, points["final_loss"], loss=LogHuber(delta=delta))
    terms = Terms.of(np.stack(list(variables.values())))
    found = projected_starts(terms, fit.y)
    for factor in (100.0, 10.0, 1.0):
        loss = LogHuber(delta=factor * delta)
        found = minimise(terms, loss.prepare(fit.y), loss, found).parameters
    assert fit.objective <= objective(terms, fit.loss.prepare(fit.y), fit.loss, found).min() * (1 + 1e-9)


def test_a_shape_law_without_a_constant_says_so():
    """The published fit of width and depth ends at exp(-155) and exp(-4555): E has vanished."""
    points = table("gemstones")
    subset = points[points["subset"] == "hot_100b+"]
    variables = {name: subset[name] for name in GEMSTONES["width_depth"]}
    fit = fit_additive(variables, subset["final_loss"])
    assert fit.status is FitStatus.AT_BOUND
    assert fit.constant == 0
    assert fit.intervals["E"].low == 0
    assert fit.intervals["E"].high == pytest.approx(0.038, abs=0.004)


PORIAN = ["dataset", "hparams", "warmup", "decay", "param_count", "loss_split"]


def porian():
    """Each of the 15 configurations: published row, stored optima, raw slices."""
    optima, slices, published = table("porian_optima"), table("porian_isoflop"), table("porian_published_fits")
    assert len(published) == 15
    for _, row in published.iterrows():
        stored = optima[(optima[PORIAN] == row[PORIAN].to_numpy()).all(axis=1)].sort_values("C").dropna()
        raw = slices[(slices[PORIAN] == row[PORIAN].to_numpy()).all(axis=1) & slices["C"].isin(stored["C"])]
        yield row, stored, raw


def test_porian_exponents():
    for row, stored, _ in porian():
        basic = fit_power_law(stored["C"], stored["N_opt"])
        weighted = fit_power_law(stored["C"], stored["N_opt"], weights=1 / stored["logN_std"] ** 2)
        tokens = fit_power_law(stored["C"], stored["D_opt"])
        assert basic.exponent == pytest.approx(row["basic_n_exponent"], abs=5e-5)
        assert weighted.exponent == pytest.approx(row["weighted_n_exponent"], abs=5e-5)
        assert tokens.exponent == pytest.approx(row["basic_t_exponent"], abs=5e-5)


def test_porian_optima_from_the_raw_slices():
    """Akima's optimum within 0.004; a parabola through the three neighbours on each side is biased, up to 0.028."""
    akima, parabola = [], []
    for row, _, raw in porian():
        budgets, by_akima, by_parabola = [], [], []
        for compute, points in raw.sort_values("N").groupby("C"):
            size, loss = points["N"].to_numpy(), points["loss"].to_numpy()
            best = int(np.argmin(loss))
            near = slice(max(best - 3, 0), best + 4)
            budgets.append(compute)
            by_akima.append(akima_optimum(size, np.log(loss)).optimum)
            by_parabola.append(fit_curve(ParabolaInLog(size[near]), loss[near]).optimum)
        published = row["basic_n_exponent"]
        akima.append(abs(fit_power_law(np.array(budgets), np.array(by_akima)).exponent - published))
        parabola.append(abs(fit_power_law(np.array(budgets), np.array(by_parabola)).exponent - published))
    assert max(akima) <= 0.004
    assert max(parabola) <= 0.028


def test_step_law():
    """The released table does not give the published law; these are its own least squares, and the band beside them."""
    runs = table("steplaw_dense")
    near = runs[runs["smooth_loss"] <= 1.0025 * runs.groupby(["N", "D"])["smooth_loss"].transform("min")]
    assert len(near) == 129
    rate = fit_product_law({"N": near["N"], "D": near["D"]}, near["lr"])
    assert np.log(rate.coefficient) == pytest.approx(4.3527, abs=1e-4)
    assert rate.exponents == pytest.approx({"N": -0.76623, "D": 0.19701}, abs=1e-5)
    assert 0.307 not in rate.intervals["D"]
    batch = fit_power_law(near["D"], near["bs"] * 2048)
    assert np.log(batch.coefficient) == pytest.approx(-1.56771, abs=1e-5)
    assert batch.exponent == pytest.approx(0.61253, abs=1e-5)
    assert (batch.intervals["exponent"].low, batch.intervals["exponent"].high) == pytest.approx(
        (0.541, 0.684), abs=2e-3
    )
    band = fit_band({"D": near["D"]}, near["bs"] * 2048)
    assert band.held == 1
    assert band.exponents["D"] == pytest.approx(batch.exponent, abs=0.1)
    assert 1 < fit_band({"D": near["D"]}, near["bs"] * 2048, coverage=0.9).factor < band.factor
    assert fit_band({"N": near["N"], "D": near["D"]}, near["lr"]).held == 1

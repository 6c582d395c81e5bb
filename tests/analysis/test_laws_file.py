"""laws.json: round trip, versions, damage."""

import json
import math

import numpy as np
import pytest

from analysis.laws import FitOptions, LawsFileError, document, fit_laws, read_laws, write_laws
from analysis.laws.file import SCHEMA
from tests.analysis.programme import programme


@pytest.fixture(scope="module")
def laws():
    return fit_laws(programme()[0], FitOptions(resamples=200))


@pytest.fixture
def path(tmp_path, laws):
    write_laws(tmp_path / "laws.json", laws)
    return tmp_path / "laws.json"


def test_it_round_trips_to_the_byte(path, tmp_path):
    write_laws(tmp_path / "again.json", read_laws(path))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_what_is_read_gives_the_same_predictions(path, laws):
    read = read_laws(path)
    for law in laws.laws:
        for relation in law.relations:
            same = read.law(law.id).relation(relation.name)
            for compute in (1e17, 3.3e19, 1e22):
                one, two = relation.predict(compute), same.predict(compute)
                assert two.value == pytest.approx(one.value, rel=1e-8)
                for end in ("low", "high"):
                    if math.isfinite(getattr(one, end)):
                        assert getattr(two, end) == pytest.approx(getattr(one, end), rel=1e-7)
        for budget in law.per_budget:
            if budget.curve:
                x = np.linspace(*budget.sampled, 7)
                assert read.law(law.id).budget(budget.compute).curve(x) == pytest.approx(budget.curve(x), rel=1e-6)


def test_every_contract_key_is_there(path):
    value = json.loads(path.read_text())
    assert value["schema"] == SCHEMA
    for law in value["laws"]:
        assert {"id", "form", "unit", "coefficients", "per_budget", "points_used", "points_left_out", "flags"} <= set(
            law
        )
    excess = next(law for law in value["laws"] if law["id"] == "m_over_na")["coefficients"][
        "m_over_na_minus_6_exponent"
    ]
    assert excess["low"] < excess["value"] < excess["high"]


def test_curves_are_those_that_were_fitted(laws):
    """Residuals of the recorded curve about its own points are those of the fit."""
    for law in laws.laws:
        for budget in law.per_budget:
            if budget.curve is None or not budget.residual_degrees_of_freedom:
                continue
            residuals = budget.curve.shifted(budget.points) - budget.curve(np.array(budget.points.x))
            sd = math.sqrt(float((residuals**2).sum()) / budget.residual_degrees_of_freedom)
            assert sd == pytest.approx(budget.residual_sd, rel=1e-6), (law.id, budget.compute)
            if budget.resolved:
                assert budget.curve(budget.optimum.value) == pytest.approx(budget.minimum_loss.value, rel=1e-9)
                for edge in budget.band:
                    assert budget.curve(edge) == pytest.approx(
                        budget.minimum_loss.value * (1 + budget.tolerance), rel=1e-9
                    )


def test_intervals_widen_away_from_the_data(laws):
    for law_id in ("classical", "m_over_na", "hidden_size"):
        relation = laws.law(law_id).relations[0]
        ends = [relation.predict(compute) for compute in (1e20, 1e22, 1e24)]
        widths = [(end.high - relation.floor) / (end.low - relation.floor) for end in ends]
        assert widths == sorted(widths)
        inside, outside = relation.predict(1e19), relation.predict(1e22)
        assert (inside.extrapolated, outside.extrapolated) == (False, True)
        assert relation.extrapolation(3e22) == pytest.approx(100)
        assert math.isnan(relation.predict(1e40).low)  # beyond the grid nothing is claimed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": SCHEMA + 1}, "of schema 3, this version reads 2: update the harness"),
        ({"schema": 1}, "of schema 1, this version reads 2: refit it"),
        ({"schema": "2"}, "of schema '2'"),
        ({"laws": None}, "no laws file"),
        ({"laws": [{"id": "classical"}]}, "studies is missing"),
        ({"noise": [1]}, "noise is \\[1\\], a mapping is wanted"),
        ({"resamples": "many"}, "resamples is 'many', int is wanted"),
    ],
)
def test_other_files_are_refused_with_the_reason(path, change, message):
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(LawsFileError, match=message):
        read_laws(path)


def test_missing_and_torn_files_are_told_apart(path, tmp_path):
    with pytest.raises(LawsFileError, match="does not exist"):
        read_laws(tmp_path / "none.json")
    path.write_text(path.read_text()[:1000])
    with pytest.raises(LawsFileError, match="torn"):
        read_laws(path)


def test_an_unknown_key_of_a_later_minor_change_is_ignored(path):
    value = json.loads(path.read_text()) | {"note": "added later"}
    path.write_text(json.dumps(value))
    assert document(read_laws(path))["schema"] == SCHEMA

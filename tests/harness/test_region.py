import csv

import numpy as np
import pytest

from harness.cli import compose
from harness.region import region
from harness.settings import Settings
from harness.solver import Targets, feasible_widths, proxy_width
from tests.conftest import command


def test_each_point_of_the_region_is_the_solver_s_answer():
    settings = Settings(compose("region"))
    scale = settings.choose_scales(3e20)[0]
    backbone = settings.backbone(scale)
    density, expansion = np.array([6.3, 8.221, 14.0]), np.array([5.0, 22.0, 31.9])
    found = region(backbone, scale.compute, scale.flops_per_token, density, expansion, settings.rules)
    for row, y in enumerate(expansion):
        for column, x in enumerate(density):
            targets = Targets.from_ratios(backbone, flops_per_token=5.9390e9, m_over_na=x, n_over_na=y)
            widths = feasible_widths(backbone, targets, settings.rules)
            assert found.count[row, column] == len(widths)
            if len(widths):
                assert found.least[row, column] == widths[0]
                assert found.greatest[row, column] == widths[-1]
                assert found.proxy[row, column] == proxy_width(backbone, targets, settings.rules)
            else:
                assert np.isnan(found.least[row, column])
    assert (found.count == 0).any()
    assert (found.count > 0).any()


def test_the_command_writes_a_picture_and_a_table(tmp_path):
    words = ["-m", "harness.region", "scale=[3e20,1e22]", "resolution=12", f"root={tmp_path}"]
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3e20, M = 5.939e+09" in done.stdout
    for budget in ("3e20", "1e22"):
        picture = (tmp_path / "regions" / f"region-{budget}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 20_000
        rows = list(csv.DictReader((tmp_path / "regions" / f"region-{budget}.csv").open()))
        assert len(rows) == 12 * 11  # the bound of N/N_a itself is not reached
        feasible = [row for row in rows if row["feasible_widths"] != "0"]
        for row in feasible:
            assert int(row["hidden_size_range"]) == int(row["max_hidden_size"]) - int(row["min_hidden_size"])
            ratio = float(row["total_params"]) / float(row["active_params"])
            assert ratio == pytest.approx(float(row["n_over_na"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [(["scle=3e20"], "did you mean 'scale'"), (["m_over_na=[5,9]"], "always above 6"), (["m_over_na=7"], "in brackets"),
     (["n_over_na=[2,40]"], "between 1 and 32.11"), (["m_over_na=[9,7]"], "less than the second"),
     (["resolution=1"], "between 2 and 1000"), (["flops_per_token=-1"], "a positive number"), (["scale=x"], "scale=x"),
     (["resolution=2", "n_over_na=[1,null]"], "no point of the axis"), (["flops_per_token=1e30"], "1e+18 at most"),
     (["m_over_na=[6.0000001,7]", "resolution=2"], "would have to be tried")],
)  # fmt: skip
def test_bad_input_is_refused(tmp_path, words, message):
    done = command("-m", "harness.region", *words, f"root={tmp_path}")
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())

"""Where there is no interval its `method` says why, and says what is true."""

import numpy as np
import pytest

from analysis.fitting import (
    fit_additive,
    fit_offset_power_law,
    fit_poles,
    fit_power_law,
    fit_product_law,
    rank_agreement,
)

X = np.geomspace(1e18, 1e22, 9)
Y = 1.7 + 1.2 * (X / 1e20) ** -0.15
NOISE = 0.01 * np.random.default_rng(0).standard_normal(9)

NO_FIT, NO_NOISE = "none: the points determine no fit", "none: nothing measures the noise"


def ahead(fit, place):
    made = fit.predict(place)
    return made.law, made.observation


CASES = {
    "power, two points": (lambda: ahead(fit_power_law(X[:2], Y[:2]), 1e24), NO_NOISE),
    "offset, three points": (lambda: fit_offset_power_law(X[:3], Y[:3]).intervals.values(), NO_NOISE),
    "offset, exact": (lambda: ahead(fit_offset_power_law(X, Y), 1e24), NO_NOISE),
    "offset, two points": (lambda: fit_offset_power_law(X[:2], Y[:2]).intervals.values(), NO_FIT),
    "offset, two points, ahead": (lambda: ahead(fit_offset_power_law(X[:2], Y[:2]), 1e24), NO_FIT),
    "offset, two places": (lambda: ahead(fit_offset_power_law(np.repeat(X[:2], 4), Y[:8] + NOISE[:8]), 1e24), NO_FIT),
    "offset, beyond numbers": (
        lambda: ahead(fit_offset_power_law(X, X**2 * (1 + NOISE)), 1e300),
        "none: the law's value there is no finite number",
    ),
    "product, as many points as coefficients": (
        lambda: (
            *fit_product_law({"N": X[:2]}, Y[:2]).intervals.values(),
            *ahead(fit_product_law({"N": X[:2]}, Y[:2]), {"N": 1e24}),
        ),
        NO_NOISE,
    ),
    "product, two variables that are one": (
        lambda: (
            *fit_product_law({"N": X, "D": 2 * X}, Y).intervals.values(),
            *ahead(fit_product_law({"N": X, "D": 2 * X}, Y), {"N": 1e24, "D": 1e24}),
        ),
        NO_FIT,
    ),
    "poles, as many points as coefficients": (
        lambda: fit_poles(np.array([7.0, 8, 11, 14]), np.array([3.1, 3.0, 3.0, 3.1])).intervals.values(),
        NO_NOISE,
    ),
    "poles, rising data": (
        lambda: [fit_poles(np.arange(7.0, 16), 3 + 0.1 * np.arange(9) + NOISE).intervals["optimum"]],
        "none: the fitted curve has no minimum",
    ),
    "surface, too few points": (
        lambda: fit_additive({"N": X[:4], "D": X[:4]}, Y[:4]).intervals.values(),
        NO_FIT,
    ),
    "rank, a column that does not vary": (lambda: [rank_agreement(np.ones(9), Y).kendall.interval], NO_FIT),
    "rank, four points": (
        lambda: [rank_agreement(X[:4], Y[:4]).pearson.interval],
        "none: Fisher's z needs five points",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_reason_is_the_true_one(name):
    make, reason = CASES[name]
    for interval in make():
        assert np.isnan([interval.low, interval.high]).all()
        assert interval.method == reason

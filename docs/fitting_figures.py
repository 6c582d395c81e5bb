"""Draw the pictures of docs/fitting.md from simulated data: ``python docs/fitting_figures.py`` (to docs/images/)."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context

from analysis.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, panels
from analysis.fitting import (
    FlooredHyperbola,
    LogHuber,
    ParabolaInLog,
    Slice,
    Squares,
    bootstrap_additive,
    convex_optimum,
    fit_additive,
    fit_band,
    fit_chain,
    fit_curve,
    fit_offset_power_law,
    fit_power_law,
)
from analysis.fitting.simulate import HyperbolaTruth, SurfaceTruth, grid, isoflop

FOLDER = Path(__file__).resolve().parent / "images"
TRUTH = "0.3"


def power_laws() -> Any:
    """A power law with its two intervals, and one with an offset."""
    rng = np.random.default_rng(4)
    figure, (left, right) = panels(2, width=3.6)
    x, ahead = np.geomspace(1e18, 1e20, 7), np.geomspace(1e18, 1e23, 60)
    y = 3 * (x / 1e19) ** 0.5 * np.exp(0.12 * rng.standard_normal(7))
    fit = fit_power_law(x, y)
    predictions = [fit.predict(at) for at in ahead]
    left.plot(ahead, 3 * (ahead / 1e19) ** 0.5, "--", color=TRUTH, label="truth")
    left.plot(ahead, [of.value for of in predictions], color=BLUE, label="law")
    for kind, alpha, label in (("observation", 0.15, "one more optimum"), ("law", 0.35, "the law itself")):
        ends = np.array([[getattr(of, kind).low, getattr(of, kind).high] for of in predictions])
        left.fill_between(ahead, *ends.T, color=BLUE, alpha=alpha, lw=0, label=f"95%: {label}")
    left.plot(x, y, "o", color="k", ms=4)
    left.set(xscale="log", yscale="log", xlabel="compute", ylabel="optimum", title="Power law, seven points")
    left.legend(fontsize=7)

    x = np.geomspace(1e18, 1e21, 10)
    y = 1.7 + 1.2 * (x / 1e20) ** -0.15 + 0.01 * rng.standard_normal(10)
    level = fit_offset_power_law(x, y)
    ahead = np.geomspace(1e18, 1e25, 60)
    predictions = [level.predict(at) for at in ahead]
    right.plot(ahead, 1.7 + 1.2 * (ahead / 1e20) ** -0.15, "--", color=TRUTH)
    right.plot(ahead, [of.value for of in predictions], color=ORANGE)
    ends = np.array([[of.law.low, of.law.high] for of in predictions])
    right.fill_between(ahead, *ends.T, color=ORANGE, alpha=0.3, lw=0)
    offset = level.intervals["offset"]
    right.axhspan(offset.low, offset.high, color=GREY, alpha=0.15, lw=0)
    right.text(1.3e18, offset.low + 0.02, "95% of the offset", fontsize=7, color=GREY)
    right.plot(x, y, "o", color="k", ms=4)
    right.set(xscale="log", xlabel="compute", ylabel="loss", title="With an offset: profile intervals")
    return figure


def curves() -> Any:
    """A curve with its minimum, Fieller's interval and the band, resolved and not."""
    rng = np.random.default_rng(3)
    figure, axes = panels(2, width=3.6)
    x, fine = np.array([6.6, 7.0, 8.0, 9.0, 11.0, 14.0]), np.linspace(6.4, 15, 300)
    for axis, sd, title in zip(axes, (0.002, 0.02), ("Resolved", "Hidden by noise: open on both sides"), strict=True):
        truth = HyperbolaTruth(a=0.06, b=0.012, intercept=2.9, floor=6.0, sd=sd)
        y = truth.observe(x, rng, 1)[0]
        curve = FlooredHyperbola(x, 6.0)
        fit = fit_curve(curve, y)
        interval = fit.intervals["optimum"]
        axis.plot(fine, truth(fine), "--", color=TRUTH, label="truth")
        axis.plot(fine, curve.profile(fit.coefficients, fine), color=BLUE, label="a/(x - 6) + b x + c")
        axis.plot(x, y, "o", color="k", ms=4)
        axis.axvspan(
            max(interval.low, 6.3), min(interval.high, 15), color=BLUE, alpha=0.15, lw=0, label="95% of the optimum"
        )
        axis.axvline(truth.optimum, color=TRUTH, ls="--", lw=0.8)
        axis.set(xlabel="x", ylabel="loss", title=title, xlim=(6.3, 15))
    axes[0].legend(fontsize=7)
    return figure


def bias() -> Any:
    """Parabolas without noise: the shift against width and centre of the grid."""
    figure, (left, right) = panels(2, width=3.6)
    truth = SurfaceTruth(params_exponent=0.25, params_scale=60.0)
    best = float(truth.optimum(1e20))
    params, tokens = isoflop(1e20, best, np.geomspace(1 / 12, 12, 13))
    loss = truth(params, tokens)
    curve = ParabolaInLog(params)
    fit = fit_curve(curve, loss)
    fine = np.geomspace(params[0], params[-1], 200)
    left.plot(fine / best, truth(fine, 1e20 / 6 / fine), "--", color=TRUTH, label="truth, no noise")
    left.plot(fine / best, curve.profile(fit.coefficients, fine), color=ORANGE, label="parabola")
    left.plot(params / best, loss, "o", color="k", ms=4)
    left.axvline(fit.optimum / best, color=ORANGE, lw=0.8)
    left.axvline(convex_optimum(params, loss).optimum / best, color=GREEN, lw=0.8, label="convex spline")
    left.axvline(1, color=TRUTH, ls="--", lw=0.8)
    left.set(xscale="log", xlabel="N / true optimum", ylabel="loss", title="A centred slice, 12 times each way",
             xlim=(0.4, 2.6), ylim=(2.5, 2.55))  # fmt: skip
    left.set_xticks([0.5, 1, 2], ["0.5", "1", "2"])
    left.minorticks_off()
    left.legend(fontsize=7)
    widths = np.linspace(0.2, 2.4, 12)
    for offset, colour in ((-0.7, PURPLE), (0.0, BLUE), (0.7, ORANGE)):
        shifts = []
        for width in widths:
            params, tokens = isoflop(1e20, best * np.exp(offset), np.exp(width * np.linspace(-1, 1, 13)))
            shifts.append(np.log(fit_curve(ParabolaInLog(params), truth(params, tokens)).optimum / best))
        right.plot(np.exp(widths), 100 * np.expm1(shifts), color=colour, label=f"centre {np.exp(offset):.1f} x optimum")
    right.axhline(0, color=TRUTH, lw=0.8)
    right.set(xscale="log", xlabel="grid reaches this factor each way", ylabel="error of the optimum, %",
              title="Error without noise")  # fmt: skip
    right.set_xticks([1.5, 2, 3, 5, 10], ["1.5", "2", "3", "5", "10"])
    right.minorticks_off()
    right.legend(fontsize=7)
    return figure


def surfaces() -> Any:
    """Robust and squared fits with outliers, and the profile of E against the bootstrap."""
    rng = np.random.default_rng(2)
    figure, (left, right) = panels(2, width=3.6)
    truth = SurfaceTruth(sd=0.003)
    params, tokens = grid(np.geomspace(5e7, 1.6e10, 7), np.geomspace(1e9, 5e11, 7), missing=0.2)
    loss = truth.observe(params, tokens, rng, 1)[0]
    loss[rng.choice(len(loss), 3, replace=False)] *= 1.06
    variables = {"N": params, "D": tokens}
    for made, colour, label in ((LogHuber(delta=1e-3), BLUE, "log-Huber"), (Squares(), ORANGE, "squares")):
        fit = fit_additive(variables, loss, loss=made)
        left.plot(loss, 100 * (fit.fitted / truth(params, tokens) - 1), "o", ms=4, color=colour,
                  label=f"{label}: E = {fit.constant:.3f}")  # fmt: skip
    left.axhline(0, color=TRUTH, lw=0.8)
    left.set(xlabel="loss", ylabel="fitted less true, %", title=f"Three outliers of 6%; true E = {truth.constant}")
    left.legend(fontsize=7)
    fit = fit_additive(variables, loss)
    draws = bootstrap_additive(fit, resamples=2000)
    right.hist(draws.values["E"], 50, color=GREY, alpha=0.5, density=True, label="bootstrap")
    top = right.get_ylim()[1]
    for name, interval, height in (
        ("profile", fit.intervals["E"], 0.97),
        ("percentile", draws.interval("E"), 0.9),
        ("BCa", draws.interval("E", bca=True), 0.83),
    ):
        right.plot([interval.low, interval.high], [height * top] * 2, "|-", lw=1.5)
        right.text(interval.high, height * top, f" {name}", fontsize=7, va="center")
    right.axvline(truth.constant, color=TRUTH, ls="--", lw=0.8)
    right.set(xlabel="E", ylabel="density", title="Three intervals of E", yticks=[])
    return figure


def bands() -> Any:
    """Parallel lines around near-optimal settings."""
    rng = np.random.default_rng(1)
    figure, (axis,) = panels(1, width=4.6)
    x = np.repeat(np.geomspace(1e18, 3e20, 6), 3)
    y = 4e-3 * (x / 1e18) ** -0.12 * np.exp(0.35 * rng.uniform(-1, 1, 18))
    fine = np.geomspace(1e18, 1e22, 50)
    for coverage, colour in ((1.0, BLUE), (0.8, ORANGE)):
        band = fit_band({"C": x}, y, coverage=coverage)
        middle = np.array([band({"C": at}) for at in fine])
        axis.plot(fine, middle, color=colour, label=f"holds {100 * coverage:.0f}%: exponent {band.exponents['C']:.3f}")
        axis.fill_between(fine, middle / band.factor, middle * band.factor, color=colour, alpha=0.15, lw=0)
        if coverage == 1:
            ends = np.array([[of.low, of.high] for of in (band.predict({"C": at}).law for at in fine)])
            axis.plot(fine, ends, color=colour, lw=0.8, ls=":", label=["95% of its middle line", None])
    axis.plot(fine, 4e-3 * (fine / 1e18) ** -0.12, "--", color=TRUTH, label="truth: exponent -0.12")
    axis.plot(x, y, "o", color="k", ms=4)
    axis.set(xscale="log", yscale="log", xlabel="compute", ylabel="learning rate")
    axis.legend(fontsize=7)
    return figure


def chains() -> Any:
    """Runs to a law, resampled as a whole."""
    rng = np.random.default_rng(6)
    figure, (left, right) = panels(2, width=3.6)
    x = np.array([6.5, 7.0, 8.0, 9.0, 11.0, 14.0])
    budgets = 10.0 ** np.arange(18, 24)
    slices = []
    for index, budget in enumerate(budgets):
        excess = 1.8 * (budget / 1e20) ** -0.07
        truth = HyperbolaTruth(a=0.012 * excess**2, b=0.012, intercept=3.4 - 0.15 * index, floor=6.0, sd=0.003)
        slices.append(Slice(at=budget, curve=FlooredHyperbola(x, 6.0), y=truth.observe(x, rng, 1)[0]))
    chain = fit_chain(slices, floor=6.0)
    fine = np.linspace(6.3, 14.5, 200)
    for part, fit in zip(slices, chain.curves, strict=True):
        colour = left.plot(fine, part.curve.profile(fit.coefficients, fine))[0].get_color()
        left.plot(x, part.y, "o", ms=3, color=colour)
        left.plot(fit.optimum, fit.minimum, "v", ms=6, color="k")
    left.set(xlabel="x", ylabel="loss", title="Six budgets", ylim=(2.6, 3.75))
    ahead = np.geomspace(1e18, 1e26, 40)
    ends = np.array([[of.low, of.high] for of in (chain.predict(at) for at in ahead)])
    right.fill_between(ahead, *ends.T, color=BLUE, alpha=0.25, lw=0, label="95%, the whole chain")
    right.plot(ahead, [chain.law(at) for at in ahead], color=BLUE, label="law of x - 6")
    for edge, label in zip(chain.edges or (), ("near-optimal band", None), strict=True):
        right.plot(ahead, [edge(at) for at in ahead], color=GREY, lw=0.8, ls=":", label=label)
    right.plot(ahead, 6 + 1.8 * (ahead / 1e20) ** -0.07, "--", color=TRUTH, label="truth")
    for budget, fit in zip(budgets, chain.curves, strict=True):
        interval = fit.intervals["optimum"]
        right.plot([budget] * 2, [interval.low, min(interval.high, 10)], color="k", lw=0.8)
        right.plot(budget, fit.optimum, "v", ms=5, color="k")
    right.set(xscale="log", xlabel="compute", ylabel="optimal x", title="Their law", ylim=(6, 10))
    right.legend(fontsize=7)
    return figure


def main() -> None:
    """Draw all of them."""
    drawings = {
        "power-laws": power_laws, "curves": curves, "bias": bias, "surfaces": surfaces, "bands": bands, "chains": chains,
    }  # fmt: skip
    with rc_context({**STYLE, "savefig.dpi": 100}):
        for name, draw in drawings.items():
            draw().savefig(FOLDER / f"fitting-{name}.png")


if __name__ == "__main__":
    main()

"""Fits with honest intervals: power laws, curves with a minimum, loss surfaces, bands. It knows no paper, no file, no pandas.

    fit_power_law, fit_offset_power_law, fit_product_law        straight lines in log-log; with an offset; of several variables
    fit_curve(ParabolaInLog(x) | Parabola | FlooredHyperbola | TwoPoles, y), fit_poles       a minimum, closed form; free poles
    akima_optimum, convex_optimum                               the minimum without a model
    fit_surface, fit_additive, bootstrap_additive               E + A/N^alpha + B/D^beta, and any number of variables
    fit_band, rank_agreement                                    parallel lines that enclose; orderings that agree
    fit_chain([Slice(...), ...])                                runs -> curves -> optima -> law, resampled as a whole

Each returns a frozen result: coefficients, `status`, residuals, points, intervals. Soft trouble is a `FitStatus`; input that
no fit can mean anything for raises `FitError`. docs/fitting.md has the methods, a page each.
"""

from analysis.fitting.additive import AdditiveFit, fit_additive
from analysis.fitting.band import BandFit, fit_band
from analysis.fitting.bootstrap import resample_minimum
from analysis.fitting.branches import FlooredHyperbola, TwoPoles
from analysis.fitting.chain import fit_chain
from analysis.fitting.chain_fit import ChainFit, Draw, Method, Slice
from analysis.fitting.curve import Curve, fit_curve
from analysis.fitting.intervals import bca_interval, interval, studentised_interval
from analysis.fitting.losses import LogHuber, Squares
from analysis.fitting.modelfree import ModelFreeFit, akima_optimum, convex_optimum
from analysis.fitting.offset import OffsetPowerLawFit, fit_offset_power_law
from analysis.fitting.parabola import Parabola, ParabolaInLog
from analysis.fitting.poles import PolesFit, fit_poles
from analysis.fitting.power import PowerLaw, PowerLawFit, fit_power_law, solve_power_laws
from analysis.fitting.product import ProductLawFit, fit_product_law
from analysis.fitting.profile import profile_intervals
from analysis.fitting.rank import Correlation, RankAgreement, rank_agreement
from analysis.fitting.resample import AdditiveDraws, bootstrap_additive
from analysis.fitting.results import (
    LEVEL,
    Array,
    Coefficient,
    CurveFit,
    FitError,
    FitStatus,
    HeldOut,
    Interval,
    Noise,
    Prediction,
    Resamples,
)
from analysis.fitting.surface import SurfaceFit, fit_surface, leave_largest_out

__all__ = [
    "LEVEL", "AdditiveDraws", "AdditiveFit", "Array", "BandFit", "ChainFit", "Coefficient", "Correlation", "Curve",
    "CurveFit", "Draw", "FitError", "FitStatus", "FlooredHyperbola", "HeldOut", "Interval", "LogHuber", "Method",
    "ModelFreeFit", "Noise", "OffsetPowerLawFit", "Parabola", "ParabolaInLog", "PolesFit", "PowerLaw", "PowerLawFit",
    "Prediction", "ProductLawFit", "RankAgreement", "Resamples", "Slice", "Squares", "SurfaceFit", "TwoPoles",
    "akima_optimum", "bca_interval", "bootstrap_additive", "convex_optimum", "fit_additive", "fit_band", "fit_chain",
    "fit_curve", "fit_offset_power_law", "fit_poles", "fit_power_law", "fit_product_law", "fit_surface", "interval",
    "leave_largest_out", "profile_intervals", "rank_agreement", "resample_minimum", "solve_power_laws",
    "studentised_interval",
]  # fmt: skip

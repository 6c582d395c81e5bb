"""The numerical core: curves with a minimum, power laws and the bootstrap. It knows no paper, no file and no pandas."""

from analysis.fitting.additive import AdditiveFit, fit_additive
from analysis.fitting.bootstrap import resample_minimum
from analysis.fitting.branches import FlooredHyperbola, TwoPoles
from analysis.fitting.chain import ChainFit, Draw, Method, Slice, fit_chain
from analysis.fitting.curve import Curve, fit_curve
from analysis.fitting.intervals import bca_interval, interval, studentised_interval
from analysis.fitting.losses import LogHuber, Squares
from analysis.fitting.offset import OffsetPowerLawFit, fit_offset_power_law
from analysis.fitting.parabola import Parabola, ParabolaInLog
from analysis.fitting.power import PowerLaw, PowerLawFit, fit_power_law, solve_power_laws
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

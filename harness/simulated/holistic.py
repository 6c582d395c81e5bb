"""A truth in which the paper's statements hold (``truth=holistic``), and others of its form in which some do not.

Equations, and which statement each serves: docs/truths.md. All optima are curves of C = M D, the compute really spent.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from harness.accounting import attention_params, score_flops
from harness.architecture import Backbone
from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.simulated.curves import Curve, Power, read_curve
from harness.simulated.lines import Laws, Line, Statements, line_through

MIN_M_OVER_NA = 6.0
"""Of any architecture (Eq. 5); `harness.equations` has it too, and numpy, which a simulated run starts without."""

BAND = 1e-3
"""Height of the near-optimal bands over the least loss, relative (section 5.3)."""


@dataclass(frozen=True, kw_only=True)
class Holistic:
    """E + K (C / C0)^-gamma (a e^(-alpha u) + (1 - a) e^(beta u)), penalties of M/N_a, N/N_a, d and hyperparameters, noise."""

    FORM: ClassVar[str] = "holistic"

    seed: int
    noise: float
    """Standard deviation between seeds, nats a token."""
    floor: float
    """E, nats a token."""
    reducible: Curve
    """K (C / C0)^-gamma, nats a token above E at the best of everything; a `Power` with a falling exponent."""
    flops_per_token_optimum: Curve
    """M_opt; a `Power` whose exponent is a, between 0 and 1."""
    m_over_na_optimum: Curve
    """Above 6."""
    m_over_na_stiffness: Curve
    """b of b (y - e)^2 / y with y = M/N_a - 6, e its optimum; nats a token."""
    n_over_na_bound: float
    """(N_e + shared) / (K + shared) of the backbone that `n_over_na_optimum` is stated for."""
    n_over_na_optimum: Curve
    """Above 1. On another backbone the optimum is the same share of the way from 1 to the bound."""
    n_over_na_stiffness: Curve
    """Nats a token."""
    hidden_size_optimum: Curve
    """d_opt at the optimal M and M/N_a of the budget and `hidden_size_n_over_na`."""
    hidden_size_n_over_na: float
    """The N/N_a that it is stated for: 22 in phase 2 at every budget, whatever the optimum. Bounds as of `n_over_na_optimum`."""
    hidden_size_elasticity: float
    """How d_opt of other architectures goes with their least feasible width: 1, in proportion; 0, not at all."""
    hidden_size_stiffness: Curve
    """q of q (d / d_opt - 1)^2, nats a token."""
    learning_rate_optimum: Curve
    learning_rate_stiffness: float
    """Of ln^2(learning rate / optimum), nats a token."""
    batch_tokens_optimum: Curve
    """Tokens a step."""
    batch_tokens_stiffness: float
    """Of ln^2(tokens a step / optimum), nats a token."""

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"train.truth.seed={self.seed}: a whole number of at least 0 is wanted")
        for name, least in NUMBERS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise ConfigError(f"train.truth.{name}={value}: a finite number of at least {least:g} is wanted")
        if not isinstance(self.reducible, Power) or not self.reducible.exponent < 0:
            raise ConfigError("train.truth.reducible: a law (value, at, exponent) with an exponent below 0 is wanted")
        if not self.hidden_size_n_over_na < self.n_over_na_bound:
            raise ConfigError(
                f"train.truth.hidden_size_n_over_na={self.hidden_size_n_over_na:g}: it must be below n_over_na_bound "
                f"({self.n_over_na_bound:g})"
            )
        law = self.flops_per_token_optimum
        if not isinstance(law, Power) or not 0 < law.exponent < 1:
            raise ConfigError(
                "train.truth.flops_per_token_optimum: a law (value, at, exponent) with an exponent between 0 and 1 is wanted"
            )

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """From its constants, curves as plain values."""
        curves = {
            field.name: read_curve(values[field.name], f"train.truth.{field.name}", FLOORS.get(field.name, 0.0))
            for field in fields(cls)
            if field.type is Curve
        }
        return cls(**{**values, **curves})

    def describe(self) -> dict[str, Any]:
        """Form and constants, curves as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"form": self.FORM} | {
            name: value if isinstance(value, int | float) else value.describe() for name, value in values.items()
        }

    def final_loss(self, experiment: Experiment) -> float:
        """Exact loss and noise, which is Gaussian and drawn from the run id, the training's seed and the truth's."""
        key = f"noise {experiment.run_id} {experiment.training.seed} {self.seed}"
        return self.exact_loss(experiment) + self.noise * random.Random(key).gauss(0.0, 1.0)

    def exact_loss(self, experiment: Experiment) -> float:
        """The loss in nats a token without noise."""
        counts, training, backbone = experiment.counts, experiment.training, experiment.backbone
        compute = float(counts.flops_per_token) * experiment.tokens
        rate = math.log(training.learning_rate / self.learning_rate_optimum(compute))
        batch = math.log(experiment.batch_tokens / self.batch_tokens_optimum(compute))
        best_width = self.best_hidden_size(
            backbone, compute, counts.flops_per_token, counts.active_params, counts.total_params
        )
        return (
            self.classical_loss(compute, counts.flops_per_token)
            + self.m_over_na_penalty(compute, counts.m_over_na)
            + self.n_over_na_penalty(backbone, compute, counts.n_over_na)
            + self.hidden_size_stiffness(compute) * (experiment.architecture.hidden_size / best_width - 1) ** 2
            + self.learning_rate_stiffness * rate**2
            + self.batch_tokens_stiffness * batch**2
        )

    def least_loss(self, compute: float) -> float:
        """The loss at the best of everything, nats a token."""
        return self.floor + self.reducible(compute)

    def classical_loss(self, compute: float, flops_per_token: float) -> float:
        """The loss at the best of everything but M: E + A / M^alpha + B / D^beta in terms of C and ln(M / M_opt)."""
        gamma, a = -self._reducible.exponent, self._m_opt.exponent
        u = math.log(flops_per_token / self._m_opt(compute))
        shape = a * math.exp(-gamma / a * u) + (1 - a) * math.exp(gamma / (1 - a) * u)
        return self.floor + self.reducible(compute) * shape

    def m_over_na_penalty(self, compute: float, m_over_na: float) -> float:
        """a / (x - 6) + b x less its least value (section 5.3), nats a token."""
        y, e = m_over_na - MIN_M_OVER_NA, self.m_over_na_optimum(compute) - MIN_M_OVER_NA
        return self.m_over_na_stiffness(compute) * (y - e) ** 2 / y

    def best_n_over_na(self, backbone: Backbone, compute: float) -> float:
        """The optimum of N/N_a on `backbone`."""
        return self._on_backbone(backbone, self.n_over_na_optimum(compute))

    def n_over_na_penalty(self, backbone: Backbone, compute: float, n_over_na: float) -> float:
        """a / (x - 1) + b / (bound - x) less its least value (F.4), nats a token."""
        return self._share_penalty(compute, (n_over_na - 1) / (backbone.max_n_over_na - 1))

    def _share_penalty(self, compute: float, share: float) -> float:
        """`n_over_na_penalty` of an N/N_a that lies this share of the way from 1 to its backbone's bound."""
        return self.n_over_na_stiffness(compute) * (1 - share / self._best_share(compute)) ** 2 / (share * (1 - share))

    def _best_share(self, compute: float) -> float:
        return self._share(self.n_over_na_optimum(compute))

    def _share(self, n_over_na: float) -> float:
        """Of the way from 1 to the bound of the backbone that the optima were stated for."""
        return (n_over_na - 1) / (self.n_over_na_bound - 1)

    def best_hidden_size(self, backbone: Backbone, compute: float, m: float, active: float, total: float) -> float:
        """d_opt of architectures with M `m` FLOPs a token, N_a `active` and N `total` parameters."""
        m_opt = self._m_opt(compute)
        active_opt = m_opt / self.m_over_na_optimum(compute)
        total_opt = active_opt * self._on_backbone(backbone, self.hidden_size_n_over_na)
        there = least_width(backbone, m, active, total)
        at_optimum = least_width(backbone, m_opt, active_opt, total_opt)
        return self.hidden_size_optimum(compute) * float((there / at_optimum) ** self.hidden_size_elasticity)

    def m_over_na_band(self, compute: float) -> tuple[float, float]:
        """The M/N_a between which the loss is within `BAND` of the least one, all else at its best."""
        e, b = self.m_over_na_optimum(compute) - MIN_M_OVER_NA, self.m_over_na_stiffness(compute)
        half = BAND * self.least_loss(compute) / (2 * b)
        reach = math.sqrt(2 * half * e + half**2)
        return MIN_M_OVER_NA + e + half - reach, MIN_M_OVER_NA + e + half + reach

    def n_over_na_band(self, compute: float) -> tuple[float, float]:
        """Likewise of N/N_a, on the backbone that the optima were stated for."""
        best, height = (
            1 / self._best_share(compute),
            BAND * self.least_loss(compute) / self.n_over_na_stiffness(compute),
        )
        reach = math.sqrt(4 * height * (best - 1) + height**2)  # of the roots of (1 - z best)^2 = height z (1 - z)
        ends = [(2 * best + height + side * reach) / (2 * (best**2 + height)) for side in (-1, 1)]
        return 1 + (self.n_over_na_bound - 1) * ends[0], 1 + (self.n_over_na_bound - 1) * ends[1]

    def hidden_size_band(self, compute: float) -> tuple[float, float]:
        """The widths d between which the loss is within `BAND` of the least one; the lower may be 0 or less, where all are."""
        reach = math.sqrt(BAND * self.least_loss(compute) / self.hidden_size_stiffness(compute))
        best = self.hidden_size_optimum(compute)
        return best * (1 - reach), best * (1 + reach)

    def laws(self, budgets: Sequence[float]) -> Laws:
        """Of all optima and of the edges of both bands; exact but where `Line.misfit` says otherwise."""

        def line(curve: Curve, floor: float = 0.0) -> Line:
            return line_through(curve, budgets, floor)

        def edges(name: str, band: Any, floor: float) -> dict[str, Line]:
            if not all(low > floor for low, _ in map(band, budgets)):
                return {}
            return {
                f"{name}_low": line_through(lambda c: band(c)[0], budgets, floor),
                f"{name}_high": line_through(lambda c: band(c)[1], budgets, floor),
            }

        return {
            "classical": {
                "flops_per_token": line(self.flops_per_token_optimum),
                "tokens": line_through(lambda c: c / self.flops_per_token_optimum(c), budgets),
            },
            "n_over_na": {"n_over_na": line(self.n_over_na_optimum), **edges("n_over_na", self.n_over_na_band, 0.0)},
            "m_over_na": {
                "m_over_na_minus_6": line(self.m_over_na_optimum, MIN_M_OVER_NA),
                **edges("m_over_na_minus_6", self.m_over_na_band, MIN_M_OVER_NA),
                "m_over_na": line(self.m_over_na_optimum),
                **edges("m_over_na", self.m_over_na_band, 0.0),
            },
            "hidden_size": {
                "hidden_size": line(self.hidden_size_optimum),
                **edges("hidden_size", self.hidden_size_band, 0.0),
            },
            "learning_rate": {"learning_rate": line(self.learning_rate_optimum)},
            "batch_size": {"batch_tokens": line(self.batch_tokens_optimum)},
        }

    def statements(self, budgets: Sequence[float], flat_range: tuple[float, float]) -> Statements:
        """How much the loss changes over `flat_range` of N/N_a (%), and how the bands' edges part with compute (exponents)."""
        flatness = {}
        for compute in budgets:
            ends = [self._share(end) for end in flat_range]
            inside = min(max(self._best_share(compute), ends[0]), ends[1])
            losses = [self.least_loss(compute) + self._share_penalty(compute, share) for share in (*ends, inside)]
            flatness[f"flatness_{compute:g}"] = 100 * (max(losses) / min(losses) - 1)
        stated: Statements = {"n_over_na": flatness}
        laws = self.laws(budgets)
        for law, name in (("m_over_na", "m_over_na_minus_6"), ("hidden_size", "hidden_size")):
            low, high = (laws[law].get(f"{name}_{side}") for side in ("low", "high"))
            if low is not None and high is not None:
                stated[law] = {"band_widens": high.exponent - low.exponent}
        return stated

    def _on_backbone(self, backbone: Backbone, n_over_na: float) -> float:
        """A stated N/N_a as the same share of the way from 1 to the bound of `backbone`."""
        return 1 + self._share(n_over_na) * (backbone.max_n_over_na - 1)

    @property
    def _m_opt(self) -> Power:
        assert isinstance(self.flops_per_token_optimum, Power)
        return self.flops_per_token_optimum

    @property
    def _reducible(self) -> Power:
        assert isinstance(self.reducible, Power)
        return self.reducible


NUMBERS = {
    "noise": 0.0,
    "floor": 0.0,
    "n_over_na_bound": 1.000001,
    "hidden_size_n_over_na": 1.000001,
    "hidden_size_elasticity": -10.0,
    "learning_rate_stiffness": 0.0,
    "batch_tokens_stiffness": 0.0,
}
"""Least value of each plain number."""

FLOORS = {"m_over_na_optimum": MIN_M_OVER_NA, "n_over_na_optimum": 1.0}
"""Bound of a curve that goes through points."""


def least_width(backbone: Backbone, flops_per_token: float, active_params: float, total_params: float) -> float:
    """The d at which attention and dense layers of ratio `ffn_ratio` alone would fill what the experts leave of N_a.

    It is the lower end of the feasible widths (`harness.equations.width_bounds`), and depends on M, N_a and N only.
    """
    layers = (flops_per_token - 6 * active_params) / score_flops(backbone, 1)
    left = active_params - (total_params - active_params) * backbone.active_experts / backbone.idle_experts
    square, linear = 3 * backbone.ffn_ratio * layers, attention_params(backbone, 1) * layers
    return float(2 * left / (linear + math.sqrt(linear**2 + 4 * square * left)))

"""What a deviation from the laws' optimum costs in loss, from the fitted loss curves.

At each resolved budget a law has a curve of loss with a least value. Its relative height above that value is
k g(x), with a shape g that the curve's form fixes once its minimum is known, and a stiffness k:

    M                parabola in ln M         g = ln^2(x / x*)
    M/N_a            a/(x - 6) + b x + c      g = (x - x*)^2 / (x - 6)
    N/N_a            a/(x - 1) + b/(B - x)    g = (x - x*)^2 / ((x - 1)(B - x)),  B the bound
    d                parabola                 g = (x / x* - 1)^2

k and x* come as joint draws of what the data leave possible at the budget (`analysis.design.draws`), and the cost of an
architecture is the sum of its parts draw by draw: their median, and the shortest interval that holds 95% of them. At the laws'
own optimum that is not 0, since the true one is elsewhere. Published laws have no curves, so that nothing is predicted from them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.design.draws import COMPONENTS, DRAWS, Chains
from analysis.design.optimum import Quantity
from analysis.design.redraw import SEED
from analysis.laws.budget import NAN, Array
from harness.accounting import Counts
from harness.architecture import Backbone
from harness.equations import MIN_M_OVER_NA, Targets, width_intervals

LEVEL = 0.95

type Shape = Callable[[float, Array], Array]
"""g(x, x*) at draws of x*; infinite where no architecture can have x."""


@dataclass(frozen=True, kw_only=True)
class Excess:
    """Predicted loss above the least one, as a share of it: median and 95% interval; NaN ends where it is not known."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, heights: Array, *, known: bool) -> "Excess":
        """Of draws, shape (draws,); `known`: whether they are draws of all that is uncertain."""
        if not np.isfinite(heights).all():
            return cls(value=math.inf, low=math.inf, high=math.inf)
        low, high = _shortest(heights) if known else (NAN, NAN)
        return cls(value=float(np.median(heights)), low=low, high=high)

    def describe(self) -> dict[str, float | None]:
        """As JSON values; what is unknown or infinite is None."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


def _shortest(draws: Array) -> tuple[float, float]:
    """The shortest interval that holds 95%: what cannot be below 0 is likeliest there, and equal tails would cut that off."""
    ordered = np.sort(draws)
    inside = math.ceil(LEVEL * len(ordered))
    first = int(np.argmin(ordered[inside - 1 :] - ordered[: len(ordered) - inside + 1]))
    return float(ordered[first]), float(ordered[first + inside - 1])


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """How the loss rises to both sides of one quantity's optimum at one budget."""

    shape: Shape
    optimum: Array
    """Draws of x*, shape (draws,), or the one value that there is, shape (1,)."""
    stiffness: Array
    """Draws of k, likewise."""

    @property
    def known(self) -> bool:
        """Whether both are draws."""
        return len(self.optimum) > 1 and len(self.stiffness) > 1

    def heights(self, x: float, shift: Array | float = 1.0) -> Array:
        """Draws of the excess at `x`, with the optimum moved by the factor `shift`; infinite outside the quantity's bounds."""
        return np.asarray(self.stiffness * self.shape(x, self.optimum * shift))

    def __call__(self, x: float) -> Excess:
        """The excess at `x`; infinite outside the quantity's bounds."""
        return Excess.of(self.heights(x), known=self.known)


@dataclass(frozen=True, kw_only=True)
class Priced:
    """What counts of a built architecture."""

    backbone: Backbone
    counts: Counts
    hidden_size: int


class LossModel:
    """The penalties that the laws have curves for, at one budget."""

    def __init__(
        self,
        chains: Chains,
        backbone: Backbone,
        compute: float,
        optima: Mapping[str, Quantity],
        width_holds_at: Mapping[str, Quantity] | None = None,
    ):
        """`optima`: the laws' recommendation at `compute`, by the names of `COMPONENTS`.

        `width_holds_at`: M, M/N_a and N/N_a that the law of d holds at, by the same names; None: nothing is known of it.
        """
        self.penalties: dict[str, Penalty] = {}
        self.missing: list[str] = []
        for name in COMPONENTS:
            drawn, alone = chains.at(name, compute, backbone), chains.stiffness(name)
            if name not in optima or alone is None:
                self.missing.append(name)
                continue
            self.penalties[name] = Penalty(
                shape=_shape(name, backbone),
                optimum=_draws_of(optima[name]),
                stiffness=np.array([alone]) if drawn is None else drawn.stiffness,
            )
        self.least_width: Array | None = None
        if width_holds_at is not None:
            flops, density, expansion = (
                _draws_of(width_holds_at[name]) for name in ("flops_per_token", "m_over_na", "n_over_na")
            )
            self.least_width = least_width(backbone, flops, flops / density, flops / density * expansion)
        follows = np.random.default_rng([SEED, 2 * len(COMPONENTS)]).uniform(-0.5, 1.5, DRAWS)
        self.elasticity: Array = np.clip(follows, 0.0, 1.0)
        """Of the best d in the least feasible width: 0 and 1 with a quarter of the draws each, anything between with half."""

    def __call__(self, values: Mapping[str, float], base: Mapping[str, float] | None = None) -> Excess | None:
        """The sum over those of `values` that have a curve, d aside; None where none has.

        With `base`: how much more than those other values they lose, draw by draw, so that what both share cancels.
        """
        used = {name: penalty for name, penalty in self.penalties.items() if name in values and name != "hidden_size"}
        parts = [penalty.heights(values[name]) for name, penalty in used.items()]
        if base is not None:
            parts += [-penalty.heights(base[name]) for name, penalty in used.items()]
        return _total(parts, list(used.values()))

    def of(self, built: Priced, base: Priced | None = None) -> Excess | None:
        """That of a built architecture, with its d; with `base`: how much more than that one it loses, draw by draw.

        Whether the best d moves with the feasible widths where M, M/N_a or N/N_a are not those that the law of d holds at,
        no curve says (section 4.3 says that ranks hold at their median): draws have it move in proportion to the least
        one, not at all, or by something between.
        """
        parts = self._parts(built)
        if base is not None:
            parts += [-one for one in self._parts(base)]
        return _total(parts, list(self.penalties.values()))

    def _parts(self, built: Priced) -> list[Array]:
        backbone, counts = built.backbone, built.counts
        values = {
            "flops_per_token": float(counts.flops_per_token),
            "m_over_na": counts.m_over_na,
            "n_over_na": counts.n_over_na,
            "hidden_size": float(built.hidden_size),
        }
        shift: Array | float = 1.0
        if self.least_width is not None:
            here = least_width(backbone, counts.flops_per_token, counts.active_params, counts.total_params)
            there = np.where(self.least_width > 0, self.least_width, here)
            shift = (here / there) ** self.elasticity if here > 0 else 1.0
        return [
            penalty.heights(values[name], shift if name == "hidden_size" else 1.0)
            for name, penalty in self.penalties.items()
        ]


def _total(parts: list[Array], used: list[Penalty]) -> Excess | None:
    """The sum of draws of `parts`, which `used` gave; None of none."""
    if not parts:
        return None
    total = parts[0]
    for one in parts[1:]:
        total = total + one
    return Excess.of(total, known=all(penalty.known for penalty in used))


def _draws_of(quantity: Quantity) -> Array:
    return np.array([quantity.value]) if quantity.draws is None else quantity.draws


def least_width(backbone: Backbone, flops_per_token: Any, active_params: Any, total_params: Any) -> Any:
    """The lower end of the feasible widths before rounding; elementwise over arrays."""
    targets = Targets(flops_per_token=flops_per_token, active_params=active_params, total_params=total_params)
    with np.errstate(all="ignore"):
        return width_intervals(backbone, targets)[0]


def _shape(name: str, backbone: Backbone) -> Shape:
    """g of a quantity; that of N/N_a is in units of the way from 1 to the bound, and so means the same on another backbone."""
    bound = backbone.max_n_over_na
    shapes: dict[str, Shape] = {
        "flops_per_token": lambda x, best: np.log(x / best) ** 2,
        "m_over_na": lambda x, best: (x - best) ** 2 / (x - MIN_M_OVER_NA) if x > MIN_M_OVER_NA else best * math.inf,
        "n_over_na": lambda x, best: (x - best) ** 2 / ((x - 1) * (bound - x)) if 1 < x < bound else best * math.inf,
        "hidden_size": lambda x, best: (x / best - 1) ** 2,
    }
    return shapes[name]

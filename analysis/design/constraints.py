"""What limits a design, and where it moves the targets: M, M/N_a and N/N_a from the laws' optimum to what is allowed.

A fixed D (``tokens=``, or ``overtraining=`` times the optimal D) fixes M = C / D. A limit of active parameters is met by a
smaller M on more tokens, or, where D is fixed, by a larger M/N_a. A limit of total parameters is met by a smaller N/N_a, a
smaller M, or both: what costs least by the loss curves; without curves N/N_a first goes down to the end of the range in
which the paper finds the loss flat (18, Appendix F.4), then M. A ratio that the user gave never moves. Fixed N_e, K and S are
the backbone's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from analysis.design.excess import LossModel
from analysis.design.optimum import GIVEN, PAPER_MAX_N_OVER_NA, Quantity
from harness.architecture import Backbone
from harness.errors import ConfigError, InfeasibleError
from harness.quantities import short

FLAT_FROM, FLAT_TO = 18.0, 25.0
"""Range of N/N_a over which the loss changes by less than 1% (F.4), on the paper's backbone."""


def share(n_over_na: float, bound: float) -> float:
    """N/N_a as its share of the way from 1 to its bound, by which backbones with other experts are compared (assumed)."""
    return (n_over_na - 1) / (bound - 1)


FLAT = share(FLAT_FROM, PAPER_MAX_N_OVER_NA), share(FLAT_TO, PAPER_MAX_N_OVER_NA)
"""The same range as shares."""

LEAST_N_OVER_NA = 1.05
"""Nearer to 1 hardly any expert is idle, and no width is feasible."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the user allows; None: anything."""

    tokens: float | None = None
    """D, fixed."""
    overtraining: float | None = None
    """D over the optimal D, fixed: above 1 for a smaller model on more tokens."""
    max_active_params: float | None = None
    """N_a, without embeddings."""
    max_total_params: float | None = None
    """N, without embeddings."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{field.name}={value:g}: a positive number is wanted")
        if self.tokens is not None and self.overtraining is not None:
            raise ConfigError(
                f"tokens={self.tokens:g} and overtraining={self.overtraining:g} both fix D: give one of them"
            )


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Where the architecture is looked for."""

    flops_per_token: float
    """M."""
    m_over_na: float
    n_over_na: float
    fixed_tokens: float | None = None
    """D where it is fixed; None: C / realised M."""
    binding: tuple[str, ...] = ()
    """The limits that moved it, each in a sentence."""

    @property
    def active_params(self) -> float:
        """N_a."""
        return self.flops_per_token / self.m_over_na

    @property
    def total_params(self) -> float:
        """N."""
        return self.active_params * self.n_over_na

    def values(self) -> dict[str, float]:
        """What the loss curves price."""
        return {name: getattr(self, name) for name in ("flops_per_token", "m_over_na", "n_over_na")}


def constrained(
    limits: Limits, compute: float, optima: Mapping[str, Quantity], backbone: Backbone, model: LossModel
) -> Aim:
    """The aim nearest to the optimum that `limits` allow.

    Raises:
        InfeasibleError: none does; with by how much the nearest misses.
    """
    best = Aim(
        flops_per_token=optima["flops_per_token"].value,
        m_over_na=optima["m_over_na"].value,
        n_over_na=optima["n_over_na"].value,
    )
    aim = best
    tokens = limits.tokens
    if limits.overtraining is not None:
        tokens = limits.overtraining * compute / best.flops_per_token
    if tokens is not None:
        option = "tokens" if limits.tokens is not None else "overtraining"
        aim = replace(aim, flops_per_token=compute / tokens, fixed_tokens=tokens)
        ratio = tokens * best.flops_per_token / compute
        if abs(ratio - 1) > 1e-9:
            aim = _bound(aim, f"{option} fixes D at {short(tokens)} tokens, {ratio:.3g} times the optimal D")
    if limits.max_active_params is not None and aim.active_params > limits.max_active_params:
        aim = _fewer_active(aim, limits.max_active_params, given=optima["m_over_na"].origin == GIVEN)
    if limits.max_total_params is not None and aim.total_params > limits.max_total_params:
        aim = _fewer_total(aim, limits.max_total_params, backbone, model, given=optima["n_over_na"].origin == GIVEN)
    return aim


def _bound(aim: Aim, sentence: str) -> Aim:
    return replace(aim, binding=(*aim.binding, sentence))


def _fewer_active(aim: Aim, most: float, *, given: bool) -> Aim:
    said = f"max_active_params={short(most)} is below N_a of {short(aim.active_params)}"
    if aim.fixed_tokens is None:
        moved = replace(aim, flops_per_token=most * aim.m_over_na)
        return _bound(moved, f"{said}: a smaller M = {short(moved.flops_per_token)} on more tokens")
    if given:
        raise InfeasibleError(f"{said}, and D and M/N_a are both given: leave one of them out, or allow as many")
    moved = replace(aim, m_over_na=aim.flops_per_token / most)
    return _bound(moved, f"{said}: as D is fixed, a larger M/N_a = {moved.m_over_na:.4g}")


def _fewer_total(aim: Aim, most: float, backbone: Backbone, model: LossModel, *, given: bool) -> Aim:
    said = f"max_total_params={short(most)} is below N of {short(aim.total_params)}"
    if given and aim.fixed_tokens is not None:
        raise InfeasibleError(f"{said}, and D and N/N_a are both given: leave one of them out, or allow as many")
    if given:
        moved = _at_limit(aim, most, aim.n_over_na)
        return _bound(moved, f"{said}: as N/N_a is given, a smaller M = {short(moved.flops_per_token)} on more tokens")
    if aim.fixed_tokens is not None:
        expansion = most / aim.active_params
        if expansion < LEAST_N_OVER_NA:
            raise InfeasibleError(
                f"max_total_params={most:g} cannot be reached: D is fixed, so M = {aim.flops_per_token:.4g} and N_a = "
                f"{aim.active_params:.4g}, and N is at least {LEAST_N_OVER_NA:g} N_a, "
                f"{aim.active_params * LEAST_N_OVER_NA / most:.3g} times the limit; allow as many, more tokens, or a "
                "smaller budget"
            )
        return _bound(replace(aim, n_over_na=expansion), f"{said}: as D is fixed, a smaller N/N_a = {expansion:.4g}")
    if {"flops_per_token", "n_over_na"} <= model.penalties.keys():
        least = max(LEAST_N_OVER_NA, min(aim.n_over_na, most / aim.active_params))
        tried = [_at_limit(aim, most, float(ratio)) for ratio in np.geomspace(least, aim.n_over_na, 200)]
        cost = [_cost(one, model) for one in tried]
        moved, how = tried[int(np.argmin(cost))], "the cheapest by the loss curves"
    else:
        flat = 1 + FLAT[0] * (backbone.max_n_over_na - 1)
        ratio = max(min(flat, aim.n_over_na), min(aim.n_over_na, most / aim.active_params))
        moved, how = (
            _at_limit(aim, most, ratio),
            f"without loss curves: N/N_a to {flat:.3g} first, where F.4 finds the loss flat",
        )
    return _bound(moved, f"{said}: N/N_a = {moved.n_over_na:.4g} and M = {short(moved.flops_per_token)}, {how}")


def _at_limit(aim: Aim, most: float, n_over_na: float) -> Aim:
    """`most` total parameters at this N/N_a, with no larger M than before."""
    flops = min(aim.flops_per_token, most / n_over_na * aim.m_over_na)
    return replace(aim, flops_per_token=flops, n_over_na=n_over_na)


def _cost(aim: Aim, model: LossModel) -> float:
    """Predicted loss of M and N/N_a alone, which are what moves."""
    found = model({"flops_per_token": aim.flops_per_token, "n_over_na": aim.n_over_na})
    return math.inf if found is None else found.value

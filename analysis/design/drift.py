"""A line through budgets' values that may bend: what the data say beyond the budgets, without the belief that a law goes on.

    predictions(log_compute, log_budgets, values, drawn, Allowance(bias=0.1, common=0.05, drift=0.03), random)

value(u) = line + W(u) at u = ln C, with W an integrated Wiener process: the slope wanders, so that the doubt grows with the power
3/2 of the way beyond the last budget. A budget's value errs by its runs' noise, which is known, and by what the study itself
does to it (its sizes and shapes differ in more than the quantity that is looked at), which is not. How far the slope wanders
and how large that bias is, the scatter of the budgets says in part: both are averaged over by their restricted likelihood
and a half-normal prior, whose scale is the allowance; of the slope's, half is always taken. This is kriging with a linear
trend (Wahba 1978; Cressie 1993, section 3.4).
"""

from dataclasses import dataclass

import numpy as np

from analysis.laws.budget import Array

STEPS = np.array([0.02, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.3, 1.7, 2.2, 3.0])

LEAST_DRIFT = 0.5
"""No law is quite straight: budgets that seem to be on a line do not take all of the allowance away."""

SCALES = np.stack([one.ravel() for one in np.meshgrid(STEPS, STEPS[STEPS >= LEAST_DRIFT])], axis=1)
"""Pairs of bias and drift that are averaged over, in units of the allowance; shape (scales, 2)."""

PRIOR = np.prod(np.exp(-0.5 * SCALES**2) * np.gradient(STEPS)[np.searchsorted(STEPS, SCALES)], axis=1)
"""Their weight by the half-normal prior, shape (scales,)."""

NUGGET = 1e-6
"""Added to every budget's error, so that exact values have one too."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What is allowed for beyond the noise of the runs, where the budgets' scatter does not say more."""

    bias: float
    """Scale of what a study puts on the value of one budget and not on the others'."""
    common: float
    """Standard deviation of what it puts on all of them alike, which no scatter shows."""
    drift: float
    """Scale of the change of slope (per unit of ln C) over a factor e of compute."""


def predictions(
    at: float, budgets: Array, values: Array, drawn: Array, allowance: Allowance, random: np.random.Generator
) -> Array:
    """Values at u = `at` that the budgets leave possible, shape (draws,).

    Args:
        at: ln C.
        budgets: ln C of the budgets, shape (n,), two at least.
        values: found there, shape (n,).
        drawn: those of repetitions of the experiment, shape (draws, n).
        allowance: what is allowed for beyond noise.
        random: for what is not the runs' noise.
    """
    draws, n = drawn.shape
    noise = drawn - values
    origin = min(at, budgets.min())
    u, there = budgets - origin, np.array(at - origin)
    bias, drift = (allowance.bias * SCALES[:, 0], allowance.drift * SCALES[:, 1])
    between = drift[:, None, None] ** 2 * _wandering(u[:, None], u[None, :])  # (scales, n, n)
    between += (bias**2 + NUGGET**2)[:, None, None] * np.eye(n)
    towards = drift[:, None] ** 2 * _wandering(u, there)  # (scales, n)
    total = between + np.diag(noise.var(axis=0))
    trend = np.stack([np.ones(n), u], axis=1)  # (n, 2)

    solved = np.linalg.solve(total, np.broadcast_to(trend, (len(bias), n, 2)))  # (scales, n, 2)
    precision = trend.T @ solved  # (scales, 2, 2)
    direct = np.linalg.solve(total, towards[..., None])  # (scales, n, 1)
    beyond = np.array([1.0, float(there)])[:, None] - np.swapaxes(solved, 1, 2) @ towards[..., None]  # (scales, 2, 1)
    weights = (direct + solved @ np.linalg.solve(precision, beyond))[..., 0]  # (scales, n)

    line = np.linalg.solve(precision, np.swapaxes(solved, 1, 2) @ values[:, None])  # (scales, 2, 1)
    residual = values[:, None] - trend @ line  # (scales, n, 1)
    misfit = (residual * np.linalg.solve(total, residual)).sum(axis=(1, 2))
    evidence = -0.5 * (np.linalg.slogdet(total)[1] + np.linalg.slogdet(precision)[1] + misfit)
    chance = np.exp(evidence - evidence.max()) * PRIOR
    picked = random.choice(len(chance), draws, p=chance / chance.sum())

    rest = drift**2 * _wandering(there, there) - 2 * (weights * towards).sum(axis=1)
    rest += np.einsum("sn,snm,sm->s", weights, between, weights)
    spread = np.sqrt(np.maximum(rest, 0.0) + allowance.common**2)[picked]
    return np.asarray((weights[picked] * drawn).sum(axis=1) + spread * random.standard_normal(draws))


def _wandering(one: Array, other: Array) -> Array:
    """Covariance of an integrated Wiener process of unit drift, from 0."""
    least, most = np.minimum(one, other), np.maximum(one, other)
    return np.asarray(least**2 * (3 * most - least) / 6)

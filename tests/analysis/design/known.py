"""Laws with known curves: every optimum and every stiffness is a power law of C, exactly."""

import numpy as np

from analysis.design.drift import Allowance
from analysis.fitting import fit_power_law
from analysis.laws.budget import RESOLVED, Budget, CurveRecord, Estimate, Points
from analysis.laws.records import Law, LawsFile
from analysis.laws.relation import relation_through

BUDGETS = (1e18, 1e19, 1e20)
LEAST = 2.0  # nats
BOUND = 289 / 9


def power(at, exponent):
    return lambda compute: at * (compute / 1e19) ** exponent


M = power(0.9e9, 0.54)
DENSITY = lambda compute: 6 + power(3.2, -0.1)(compute)  # noqa: E731
EXPANSION = power(21.0, 0.005)
WIDTH = power(900.0, 0.22)
STIFFNESS = {
    "flops_per_token": power(0.02, -0.05),
    "m_over_na": power(0.004, -0.1),
    "n_over_na": power(0.05, 0.0),
    "hidden_size": power(0.1, -0.1),
}

NOTHING = Allowance(bias=0.0, common=0.0, drift=0.0)
EXACTLY = dict.fromkeys(STIFFNESS, (NOTHING, NOTHING))
"""What is allowed for where the laws are the truth."""


def curve(name, compute):
    k = STIFFNESS[name](compute) * LEAST
    if name == "flops_per_token":
        return "parabola_in_log", {"c0": LEAST, "c1": 0.0, "c2": k}, {"x0": M(compute)}
    if name == "hidden_size":
        return "parabola", {"c0": LEAST, "c1": 0.0, "c2": k / WIDTH(compute) ** 2}, {"x0": WIDTH(compute)}
    if name == "m_over_na":  # k (y - e)^2 / y = k e^2 / y + k y - 2 k e
        e = DENSITY(compute) - 6
        return "floored_hyperbola", {"a": k * e**2, "b": k, "c": LEAST - 2 * k * e - 6 * k}, {"floor": 6.0}
    # k (x - o)^2 / ((x - 1)(B - x)) = (k p^2 / (x - 1) + k q^2 / (B - x)) / (B - 1) - k,  p = o - 1, q = B - o
    p, q = EXPANSION(compute) - 1, BOUND - EXPANSION(compute)
    width = BOUND - 1
    return "two_poles", {"a": k * p**2 / width, "b": k * q**2 / width, "c": LEAST - k}, {"floor": 1.0, "ceiling": BOUND}


def law(law_id, name, optimum, relation, floor=0.0, unit=""):
    budgets = []
    for compute in BUDGETS:
        kind, coefficients, constants = curve(name, compute)
        record = CurveRecord(kind=kind, coefficients=coefficients, constants=constants, intercepts={"": 0.0})
        best = optimum(compute)
        budgets.append(
            Budget(
                compute=compute, status=RESOLVED, why="known", points=Points(run_ids=("a",)), curve=record,
                optimum=Estimate(value=best, low=best * 0.999, high=best * 1.001),
                minimum_loss=Estimate(value=LEAST), sampled=(best / 3, best * 3),
            )
        )  # fmt: skip
    values = [optimum(compute) for compute in BUDGETS]
    fit = fit_power_law(np.array(BUDGETS), np.array(values), floor=floor)
    return Law(
        id=law_id, studies=(), title=law_id, form="", unit=unit, x=name, x_label=name, per_budget=tuple(budgets),
        relations=(relation_through(fit, BUDGETS, values, relation, relation, unit),),
    )  # fmt: skip


def known_laws(*, without=()):
    laws = (
        law("classical", "flops_per_token", M, "flops_per_token", unit="FLOPs per token"),
        law("m_over_na", "m_over_na", DENSITY, "m_over_na_minus_6", floor=6.0),
        law("n_over_na", "n_over_na", EXPANSION, "n_over_na"),
        law("hidden_size", "hidden_size", WIDTH, "hidden_size"),
    )
    return LawsFile(laws=tuple(one for one in laws if one.id not in without), noise={}, simulated=True)

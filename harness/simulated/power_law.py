"""The plainest truth: the dense law of Hoffmann et al. 2022 with fixed optima of the ratios (``truth=power_law``)."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Self

from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.simulated.lines import Laws, Line, Statements


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """L = E + A / (M/6)^alpha + B / D^beta + p ln²(M/N_a / optimum) + q ln²(N/N_a / optimum) + noise.

    M FLOPs a token, D tokens, N_a active and N all parameters, as realised. M/6 and not N_a, so that at a given M and D the
    optima are just those stated. The noise is Gaussian, drawn from the run id, the training's seed and the truth's. In
    ``configs/truth/power_law.yaml``, E, A, alpha, B and beta are those of Hoffmann et al. 2022 (eq. 10, approach 3), whose N is
    M/6 of a dense model; the optima and how steep they are were made up.
    """

    FORM: ClassVar[str] = "power_law"

    seed: int
    floor: float
    """E, nats a token."""
    flops_coefficient: float
    """A."""
    flops_exponent: float
    """alpha."""
    tokens_coefficient: float
    """B."""
    tokens_exponent: float
    """beta."""
    m_over_na_optimum: float
    m_over_na_penalty: float
    """p, nats a token."""
    n_over_na_optimum: float
    n_over_na_penalty: float
    """q, nats a token."""
    noise: float
    """Standard deviation between seeds, nats a token."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1e-12 if field.name.endswith("_optimum") else 0
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                above = "above 0" if least else "of at least 0"
                raise ConfigError(f"train.truth.{field.name}={value}: a finite number {above} is wanted")
        if not isinstance(self.seed, int):
            raise ConfigError(f"train.truth.seed={self.seed}: a whole number is wanted")

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """From its constants."""
        return cls(**values)

    def final_loss(self, experiment: Experiment) -> float:
        """The formula of the class."""
        counts = experiment.counts
        noise = random.Random(f"noise {experiment.run_id} {experiment.training.seed} {self.seed}").gauss(0.0, 1.0)
        loss: float = (
            self.floor
            + self.flops_coefficient / (counts.flops_per_token / 6) ** self.flops_exponent
            + self.tokens_coefficient / experiment.tokens**self.tokens_exponent
            + self.m_over_na_penalty * math.log(counts.m_over_na / self.m_over_na_optimum) ** 2
            + self.n_over_na_penalty * math.log(counts.n_over_na / self.n_over_na_optimum) ** 2
            + self.noise * noise
        )
        return loss

    def laws(self, budgets: Sequence[float]) -> Laws:  # noqa: ARG002  its laws are exact, whatever the budgets
        """M_opt and D_opt of M D = C (Hoffmann et al. 2022, eq. 4); the ratios do not run with compute.

        Empty where the formula has no optimum (a coefficient or an exponent is 0).
        """
        a, alpha = self.flops_coefficient * 6**self.flops_exponent, self.flops_exponent
        b, beta = self.tokens_coefficient, self.tokens_exponent
        found: Laws = {}
        if min(a, alpha, b, beta) > 0:
            coefficient = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
            exponent = beta / (alpha + beta)
            found["classical"] = {
                "flops_per_token": Line(coefficient=coefficient, exponent=exponent, misfit=0.0),
                "tokens": Line(coefficient=1 / coefficient, exponent=1 - exponent, misfit=0.0),
            }
        if self.m_over_na_optimum > 6:
            excess = Line(coefficient=self.m_over_na_optimum - 6, exponent=0.0, floor=6.0, misfit=0.0)
            plain = Line(coefficient=self.m_over_na_optimum, exponent=0.0, misfit=0.0)
            found["m_over_na"] = {"m_over_na_minus_6": excess, "m_over_na": plain}
        found["n_over_na"] = {"n_over_na": Line(coefficient=self.n_over_na_optimum, exponent=0.0, misfit=0.0)}
        return found

    def statements(self, budgets: Sequence[float], flat_range: tuple[float, float]) -> Statements:  # noqa: ARG002
        """None: the form has no bands."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Form and constants."""
        return {"form": self.FORM, **asdict(self)}

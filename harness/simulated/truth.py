"""The loss that a simulated run ends with: a known truth, for tests of launchers and of the analysis.

    truth = read_truth({"form": "power_law", "seed": 0, ...})      of configs/train/simulated.yaml, or of a command line
    truth.final_loss(experiment)                                   nats a token

Another truth is one more class with the members of `Truth`, listed in `FORMS`.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

from harness.errors import ConfigError, nearest
from harness.experiment import Experiment


class Truth(Protocol):
    """What loss an experiment comes to."""

    @property
    def seed(self) -> int:
        """Of everything random in a simulation: noise, failures, divergences."""

    def final_loss(self, experiment: Experiment) -> float:
        """The final validation loss in nats a token, its noise included; the same whenever it is asked."""

    def describe(self) -> dict[str, Any]:
        """Form and constants; `read_truth` inverts it."""


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """L = E + A / (M/6)^alpha + B / D^beta + p ln²(M/N_a / optimum) + q ln²(N/N_a / optimum) + noise.

    M FLOPs a token, D tokens, N_a active and N all parameters, as realised. M/6 and not N_a, so that at a given M and D the
    optima are just those stated. The noise is Gaussian, drawn from the run id, the training's seed and the truth's. In
    ``configs/train/simulated.yaml``, E, A, alpha, B and beta are those of Hoffmann et al. 2022 (eq. 10, approach 3), whose N is
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

    def describe(self) -> dict[str, Any]:
        """Form and constants."""
        return {"form": self.FORM, **asdict(self)}


FORMS = {PowerLaw.FORM: PowerLaw}
"""The truths that there are, by the word in ``train.truth.form``."""


def read_truth(values: Any) -> Truth:
    """A truth from its form and constants.

    Raises:
        ConfigError: the form or a constant is unknown, missing or out of range.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"train.truth={values}: a mapping is wanted, with form (one of {', '.join(FORMS)}) and constants"
        )
    form = values.get("form")
    if form not in FORMS:
        raise ConfigError(f"train.truth.form={form}: choose one of {', '.join(FORMS)}{nearest(form, FORMS)}")
    kind = FORMS[form]
    known = [field.name for field in fields(kind)]
    given = {key: value for key, value in values.items() if key != "form"}
    for key in given:
        if key not in known:
            raise ConfigError(f"train.truth.{key} is unknown{nearest(key, known)} (valid: {', '.join(known)})")
    if missing := [name for name in known if name not in given]:
        raise ConfigError(f"train.truth lacks {', '.join(missing)}")
    return kind(**given)

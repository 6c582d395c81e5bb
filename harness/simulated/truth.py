"""The loss that a simulated run ends with: a known truth, for tests of launchers and of the analysis (docs/truths.md).

    truth = read_truth({"form": "power_law", "seed": 0, ...})      of configs/truth/, or of a command line
    truth.final_loss(experiment)                                   nats a token
    truth.laws([1e18, 1e20])                                       what a refit of its losses should find

Another form is one more class with the members of `Truth` and a classmethod `read`, listed in `FORMS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

from harness.errors import ConfigError, nearest
from harness.experiment import Experiment
from harness.simulated.holistic import Holistic
from harness.simulated.lines import Laws, Statements
from harness.simulated.power_law import PowerLaw


class Truth(Protocol):
    """What loss an experiment comes to."""

    @property
    def seed(self) -> int:
        """Of everything random in a simulation: noise, failures, divergences."""

    def final_loss(self, experiment: Experiment) -> float:
        """The final validation loss in nats a token, its noise included; the same whenever it is asked."""

    def laws(self, budgets: Sequence[float]) -> Laws:
        """Its own laws of the optima over `budgets` (FLOPs), by law id and quantity; what the form does not state is left out."""

    def statements(self, budgets: Sequence[float], flat_range: tuple[float, float]) -> Statements:
        """Its own numbers for the statements of ``laws.json`` that its form determines; `flat_range` is of N/N_a."""

    def describe(self) -> dict[str, Any]:
        """Form and constants; `read_truth` inverts it."""


FORMS: dict[str, type[PowerLaw] | type[Holistic]] = {PowerLaw.FORM: PowerLaw, Holistic.FORM: Holistic}
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
    return kind.read(given)

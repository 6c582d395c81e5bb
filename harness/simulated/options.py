"""How runs are simulated (``configs/train/simulated.yaml``), and the command that does it."""

import random
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.files import canonical_json
from harness.simulated.truth import Truth

PROGRAM = "harness.simulated"


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The job option ``train=simulated``: no part of any experiment, so that run ids are those of real runs."""

    truth: Truth
    """What loss a run ends with."""
    failure_rate: float = 0.0
    """Share of the attempts that crash at a random step; another attempt of the same run may succeed."""
    divergence_rate: float = 0.0
    """Share of the runs that diverge at a random step, each time that they are trained."""
    seconds: float = 0.0
    """Wall time of a whole run; a resumed one takes what is left of it."""

    def __post_init__(self) -> None:
        for name in ("failure_rate", "divergence_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"train.{name}={getattr(self, name):g}: a share between 0 and 1 is wanted")
        if not 0 <= self.seconds <= 1e9:
            raise ConfigError(f"train.seconds={self.seconds:g}: a number of at least 0 is wanted")

    def words(self, run: Path, *, keep_checkpoints: str, checkpoint_minutes: float) -> list[str]:
        """The arguments of ``python -m harness.simulated`` for the run in directory `run`, each one in full."""
        return [
            *("--run-dir", str(run)),
            *("--truth", canonical_json(self.truth.describe())),
            *("--failure-rate", repr(self.failure_rate)),
            *("--divergence-rate", repr(self.divergence_rate)),
            *("--seconds", repr(self.seconds)),
            *("--keep-checkpoints", keep_checkpoints),
            *("--checkpoint-minutes", repr(checkpoint_minutes)),
        ]

    def failing_step(self, experiment: Experiment, attempt: int, first: int) -> int | None:
        """The step beyond `first` at which attempt number `attempt` crashes, or None."""
        chance = random.Random(f"failure {experiment.run_id} {attempt} {self.truth.seed}")
        if chance.random() >= self.failure_rate:
            return None
        return chance.randint(min(first + 1, experiment.training.train_iters), experiment.training.train_iters)

    def diverging_step(self, experiment: Experiment) -> int | None:
        """The step at which the run's loss stops being a number, or None."""
        chance = random.Random(f"divergence {experiment.run_id} {self.truth.seed}")
        if chance.random() >= self.divergence_rate:
            return None
        return chance.randint(experiment.training.first_iters + 1, experiment.training.train_iters)


def command_text(words: list[str], python: str) -> str:
    """The program with these arguments as a shell command of several lines."""
    lines = [f"{shlex.quote(python)} -m {PROGRAM}"]
    for word in words:
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {shlex.quote(word)}"
    return "# simulated: no model is trained\n" + " \\\n    ".join(lines) + "\n"

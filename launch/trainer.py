"""Which trainer a launch uses: Megatron or the simulator, and never both for the runs of one sweep."""

from typing import Any

from harness.settings import job_options
from harness.simulated.marker import refuse_mixture
from harness.sweepfile import WrittenSweep, load_sweep, update_job_options


def with_trainer(sweep: WrittenSweep, train: Any | None) -> WrittenSweep:
    """`sweep` with the trainer that `train` (the option group of that name) chooses; None: the one it was planned with.

    A choice is kept for later launches, and the sweep's table is marked by it.

    Raises:
        ConfigError: an option of the trainer cannot be used.
        RunError: a run of the sweep was begun by the other trainer, or simulated from another truth.
    """
    config: Any = sweep.config if train is None else {**sweep.config, "train": train}
    simulation = job_options(config, sweep.name).simulation
    refuse_mixture(
        sweep.root, (one.run_id for one in sweep.experiments), simulation.truth if simulation is not None else None
    )
    if train is None:
        return sweep
    update_job_options(sweep.root, sweep.name, config, ["train"])
    return load_sweep(sweep.root, sweep.name)

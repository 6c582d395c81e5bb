"""What must hold in the process before Megatron starts: the device, the ranks, and what the wheel leaves out."""

import os
from typing import Any

from harness.errors import RunError


def is_writer() -> bool:
    """Whether this process is the last rank, on which Megatron logs and we write."""
    return int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1


def prepare(flags: list[str]) -> None:
    """Make this process ready for Megatron with `flags`: on a machine without a GPU, turn it to the CPU.

    Raises:
        RunError: the flags are for GPUs, and there is none.
    """
    import torch

    for_cpu = "gloo" in flags
    if not torch.cuda.is_available() and not for_cpu:
        raise RunError(
            "this command is for GPUs, and this machine has none: submit it to a cluster (launch=slurm), or plan for a CPU "
            "(cluster=cpu)"
        )
    preload(for_cpu=not torch.cuda.is_available())


def preload(*, for_cpu: bool) -> None:
    """Import Megatron, once per process; a launcher calls it before it forks a child for each run."""
    if for_cpu:
        from harness.megatron import cpu

        cpu.install()
    import megatron.core.datasets.utils as dataset_utils
    import megatron.training.training

    import harness.megatron.task  # noqa: F401

    # the wheel has the compiled dataset helpers but no Makefile, and Megatron would run make and leave
    dataset_utils.compile_helpers = lambda: None
    if for_cpu:
        cpu.adapt_megatron()


def single_process_store() -> Any | None:
    """A store in memory where the run is one process (no port to collide on); None where torchrun or Slurm made more."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return None
    import torch.distributed

    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(name, value)
    return torch.distributed.HashStore()

"""What must hold in the process before Megatron starts: the device, the ranks, and what the wheel leaves out."""

import os
from typing import Any

from harness.errors import RunError
from harness.megatron.flags import group_flags


def is_writer() -> bool:
    """Whether this process is the last rank, on which Megatron logs and we write."""
    return int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1


def check_device(flags: list[str]) -> None:
    """Refuse flags for GPUs on a machine without one.

    Raises:
        RunError: with what to do.
    """
    import torch

    if not torch.cuda.is_available() and group_flags(flags).get("--distributed-backend") != ["gloo"]:
        raise RunError(
            "this command is for GPUs, and this machine has none: submit it to a cluster, or plan for a CPU "
            "(backbone=demo, or cluster=cpu training.precision=fp32)"
        )


def preload() -> None:
    """Import Megatron into this process, on a machine without a GPU through `harness.megatron.cpu`.

    Called by the training program, and by a launcher's server before it forks a child for each run.
    """
    import torch

    without_gpu = not torch.cuda.is_available()
    if without_gpu:
        from harness.megatron import cpu

        cpu.install()
    import megatron.core.datasets.utils as dataset_utils

    import harness.megatron.task  # noqa: F401

    # the wheel has the compiled dataset helpers but no Makefile, and Megatron would run make and leave
    dataset_utils.compile_helpers = lambda: None
    if without_gpu:
        cpu.adapt_megatron()


def single_process_store() -> Any | None:
    """A store in memory where the run is one process (no port to collide on); None where torchrun or Slurm made more."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return None
    import torch.distributed

    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}.items():
        os.environ.setdefault(name, value)
    return torch.distributed.HashStore()

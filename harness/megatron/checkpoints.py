"""A run's checkpoints: saved by wall time, never removed before a newer one is complete, never another experiment's.

Megatron 0.19 saves every N steps (``--save-interval``) and when told to stop, but not every so many minutes, and its tracker
file (``latest_checkpointed_iteration.txt``) is not replaced atomically. `Checkpoints` adds what is missing through the two
functions that every save of Megatron's training loop goes through (`install`), and keeps a record of its own beside the tracker:

    checkpoints/
        latest_checkpointed_iteration.txt    Megatron's
        record.json                          run id, and the newest step known to be complete
        iter_0000500/                        Megatron's, with a copy of the run id in run.json
"""

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import RunError
from harness.files import read_json, read_text, write_atomically, write_json
from harness.megatron.branching import COMPLETE, RECORD, checkpoint_path
from harness.rundir import RunDirectory

TRACKER = "latest_checkpointed_iteration.txt"


class Checkpoints:
    """The checkpoints of one run, as seen by one rank of one attempt."""

    def __init__(self, run: RunDirectory, *, keep: str, minutes: float, writer: bool, kept_steps: tuple[int, ...] = ()):
        """`keep`: none, last or all; `minutes` of wall time between saves, 0 for none; `writer`: this rank tidies up.

        `kept_steps`: of a trunk, the steps where branches leave it: each is saved, and stays until a launcher removes it.
        """
        self.run = run
        self.directory = run.checkpoints
        self.keep = keep
        self.seconds = minutes * 60
        self.writer = writer
        self.kept_steps = kept_steps
        self.before_save: Callable[[], None] = lambda: None
        """Raises where this process may no longer write."""
        self.exit_decided = False
        """Whether Megatron's loop ended early because it was told to (a signal, ``--exit-interval``)."""
        self._saved_at = time.monotonic()

    def claim(self) -> int | None:
        """Before Megatron loads: the step that it will go on from, or None; mends what a crash left torn.

        Raises:
            RunError: the checkpoints are another experiment's.
        """
        record = read_json(self.directory / RECORD) or {}
        newest = self._tracked()
        recorded = record.get("step")
        if newest is None and isinstance(recorded, int) and self._path(recorded).exists():
            newest = recorded  # a full disk or a crash left the tracker empty, or naming what is not there
        self._refuse_others(record, newest)
        if newest is None:
            return None
        if self.writer:
            if self._tracked() != newest:
                write_atomically(self.directory / TRACKER, str(newest))
            self._remove(step for step in self._steps() if step > newest and step != recorded)
            self._record(newest)
        return newest

    def _refuse_others(self, record: dict[str, Any], newest: int | None) -> None:
        identity = self._identity()
        beside = read_json(self._path(newest) / COMPLETE) if newest is not None else None
        for found in (record.get("run_id"), (beside or {}).get("run_id")):
            if found is not None and identity is not None and found != identity:
                raise RunError(
                    f"{self.directory} holds a checkpoint of experiment {found}, and this run is {identity}: move it away, "
                    "and the run starts from its beginning"
                )

    def install(self) -> None:
        """Let Megatron's training loop save by wall time, and tidy up after each save."""
        from megatron.training import get_args, training

        save, decide = training.save_checkpoint_and_time, training.checkpoint_and_decide_exit
        if hasattr(save, "of_megatron"):  # another run of this process
            save, decide = save.of_megatron, decide.of_megatron

        def save_and_tidy(iteration: int, *args: Any, **kwargs: Any) -> None:
            self.before_save()
            try:
                save(iteration, *args, **kwargs)
            except Exception as error:
                raise self._failed(iteration, error) from error
            self._saved_at = time.monotonic()
            self.tidy()

        def decide_by_time(*args: Any, **kwargs: Any) -> Any:
            iteration, megatron = kwargs.get("iteration", args[3] if len(args) > 3 else None), get_args()
            if megatron.async_save:
                self.tidy()  # the save that was begun earlier may be complete by now
            interval = megatron.save_interval
            # after the last step Megatron saves anyway
            if iteration != megatron.train_iters and (iteration in self.kept_steps or self._due()):
                megatron.save_interval = iteration
            try:
                self.exit_decided = bool(decide(*args, **kwargs))
                return self.exit_decided
            finally:
                megatron.save_interval = interval

        save_and_tidy.of_megatron, decide_by_time.of_megatron = save, decide  # type: ignore[attr-defined]
        training.save_checkpoint_and_time, training.checkpoint_and_decide_exit = save_and_tidy, decide_by_time

    def _due(self) -> bool:
        """Whether it is time to save: all ranks answer the same, as any one of them says so."""
        if not self.seconds:
            return False
        due = time.monotonic() - self._saved_at >= self.seconds
        import torch

        if torch.distributed.get_world_size() > 1:
            flag = torch.tensor([int(due)], device="cuda")
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            due = bool(flag.item())
        return due

    def tidy(self) -> None:
        """Record the newest complete checkpoint, and only then remove the older ones."""
        newest = self._tracked() if self.writer else None
        if newest is None or newest == (read_json(self.directory / RECORD) or {}).get("step"):
            return
        self._record(newest)
        if self.keep != "all":
            self._remove(step for step in self._steps() if step < newest and step not in self.kept_steps)

    def done(self) -> None:
        """The run is done, its result on disk: keep what was asked for."""
        if self.keep == "none" and not self.kept_steps:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _failed(self, iteration: int, error: Exception) -> RunError:
        """What to say of a save that failed; the torn checkpoint goes, so that there is room for the run's own files."""
        newest = self._tracked()
        if self.writer and newest != iteration:
            self._remove([iteration])
        free = shutil.disk_usage(self.run.path).free
        intact = f"that of step {newest} is intact" if newest is not None else "there is none before it"
        return RunError(
            f"saving the checkpoint of step {iteration} to {self.directory} failed ({str(error).splitlines()[0]}; "
            f"{free / 1e9:.3g} GB free on that disk); {intact}. Make room, or lift the quota, and start the run again: it goes "
            f"on from {'there' if newest is not None else 'its beginning'}"
        )

    def _identity(self) -> str | None:
        return self.run.experiment().run_id if (self.run.path / "experiment.json").exists() else None

    def _tracked(self) -> int | None:
        """The step that Megatron's tracker names, if its checkpoint is there."""
        text = (read_text(self.directory / TRACKER) or "").strip()
        return int(text) if text.isdigit() and self._path(int(text)).exists() else None

    def _record(self, step: int) -> None:
        record = {"run_id": self._identity(), "step": step}
        write_json(self._path(step) / COMPLETE, record)
        write_json(self.directory / RECORD, record)

    def _steps(self) -> list[int]:
        names = (path.name.removeprefix("iter_") for path in self.directory.glob("iter_*"))
        return [int(name) for name in names if name.isdigit()]

    def _path(self, step: int) -> Path:
        return checkpoint_path(self.run, step)

    def _remove(self, steps: Any) -> None:
        for step in steps:
            with contextlib.suppress(OSError):  # a file that another rank still holds goes with the next save
                shutil.rmtree(self._path(step))

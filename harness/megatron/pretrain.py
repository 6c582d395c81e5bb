"""The training program: Megatron's own ``pretrain`` on the flags it is given, in a run directory.

    OMP_NUM_THREADS=1 python -m harness.megatron.pretrain --run-dir DIR <Megatron flags>       a CPU
    torchrun --nproc-per-node=8 -m harness.megatron.pretrain --run-dir DIR <Megatron flags>    GPUs

The flags of a run are in its ``command.txt``. The same command resumes a run that was stopped. Exit codes: 0 done;
75 stopped by a signal after saving a checkpoint; 3 diverged; 16 and 17 stopped by Megatron's rerun state machine;
4 the directory belongs to another experiment or process; 2 wrong flags; 1 anything else. status.json says the same.
"""

import argparse
import functools
import os
import shlex
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunError
from harness.lease import Lease
from harness.megatron.branching import Branching, branching
from harness.megatron.checkpoints import Checkpoints
from harness.megatron.options import KEEP, Program
from harness.rundir import RunDirectory, slurm_job
from harness.simulated.marker import refuse_simulated

STOPPED, DIVERGED, REFUSED = 75, 3, 4
RERUN_EXIT_CODES = (16, 17)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""Each lets the run save a checkpoint and stop. SIGTERM comes on preemption and cancellation, SIGUSR1 before a time limit."""


def main(argv: list[str] | None = None) -> int:
    """Train the run that `argv` (default: the command line) describes; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.megatron.pretrain",
        description="Train one run with Megatron-LM. All other flags are Megatron's.",
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument("--run-dir", type=Path, required=True, help="directory of the run; made if it is missing")
    default = Program()
    parser.add_argument(
        "--keep-checkpoints", choices=KEEP, default=default.keep_checkpoints, help="which stay when the run is done"
    )
    parser.add_argument(
        "--checkpoint-minutes",
        type=float,
        default=default.checkpoint_minutes,
        help="wall time between checkpoints; 0: none",
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard files into the run's directory")
    parser.add_argument("--spike-nats", type=float, default=default.spike_nats, help="rise of the loss that is a spike")
    parser.add_argument("--spike-steps", type=int, default=default.spike_steps, help="steps that it is averaged over")
    parser.add_argument("--dataset-iters", type=int, default=0, help="steps' worth of samples to ask the dataset for")
    parser.add_argument("--branch-points", default="", help="of a trunk: steps whose checkpoints stay, as in 40,80")
    parser.add_argument("--trunk", default="", help="of a branch: the trunk's run directory")
    parser.add_argument(
        "--branch-point", type=int, default=0, help="of a branch: the trunk's step that it goes on from"
    )
    own, flags = parser.parse_known_args(argv)
    options = vars(own)
    try:
        run = RunDirectory.at(options.pop("run_dir").absolute())
        return train(run, flags, Program(**options), job_id=slurm_job(os.environ))
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED


def train(run: RunDirectory, flags: list[str], program: Program | None = None, *, job_id: str | None = None) -> int:
    """Train `run` with Megatron's `flags`, recording the attempt; returns the exit code.

    Only the last rank (Megatron's logging rank) writes into the directory.

    Raises:
        RunError: the directory or its checkpoints are another experiment's or simulated, or another process is writing it.
    """
    from harness.megatron.agreement import check_flags
    from harness.megatron.environment import check_device, is_writer

    refuse_simulated(run)
    check_device(flags)
    check_flags(run, flags)
    program = program or Program()
    shared = branching(run, program)
    if shared.trunk is not None:
        refuse_simulated(shared.trunk)
    checkpoints = Checkpoints(
        run,
        keep=program.keep_checkpoints,
        minutes=program.checkpoint_minutes,
        writer=is_writer(),
        kept_steps=shared.kept_steps,
    )
    result = run.result()
    if result is not None and run.status().state == "done":  # every rank sees this, so none waits for another
        if is_writer():
            print(
                f"run {run.run_id} is done: final validation loss {result['final_validation_loss']}. "
                "To train it once more, give another --run-dir."
            )
        return 0
    run.path.mkdir(parents=True, exist_ok=True)
    if not is_writer():
        return _Training(run, flags, program, checkpoints, shared, None).run()
    with Lease(run.path, patient=job_id is not None) as lease:
        refuse_simulated(run)  # again: a simulator may have held the lease until now
        # another experiment's are refused before an attempt is recorded, and so is a branch without its trunk
        if (saved := checkpoints.claim()) is None and shared.trunk is not None:
            shared.checkpoint()
        checkpoints.before_save = functools.partial(lease.check, now=True)
        attempt = run.begin_attempt(
            command=shlex.join([*program.flags(), *flags]), job_id=job_id, first_step=saved or shared.branch_point
        )
        print(f"run {run.run_id}, attempt {attempt.number}", flush=True)
        code = _Training(run, flags, program, checkpoints, shared, lease).run()
        if code == 0:  # the result is on disk and the status says done: only now may the weights go
            shutil.rmtree(run.path / "cache", ignore_errors=True)
            checkpoints.done()
        return code


class _Training:
    """One attempt, from the first import of Megatron to the recorded end."""

    def __init__(
        self,
        run: RunDirectory,
        flags: list[str],
        program: Program,
        checkpoints: Checkpoints,
        shared: Branching,
        lease: Lease | None,
    ):
        self.run_directory = run
        self.flags = flags
        self.program = program
        self.checkpoints = checkpoints
        self.shared = shared
        self.lease = lease
        self.metrics: Any = None
        self.args: Any = None
        self._stopped_by = 0
        """The signal that asked for it."""

    def run(self) -> int:
        """Train, and record how it ended."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop_before_training)
        message: str | None = None
        try:
            self._pretrain()
            end, code, message = self._judge()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            if code in RERUN_EXIT_CODES:
                end, message = "rerun", f"Megatron's rerun state machine stopped the job (exit code {code})"
            elif self._stopped_by or (code == 0 and self.checkpoints.exit_decided):
                end = "limit" if self._stopped_by == signal.SIGUSR1 else "signal"
                code, message = STOPPED, "told to stop; a later start goes on from the last checkpoint"
            else:
                # Megatron leaves with code 0 also where it cannot read a checkpoint
                end, message = "crash", f"Megatron left with exit code {code}; see the log{self._about_checkpoint()}"
                code = code or 1
        except KeyboardInterrupt:
            end, code, message = "signal", 130, "stopped at once; steps since the last checkpoint are lost"
        except Exception as error:
            traceback.print_exc()
            message = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}".splitlines()[0]
            # what Megatron's check of losses and gradients says of a NaN or an infinity
            end, code = ("diverged", DIVERGED) if "Unexpected result" in str(error) else ("crash", 1)
        if message:
            print(f"run {self.run_directory.run_id}: {message}", file=sys.stderr, flush=True)
        try:
            self._close(code)
            if self.lease is not None and self.lease.held():
                first = getattr(self.args, "iteration", None)
                last = self.metrics.rows[-1]["step"] if self.metrics and self.metrics.rows else first
                self.run_directory.end_attempt(
                    end=end, first_step=first, last_step=last, exit_code=code, message=message
                )
        except OSError as error:  # a full disk: the next start finds an attempt without an end, and says so
            print(f"run {self.run_directory.run_id}: its end could not be recorded: {error}", file=sys.stderr)
            code = code or 1
        return code

    def _close(self, code: int) -> None:
        """Hand on what the loggers still hold."""
        if self.metrics is None:
            return
        from megatron.training import global_vars

        if (wandb := global_vars.get_wandb_writer()) is not None:
            wandb.finish(exit_code=code)
        self.metrics.close()

    def _about_checkpoint(self) -> str:
        """What to do where Megatron left before its first step, as it does (with code 0) on a checkpoint that it cannot read."""
        started = self.metrics is not None and self.metrics.rows
        if started or not self.run_directory.checkpoints.exists():
            return ""
        return (
            f" (if a checkpoint cannot be read, move the damaged iter_* out of {self.run_directory.checkpoints}: the run then "
            "goes on from an earlier one, or from its beginning where the directory is removed)"
        )

    def _pretrain(self) -> None:
        from harness.megatron import environment

        environment.preload()
        from megatron.core.enums import ModelType
        from megatron.training import global_vars, training
        from megatron.training.argument_utils import gpt_config_from_args, pretrain_cfg_container_from_args
        from megatron.training.arguments import parse_and_validate_args

        from harness.megatron.fileflags import run_directory_flags
        from harness.megatron.flags import group_flags
        from harness.megatron.metrics import MetricsWriter
        from harness.megatron.task import datasets_provider, forward_step

        wandb = "--wandb-project" in group_flags(self.flags)
        if wandb:  # all attempts are one W&B run; Megatron passes neither id nor resume
            os.environ |= {"WANDB_RUN_ID": self.run_directory.run_id, "WANDB_RESUME": "allow"}
            os.environ.setdefault("WANDB_MODE", "offline")
        own = run_directory_flags(self.run_directory.path, tensorboard=self.program.tensorboard, wandb=wandb)
        saved = self.checkpoints.claim()
        start = self.shared.load_flags() if saved is None and self.shared.trunk is not None else []
        sys.argv = [sys.argv[0], *own, *start, *self.flags]  # of a flag that comes twice the later one counts
        args = self.args = parse_and_validate_args()
        if saved == args.train_iters:
            args.save_interval = args.train_iters  # the last one is there: do not write over it
        self.checkpoints.install()
        if environment.is_writer():
            self.metrics = global_vars._GLOBAL_TENSORBOARD_WRITER = MetricsWriter(
                self.run_directory.metrics_path,
                batch_tokens=args.global_batch_size * args.seq_length,
                tensorboard=global_vars.get_tensorboard_writer(),
                progress=self._progress,
            )
        megatron_stop: Any = signal.getsignal(signal.SIGTERM)

        def stop(number: int, frame: Any) -> None:
            if self._stopped_by and number == signal.SIGINT:
                raise KeyboardInterrupt  # the second Ctrl-C does not wait for a checkpoint
            self._stopped_by = number
            megatron_stop(number, frame)

        for number in STOP_SIGNALS:
            signal.signal(number, stop)
        training.pretrain(
            pretrain_cfg_container_from_args(args, model_cfg=gpt_config_from_args(args)),
            datasets_provider(self.shared.dataset_iters),
            ModelType.encoder_or_decoder,
            forward_step,
            store=environment.single_process_store(),
        )

    def _judge(self) -> tuple[str, int, str | None]:
        """Whether a training that came to its end is done: a finite validation loss, and learning happened."""
        if self.metrics is None:
            return "done", 0, None
        from harness.megatron.divergence import why_diverged
        from harness.megatron.result import write_result

        if self.lease is not None:
            self.lease.check(now=True)
        result = write_result(self.run_directory, self.metrics, self.program, self.shared)
        if (reason := why_diverged(result)) is not None:
            return "diverged", DIVERGED, reason
        return "done", 0, None

    def _progress(self, _row: dict[str, Any]) -> None:
        if self.lease is not None:
            self.lease.check()

    def _stop_before_training(self, number: int, *_: Any) -> None:
        self._stopped_by = number
        sys.exit(STOPPED)


if __name__ == "__main__":
    sys.exit(main())

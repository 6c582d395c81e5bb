"""Whether a command's flags are those of the experiment whose directory it is given."""

from pathlib import Path

from harness.data.blend import check_blend_flags
from harness.data.manifest import check_data
from harness.errors import RunError
from harness.megatron.argv import experiment_flags
from harness.megatron.device import LOCAL_SPEC
from harness.megatron.fileflags import blend_flags, data_flags
from harness.megatron.flags import FILES, LAYOUT, group_flags, is_neutral, megatron_flags
from harness.rundir import RunDirectory


def check_flags(run: RunDirectory, flags: list[str]) -> None:
    """Refuse flags that contradict the experiment of the directory (its model, its training, its data) or add to it.

    Raises:
        RunError: naming the first flag that differs.
        DataError: the dataset that the flags name is not the experiment's.
    """
    if not (run.path / "experiment.json").exists():
        return  # a run by hand: its flags are all there is
    experiment, given = run.experiment(), group_flags(flags)
    wanted = group_flags(experiment_flags(experiment))
    if experiment.data is not None:
        words = given.get("--train-data-path", ["."])
        if len(words) > 1:  # weights and paths: a blend
            wanted |= group_flags(blend_flags(check_blend_flags(experiment, words)))
        else:
            wanted |= group_flags(data_flags(check_data(experiment, Path(words[0]).parent)))
    judged = int(given.get("--eval-iters", ["0"])[0]) * int(given.get("--eval-global-batch-size", ["0"])[0])
    if judged != experiment.training.validation_sequences:
        raise RunError(
            f"{run.path} is judged on {experiment.training.validation_sequences} validation sequences, but the command "
            f"evaluates {judged} (--eval-iters times --eval-global-batch-size)"
        )
    if (padded := padded_vocabulary(given)) != experiment.backbone.padded_vocab_size:
        raise RunError(
            f"{run.path} has a vocabulary of {experiment.backbone.padded_vocab_size} rows, but the command pads to {padded} "
            "(--make-vocab-size-divisible-by times --tensor-model-parallel-size)"
        )
    allowed = wanted.keys() | FILES | LAYOUT | {LOCAL_SPEC[0]}
    if given.get(LOCAL_SPEC[0], list(LOCAL_SPEC[1:])) != list(LOCAL_SPEC[1:]):
        allowed -= {LOCAL_SPEC[0]}
    for name in given.keys() & megatron_flags().keys() - allowed:  # Megatron itself refuses what it does not know
        if not is_neutral(name):
            raise RunError(
                f"{name} may change the loss, and is no part of the experiment of {run.path}: plan one that has it "
                f"(megatron.extra='{name} ...'), or give another --run-dir"
            )
    for name, values in wanted.items():
        if given.get(name) != values:
            raise RunError(
                f"{run.path} is the directory of an experiment with {name} {' '.join(values)}, but the command says "
                f"{' '.join([name, *given[name]]) if name in given else f'no {name}'}: give another --run-dir"
            )


def padded_vocabulary(flags: dict[str, list[str]]) -> int:
    """Rows of the embedding tables that Megatron makes of `flags`."""
    size, divisor, tensor_parallel = (
        int((flags.get(name) or [default])[0])
        for name, default in (
            ("--vocab-size", "0"),
            ("--make-vocab-size-divisible-by", "128"),
            ("--tensor-model-parallel-size", "1"),
        )
    )
    multiple = divisor * tensor_parallel
    return -(-size // multiple) * multiple

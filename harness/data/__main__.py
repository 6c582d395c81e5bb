"""Prepare a dataset, or blend some.

    python -m harness.data data=demo
    python -m harness.data data.path=datasets/web 'data.corpus=web/*.jsonl.zst' data.tokenizer=tokenizers/qwen
    python -m harness.data data.path=datasets/mix 'data.blend={datasets/web: 0.7, datasets/code: 0.3}'

Needs neither torch nor Megatron. Stopped or killed, the same command goes on from where it was.
"""

from typing import Any

from omegaconf import DictConfig

from harness import cli
from harness.data.blend import make_blend, table
from harness.data.manifest import read_manifest, read_request
from harness.data.prepare import prepare
from harness.data.request import Request
from harness.errors import DataError
from harness.experiment import Data


def main(config: DictConfig) -> int:
    """Prepare the dataset that `config` describes, unless it is there."""
    request = Request.of(config.data)
    try:
        present = None if config.again else read_manifest(request.path)
    except DataError as error:
        print(f"{error} - doing so now")
        present = None
    data = (
        _blend(request, present) if request.blend is not None else _dataset(request, present, anew=bool(config.again))
    )
    what = "blend" if data.blend else "dataset"
    print(
        f"{what} {data.name!r} in {request.path}: {data.train_tokens:,} training and {data.validation_tokens:,} "
        f"validation tokens ({data.tokenizer}, vocabulary {data.vocab_size}), digest {data.digest}"
    )
    if data.blend:
        print("\n".join(table(request.path)))
    return 0


def _dataset(request: Request, present: Data | None, *, anew: bool) -> Data:
    if present is not None and not request.corpus:
        return present  # nothing else is asked for than what there is
    corpus = request.read_corpus() if present is None else None
    tokenizer = request.load_tokenizer()
    wanted = request.recorded(tokenizer)
    if present is not None:
        _check_same(request, wanted)
        return present
    assert corpus is not None
    try:
        return prepare(
            corpus,
            request.path,
            name=request.shown_name,
            validation_share=request.validation_share,
            tokenizer=tokenizer,
            settings={key: value for key, value in wanted.items() if key not in ("name", "tokenizer")},
            workers=request.workers,
            anew=anew,
        )
    except KeyboardInterrupt:
        print("\nstopped: the same command goes on from here", flush=True)
        raise


def _blend(request: Request, present: Data | None) -> Data:
    assert request.blend is not None
    if present is not None:
        held = {"name": request.shown_name, "blend": {str(path): weight for path, weight in request.blend.items()}}
        if not present.blend:
            raise DataError(f"{request.path} holds a dataset: give a blend a directory of its own (data.path)")
        _check_same(request, held)
        return present
    return make_blend(request.blend, request.path, request.shown_name)


def _check_same(request: Request, wanted: dict[str, Any]) -> None:
    """Refuse to take what is there for what is wanted, where they differ.

    Raises:
        DataError: naming the options.
    """
    held = read_request(request.path)
    changed = [key for key in wanted if held.get(key) != wanted[key]]
    if changed:
        differences = "; ".join(f"data.{key}: {held.get(key)} -> {wanted[key]}" for key in changed)
        raise DataError(
            f"{request.path} holds another dataset ({differences}): give another data.path, or again=true to replace it"
        )


if __name__ == "__main__":
    cli.run("data", main)

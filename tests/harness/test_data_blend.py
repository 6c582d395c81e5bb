"""Blends: their identity, what they are refused for, how many tokens they give, and what Megatron makes of them."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from harness.data.blend import blended, check_blend_flags, make_blend, table
from harness.data.manifest import check_data, check_size, read_manifest, read_parts
from harness.data.prepare import prepare
from harness.errors import ConfigError, DataError
from harness.experiment import Experiment
from harness.megatron.fileflags import data_flags
from harness.megatron.flags import group_flags
from tests.conftest import REPOSITORY, command, tiny_experiment
from tests.harness.data_samples import corpus_of, texts


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two datasets, of small and of capital letters."""
    folder = tmp_path_factory.mktemp("parts")
    ascii_texts = [text.encode("ascii", "ignore").decode() for text in texts(400)]
    prepare(corpus_of([t.lower() for t in ascii_texts]), folder / "web", name="web", validation_share=0.3)
    prepare(corpus_of([t.upper() for t in ascii_texts[:200]]), folder / "code", name="code", validation_share=0.3)
    return folder


def test_a_blend_is_made_on_the_command_line(parts):
    words = ["-m", "harness.data", "data.path=mix"]
    done = command(*words, "data.blend={web: 0.7, code: 0.3}", cwd=parts)
    assert done.returncode == 0, done.stderr
    web, code, mix = (read_manifest(parts / name) for name in ("web", "code", "mix"))
    assert mix.train_tokens == min(int(web.train_tokens / 0.7), int(code.train_tokens / 0.3))
    assert mix.validation_tokens == min(int(web.validation_tokens / 0.7), int(code.validation_tokens / 0.3))
    assert done.stdout.count("(runs out first)") == 1
    assert f"0.7 x {web.digest}" in mix.blend
    assert (mix.tokenizer, mix.vocab_size, mix.name) == ("byte", 257, "mix")
    assert {part.path: part.weight for part in read_parts(parts / "mix")} == {parts / "web": 0.7, parts / "code": 0.3}
    assert command(*words, "data.blend={web: 0.7, code: 0.3}", cwd=parts).returncode == 0  # it is there
    assert command(*words, "data.blend={code: 0.3, web: 0.7}", cwd=parts).returncode == 0  # the same blend
    assert "note:" not in done.stdout
    other = command(*words, "data.blend={web: 0.6, code: 0.4}", cwd=parts)
    assert other.returncode == 2
    assert "mix holds another dataset (data.blend: " in other.stderr


def test_a_blend_is_its_datasets_and_weights_not_their_order_or_place(parts, tmp_path):
    one = make_blend({str(parts / "web"): 0.7, str(parts / "code"): 0.3}, tmp_path / "a", "x")
    assert make_blend({str(parts / "code"): 0.3, str(parts / "web"): 0.7}, tmp_path / "b", "x") == one
    assert make_blend({str(parts / "code"): 0.7, str(parts / "web"): 0.3}, tmp_path / "c", "x").digest != one.digest
    assert read_manifest(tmp_path / "a") == one


def test_parts_split_with_different_shares_are_pointed_out(parts, tmp_path):
    prepare(corpus_of(texts(60, seed=3)), tmp_path / "new", name="new", validation_share=0.4)
    make_blend({str(parts / "web"): 0.7, str(tmp_path / "new"): 0.3}, tmp_path / "mix", "x")
    assert "note: these were split with different data.validation_share (0.3, 0.4)" in table(tmp_path / "mix")[-1]


def test_datasets_and_blend_may_move_together(parts, tmp_path):
    import shutil

    shutil.copytree(parts / "web", tmp_path / "a" / "web")
    shutil.copytree(parts / "code", tmp_path / "a" / "code")
    made = make_blend(
        {str(tmp_path / "a" / "web"): 0.5, str(tmp_path / "a" / "code"): 0.5}, tmp_path / "a" / "mix", "x"
    )
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_manifest(tmp_path / "b" / "mix") == made
    prepare(corpus_of(texts(100, seed=5)), tmp_path / "b" / "web", name="web", validation_share=0.3)
    with pytest.raises(DataError, match=r"was made with dataset 'web' .* now holds 'web' .*make the blend again"):
        read_manifest(tmp_path / "b" / "mix")
    shutil.rmtree(tmp_path / "b" / "web")
    with pytest.raises(DataError, match="needs dataset 'web', and there is none in"):
        read_manifest(tmp_path / "b" / "mix")


@pytest.mark.parametrize(
    ("blend", "message"),
    [
        (
            "{web: 0.7, code: 0.2}",
            "data.blend: the weights sum to 0.9 (0.7 + 0.2), not to 1; scaled they would be web: 0.7778",
        ),
        ("{web: 70, code: 30}", "sum to 100 (70 + 30), not to 1; scaled they would be web: 0.7, code: 0.3"),
        ("{web: 1.2, code: -0.2}", "the weight of code is -0.2; a number above 0 is wanted"),
        ("{web: 0.7, code: most}", "the weight of code is most; a number above 0"),
        ("{web: 1}", "two datasets or more with their weights are wanted"),
        ("[web, code]", "two datasets or more with their weights are wanted"),
        ("{web: 0.7, cod: 0.3}", "no dataset in cod; did you mean 'code'? Prepare it first"),
        ("{web: 0.7, ./web: 0.3}", "hold the same dataset"),
    ],
)
def test_a_blend_that_cannot_be_is_refused(parts, tmp_path, blend, message):
    done = command("-m", "harness.data", f"data.path={tmp_path / 'mix'}", f"data.blend={blend}", cwd=parts)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "mix").exists()


def test_tokenizers_must_agree_and_blends_do_not_nest(parts, tmp_path):
    from harness.data.huggingface import load_tokenizer
    from tests.harness.data_samples import train_tokenizer

    tokenizer = load_tokenizer(str(train_tokenizer(tmp_path / "bpe")))
    prepare(corpus_of(texts(60)), tmp_path / "other", name="other", validation_share=0.3, tokenizer=tokenizer)
    with pytest.raises(
        DataError, match=r"need one tokenizer: .* was made with .* \(vocabulary \d+\) and .* \(vocabulary"
    ):
        make_blend({str(parts / "web"): 0.5, str(tmp_path / "other"): 0.5}, tmp_path / "mix", "x")
    make_blend({str(parts / "web"): 0.5, str(parts / "code"): 0.5}, tmp_path / "mix", "x")
    with pytest.raises(DataError, match="is a blend itself: name its datasets"):
        make_blend({str(tmp_path / "mix"): 0.5, str(parts / "web"): 0.5}, tmp_path / "deeper", "x")
    with pytest.raises(DataError, match="holds a dataset's tokens: give a blend a directory of its own"):
        make_blend({str(parts / "web"): 0.5, str(parts / "code"): 0.5}, parts / "web", "x")


def test_corpus_and_blend_exclude_each_other(parts):
    done = command(
        "-m", "harness.data", "data.path=m", "data.corpus=stdlib", "data.blend={web: 0.7, code: 0.3}", cwd=parts
    )
    assert done.returncode == 2
    assert "data.corpus and data.blend are both set" in done.stderr


def test_a_run_on_a_blend_is_refused_before_a_part_runs_out(parts, tmp_path):
    """Steps up to the last that is allowed: no part gives more than it has. One more is refused."""
    data = make_blend({str(parts / "web"): 0.55, str(parts / "code"): 0.45}, tmp_path / "mix", "x")
    steps = 0
    while True:
        try:
            check_size(tiny_experiment(data, train_iters=12 + steps + 1))
        except DataError as error:
            assert "gives" in str(error)  # noqa: PT017
            assert "until its first part runs out" in str(error)  # noqa: PT017
            break
        steps += 1
    assert steps > 3
    experiment = tiny_experiment(data, train_iters=12 + steps)
    assert experiment.tokens > 0.98 * data.train_tokens - 200  # little is lost
    assert check_data(experiment, tmp_path / "mix") == tmp_path / "mix"
    check_size(tiny_experiment(data, train_iters=12 + steps + 1, epochs=2.0))


def test_the_experiment_records_the_blend_and_older_ones_have_no_such_field(parts, dataset, tmp_path):
    data = make_blend({str(parts / "web"): 0.5, str(parts / "code"): 0.5}, tmp_path / "mix", "x")
    experiment = tiny_experiment(data)
    value = json.loads(json.dumps(experiment.canonical()))
    assert value["data"]["blend"] == data.blend
    assert Experiment.from_canonical(value) == experiment
    assert "blend" not in tiny_experiment(dataset[1]).canonical()["data"]
    assert tiny_experiment(replace(data, digest="0")).run_id != experiment.run_id


def test_the_flags_of_a_command_must_name_the_planned_blend(parts, tmp_path):
    data = make_blend({str(parts / "web"): 0.7, str(parts / "code"): 0.3}, tmp_path / "mix", "x")
    flags = group_flags(data_flags(tmp_path / "mix"))
    assert len(flags["--train-data-path"]) == 4
    assert flags["--valid-data-path"] == [word.replace("/train", "/validation") for word in flags["--train-data-path"]]
    assert blended(check_blend_flags(tiny_experiment(data), flags["--train-data-path"]), "x") == data
    other = [{"0.7": "0.6", "0.3": "0.4"}.get(word, word) for word in flags["--train-data-path"]]
    with pytest.raises(DataError, match=r"planned on 'x' \(.*0.7 x .*but the command blends .*0.6 x"):
        check_blend_flags(tiny_experiment(data), other)
    for wrong in (["a/train", "b/train"], ["0.7", "a/train", "0.3"]):
        with pytest.raises(DataError, match="a blend is a weight and a path, a weight and a path"):
            check_blend_flags(tiny_experiment(data), wrong)
    with pytest.raises(ConfigError, match="weights sum"):
        make_blend({str(parts / "web"): 0.7, str(parts / "code"): 0.31}, tmp_path / "mix", "x")


BUILD = """
import json, sys
from harness.megatron import environment
environment.preload()
from types import SimpleNamespace
from harness.megatron import task
from megatron.core.datasets.utils import get_blend_from_list
from megatron.core.tokenizers.utils.build_tokenizer import build_tokenizer
from megatron.training.utils import get_blend_and_blend_per_split
train, valid, cache, sequences, judged, seed = json.loads(sys.argv[1])
args = SimpleNamespace(data_path=None, data_args_path=None, per_split_data_args_path=None, train_data_path=train,
                       valid_data_path=valid, test_data_path=None, seed=seed, seq_length=32, data_cache_path=cache,
                       mmap_bin_files=True)
task.get_args = lambda: args
tokenizer = build_tokenizer(SimpleNamespace(tokenizer_type="NullTokenizer", vocab_size=257, pad_vocab_size=False, rank=1))
task.get_tokenizer = lambda: tokenizer
task._has_batches = lambda stage: True
built = task.build_datasets((sequences, judged, 0))
print("SEEN", json.dumps([[part[i]["tokens"].tolist() for i in range(n)] for part, n in zip(built, (sequences, judged))]))
"""


def built(directory, cache, sequences, judged, seed=1):
    """Sequences that Megatron's real builder draws, through the training program's own `build_datasets`."""
    flags = group_flags(data_flags(directory))
    words = [flags["--train-data-path"], flags["--valid-data-path"], str(cache), sequences, judged, seed]
    done = subprocess.run(
        [sys.executable, "-c", BUILD, json.dumps(words)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("SEEN"))[5:])


def capitals(sequence) -> bool:
    text = bytes(token for token in sequence if token < 256)
    return sum(map(text.count, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")) > sum(map(text.count, b"abcdefghijklmnopqrstuvwxyz"))


@pytest.mark.slow
def test_megatron_draws_from_the_parts_by_weight_and_repeats_nothing(parts, tmp_path):
    """Up to the last sequence that planning allows."""
    data = make_blend({str(parts / "web"): 0.7, str(parts / "code"): 0.3}, tmp_path / "mix", "x")
    most = (data.train_tokens - int((2 * 32 + 1) / 0.3) - 1) // 32
    train, validation = built(tmp_path / "mix", tmp_path / "one", most, 40)
    assert sum(map(capitals, train)) == pytest.approx(0.3 * most, abs=1.5)
    assert sum(map(capitals, validation)) == pytest.approx(0.3 * 40, abs=1.5)
    assert max(Counter(map(tuple, train)).values()) == 1
    fewer, again = built(tmp_path / "mix", tmp_path / "two", most // 2, 40, seed=7)
    assert (
        again == validation
    )  # another run, with another seed and length, is judged on the same tokens in the same order
    assert fewer != train[: most // 2]

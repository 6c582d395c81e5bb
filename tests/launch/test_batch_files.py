"""What people and clusters read: batch files and task tables, against golden files. No Slurm is needed for that.

python -m tests.launch.test_batch_files     writes the golden files anew: read the difference before committing
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.conftest import command
from tests.slurm.conftest import neutral

GOLDEN = Path(__file__).parent / "golden"

DEMO = ["phase=classical", "scale=1.5e10", "backbone=demo", "studies.classical.sizes=[2.8, 5.6, 8]", "seeds=1"]

CASES = {
    # name -> planning, submission
    "cpu": (DEMO, ["max_parallel=2"]),
    "cpu-packed": (DEMO, ["cluster.slurm.runs_per_node=2", "cluster.slurm.cpus_per_gpu=2"]),
    "gpus-pyxis": (
        ["phase=1", "scale=[1e18,3e20]", "m_over_na=9", "n_over_na=[20,22]"],
        ["cluster=slurm", "container=pyxis", "container.image='registry#team/moe-scaling:1'", "container.mounts=[/datasets]",
         "cluster.slurm.account=llm", "cluster.slurm.partition=h100", "cluster.slurm.qos=high", "cluster.slurm.constraint=ib",
         "cluster.slurm.exclude='node[3,7]'", "cluster.slurm.time=2-00:00:00", "cluster.slurm.cpus_per_gpu=12",
         "cluster.slurm.memory_per_gpu=200G", "+cluster.slurm.environment.NCCL_DEBUG=WARN",
         "cluster.slurm.pre_commands=['module load cuda']", "cluster.slurm.options=['--reservation=moe']", "yes=true"],
    ),
    "whole-nodes-apptainer": (
        ["phase=1", "scale=1e18", "m_over_na=9", "n_over_na=[20,21,22]"],
        ["cluster=slurm", "container=apptainer", "container.image=moe-scaling.sif", "cluster.slurm.whole_nodes=true",
         "cluster.slurm.max_array_size=2"],
    ),
    "branches": (
        ["phase=classical", "scale=[1.5e10,4e10]", "backbone=demo", "studies.classical.sizes=[3.4, 5]", "seeds=1",
         "wsd.share_trunk=true"], [],
    ),
}  # fmt: skip


def plan(root: Path, words, name="sweep"):
    """A sweep that names a dataset which exists by its manifest only: nothing here reads it."""
    vocabulary = 257 if "backbone=demo" in words else 152064
    data = {"name": "d", "digest": "0", "tokenizer": "byte", "vocab_size": vocabulary, "train_tokens": 10**13,
            "validation_tokens": 10**9}  # fmt: skip
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "manifest.json").write_text(json.dumps({"schema": 1, "data": data, "bytes": {}}))
    done = command("-m", "harness.sweep", *words, f"name={name}", f"root={root}", f"data.path={root}/data")
    assert done.returncode == 0, done.stdout + done.stderr


def written(root: Path, name: str) -> str:
    """All that a dry submission of a case writes for people to read, in one text."""
    planning, submission = CASES[name]
    plan(root, planning)
    done = command("-m", "launch.slurm", "sweep=sweep", f"root={root}", "dry=true", *submission)
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(path for path in (root / "slurm" / "dry-sweep").iterdir() if path.is_file())
    texts = [f"==> {path.name} <==\n{path.read_text()}" for path in files]
    return neutral(done.stdout + "\n" + "\n".join(texts), root)


@pytest.mark.parametrize("name", CASES)
def test_batch_files_are_the_golden_ones(name, tmp_path):
    text = written(tmp_path, name)
    assert text == (GOLDEN / f"{name}.txt").read_text()
    for script in (tmp_path / "slurm" / "dry-sweep").glob("*.sbatch"):
        subprocess.run(["bash", "-n", script], check=True)
    assert not (tmp_path / "slurm" / "journal.jsonl").exists()


def test_a_second_dry_run_replaces_the_first(tmp_path):
    plan(tmp_path, DEMO)
    for words in (["cluster.slurm.max_array_size=2"], []):
        assert command("-m", "launch.slurm", "sweep=sweep", f"root={tmp_path}", "dry=true", *words).returncode == 0
    assert {path.name for path in (tmp_path / "slurm" / "dry-sweep").iterdir()} == {"cpu-1.sbatch", "cpu-1.tsv", "logs"}


def test_the_planned_layout_holds_where_the_planned_cluster_is_named(tmp_path):
    words = ["phase=1", "scale=1e18", "m_over_na=9", "n_over_na=22", "cluster=slurm", "cluster.layout.gpus=2"]
    plan(tmp_path, [*words, "cluster.slurm.account=old"])
    dry = ["-m", "launch.slurm", "sweep=sweep", f"root={tmp_path}", "dry=true"]
    for more, file, account in (
        ([], "2gpu-1", "old"),
        (["cluster=slurm"], "2gpu-1", None),
        (["cluster=slurm", "cluster.slurm.account=new"], "2gpu-1", "new"),
        (["cluster.layout.gpus=4"], "4gpu-1", "old"),
        (["cluster=h200"], "1gpu-1", None),
    ):
        done = command(*dry, *more)
        assert done.returncode == 0, done.stderr
        (script,) = (tmp_path / "slurm" / "dry-sweep").glob("*.sbatch")
        assert script.stem == file, more
        assert (f"--account={account}" in script.read_text()) == (account is not None)


def test_a_dry_run_leaves_what_is_there(tmp_path):
    plan(tmp_path, [*DEMO, "train=simulated", "train.divergence_rate=1.0"])
    assert command("-m", "launch.local", "sweep=sweep", f"root={tmp_path}").returncode == 1
    for run in (tmp_path / "runs").iterdir():
        (run / "checkpoints").mkdir(exist_ok=True)

    def files():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*")}

    before = files()
    done = command("-m", "launch.slurm", "sweep=sweep", f"root={tmp_path}", "dry=true", "retry=diverged")
    assert "3 to submit" in done.stdout
    assert files() == before


@pytest.mark.skipif(shutil.which("sbatch") is not None, reason="Slurm is installed here")
def test_without_slurm_it_says_where_to_run(tmp_path):
    plan(tmp_path, DEMO)
    done = command("-m", "launch.slurm", "sweep=sweep", f"root={tmp_path}")
    assert done.returncode == 2
    assert "is not installed here" in done.stderr
    assert "dry=true" in done.stderr


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    root = tmp_path_factory.mktemp("planned")
    plan(root, DEMO)
    return root


@pytest.mark.parametrize(
    ("words", "message"),
    [(["cluster.slurm.acount=x"], "did you mean 'cluster.slurm.account'"),
     (["+cluster.slurm.acount=x"], "cluster.slurm.acount is unknown; did you mean 'account'"),
     (["cluster.slurm.time=tomorrow"], "a time as in 24:00:00"),
     (["container=pixis"], "did you mean 'pyxis'"), (["container=pyxis"], "wants container.image="),
     (["max_parallel=0"], "max_parallel=0"), (["retry=faild"], "did you mean 'failed'"),
     (["cluster=slurn"], "did you mean 'slurm'"), (["dry=maybe"], "true or false"),
     (["cluster.slurm.options=[reservation]"], "options of sbatch"),
     (["sweep=swep"], "did you mean 'sweep'")],
)  # fmt: skip
def test_slips_are_explained(words, message, planned):
    given = words if words[0].startswith("sweep=") else ["sweep=sweep", *words]
    done = command("-m", "launch.slurm", f"root={planned}", "dry=true", *given)
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (planned / "runs").exists()


if __name__ == "__main__":
    for name in CASES:
        with tempfile.TemporaryDirectory() as directory:
            (GOLDEN / f"{name}.txt").write_text(written(Path(directory), name))

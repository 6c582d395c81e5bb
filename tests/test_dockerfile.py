"""The image: linted, and without anything that would replace NVIDIA's torch or Transformer Engine."""

import re
import subprocess
import sys
from pathlib import Path

from tests.conftest import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()
OF_THE_IMAGE = re.compile(r"(torch|triton|transformer-engine|nvidia-|cuda-)")


def test_the_dockerfile_is_clean():
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "Dockerfile"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_its_constraints_are_the_projects_without_what_belongs_to_torch():
    ours, images = (
        (REPOSITORY / name).read_text().splitlines() for name in ("constraints.txt", "docker/constraints.txt")
    )
    assert images == [line for line in ours if not OF_THE_IMAGE.match(line)], "run: make docker/constraints.txt"
    names = {line.partition("==")[0].lower() for line in images}
    assert not {"torch", "triton", "transformer-engine", "transformer-engine-torch"} & names
    assert "megatron-core" in names


def test_what_it_copies_is_there_and_reaches_the_build():
    sources = [word for line in DOCKERFILE.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]]
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert {"harness", "launch", "analysis", "configs", "docker/install.sh"} <= set(sources)
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        assert f"!{source.split('/')[0]}" in ignored, source


def test_it_runs_as_an_ordinary_user_and_every_command():
    users = re.findall(r"^USER (\S+)", DOCKERFILE, re.M)
    assert users[-1] not in ("root", "0")
    assert 'nvidia_entrypoint.sh", "python", "-m"]' in DOCKERFILE


def test_the_install_script_leaves_the_images_packages_alone(tmp_path):
    """Its two Python parts, run here: our torch stands for the image's."""
    script = (REPOSITORY / "docker/install.sh").read_text()
    first, second, _ = re.findall(r"<< 'PYTHON'\n(.*?)\nPYTHON", script, re.S)
    kept = subprocess.run([sys.executable, "-c", first], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^torch==", kept, re.M)
    assert not re.search(r"^(numpy|megatron-core|torchx?metrics)==", kept, re.M)
    wanted = subprocess.run(
        [sys.executable, "-c", second], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "psutil" in wanted
    assert not [line for line in wanted if OF_THE_IMAGE.match(line) or line.startswith("megatron-core")]
    assert subprocess.run(["bash", "-n", REPOSITORY / "docker/install.sh"], check=False).returncode == 0

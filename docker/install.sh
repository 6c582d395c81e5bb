#!/usr/bin/env bash
# Inside the image: the project's dependencies, with everything that belongs to its torch left as it is.
set -euo pipefail

# What the image came with, in its own versions: its torch is not on any index under that version, so nothing can replace it
python - > image-constraints.txt << 'PYTHON'
import re
from importlib.metadata import distributions

kept = re.compile(r"^(torch|torch[-_].*|torchvision|torchaudio|triton|pytorch[-_]triton|transformer[-_]engine.*|apex|flash[-_]attn.*|nvidia[-_].*|cuda[-_].*)$", re.I)
seen = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"] and kept.match(d.metadata["Name"])}
for name, version in sorted(seen.items()):
    print(f"{name}=={version}")
PYTHON
grep --quiet '^torch==' image-constraints.txt || { echo "this base image has no torch: use NVIDIA's PyTorch image"; exit 1; }

# megatron-core without its own dependencies (torch among them); those that it and the project need are listed by pyproject.toml
python - > requirements.txt << 'PYTHON'
import re
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
for requirement in wanted:
    name = re.match(r"[A-Za-z0-9._-]+", requirement).group()
    if name not in ("torch", "megatron-core"):
        print(requirement)
PYTHON
pip install --no-cache-dir --constraint constraints.txt --constraint image-constraints.txt --requirement requirements.txt
pip install --no-cache-dir --no-deps --constraint constraints.txt megatron-core

python - << 'PYTHON'
from importlib.metadata import version

for line in open("image-constraints.txt"):
    name, _, before = line.strip().partition("==")
    assert version(name) == before, f"{name} was {before} in the image and is {version(name)} now"
print("torch", version("torch"), "as the image has it; megatron-core", version("megatron-core"))
PYTHON

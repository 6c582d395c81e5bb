# The project on NVIDIA's PyTorch image, whose torch, Transformer Engine, Apex and CUDA libraries stay as they are.
#
#   docker build --tag moe-scaling .
#   docker run --rm moe-scaling harness.sweep phase=1 scale=1e19
#   docker run --rm --gpus all --ipc host --user "$(id -u):$(id -g)" --volume "$PWD:/work" moe-scaling launch.local sweep=phase1-1e19
#
# torch of a 25.x image is built by NVIDIA for its own Transformer Engine and Apex: pip must never replace it, nor any of the
# nvidia-* libraries under it. So there are two guards. docker/constraints.txt has the project's exact versions without those
# packages (tests hold it against constraints.txt); and what the image has installed is written down first, in its own versions,
# as a second constraint: a package that wants another torch then fails the build instead of replacing it.
ARG BASE=nvcr.io/nvidia/pytorch:25.10-py3
FROM ${BASE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

WORKDIR /opt/moe-scaling

# Dependencies first: they change less often than the code. NVIDIA's image constrains pip itself (PIP_CONSTRAINT); its file
# pins versions that we replace on purpose, so it is set aside, and the packages that matter are pinned here.
COPY pyproject.toml docker/constraints.txt docker/install.sh ./
RUN PIP_CONSTRAINT="" bash install.sh

COPY README.md ./
COPY configs configs
COPY harness harness
COPY launch launch
COPY analysis analysis
COPY laws laws
RUN PIP_CONSTRAINT="" pip install --no-cache-dir --no-deps --editable .

# An ordinary user; with --user another one may take its place: nothing below needs to write to the image.
RUN useradd --create-home --uid 10001 runner \
    && mkdir --parents /work /tmp/home \
    && chown runner /work \
    && chmod 1777 /tmp/home
USER 10001
WORKDIR /work
# a user of --user has no home and no name: Triton and W&B want both
ENV HOME=/tmp/home \
    USER=runner \
    PYTHONUNBUFFERED=1 \
    HYDRA_FULL_ERROR=0

# `docker run IMAGE harness.sweep phase=1` is `python -m harness.sweep phase=1`
# (NVIDIA's own entry point comes first: it sets up compatibility with the driver)
ENTRYPOINT ["/opt/nvidia/nvidia_entrypoint.sh", "python", "-m"]
CMD ["harness.sweep", "--help"]

# make demo   set everything up, then plan, train, refit and report, on the CPU
# make test   set everything up, then the tests

# Python 3.12 or newer: from the PATH, or a version that pyenv has
PYTHON ?= $(shell for candidate in python3.12 $$(ls -d $$HOME/.pyenv/versions/3.12*/bin/python 2>/dev/null) python3.13 python3; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$candidate && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
DEMO := [classical-all-demo,phase1-all-demo]
DEMO_LONG := [classical-all-demo-long,phase1-all-demo-long]

.PHONY: setup demo demo-long rehearsal notebooks test test-slow test-coverage test-slurm smoke-gpu check format clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.12 or newer is needed: install it (pyenv install 3.12), or make PYTHON=<path>"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,dev]'
	touch $@

demo: setup
	$(RUN) -m harness.data data=demo
	$(RUN) -m harness.sweep phase=classical scale=all backbone=demo launch=local
	$(RUN) -m harness.sweep phase=1 scale=all backbone=demo launch=local
	$(RUN) -m analysis.refit 'sweep=$(DEMO)'

demo-long: setup
	$(RUN) -m harness.data data=demo
	$(RUN) -m harness.sweep phase=classical scale=all backbone=demo-long launch=local
	$(RUN) -m harness.sweep phase=1 scale=all backbone=demo-long launch=local
	$(RUN) -m analysis.refit 'sweep=$(DEMO_LONG)'

# every study of the paper, simulated with known truths and refitted: a table of what the laws find, and what they should
rehearsal: setup
	$(RUN) -m analysis.rehearsal

# the notebooks, run on whatever lies under runs_root (make demo); executed copies go to runs_root/notebooks
notebooks: setup
	$(VENV)/bin/jupytext --quiet --sync analysis/notebooks/[a-z]*.py
	$(RUN) -m analysis.notebooks

test: setup
	$(RUN) -m pytest -q -n 2

test-slow: setup
	$(RUN) -m pytest -q -n 2 -m slow -k "not strictly"

# the coverage of every interval, counted in 1,000 experiments each: an hour
test-coverage: setup
	$(RUN) -m pytest -q -n 2 -m slow -k strictly

# a real Slurm on this machine: root, and Debian's slurmctld slurmd slurm-client munge; without them the tests skip.
# What fails is run once more, alone: these tests wait for a cluster, and a busy machine is no defect of the launcher
test-slurm: setup
	$(RUN) -m pytest -q -rs -n 2 -m slurm tests/slurm || \
		$(RUN) -m pytest -q -m slurm --last-failed --last-failed-no-failures none tests/slurm

smoke-gpu: setup
	$(RUN) -m pytest -q -m gpu -rs -s tests/gpu

# exact versions for the image: without what belongs to its torch
docker/constraints.txt: constraints.txt
	grep -vE '^(torch|triton|transformer-engine|nvidia-|cuda-)' constraints.txt > $@

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/hadolint Dockerfile
	$(VENV)/bin/mypy

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info # runs_root and datasets stay: they are work

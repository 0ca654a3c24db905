# Two commands do everything on a fresh machine: `make demo` runs the main job, `make test` proves the project.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null && \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
LAUNCH := $(VENV)/bin/launch
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check

TARGETS := cpu cuda cuda-vllm xpu
IMAGES := $(addprefix image-,$(TARGETS))
SMOKES := $(addprefix smoke-,$(TARGETS))
# Optional packages to do without, e.g. `make smoke-cuda WITHOUT=flash-attn`, and a file for the results of the
# checks as JSON, e.g. `make smoke-cuda REPORT=check.json`.
WITHOUT ?=
REPORT ?=
LEFT_OUT = $(addprefix --without ,$(WITHOUT))

.DEFAULT_GOAL := help
.PHONY: help setup tools demo test check unit kubernetes integration bench bench-train bench-layers chaos slurm hosts proof-xpu lock render docs format $(IMAGES) $(SMOKES)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST) | sort
	@echo "image-TARGET  build the image of a target: $(TARGETS) (WITHOUT=PKG leaves an optional package out)"
	@echo "smoke-TARGET  build that image and run its checks (REPORT=FILE: the results as JSON)"

setup: $(VENV)/.launcher ## install the launcher into .venv

# pip, and not uv, installs the launcher: whatever mirror and certificates the user's pip knows just work.
$(VENV)/.launcher: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, with venv and ensurepip (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) --upgrade pip
	@$(PIP) --editable .
	@touch $@

$(VENV)/.tools: $(VENV)/.launcher
	@echo "adding the test tools"
	@$(PIP) --group dev
	@touch $@

tools: $(VENV)/.tools ## install the test tools too

chaos: tools ## faults in real runs, and what came of them: FAULTS (1000), SEED, ENGINE=docker
	$(VENV)/bin/python -m tests.faults $(or $(FAULTS),1000) $(if $(SEED),--seed $(SEED)) $(if $(ENGINE),--engine $(ENGINE))

demo: setup ## fine-tune a tiny BGE-M3 on real text, with Docker or without
	@$(LAUNCH) demo

test: check unit kubernetes integration ## everything that a machine without GPU can prove

check: tools ## linters, types, layers, and whether generated files are fresh
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy recipes --ignore-missing-imports --allow-subclassing-any --no-warn-return-any
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/shellcheck -x recipes/*.sh recipes/runtime/*.sh tests/support/*.sh .ci/run .github/*.sh
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(VENV)/bin/zizmor --offline --quiet .github
	$(LAUNCH) image lock --check
	$(LAUNCH) image render --check
	$(VENV)/bin/python docs/generate.py --check

unit: tools
	$(VENV)/bin/pytest tests/unit -n auto

kubernetes: tools ## runs on a fake cluster, which really starts what it is given
	$(VENV)/bin/pytest tests/kubernetes -n auto

integration: tools ## the real parts: engine, image, environment, training
	$(VENV)/bin/pytest tests/integration -v --durations=10

slurm: tools ## the tests of a real Slurm of two nodes on this host, which it starts (Debian, root)
	tests/support/slurm.sh install
	tests/support/slurm.sh start
	eval "$$(tests/support/slurm.sh env)" && $(VENV)/bin/pytest tests/integration/test_slurm.py tests/integration/test_slurm_script.py -v --durations=10

hosts: tools ## the tests of two hosts reached by ssh, on this one, which it starts (Debian, root)
	tests/support/ssh.sh install
	tests/support/ssh.sh start
	$(VENV)/bin/pytest tests/integration/test_hosts.py -v --durations=10

bench: tools ## figures as ratios, measured side by side
	@for program in tests/bench/*.py; do echo "== $$program"; $(VENV)/bin/python $$program || exit 1; done

bench-train: tools ## memory and speed of training, beside upstream's plain arguments; bytes on the wire
	@python="$$($(VENV)/bin/python tests/bench/training/environment.py)" && \
	for program in head compare wire; do "$$python" -W ignore tests/bench/training/$$program.py || exit 1; done

proof-xpu: tools ## what can be shown of the xpu target without a card, torch's XPU wheels and drivers (long)
	tests/support/proof-xpu.sh

bench-layers: tools ## what another trainer costs in TARGET (cpu), e.g. TARGET=cuda WITHOUT=flash-attn
	LAUNCH_WITHOUT="$(WITHOUT)" $(VENV)/bin/python tests/bench/layers.py $(or $(TARGET),cpu) $(PIN)

lock: setup ## resolve the locks of all targets again
	$(LAUNCH) image lock

render: setup ## generate the Dockerfiles
	$(LAUNCH) image render

docs: tools ## generate the reference pages
	$(VENV)/bin/python docs/generate.py

format: tools
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

$(IMAGES): image-%: setup
	$(LAUNCH) image build $* $(LEFT_OUT)

# The report appears at once and whole, also of checks that failed; none where the command said nothing.
$(SMOKES): smoke-%: image-%
	$(LAUNCH) image check $* $(LEFT_OUT)$(if $(REPORT), --json >"$(REPORT).new"; code=$$?; \
	if [[ -s "$(REPORT).new" ]]; then mv "$(REPORT).new" "$(REPORT)"; else rm -f "$(REPORT).new"; fi; exit $$code)

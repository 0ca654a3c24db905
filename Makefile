# Two commands do everything on a fresh machine: `make demo` runs the main job, `make test` proves the project.
SHELL := /bin/bash
VENV := .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null && \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
LAUNCH := $(VENV)/bin/launch
UV := $(VENV)/bin/uv

.DEFAULT_GOAL := help
.PHONY: help setup

help: ## this list
	@grep -hE '^[a-z-]+%?:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | column -t -s "$$(printf '\t')"

setup: $(VENV)/.stamp ## the launcher in .venv
$(VENV)/.stamp: pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group dev 2>/dev/null || \
		VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet --editable . --group dev
	@touch $@

# Needs Python 3.11 and make; the demo also uses curl. `make help` lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV ?= .venv
TORCH ?= $(if $(wildcard $(VENV)/.torch-cuda),cuda,cpu)
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
SERVE_DATA ?= data
KILLS ?= 1000
REAL ?= 0
FLIPS ?= 100000
MUTANTS ?= 20000
SEED ?= 0

# Where it is set, each of the hundreds of processes that tests start would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE
# As the compute child has it: threads that spin while they wait take the cores from all others.
export OMP_WAIT_POLICY ?= passive

BIN := $(VENV)/bin
# Byte code is compiled when first imported: most of what is installed never is.
PIP := $(BIN)/python -m pip --disable-pip-version-check -q -q
INSTALL := $(PIP) install --no-compile -c constraints.txt
TORCH_PIN = $(shell grep -E '^torch==' constraints.txt)
FRAME := pyproject.toml constraints.txt Makefile

.PHONY: help setup setup-dev demo serve test check parity chaos fuzz bench fmt clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.runtime ## the virtual environment with what the service needs (TORCH=cuda for GPUs)

setup-dev: $(VENV)/.dev ## the same, with test tools and scvi-tools, the yardstick

demo: $(VENV)/.runtime ## simulate, build a reference, serve, map with curl, judge, stop
	@$(BIN)/python -m demo.run

serve: $(VENV)/.runtime ## the service with the demo reference on 127.0.0.1:8000, until ctrl-C
	@$(BIN)/python -m demo.serve --data-dir $(SERVE_DATA)

test: $(VENV)/.dev ## every test but those of `make parity`; with root on Debian it installs servers
	@bash tests/servers.sh
	@$(BIN)/python -m pytest -m "not parity"

check: $(VENV)/.dev ## style, types and the arrows between packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

parity: $(VENV)/.dev ## numbers beside scvi-tools 1.4.2; writes docs/parity.md
	@$(BIN)/python -m pytest -m parity tests/parity --parity-table docs/parity.md

chaos: $(VENV)/.dev ## kill -9 at random, judged by a checker; ten minutes a call (KILLS=, SEED=, REAL=)
	@$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED) --real $(REAL)

fuzz: $(VENV)/.dev ## damaged uploads by the ten thousand; ten minutes a call (FLIPS=, MUTANTS=, SEED=)
	@$(BIN)/python -m tests.fuzz --flips $(FLIPS) --mutants $(MUTANTS) --seed $(SEED)

bench: $(VENV)/.dev ## speed, beside scvi-tools where it can be compared; writes docs/performance.md
	@$(BIN)/python -m bench

fmt: $(VENV)/.dev ## format the code and put right what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove the environment, caches and the demo's output; `data` stays
	rm -rf $(VENV) demo-out build *.egg-info .pytest_cache .mypy_cache .ruff_cache \
	  .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is made once, and brought up to date when what it is made from changes.
$(VENV)/.runtime: $(FRAME) | $(VENV)/.torch-$(TORCH)
	@echo "Installing Cellgraft ..."
	@$(INSTALL) -e '.[worker]'
	@touch $@

$(VENV)/.dev: $(FRAME) | $(VENV)/.torch-$(TORCH)
	@echo "Installing Cellgraft with its test tools ..."
	@$(INSTALL) -e '.[worker,dev,parity]'
	@touch $@ $(VENV)/.runtime

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Cellgraft needs Python 3.11, and there is no '$(PYTHON)' here: install it, or name it (make PYTHON=/path/to/python3.11)." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "Cellgraft needs Python 3.11, and '$(PYTHON)' is another version: make PYTHON=/path/to/python3.11." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "This Python lacks its venv module: install it (Debian and Ubuntu: apt install python3.11-venv)." >&2; exit 1; }
	@echo "Making a virtual environment in $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)

# The plain registry's torch for Linux brings gigabytes of CUDA. A wheel that pip finds locally
# is taken first: that needs no network.
$(VENV)/.torch-cpu: constraints.txt | $(VENV)/bin/python
	@echo "Installing $(TORCH_PIN) for CPUs ..."
	@if [ -e $(VENV)/.torch-cuda ]; then $(PIP) uninstall -y torch; fi
	@if [ "$$(uname -s)" = Linux ]; then \
	  $(PIP) install --no-compile --no-deps --no-index "$(TORCH_PIN)" 2>/dev/null || \
	  $(PIP) install --no-compile --no-deps --index-url $(TORCH_CPU_INDEX) "$(TORCH_PIN)"; \
	fi
	@rm -f $(VENV)/.torch-cuda && touch $@

$(VENV)/.torch-cuda: constraints.txt | $(VENV)/bin/python
	@echo "Installing $(TORCH_PIN) for CUDA ..."
	@if [ -e $(VENV)/.torch-cpu ]; then $(PIP) uninstall -y torch; fi
	@$(INSTALL) "$(TORCH_PIN)"
	@rm -f $(VENV)/.torch-cpu && touch $@

# Two commands do everything on a machine with Python, make and git: `make train` and `make test`.

PYTHON ?= python3
ALGO ?= barpo
ENV ?= Hopper-v5
# About five minutes on two cores; any other agent or environment trains as long as its settings say.
STEPS ?= $(if $(filter barpo/Hopper-v5,$(ALGO)/$(ENV)),1000000)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORES ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() or 1)')
TORCH := $(shell grep '^torch==' constraints.txt)

# One BLAS thread: the networks are small, and more threads only fight each other for two cores.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK ?= 1

.DEFAULT_GOAL := help
.PHONY: help install train test others lint format type imports unit unit-fast docs benchmark clean

help: ## show this list
	@echo "rlspo: reinforcement learning for noisy and hostile environments"
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo
	@echo "  make train ALGO=ppo ENV=Walker2d-v5 STEPS=200000     another agent, environment or length"
	@echo "  make train PYTHON=python3.12                         another interpreter for .venv (3.11 or later)"

install: $(STAMP) ## make .venv and install rlspo with all its tools (train and test do this first)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "rlspo needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another interpreter: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch comes first and alone: it is by far the largest package, and nothing may pull another version of it.
$(STAMP): setup.py constraints.txt | $(BIN)/python
	@echo "Installing rlspo and its tools into $(VENV) (once; minutes, most of them for torch)"
	$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq $(TORCH)
	$(BIN)/python -m pip install -qq -c constraints.txt -e '.[dev]'
	@touch $@

train: $(STAMP) ## train an agent with a progress bar, then attack it and record a video
	$(BIN)/python -m rlspo.zoo.train --algo $(ALGO) --env $(ENV) -P $(if $(STEPS),-n $(STEPS))

test: $(STAMP) ## every check that CI runs
	@$(MAKE) --no-print-directory -j 2 unit others

others: lint type imports docs

lint: $(STAMP) ## ruff: rules and format; codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

format: $(STAMP) ## let ruff fix what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(STAMP) ## mypy
	$(BIN)/mypy

imports: $(STAMP) ## import-linter: which package may import which
	$(BIN)/lint-imports

unit: $(STAMP) ## pytest on all cores; with COVERAGE=1 coverage too
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal $(if $(COVERAGE),--cov --cov-report=term-missing:skip-covered)

unit-fast: $(STAMP) ## pytest without what compiles or trains for seconds, for daily work
	$(BIN)/python -m pytest -n $(CORES) --dist worksteal --fast

docs: $(STAMP) ## the Sphinx site, warnings are errors: docs/_build/html/index.html
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

benchmark: $(STAMP) ## speed against stable-baselines3, as a table
	$(BIN)/python benchmarks/throughput.py

clean: ## remove caches and build products, keep .venv
	rm -rf build dist docs/_build .coverage coverage.xml .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find rlspo tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

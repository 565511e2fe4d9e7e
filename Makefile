# Fresh machine with Python ≥ 3.11 and make: `make serve` or `make test`, nothing else.

PYTHON ?= python3
PORT ?= 8000
PRESET ?= bayes
CHECKPOINTS ?= checkpoints
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help serve train test lint format bench gpu constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(CHECKPOINTS)/CURRENT ## the service on :8000 (PORT=… for another), with a model of MovieLens-100K if there is none
	$(BIN)/python -m app --checkpoints $(CHECKPOINTS) --port $(PORT)

train: $(VENV)/.serve ## fit the preset PRESET to MovieLens-100K and publish it in CHECKPOINTS
	$(BIN)/python -m training fit --data ml-100k --split random:0.1 --preset $(PRESET) --out $(CHECKPOINTS)

test: $(VENV)/.test ## the whole test suite
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.test ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test ## format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.bench ## the programs behind every figure in the documentation; they take a while
	for program in textbook loading training_speed accuracy startup; do $(BIN)/python -m benchmarks.$$program || exit 1; done

gpu: $(VENV)/.test ## the tests and timings that need an NVIDIA GPU
	$(BIN)/python -m benchmarks.gpu

constraints: ## pin what pip would install today into constraints.txt
	$(PYTHON) -m venv $(VENV)/fresh
	$(VENV)/fresh/bin/python -m pip install --quiet --upgrade --editable '.[train,serve,test,bench,dev]'
	$(VENV)/fresh/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt
	rm -rf $(VENV)/fresh

clean: ## remove the virtual environment and caches; checkpoints stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

$(CHECKPOINTS)/CURRENT: | $(VENV)/.serve
	$(MAKE) train

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[train,serve]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[train,serve,test]'
	touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) --editable '.[train,serve,bench]'
	touch $@

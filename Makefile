# Fresh machine with Python ≥ 3.11 and make: `make serve` or `make test`, nothing else.

PYTHON ?= python3
PORT ?= 8000
PRESET ?= bayes
CHECKPOINTS ?= checkpoints
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/pip-compile --quiet --strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help install serve train test machine browser lint format audit docs bench gpu lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.serve ## the virtual environment with what training and serving need

serve: $(CHECKPOINTS)/CURRENT ## the service on :8000 (PORT=… for another), with a model of MovieLens-100K if there is none
	$(BIN)/python -m app --checkpoints $(CHECKPOINTS) --port $(PORT)

train: $(VENV)/.serve ## fit the preset PRESET to MovieLens-100K and publish it in CHECKPOINTS
	$(BIN)/python -m training fit --data ml-100k --split random:0.1 --preset $(PRESET) --out $(CHECKPOINTS)

test: $(VENV)/.test machine browser ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist worksteal

machine: ## install the programs of Debian that the tests use, where they are missing
	.ci/packages

browser: $(VENV)/.test ## Chromium for the browser tests, unless there is one
	.ci/browser $(BIN)/playwright

lint: $(VENV)/.test ## formatting, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=client/src $(BIN)/lint-imports

format: $(VENV)/.test ## format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

audit: $(VENV)/.test ## bandit over the code, pip-audit over the locked versions
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml app models training client/src
	.ci/pip-audit $(BIN)/pip-audit requirements/test.lock

docs: $(VENV)/.test ## the documentation, as pages that need no server, into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --clean

bench: $(VENV)/.bench ## the programs behind every figure in the documentation; they take a while
	for program in textbook loading training_speed relevance topn export_top shards startup serving overload soak replicas accuracy search console client report; do PYTHONPATH=client/src $(BIN)/python -m benchmarks.$$program || exit 1; done

gpu: $(VENV)/.test ## the tests and timings that need an NVIDIA GPU
	$(BIN)/python -m benchmarks.gpu

lock: $(VENV)/.test ## pin what the package index has today: constraints.txt, and with hashes requirements/*.lock
	$(PIP) pip-tools
	$(COMPILE) --upgrade --all-extras --output-file constraints.txt pyproject.toml
	sed -i 's/+cpu$$//; /^#/d; /^$$/d' constraints.txt
	for set in serve test; do \
	  $(COMPILE) --generate-hashes --unsafe-package torch --constraint constraints.txt --extra train --extra serve \
	    $$(test $$set = serve || echo --extra test) --output-file requirements/$$set.lock pyproject.toml && \
	  sed -i '/^# \(The following\|WARNING\)/,$$d' requirements/$$set.lock || exit 1; done

clean: ## remove the virtual environment and caches; checkpoints stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

$(CHECKPOINTS)/CURRENT: | $(VENV)/.serve
	$(MAKE) train

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch is not locked: its build, for the CPU or for CUDA, is the platform's. Everything else is checked against its hash.
define install
	$(PIP) --require-hashes --no-deps --requirement requirements/$(1).lock
	$(PIP) --constraint constraints.txt 'torch==2.13.*'
	$(PIP) --no-deps --editable .
	touch $@
endef

$(VENV)/.serve: pyproject.toml requirements/serve.lock | $(BIN)/python
	$(call install,serve)

$(VENV)/.test: pyproject.toml requirements/test.lock | $(BIN)/python
	$(call install,test)

$(VENV)/.bench: pyproject.toml constraints.txt | $(VENV)/.serve
	$(PIP) --constraint constraints.txt --editable '.[bench]'
	touch $@

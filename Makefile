# A fresh machine needs Python 3.11 or newer and make; then `make serve` or `make test` does everything.

PYTHON ?= python3
PORT ?= 8000
PRESET ?= bayes
CHECKPOINTS ?= checkpoints
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/pip-compile --quiet --strip-extras --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help install serve train test test-all machine browser lint format audit docs bench gpu lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.serve ## create the virtual environment with what training and serving need

serve: $(CHECKPOINTS)/CURRENT ## start the service on port 8000 (PORT=…); without a model, train one on MovieLens-100K first
	$(BIN)/python -m app --checkpoints $(CHECKPOINTS) --port $(PORT)

train: $(VENV)/.serve ## train a model on MovieLens-100K (PRESET=bayes) and publish it in CHECKPOINTS=checkpoints
	$(BIN)/python -m training fit --data ml-100k --split random:0.1 --preset $(PRESET) --out $(CHECKPOINTS)

test: $(VENV)/.test machine browser ## run the quick tests: every feature, in a few minutes on 2 cores
	$(PYTEST) -m 'not slow and not cuda'

test-all: test ## run the quick tests, then the slow ones
	$(PYTEST) -m 'slow and not cuda'

machine: ## install the Debian packages that the tests need, where they are missing
	.ci/packages

browser: $(VENV)/.test ## install Chromium for the browser tests, where it is missing
	.ci/browser $(BIN)/playwright

lint: $(VENV)/.test ## check formatting, style, types and the rules for imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PYTHONPATH=client/src $(BIN)/lint-imports

format: $(VENV)/.test ## format the code and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

audit: $(VENV)/.test ## look for insecure code with bandit and for vulnerable packages with pip-audit
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml app models ratecast training client/src
	.ci/pip-audit $(BIN)/pip-audit requirements/test.lock

docs: $(VENV)/.test ## build the documentation in build/docs; its pages need no server
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --clean

bench: $(VENV)/.bench ## run the benchmarks behind the figures in the documentation; this takes hours
	for program in textbook loading training_speed relevance topn export_top shards startup serving overload soak catalogue_changes stored_catalogue live_error live_error_cost replicas accuracy search console client report; do PYTHONPATH=client/src $(BIN)/python -m benchmarks.$$program || exit 1; done

gpu: $(VENV)/.test ## run the tests and benchmarks that need an NVIDIA GPU
	$(BIN)/python -m benchmarks.gpu

lock: $(VENV)/.test ## pin the newest versions of all packages in constraints.txt and requirements/*.lock
	$(PIP) pip-tools
	$(COMPILE) --upgrade --all-extras --output-file constraints.txt pyproject.toml
	sed -i 's/+cpu$$//; /^#/d; /^$$/d' constraints.txt
	for set in serve test; do \
	  $(COMPILE) --generate-hashes --unsafe-package torch --constraint constraints.txt --extra train --extra serve \
	    $$(test $$set = serve || echo --extra test) --output-file requirements/$$set.lock pyproject.toml && \
	  sed -i '/^# \(The following\|WARNING\)/,$$d' requirements/$$set.lock || exit 1; done

clean: ## delete the virtual environment and caches; checkpoints stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info

$(CHECKPOINTS)/CURRENT: | $(VENV)/.serve
	$(MAKE) train

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed: make PYTHON=/path/to/python' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch is not locked, because its build depends on the platform (CPU or CUDA). Everything else is checked against its hash.
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

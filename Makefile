# Every target sets up what it needs: a virtual environment in .venv with the package installed, once.
# TORCH chooses the build of torch: `make quickstart TORCH="torch --index-url ..."`, or a pinned version.
PYTHON ?= python3
TORCH ?= torch
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := synclr_hf scripts spaces tests
# One process a core; one that is done takes tests over from the others.
PARALLEL := --numprocesses auto --maxprocesses 8 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-fast style quality clean

help:
	@echo "make quickstart   the whole street on toy data: captions, pictures, encoder, report (about 10 minutes)"
	@echo "make test         all tests but the slow ones"
	@echo "make test-fast    the tests that need no training run"
	@echo "make style        format the code"
	@echo "make quality      check format and lint"
	@echo "make clean        remove .venv and caches (outputs/ stays)"

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; type make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $(READY)

quickstart: $(READY)
	$(BIN)/synclr run toyworld

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not gpu and not network"

test-fast: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not gpu and not network" --ignore tests/cli --ignore tests/training

style: $(READY)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

quality: $(READY)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

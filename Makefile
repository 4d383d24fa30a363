# One command for people and CI. Every target sets up what it needs on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test check format bench clean

help:
	@echo "make demo    the main job on a generated shop, about five minutes, ends with a report"
	@echo "make test    all tests but the slow ones"
	@echo "make check   formatting, lint, types, import layers"
	@echo "make bench   measured speed of the stages, written to runs/bench"
	@echo "make format  format the code"
	@echo "make clean   remove the environment and the caches; runs/ stays"

# torch first and by exact version: the constraint keeps every later step from replacing it.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (once; a few minutes)"
	@$(PIP) torch==2.13.0
	@$(PIP) --editable '.[dev]'
	@touch $@

demo: $(READY)
	$(BIN)/trsr run examples/demo.yaml

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/stages.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

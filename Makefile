# Two commands do everything, set-up included:  make study   and   make test

PROFILE ?= demo
ARCHIVE ?=
OUT ?=
ARGS ?=
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Tests that share runs of the whole sequence; they take longer than all others together, which therefore give way.
SEQUENCE := tests/report/test_smoke_pages.py tests/test_smoke.py

RUN_ARGS := --profile $(PROFILE) $(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(OUT),--out "$(OUT)") $(ARGS)

.PHONY: help study test faults lint lab bench clean clean-archives

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

study: $(VENV)/.installed  ## run the notebooks into reports/<run>/index.html  (PROFILE=smoke|demo|study|field|bench5|bench5-light|full-light|full ARCHIVE=<folder> OUT=<name> ARGS="-p name=value")
	@$(BIN)/python -m mosaic run $(RUN_ARGS)

test: $(VENV)/.installed-dev  ## pass all tests, the whole sequence at the smoke profile among them
	@log=$$(mktemp); trap 'trap - INT TERM; rm -f "$$log"; kill 0' INT TERM; \
	OMP_NUM_THREADS=1 nice -n 5 $(BIN)/python -m pytest $(SEQUENCE:%=--ignore=%) >"$$log" 2>&1 & \
	echo "the whole sequence, and all other tests at the same time:"; \
	$(BIN)/python -m pytest $(SEQUENCE); whole=$$?; \
	wait $$!; others=$$?; cat "$$log"; rm -f "$$log"; exit $$((whole || others))

faults: $(VENV)/.installed-dev  ## kill whole commands, and start them on full disks, without a home, ...
	@$(BIN)/python -m pytest -m faults tests/faults $(ARGS)

lint: $(VENV)/.installed-dev  ## ruff (library, tests, notebooks) and mypy (library)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

lab: $(VENV)/.installed  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab --notebook-dir notebooks

bench: $(VENV)/.installed-dev  ## measure ratios to other tools, within one run, into benchmarks/results and reports/benchmarks
	@set -e; for script in benchmarks/bench_*.py; do $(BIN)/python $$script; done
	@$(BIN)/python benchmarks/scaling.py
	@$(BIN)/python benchmarks/report.py

clean:  ## remove what can be made again in minutes: caches, packed data, simulated archives; keep reports
	rm -rf data/cache data/packed data/archives/simulated-* .pytest_cache .mypy_cache .ruff_cache

clean-archives:  ## remove downloaded archives as well (hours to fetch again)
	rm -rf data/archives

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The package is installed in place; a changed dependency list installs again.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	@echo "installing the environment (about 3 minutes, 7 GB, the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python pyproject.toml
	@echo "installing the environment with the test tools (about 3 minutes, 7 GB, the first time)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/.installed

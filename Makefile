# One Makefile for people and CI. `make demo` and `make test` need only Python >= 3.11.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NAME ?= all

.PHONY: setup compiled demo test test-quick test-external external-slurm external-others check fmt lint types imports cov bench build clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(f"Python >= 3.11 is needed; this is {v.major}.{v.minor}. Try: make PYTHON=python3.12") if v < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: setup
	$(BIN)/gridtide demo --output build/demo

# The planner's machine code, kept beside its source: no test waits for it, and no two make it at once.
compiled: setup
	$(BIN)/python -c "from scheduler.core.planner.warm import warm_up; warm_up()"

# Slow tests keep to the clock: they have the machine to themselves, after the others.
test: compiled
	$(BIN)/python -m pytest -m "not external and not slow" -n auto --maxprocesses 4 --cov --cov-report=
	$(BIN)/python -m pytest -m "not external and slow" --cov --cov-append --cov-report=term:skip-covered
	$(BIN)/python -m coverage report --include="scheduler/core/*" --fail-under=100
	@echo "skipped: tests marked external (they need Chromium, Redis and Slurm); run them with: make test-external"

test-quick: compiled
	$(BIN)/python -m pytest -m "not external and not slow" -q

test-external: compiled
	tests/testbeds/chromium
	tests/testbeds/charts
	tests/testbeds/redis up
	tests/testbeds/slurm up east west
	GRIDTIDE_SLURM_LUA=deploy/slurm/job_submit.lua tests/testbeds/slurm up south
	$(MAKE) --jobs=2 external-slurm external-others

# Tests on Slurm mostly wait for it; they share its clusters and so keep to one another.
external-slurm:
	$(BIN)/python -m pytest -m "external and slurm"

external-others:
	$(BIN)/python -m pytest -m "external and not slurm"

check: lint types imports

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup
	$(BIN)/python -m tests.benchmarks $(NAME)

build: setup
	$(BIN)/python -m pip wheel --quiet --no-deps -w dist .

clean:
	rm -rf build dist $(VENV)

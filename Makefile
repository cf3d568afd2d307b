# Two commands: make demo, make test. Both set themselves up in .venv.
PYTHON ?= python3
BIN := .venv/bin
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION = 1
export FLWR_TELEMETRY_ENABLED = 0
export FLWR_DISABLE_UPDATE_CHECK = 1
export RAY_USAGE_STATS_ENABLED = 0
# The suites start hundreds of processes: sources are compiled once, whatever the shell says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: fuzz help demo test test-all test-long test-engines test-federation check check-style check-types check-doctests priors docs clean

help:
	@echo "make demo          train on made-up hospitals, release, verify (about 4 minutes)"
	@echo "make test          the core suite, offline, about ten minutes on two cores"
	@echo "make test-all      what takes longer: planted faults, killed writers, networks that learn, the notebook, recipes"
	@echo "make test-engines  the suite's tests that start Flower's processes on loopback"
	@echo "make test-federation  hospitals as hosts of their own, in network namespaces (root, nginx)"
	@echo "make test-long     the tests that take more than a minute"
	@echo "make fuzz          mutated recordings of every format: CASES=1000000 SEED=1 PART=1/8 (half an hour for a million)"
	@echo "make check         format, lint, types, floors, doctests"
	@echo "make priors        rebuild the pretrained public priors from simulated signals (about 25 minutes)"
	@echo "make docs          build the documentation into build/site"
	@echo "make clean         remove what the other targets made"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedsynth needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: .venv/installed
	@$(BIN)/python examples/demo.py demo

test: .venv/installed
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not long and not engines and not federation"

test-all: .venv/installed
	$(BIN)/python -m pytest -q -n auto --dist loadfile --no-loadscope-reorder -m "slow and not long and not engines and not federation"

test-long: .venv/installed
	$(BIN)/python -m pytest -q -m long

test-engines: .venv/installed
	$(BIN)/python -m pytest -q -m engines

# Two groups, one for each core (pytest.mark.xdist_group), meant to be of the same length.
test-federation: .venv/installed
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --durations 0 -m "federation and not long"

check: check-style check-types check-doctests

check-style: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

check-types: .venv/installed
	$(BIN)/mypy

check-doctests: .venv/installed
	$(BIN)/python -m pytest -q --doctest-modules fedsynth

CASES ?= 1000000
SEED ?= 1
PART ?= 1/1
fuzz: .venv/installed
	cd tests/recordings && PYTHONPATH=../.. ../../$(BIN)/python -W ignore -m fuzzing --cases $(CASES) --seed $(SEED) --part $(PART) --keep ../../build/fuzz

priors: .venv/installed
	$(BIN)/python -m fedsynth.priors.pretrain fedsynth/priors
	$(BIN)/python -m fedsynth.priors.card fedsynth/priors

docs: .venv/installed
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

clean:
	rm -rf .venv demo build

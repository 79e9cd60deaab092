# make demo | dialects | test | check | bench | torture: each sets up what it needs in .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Whatever it was: else each of a thousand short processes compiles everything anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo dialects test check bench torture clean

demo: .venv/installed
	$(BIN)/batchgen run jobs/demo.yaml
	$(BIN)/batchgen report jobs/demo.yaml

dialects: .venv/dev
	PYTHONPATH=tests $(BIN)/python -m dialects

test: .venv/dev
	$(BIN)/python -m pytest -n 4 --dist worksteal

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev
	$(BIN)/python -m tests.bench

torture: .venv/dev
	$(BIN)/python -m tests.torture

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "batchgen needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv

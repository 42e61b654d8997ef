# Everything a fresh machine with Python 3.11 and make needs: the first use of a target sets up what it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
PYTEST := $(BIN)/python -m pytest

.PHONY: help up test test-kafka check bench-smoke setup clean

help:  ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

up: $(VENV)/.run  ## A whole Session Monitor with a demo, on this machine; Ctrl-C ends it
	@$(BIN)/session-monitor up --demo

test: $(VENV)/.test  ## All tests that need neither Java nor containers
	@PROPERTY_FACTOR=$${PROPERTY_FACTOR:-0.1} $(PYTEST) -n auto --dist worksteal -m "not kafka"

test-kafka: $(VENV)/.test  ## The tests on a real Apache Kafka, one address or what the machine has
	@$(PYTEST) -m kafka

check: $(VENV)/.test  ## Lint, types, rooms, schemas
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/session-monitor schemas check

bench-smoke: $(VENV)/.test  ## Events per CPU-second on Apache Kafka, beside the stock Faust agent's; needs Java
	@$(BIN)/session-monitor bench throughput --events 1000000 --sessions 50000 --at-least 100000

setup: $(VENV)/.test  ## Everything for working on it, into $(VENV)

clean:  ## Remove what the targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python found: install Python 3.11, or give PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": give PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV)

# Stamps: nothing is installed again before pyproject.toml changes.
$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) ..." >&2
	@$(PIP) -e '.[all]'
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "setting up $(VENV) with what tests need ..." >&2
	@$(PIP) -e '.[all,test]'
	@touch $(VENV)/.run $@

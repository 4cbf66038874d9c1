# Two commands do all the set-up: `make demo` and `make test`. `make check` is the quick part of the tests.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input install --constraint .ci/constraints.txt
WORKERS ?= 2
AGENTS := .agents
EDITORS := .editors

.PHONY: demo test test-agents check lint unit format bench agents editors clean

demo: $(VENV)/.runtime
	@$(BIN)/plait demo

test: $(VENV)/.dev lint $(AGENTS)/.tried $(EDITORS)/.tried
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal -m "not thorough"

# Each adapter alone with its real program, in every way that its author thought of; takes another seven minutes.
test-agents: $(VENV)/.dev $(AGENTS)/.tried
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal -m thorough

check: lint unit

lint: $(VENV)/.dev
	$(BIN)/ruff format --check --quiet server tests bench
	$(BIN)/ruff check --quiet server tests bench
	$(BIN)/mypy

unit: $(VENV)/.dev
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=worksteal -m "not slow and not thorough" tests/core tests/agents tests/engine tests/test_structure.py tests/test_protocol_page.py tests/test_wire.py

format: $(VENV)/.dev
	$(BIN)/ruff format server tests bench
	$(BIN)/ruff check --fix server tests bench

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# The real agents that tests drive against a scripted model server; one that cannot be had is named, and its tests skip.
agents: | $(BIN)/python
	@$(BIN)/python .ci/agents/install.py

$(AGENTS)/.tried: .ci/agents/package.json .ci/agents/aider.txt .ci/agents/install.py | $(BIN)/python
	@$(BIN)/python .ci/agents/install.py

# The real editors that tests drive; as with the agents, one that cannot be had is named, and its tests skip.
editors: | $(BIN)/python
	@$(BIN)/python .ci/editors/install.py

$(EDITORS)/.tried: .ci/editors/neovim.txt .ci/editors/install.py | $(BIN)/python
	@$(BIN)/python .ci/editors/install.py

clean:
	rm -rf $(VENV) $(AGENTS) $(EDITORS) build dist

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Plait needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml .ci/constraints.txt | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: pyproject.toml .ci/constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $(VENV)/.runtime $@

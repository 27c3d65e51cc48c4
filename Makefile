# kms-watchdog: everything runs from one virtual environment, made here. Needs make and Python 3.11 or newer, nothing else.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help
.PHONY: help demo test test-all catalogue check format lint types layers bench interop mutation toxiproxy alarms dashboards lock

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "kms-watchdog needs Python 3.11 or newer; none was found on PATH" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# --no-deps: the locks are whole, and pip must not look for a newer release of what they already name (coverage[toml] did).
$(VENV)/.runtime: $(VENV)/.made requirements.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime ## Run the watchdog over three local regions, through a drill, to a verdict (ARGS=--once ends after it)
	@exec $(BIN)/kms-local demo --stop-with-parent $(ARGS)

test: lint types layers $(VENV)/.dev ## Lint, types, layers, unit and integration tests (at most 8 minutes)
	$(call pytest,not slow and not catalogue)

test-all: lint types layers $(VENV)/.dev ## Everything, the slow tests too (at most 60 minutes)
	$(call pytest,not catalogue)

catalogue: $(VENV)/.dev ## Every drill of the catalogue, and drills of sabotaged systems, each to its verdict (20 minutes)
	$(BIN)/python -m pytest -m catalogue tests/integration && \
	$(BIN)/python -m pytest -m catalogue tests/chaos -n 2

# Tests that start whole processes and hold them to their times come last, alone; ARGS chooses tests, and is one run.
ifdef ARGS
pytest = $(BIN)/python -m pytest -m "$(1)" $(ARGS)
else
pytest = $(BIN)/python -m pytest -m "($(1)) and not alone" -n auto --maxprocesses 4 --dist loadfile && \
	$(BIN)/python -m pytest -m "($(1)) and alone"
endif

check: lint types layers ## Lint, types and import layers only

format: $(VENV)/.dev ## Format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

INTEROP := .state/interop
interop: $(VENV)/.dev $(INTEROP)/mpl/.made $(INTEROP)/js/.made $(INTEROP)/ctk/.made ## Messages cross with AWS's own SDKs (Python, Python with MPL, JavaScript), and drills with Chaos Toolkit
	$(BIN)/python -m pytest tests/core tests/chaos -k "interop or over_local_kms" -ra $(ARGS)

# Peers have environments of their own: one caps cryptography, the other is JavaScript.
$(INTEROP)/mpl/.made: tests/core/peers/requirements-mpl.txt $(VENV)/.made
	$(PYTHON) -m venv $(INTEROP)/mpl
	$(INTEROP)/mpl/bin/python -m pip install --quiet -r tests/core/peers/requirements-mpl.txt
	@touch $@

$(INTEROP)/ctk/.made: tests/chaos/peers/requirements-ctk.txt $(VENV)/.made
	$(PYTHON) -m venv $(INTEROP)/ctk
	$(INTEROP)/ctk/bin/python -m pip install --quiet -r tests/chaos/peers/requirements-ctk.txt
	@touch $@

$(INTEROP)/js/.made: tests/core/peers/package.json tests/core/peers/js_peer.cjs
	@mkdir -p $(INTEROP)/js && cp tests/core/peers/package.json tests/core/peers/js_peer.cjs $(INTEROP)/js/
	@if command -v npm >/dev/null; then cd $(INTEROP)/js && npm install --no-audit --no-fund --no-package-lock --silent; \
	else echo "no Node.js here: the JavaScript peer is left out" >&2; fi
	@touch $@

bench: $(VENV)/.dev ## Measure speed, memory, KMS calls and failover; tables, and JSON in benchmarks/results (ARGS='--full')
	$(BIN)/python -m benchmarks $(ARGS)

mutation: $(VENV)/.dev ## Break the judge, the phases and the guards in small ways: the fast tests must notice (ARGS=scene)
	$(BIN)/python tests/mutation $(ARGS)

toxiproxy: ## Build a real Toxiproxy, server and cli, into .state/toxiproxy (needs Go 1.23 or newer)
	@command -v go >/dev/null || { echo "no Go here: install it, or a toxiproxy-server, and set TOXIPROXY_BIN" >&2; exit 2; }
	GOBIN=$(CURDIR)/.state/toxiproxy go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0 github.com/Shopify/toxiproxy/v2/cmd/cli@v2.12.0

alarms: $(VENV)/.dev ## Render the alarms again: CloudWatch, Prometheus, the heads of the runbooks
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --into alarms/cloudwatch
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --format prometheus --into alarms/prometheus
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --format cloudformation --into alarms/cloudformation
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --format runbooks --into alarms/runbooks

dashboards: $(VENV)/.dev ## Render the dashboards again
	$(BIN)/kms-dashboards render dashboards/grafana

lock: $(VENV)/.made ## Resolve the dependencies again into the hashed locks
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra daemon --extra drills --extra local requirements-build.in $(LOCK) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev requirements-build.in $(LOCK) -o requirements-dev.lock
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

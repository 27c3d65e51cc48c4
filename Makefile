# kms-watchdog: everything runs from one virtual environment, made here. Needs make and Python 3.11 or newer, nothing else.
VENV   := .venv
BIN    := $(VENV)/bin
INTEROP := .state/interop
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DEFAULT_GOAL := help
.PHONY: help demo test test-all catalogue check format lint types layers bench interop peers mutation torture torture-leases simulate game-day toxiproxy image deploy alarms dashboards audit release lock

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

game-day: $(VENV)/.runtime ## Lose a region under the example application's load, and hold each step to its promise (five minutes)
	@exec $(BIN)/kms-local game-day --stop-with-parent $(ARGS)

test: lint types layers $(VENV)/.dev ## Lint, types, layers, unit and integration tests (at most 8 minutes)
	$(call pytest,not slow and not catalogue)

# AFTER=test: what `make test` has just run is not run again.
test-all: $(if $(filter test,$(AFTER)),,lint types layers) $(VENV)/.dev $(INTEROP)/awscli/.made ## Everything, the slow tests too (at most 75 minutes)
ifdef ARGS
	$(PYTEST) -m "not catalogue and not image" $(ARGS)
else
	@mkdir -p build; \
	$(PYTEST) -m "$(SLOW)not catalogue and not image and not alone and not heavy and not computes" -n $(WORKERS); shared=$$?; \
	echo "beside the next ones, at the lowest priority: those that only compute; they are told of in build/computing.log"; \
	$(IDLY) $(PYTEST) -m computes -n 2 >build/computing.log 2>&1 & computing=$$!; trap "kill $$computing; exit 130" INT TERM; \
	$(PYTEST) -m "$(SLOW)not catalogue and not image and alone" -n 2; waited=$$?; \
	$(PYTEST) -m heavy -n 2; weighed=$$?; \
	wait $$computing; computed=$$?; tail -n $$((computed ? 400 : 8)) build/computing.log; \
	exit $$((shared || waited || weighed || computed))
endif
# Linux shares the processor among sessions first: one with a priority of its own gets what all others leave.
IDLY := $(if $(wildcard /proc/self/autogroup),setsid sh -c 'echo 19 >/proc/self/autogroup; exec nice -n 19 "$$@"' idly,nice -n 19)
SLOW := $(if $(filter test,$(AFTER)),slow and )

image: $(VENV)/.dev ## Build the image without an engine of Docker's, and run it confined (needs buildah, podman, mmdebstrap; five minutes)
	$(BIN)/python -m pytest -m image tests/deploy $(ARGS)

catalogue: $(VENV)/.dev ## Every drill of the catalogue, and drills of sabotaged systems, each to its verdict (20 minutes)
	$(BIN)/python -m pytest -m catalogue tests/integration -n 2 --dist load && \
	$(BIN)/python -m pytest -m catalogue tests/chaos -n 2

# Tests wait more than they compute: three at a time keep two cores busy. Those that start whole estates and hold them
# to their times come after the others, two at a time, and last those that need the whole machine each; the longest files
# begin first. ARGS chooses tests, and is one run.
WORKERS ?= 3
PYTEST := $(BIN)/python -m pytest $(if $(ARGS),,--dist loadfile --no-loadscope-reorder)
ifdef ARGS
pytest = $(PYTEST) -m "$(1)" $(ARGS)
else
pytest = $(PYTEST) -m "($(1)) and not alone" -n $(WORKERS) && $(PYTEST) -m "($(1)) and alone" -n 2
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

peers: $(INTEROP)/mpl/.made $(INTEROP)/js/.made $(INTEROP)/ctk/.made $(INTEROP)/awscli/.made $(INTEROP)/deploy/.made $(INTEROP)/api/.made $(INTEROP)/supply/.made ## Install what others' programs the tests compare with; with them, `make test` runs those tests too

interop: $(VENV)/.dev peers ## Messages cross with AWS's own SDKs (Python, Python with MPL, JavaScript), and drills with Chaos Toolkit
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

# The runbooks' commands are run as they are printed: `make test-all` follows each page on the local AWS.
$(INTEROP)/awscli/.made: tests/integration/peers/requirements-awscli.txt $(VENV)/.made
	$(PYTHON) -m venv $(INTEROP)/awscli
	$(INTEROP)/awscli/bin/python -m pip install --quiet -r tests/integration/peers/requirements-awscli.txt
	@touch $@

# Checkers of what is deployed: docker compose, hadolint, Kubernetes' published schemas.
$(INTEROP)/deploy/.made: tests/deploy/peers/requirements-deploy.txt $(VENV)/.made
	$(PYTHON) -m venv $(INTEROP)/deploy
	$(INTEROP)/deploy/bin/python -m pip install --quiet -r tests/deploy/peers/requirements-deploy.txt
	@touch $@

# Schemathesis asks a running daemon what its OpenAPI document promises.
$(INTEROP)/api/.made: tests/daemon/peers/requirements-api.txt $(VENV)/.made
	$(PYTHON) -m venv $(INTEROP)/api
	$(INTEROP)/api/bin/python -m pip install --quiet -r tests/daemon/peers/requirements-api.txt
	@touch $@

# The bill of materials, known vulnerabilities, bandit.
$(INTEROP)/supply/.made: tests/release/peers/requirements-supply.txt $(VENV)/.made
	$(PYTHON) -m venv $(INTEROP)/supply
	$(INTEROP)/supply/bin/python -m pip install --quiet -r tests/release/peers/requirements-supply.txt
	@touch $@

$(INTEROP)/js/.made: tests/core/peers/package.json tests/core/peers/js_peer.cjs
	@mkdir -p $(INTEROP)/js && cp tests/core/peers/package.json tests/core/peers/js_peer.cjs $(INTEROP)/js/
	@if command -v npm >/dev/null; then cd $(INTEROP)/js && npm install --no-audit --no-fund --no-package-lock --silent; \
	else echo "no Node.js here: the JavaScript peer is left out" >&2; fi
	@touch $@

bench: $(VENV)/.dev ## Measure everything beside its peers: tables, and lines in benchmarks/results (QUICK=1: reduced; ARGS='--full --record')
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ARGS)

mutation: $(VENV)/.dev ## Break judge, phases, guards, breaker, decoder, fold of health, evaluator and ledgers in small ways: the fast tests must notice (ARGS=scene)
	$(BIN)/python tests/mutation $(ARGS)

torture: $(VENV)/.dev ## Crash at every site, then kill and stop daemon, drill, Toxiproxy and local AWS at drawn instants: nothing acknowledged may be lost (over an hour; ARGS='--kills 30 --seed 1', CRASHES='--seed 1')
	$(BIN)/python tests/torture crashes $(CRASHES)
	$(BIN)/python tests/torture kills $(ARGS)

torture-leases: $(VENV)/.dev ## Freeze and kill those who want the drill lease: never two holders, no stale write (half an hour; ARGS='--acquisitions 100 --seed 1')
	$(BIN)/python tests/torture leases $(ARGS)

simulate: $(VENV)/.dev ## Months of an estate on virtual time, from seeds: all must hold whatever befalls it (ARGS='--seeds 10000', ARGS=--explore)
	$(BIN)/python tests/simulator $(ARGS)

toxiproxy: ## Build a real Toxiproxy, server and cli, into .state/toxiproxy (needs Go 1.23 or newer)
	@command -v go >/dev/null || { echo "no Go here: install it, or a toxiproxy-server, and set TOXIPROXY_BIN" >&2; exit 2; }
	GOBIN=$(CURDIR)/.state/toxiproxy go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0 github.com/Shopify/toxiproxy/v2/cmd/cli@v2.12.0

alarms: $(VENV)/.dev ## Render the alarms again: CloudWatch, Prometheus, the heads of the runbooks
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --into alarms/cloudwatch
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --format prometheus --into alarms/prometheus
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --format cloudformation --into alarms/cloudformation
	$(BIN)/kms-alarms render --config daemon/watchdog.example.toml --format runbooks --into alarms/runbooks

deploy: $(VENV)/.dev ## Render what ECS, systemd, Kubernetes, CloudFormation and IAM are given again
	$(BIN)/kms-watchdog deploy render --format ecs --config daemon/watchdog.example.toml --into deploy/ecs
	$(BIN)/kms-watchdog deploy render --format systemd --config daemon/watchdog.example.toml --into deploy/systemd
	$(BIN)/kms-watchdog deploy render --format kubernetes --config daemon/watchdog.example.toml --into deploy/kubernetes
	$(BIN)/kms-watchdog provision render --format terraform --config daemon/watchdog.example.toml --into deploy/estate

dashboards: $(VENV)/.dev ## Render the dashboards again
	$(BIN)/kms-dashboards render dashboards/grafana
	$(BIN)/kms-dashboards render --format cloudwatch --config daemon/watchdog.example.toml dashboards/cloudwatch

audit: $(INTEROP)/supply/.made ## Look up known vulnerabilities of all that is locked (needs the network; read what it says it skipped)
	@for lock in requirements.lock requirements-dev.lock deploy/container/drills.lock; do echo "$$lock"; \
	$(INTEROP)/supply/bin/pip-audit --require-hashes --disable-pip --progress-spinner off -r $$lock || exit 1; done

release: $(VENV)/.dev $(INTEROP)/supply/.made ## Build wheel and sdist of the last commit twice, compare them to the byte, and put them with a bill of materials and their sums into dist
	$(BIN)/python tests/release build $(ARGS)

lock: $(VENV)/.made ## Resolve the dependencies again into the hashed locks
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra daemon --extra drills --extra local requirements-build.in $(LOCK) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra dev requirements-build.in $(LOCK) -o requirements-dev.lock
	$(BIN)/uv pip compile examples/parker_flight_api/requirements.in --constraint requirements.lock $(LOCK) -o examples/parker_flight_api/requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra daemon --constraint requirements.lock $(LOCK) -o deploy/container/watchdog.lock
	$(BIN)/uv pip compile pyproject.toml --extra daemon --extra drills --constraint requirements.lock $(LOCK) -o deploy/container/drills.lock
	$(BIN)/uv pip compile requirements-build.in --constraint requirements.lock $(LOCK) -o deploy/container/build.lock
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate

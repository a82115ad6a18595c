# Vitalgate: `make demo` shows it, `make test` tests it, both from a bare clone. `make help` lists the rest.

SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
LOCK_COMMAND := make lock

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME

.PHONY: help setup demo test check bench torture alertruns sbom lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## virtual environment from the lock, system packages, Kafka's jars
	@$(BIN)/python deploy/setup/system_packages.py
	@$(BIN)/python -m vitalgate.local.warm

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed; install it or give PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) deploy/setup/environment.py $(VENV)
	@touch $@

demo: setup ## the whole path on this machine in half a minute
	@$(BIN)/vitalgate demo

# Most of a test's time is waiting for a broker, Kafka or a database: several processes, each with its own stack.
JOBS ?= 3

test: setup ## all tests, on the real parts (JOBS=1: one after the other)
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# All checks run, so that one run shows all there is to mend.
check: setup ## lint, types, import rules, schemas, lock, known vulnerabilities
	@failed=; \
	check() { name=$$1; shift; echo "== $$name"; "$$@" || failed="$$failed $$name"; }; \
	check lint $(BIN)/ruff check --output-format concise .; \
	check format $(BIN)/ruff format --check .; \
	check types $(BIN)/mypy; \
	check rooms $(BIN)/lint-imports --no-logo; \
	check schemas $(BIN)/vitalgate schema check; \
	check lock $(BIN)/python deploy/setup/lock_is_current.py; \
	check vulnerabilities $(BIN)/python deploy/setup/audit_dependencies.py; \
	if test -n "$$failed"; then echo "failed:$$failed"; exit 1; fi; echo "all checks passed"

bench: setup ## throughput, latency, ECGs held, bytes at rest, on this machine (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks $(ARGS)

alertruns: setup ## fifty randomised runs of the alerting processes against the reference model (docs/alerting.md)
	@$(BIN)/python -m tests.alerts.process_runs --write docs/alerting.md $(ARGS)

torture: setup ## faults on purpose against a system of its own, 100 rounds, tallied (docs/reliability.md)
	@$(BIN)/vitalgate torture --rounds 100 --resume --report docs/reliability.md $(ARGS)

sbom: setup ## what is inside, as CycloneDX: build/vitalgate.cdx.json, from the lock
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --mc-type application \
		--sv 1.6 --of JSON --output-reproducible --no-validate -o build/vitalgate.cdx.json 2>/dev/null
	@$(BIN)/python -c 'import json; b = json.load(open("build/vitalgate.cdx.json")); \
		print("build/vitalgate.cdx.json: CycloneDX", b["specVersion"], "with", len(b["components"]), "components")'

lock: setup ## choose versions anew and pin them with hashes
	$(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-emit-index-url \
		--no-emit-find-links --all-extras --group dev --python-version 3.11 --custom-compile-command "$(LOCK_COMMAND)" \
		pyproject.toml -o requirements.lock

clean: ## remove what was made here: environment, caches, the stack's data
	@test ! -x $(BIN)/vitalgate || $(BIN)/vitalgate down --remove
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

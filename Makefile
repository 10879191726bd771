# One verb per need. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
ARGS ?=
# Bytecode is kept, whatever the environment says: without it, each start of the server takes two seconds more.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/bytecode

.PHONY: help setup demo test check lint types imports format lock bench audit clean

help: ## List the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml tools/venv
	@tools/venv $(VENV)
	@touch $@

setup: $(STAMP) ## Make the virtual environment with everything in it

demo: $(STAMP) ## The road of one document, end to end, on sample scans (ARGS="--once --json FILE")
	@$(BIN)/dmst-fhir demo $(ARGS)

test: $(STAMP) ## The whole test suite (ARGS are given to pytest)
	@tools/test-packages
	@$(BIN)/python -m pytest -q $(if $(ARGS),,-n 2 --dist loadfile) $(ARGS)

check: lint types imports ## Style, types and import rules

audit: ## Known vulnerabilities of what is pinned; asks the advisories of PyPI, in a virtual environment of its own
	@test -x .audit/bin/pip-audit || { python3 -m venv .audit && .audit/bin/pip install -q pip-audit; }
	@.audit/bin/pip-audit --no-deps --disable-pip -r requirements.lock

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/basedpyright --level error

imports: $(STAMP)
	@$(BIN)/lint-imports
	@$(BIN)/deptry .

format: $(STAMP) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: ## Resolve every dependency again, together, with hashes
	@uv pip compile pyproject.toml --extra embedded --extra otel --extra pkcs11 --extra s3 --group dev --python-version 3.11 --universal \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-annotate -q -o requirements.lock

bench: $(STAMP) ## Measure; the results go to bench/results and docs/performance.md
	@$(BIN)/python -m bench $(ARGS)

clean: ## Forget the environment and what the demonstration kept
	rm -rf $(VENV) demo-data var

# harvestd: `make demo` shows the main job, `make test` proves it, `make help` lists the rest.
SHELL := /bin/sh
PYTHON ?= python3
VENV   := .venv
BENCH_VENV := .venv-bench
# Always through the interpreter: scripts in .venv/bin break when a checkout is moved.
PY     := "$(VENV)/bin/python"
REPO   ?=
MINUTES ?= 10
SEED    ?= 1
# As it was typed, for the shell: neither make nor the shell looks for a $ or a quote in it.
ASKED  = $(if $(value REPO),--repo='$(subst ','\'',$(value REPO))')

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check format schema bench-engine bench-peers bench-load soak torture lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## /  \1|/' | awk -F'|' '{printf "%-18s %s\n", "make " substr($$1,3), $$2}'

setup: $(VENV)/.ready ## the virtual environment .venv, from the lock file

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "harvestd needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Next: make setup PYTHON=python3.12"; exit 2; }
	@echo "setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv --clear "$(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch "$@"

demo: setup ## collect a git repository for two tenants into an embedded PostgreSQL (REPO=/any/repo)
	@$(PY) -m harvestd demo $(ASKED)

run: setup ## the daemon on the embedded PostgreSQL, until Ctrl-C
	@$(PY) -m harvestd run

test: check ## everything: ruff, mypy, import contracts, the whole suite
	@$(PY) -m pytest

check: setup ## ruff, mypy --strict, import contracts
	@$(PY) -m ruff check --quiet . && $(PY) -m ruff format --check --quiet . || { echo "next: make format"; exit 1; }
	@$(PY) -m mypy
	@said=$$($(PY) -c "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports('pyproject.toml', no_cache=True))" 2>&1) || { echo "$$said"; exit 1; }

format: setup ## let ruff format the code and sort imports
	@$(PY) -m ruff check --quiet --fix . ; $(PY) -m ruff format --quiet .

schema: setup ## write sql/schema.sql anew from the migrations
	@$(PY) -m tests.write_schema

bench-engine: setup ## runs a second, the tick, idle cost, beside pgbench and peers (OPTIONS="--rounds 5")
	@$(MAKE) --no-print-directory bench-peers || echo "going on without them"
	@$(PY) -m bench.engine $(OPTIONS)

bench-peers: $(BENCH_VENV)/.ready ## the programs that both benches measure beside the daemon

$(BENCH_VENV)/.ready: bench/requirements.lock
	@echo "setting up $(BENCH_VENV) (once) ..."
	@$(PYTHON) -m venv --clear "$(BENCH_VENV)"
	@"$(BENCH_VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.lock
	@touch "$@"

bench-load: setup ## rows a second through db.upsert, beside bare SQL and peers (OPTIONS="--rows 50000")
	@$(MAKE) --no-print-directory bench-peers || echo "going on without them"
	@$(PY) -m bench.load $(OPTIONS)

soak: setup ## an hour at full load: memory, descriptors and speed stay as they were (OPTIONS="--minutes 10")
	@$(PY) -m bench.soak $(OPTIONS)

torture: setup ## the long proof: schedules, crashes, outages, a fleet; an oracle looks on (MINUTES=10 SEED=1)
	@$(PY) -m harvestd torture --minutes $(MINUTES) --seed $(SEED)
	@$(PY) -m tests.crash.torture --minutes $(MINUTES) --seed $(SEED)
	@HARVEST_TEST_CHAOS_MINUTES=$(MINUTES) HARVEST_TEST_SEED=$(SEED) $(PY) -m pytest -n 0 -s tests/replicas/test_fleet.py

lock: ## refresh both lock files from pyproject.toml (maintainers; needs uv)
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group dev -o requirements.lock pyproject.toml
	@uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --group pyproject.toml:bench -o bench/requirements.lock

clean: ## remove .venv and caches
	rm -rf "$(VENV)" "$(BENCH_VENV)" .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

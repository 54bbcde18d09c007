# Everything here works on a bare machine: Python 3.11 or later, make, and a C compiler for the few
# dependencies that may have no wheel for it. `make demo` and `make test` do all of their own set-up.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# What CI and this repository's machines have: tests that want more wait for each other.
WORKERS ?= 2

# The tests of what leans on SQLAlchemy's private parts.
SQLALCHEMY_TESTS := $(addprefix tests/contract/test_,sqlalchemy_contract.py pool_contract.py \
	session_contract.py plans_contract.py fetch_plans_contract.py) \
	$(addprefix tests/unit/sql/,capture fetch_plans loading plans pool replicas uses test_wrapping.py) \
	$(addprefix tests/integration/sql/replicas/test_,routing.py calls.py)

# Installs a package, unless a command finds what is in it.
debian = @{ $(1); } >/dev/null || { \
	[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && \
	apt-get install -qy --no-install-recommends $(2); } || \
	echo "$(2) is not installed, so its tests are skipped (Debian's package $(2) has it)"

.DEFAULT_GOAL := help
.PHONY: help demo test test-sqlalchemy20 chaos-sql chaos-cache lint bench contract prometheus pgbouncer mariadb clean

help:  ## Show the targets
	@sed -nE 's/^([a-z-]+):.*##  *(.*)/  make \1\t\2/p' $(MAKEFILE_LIST)

demo: $(VENV)/.demo  ## Find, fix and prove on ShopEase
	$(BIN)/upshift demo $(ARGS)

test: lint contract prometheus pgbouncer mariadb  ## Run the linters and all tests
	$(BIN)/python -m pytest -q --doctest-modules src
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(VENV)/.dev  ## Run ruff, mypy --strict and the import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

contract: $(VENV)/.dev .venv-sqlalchemy-2.0/.contract  ## Run the tests that pin SQLAlchemy's private parts, on its older versions
	.venv-sqlalchemy-2.0/bin/python -m pytest -n $(WORKERS) --dist worksteal -p no:cacheprovider $(SQLALCHEMY_TESTS)

test-sqlalchemy20: .venv-sqlalchemy-2.0/.all  ## Run all tests of statements on the oldest SQLAlchemy
	.venv-sqlalchemy-2.0/bin/python -m pytest -n $(WORKERS) --dist worksteal -p no:cacheprovider \
		tests/contract tests/unit/sql tests/unit/cache tests/integration/sql tests/integration/cache \
		tests/integration/diagnose $(ARGS)

prometheus:  ## Install Prometheus for its tests, where that is possible
	$(call debian,command -v prometheus && command -v promtool,prometheus)

mariadb:  ## Install MariaDB for its tests, where that is possible
	$(call debian,command -v mariadbd,mariadb-server)

pgbouncer:  ## Install PgBouncer for its tests, where that is possible
	$(call debian,command -v pgbouncer || [ -x /usr/sbin/pgbouncer ],pgbouncer)

chaos-sql: $(VENV)/.dev  ## Stop, kill and cut off a database under load, with each driver, again and again
	CHAOS_ROUNDS=$${CHAOS_ROUNDS:-4} $(BIN)/python -m pytest -q tests/chaos/test_database.py $(ARGS)

chaos-cache: $(VENV)/.dev  ## Kill, stop and cut off processes with a cache and its Redis, and judge a million reads
	CHAOS_ROUNDS=$${CHAOS_ROUNDS:-12} $(BIN)/python -m pytest -q -s tests/chaos/cache $(ARGS)

bench: $(VENV)/.bench  ## Run one benchmark (BENCH=name), or all
	$(BIN)/python benchmarks/run.py $(BENCH)

clean:  ## Remove the virtual environments and caches
	rm -rf $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Upshift needs Python 3.11 or later on the PATH"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -q && apt-get install -qy python3-venv; \
		else echo "Python's venv module is missing: install your system's python3-venv package"; exit 1; fi; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt pip
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[demo,redis]' --group dev
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt --group bench
	@touch $@

.venv-sqlalchemy-2.0/.contract: $(VENV)/.made pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-sqlalchemy-2.0
	.venv-sqlalchemy-2.0/bin/pip install -q --disable-pip-version-check -c constraints.txt pip
	grep -vi '^sqlalchemy==' constraints.txt > .venv-sqlalchemy-2.0/constraints.txt
	.venv-sqlalchemy-2.0/bin/pip install -q --disable-pip-version-check -c .venv-sqlalchemy-2.0/constraints.txt \
		-e '.[postgres,servers]' 'sqlalchemy==2.0.40' aiosqlite hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist
	@touch $@

.venv-sqlalchemy-2.0/.all: .venv-sqlalchemy-2.0/.contract
	.venv-sqlalchemy-2.0/bin/pip install -q --disable-pip-version-check -c .venv-sqlalchemy-2.0/constraints.txt \
		-e '.[demo,redis]' 'sqlalchemy==2.0.40' --group dev
	@touch $@

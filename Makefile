# Needs Python 3.11 or newer and make; brings all the rest into .venv and the user's cache. `make help` lists what there is.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh
# What a developer's shell may hold and would lead the project's own Python astray.
unexport PYTHONPATH PYTHONHOME

PY := .venv/bin/python
UV := .venv/uv/bin/uv
UV_VERSION := 0.13.9
PIP := $(PY) -m pip --disable-pip-version-check

# Two at a time, each with servers of its own: much of a test is waiting. In the order of the folders, so that the short ones come last.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

# A stamp is named after the content that it stands for: no clock and no checkout can make a stale one look fresh.
sum = $(firstword $(shell cat $(1) | cksum))
MADE := .venv/.made
DEV := .venv/.dev-$(call sum,requirements/dev.txt)
TEST := .venv/.test-$(call sum,requirements/test.txt)
PROJECT := .venv/.project-$(call sum,pyproject.toml)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(DEV) $(PROJECT) kafka ## see it work: real Kafka and PostgreSQL, a registration from request to event
	@.venv/bin/registration demo

.PHONY: dev
dev: $(DEV) $(PROJECT) kafka ## run everything in the foreground, until Ctrl-C
	@.venv/bin/registration dev

.PHONY: test
test: $(TEST) $(PROJECT) kafka ## run every test; ARGS="-k word" chooses
	@$(PY) -m pytest --basetemp=.venv/pytest $(TWO) $(ARGS)

.PHONY: fuzz
fuzz: $(TEST) $(PROJECT) kafka ## ask the API whatever its description allows, and what not; MINUTES=10 says how long
	@FUZZ_MINUTES=$(or $(MINUTES),5) $(PY) -m pytest --basetemp=.venv/pytest -o timeout=0 -s tests/boundary/test_schemathesis.py

.PHONY: rings
rings: $(TEST) $(PROJECT) kafka ## the longer tests: transport, identity provider, hostile requests, privacy, publish, poison, faults
	@$(PY) -m pytest --basetemp=.venv/pytest tests/boundary/rings tests/fault/rings $(ARGS)

.PHONY: mutants
mutants: $(TEST) $(PROJECT) ## change the rules in each small way; the tests must notice nine in ten
	@$(PY) -m tests.mutants

.PHONY: faults
faults: $(TEST) $(PROJECT) kafka ## kill the processes at every await, before and after; ARGS="--only worker/lane" chooses
	@$(PY) -m tests.fault.crashpoints $(ARGS)

.PHONY: soak
soak: $(TEST) $(PROJECT) kafka ## half an hour under load with a fault each minute; MINUTES=60; what is held must not grow
	@$(PY) -m tests.fault.soak --minutes $(or $(MINUTES),30) $(ARGS)

.PHONY: lint
lint: $(TEST) $(PROJECT) ## check style, types and who may import whom
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	@$(PY) -m mypy
	@.venv/bin/lint-imports

.PHONY: bench
bench: $(TEST) $(PROJECT) kafka ## measure the pace on this machine
	@$(PY) -m benchmarks $(ARGS)

.PHONY: schemas
schemas: $(DEV) $(PROJECT) ## write what is generated anew: JSON Schemas, AsyncAPI, OpenAPI; the catalogue's schema; the dashboard
	@$(PY) -m schemas
	@$(PY) -m worker.ingress > schemas/openapi.json
	@$(PY) -m worker catalogue schema > worker/dev/catalogue/catalogue.schema.json
	@$(PY) -m observability.dashboard > observability/dashboard.json

.PHONY: trace
trace: $(TEST) $(PROJECT) kafka ## see one registration as a trace: a tree, and trace.json for a viewer
	@$(PY) -m tests.trace .venv/trace.json

# Go builds it from observability/promtool/go.sum: some minutes, once. The tag leaves service discovery out, most of its dependencies.
PROMTOOL := $(or $(shell command -v promtool),.venv/bin/promtool)
.PHONY: alerts
alerts: $(PROMTOOL) ## try each alert on invented series, with promtool
	@$(PROMTOOL) check rules observability/alerts.yaml
	@$(PROMTOOL) test rules observability/alerts_test.yaml

.venv/bin/promtool: observability/promtool/go.sum $(MADE)
	@command -v go >/dev/null || { echo "error: promtool is not on the PATH, nor is Go to build it with" >&2; exit 1; }
	@echo "Building promtool (once) ..."
	@go build -C observability/promtool -mod=readonly -tags remove_all_sd -o "$(CURDIR)/$@" github.com/prometheus/prometheus/cmd/promtool

.PHONY: lock
lock: $(TEST) $(UV) ## resolve all dependencies anew: requirements/*.txt and Kafka's jars
	@set -e; compile="$(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml"; \
	$$compile -o requirements/run.txt; \
	$$compile --group dev -c requirements/run.txt -o requirements/dev.txt; \
	$$compile --extra telemetry -c requirements/dev.txt -o requirements/telemetry.txt; \
	$$compile --extra telemetry --group test -c requirements/dev.txt -c requirements/telemetry.txt -o requirements/test.txt
	@$(PY) -m worker.dev.jars --lock

# The dev cluster needs Docker with compose, and nothing else. PROFILE=cluster: three Kafka nodes.
COMPOSE := docker compose
EVERYTHING := $(COMPOSE) --profile '*'

.PHONY: up
up: ## start the dev cluster in containers, and wait until it serves; PROFILE=cluster has three Kafka nodes
	@$(COMPOSE) $(if $(PROFILE),--profile $(PROFILE)) up --build --wait

.PHONY: seed
seed: ## register a few hundred made-up people with the dev cluster, over HTTP; PEOPLE=1000
	@$(COMPOSE) run --rm --entrypoint python operator -m worker.dev.seed --people $(or $(PEOPLE),300)

.PHONY: logs
logs: ## follow the dev cluster's logs; ARGS=consent chooses a service
	@$(EVERYTHING) logs --follow --tail 100 $(ARGS)

.PHONY: down
down: ## stop the dev cluster; its data stays for the next time, unless ARGS=--volumes
	@$(EVERYTHING) down --remove-orphans $(ARGS)

# Without the tests of what the embedded servers are themselves.
.PHONY: test-docker
test-docker: $(TEST) $(PROJECT) ## the tests at the boundary and the story on containers, then the dev cluster itself; needs Docker
	@REGISTRATION_TEST_SERVERS=containers $(PY) -m pytest --basetemp=.venv/pytest $(TWO) --ignore tests/boundary/test_embedded.py tests/boundary tests/story $(ARGS)
	@$(PY) -m pytest --basetemp=.venv/pytest -o timeout=1800 tests/docker

.PHONY: clean
clean: ## remove what the targets above made in this folder
	@rm -rf .venv .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A second or less when all is there, and then without a connection.
.PHONY: kafka
kafka: $(DEV) $(PROJECT)
	@$(PY) -m worker.dev.prepare

$(PROJECT): $(DEV)
	@rm -f .venv/.project-*
	@$(PIP) install -q --no-index --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(MADE)
	@rm -f .venv/.dev-* .venv/.test-*
	@echo "Installing what the project needs (once) ..."
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

# The tests' list holds the developers', in the same versions.
$(TEST): $(MADE)
	@rm -f .venv/.dev-* .venv/.test-*
	@echo "Installing what the project and its tests need (once) ..."
	@$(PIP) install --require-hashes -r requirements/test.txt
	@touch $(DEV) $@

# Also anew when the Python it was made with is gone.
$(MADE): $(if $(wildcard $(PY)),,again)
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; \
	if [ -z "$$python" ]; then echo "error: this needs Python 3.11 or newer, and found none as python3, python3.14, ..., python3.11" >&2; exit 1; fi; \
	if ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo "error: $$python has no venv; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; fi; \
	echo "Making .venv with $$($$python --version) ..."; \
	$$python -m venv --clear .venv && touch $@

.PHONY: again
again:

$(UV): $(MADE)
	@$(PY) -m venv --clear .venv/uv
	@.venv/uv/bin/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION)

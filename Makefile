# Two commands do everything on a fresh machine: `make compare` and `make test`. Each makes what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
OUT ?= results/compare

.PHONY: help compare test lint bench facts clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

compare: .venv/core ## Run all policies on the mixed workload at three loads; table, pictures, one trace in results/compare
	$(BIN)/llmsched-gym compare --scenario mixed --jobs 200 --load 0.5,0.9,1.2 --seeds 0:6 -o $(OUT)
	$(BIN)/llmsched-gym run --scenario mixed --policy srtf --jobs 40 -o $(OUT)/episode

test: .venv/dev ## Run the tests
	$(BIN)/python -m pytest -n 2

lint: .venv/dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/dev ## Measure speed: engine, simulator, environment, decisions
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/simulator.py
	$(BIN)/python benchmarks/environment.py

facts: .venv/dev ## Fit the shipped facts again from the measured data (DATA=folder)
	$(BIN)/llmsched-gym workload fit --data $(DATA) --output llmsched_gym/workloads/facts --figures docs/figures

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/core: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

# torch is pinned first: an unpinned request would fetch the newest build with its CUDA libraries.
.venv/dev: pyproject.toml | .venv/bin/python
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[sb3,dev]'
	touch $@ .venv/core

clean: ## Remove the virtual environment and results
	rm -rf .venv results

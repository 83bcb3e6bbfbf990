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
.PHONY: help setup demo demo-loop test test-slow bench-train bench-few-shot bench-serve bench-serve-soak bench-serve-curve bench-cascade bench-log bench-confidence bench-bounds bench-data bench-gate bench-drift lint format mlflow clean test-images images manifests rules test-cluster bench-judge bench-score bench-jobs

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install everything into it

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "no Python is installed: install Python 3.11, or name one with make PYTHON=..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --no-compile --progress-bar on -e '.[serve,client,rollout,train,pipelines,trigger,crawl,dev]'
	@touch $@

demo: $(STAMP) ## train on a sample, serve it, send requests over V1, V2 and gRPC (2 to 8 minutes): make demo TASK=sentiment
	@$(BIN)/python -m pipelines.demo demo$(and $(TASK),-$(notdir $(basename $(TASK)))) $(TASK)

demo-loop: $(STAMP) ## shift the traffic, see an alert fire, the model train again, and the alert resolve (at most 15 minutes)
	@$(BIN)/python -m pipelines.demo_loop demo-loop

test: $(STAMP) ## run the tests
	@$(BIN)/python -m pytest -m "not slow and not cluster and not images" --numprocesses 2 --dist loadfile

test-slow: $(STAMP) ## run the tests that take minutes: training in several processes, a search that is killed
	@$(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile

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

bench-log: $(STAMP) ## what the prediction log costs: make bench-log DATA=path/to/folder BUNDLE=path/to/bundle ROUNDS=8
	@$(BIN)/python -m tests.benchmarks.log $(BENCH_SERVE) $(and $(ROUNDS),--rounds $(ROUNDS)) \
		$(and $(CASCADE),--cascade $(CASCADE))

bench-confidence: $(STAMP) ## calibration, coverage of label sets, attributions: make bench-confidence BUNDLE=out/ag/bundles/0123456789ab
	@$(BIN)/python -m tests.benchmarks.confidence $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE))

bench-bounds: $(STAMP) ## measure how hostile requests affect others: worst latency of health checks, and memory
	@$(BIN)/python -m tests.benchmarks.bounds $(and $(BUNDLE),--bundle $(BUNDLE))

bench-gate: $(STAMP) ## simulate the gate's decisions, and time a test: make bench-gate DATA=path/to/ag_news BUNDLE=out/ag/bundles/0123456789ab
	@$(BIN)/python -m tests.benchmarks.gate $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE))

bench-data: $(VENV)/.bench ## measure cleaning, near-copies, preparing and labelling: make bench-data DATA=path/to/ag_news
	@$(BIN)/python -m tests.benchmarks.data $(and $(DATA),--data $(DATA)) $(and $(ONLY),--only $(ONLY))

bench-drift: $(STAMP) ## measure how reliably drift is found, and false alarms: make bench-drift DATA=path/to/ag_news
	@$(BIN)/python -m tests.benchmarks.drift $(and $(DATA),--data $(DATA)) $(and $(OTHER),--other $(OTHER)) \
		$(and $(WINDOWS),--windows $(WINDOWS)) $(and $(EVIDENTLY),--evidently $(EVIDENTLY))

bench-judge: $(STAMP) ## measure how reliably bad canaries are rolled back and equal ones promoted
	@$(BIN)/python -m tests.benchmarks.judge $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE))

bench-score: $(STAMP) ## what scoring a file costs beside the bare engine: make bench-score DATA=... BUNDLE=... ROWS=20000
	@$(BIN)/python -m tests.benchmarks.scoring $(and $(DATA),--data $(DATA)) $(and $(BUNDLE),--bundle $(BUNDLE)) \
		$(and $(ROWS),--rows $(ROWS)) $(and $(ROUNDS),--rounds $(ROUNDS))

bench-jobs: $(STAMP) ## asynchronous jobs of two replicas over Redis, with failures: make bench-jobs DATA=... BUNDLE=... TEXTS=2000
	@$(BIN)/python -m tests.benchmarks.jobs $(BENCH_SERVE) $(and $(TEXTS),--texts $(TEXTS))

$(VENV)/.bench: $(STAMP)
	$(BIN)/python -m pip install --no-compile --progress-bar on -e '.[serve,client,rollout,train,pipelines,trigger,crawl,dev,bench]'
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
	@$(BIN)/python -m pytest tests/manifests --ignore tests/manifests/monitoring -m "not slow"

rules: $(STAMP) ## write the alerts as files of a plain Prometheus into build/rules, and test them with promtool
	@$(BIN)/python -m tests.manifests.monitoring.rules

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
	rm -rf $(VENV) demo demo-* out bench build wheels *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

OUT ?= demo

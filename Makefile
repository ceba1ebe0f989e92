# Everything that a person does with bigwae; `make help` lists it.
# Variables of `make sweep`: ALG BUDGET STUDY SPACE RESULTS TRACKING SEARCH SCHEDULER CONFIRM ARGS, e.g. make sweep ALG=wae-mmd BUDGET=1000
# A variable is one word, whatever is in it: RESULTS="my results". ARGS, MODELS and PARTS are several, as a shell has
# them: MODELS="'my results/a.safetensors' b.safetensors".

RESULTS ?= results
PYTHON ?= python3
# Another environment that has bigwae, BIN=/opt/bigwae/bin as on a cluster's nodes, is taken as it is.
BIN := .venv/bin
READY := $(if $(filter-out .venv/bin,$(BIN)),,.venv/ready)
# $(call quoted,x): x as one word of the shell, its spaces, quotes and dollars as they are.
quoted = '$(subst ','\'',$(1))'
# $(call option,name,x) is --name x, and $(call key,name,x) is name=x; nothing where x is empty.
option = $(if $(2),--$(1) $(call quoted,$(2)))
key = $(if $(2),$(call quoted,$(1)=$(2)))
# The command bigwae, of this source tree whatever is installed.
BIGWAE = $(call quoted,$(BIN)/python) -m sweep.command
PARALLEL_PYTEST = $(call quoted,$(BIN)/pytest) --numprocesses=logical --dist=worksteal
# A word that is not given falls back to sweep/conf/config.yaml.
WORDS = $(call key,alg,$(ALG)) $(call key,budget,$(BUDGET)) $(call key,study,$(STUDY)) $(call key,space,$(SPACE)) \
        $(call key,search,$(SEARCH)) $(call key,scheduler,$(SCHEDULER)) $(call key,confirm,$(CONFIRM)) $(call key,tracking,$(TRACKING)) \
        $(call quoted,results=$(RESULTS)) $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup data space sweep status ui mlflow-rebuild notebooks figures report rescore counterfactual setup-tpu test-xla test test-quick check fix bench chaos faults

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  make %-15s %s\n", $$1, $$2}'
	@echo
	@echo '  make sweep ALG=wae-mmd|wae-gan|vae|all BUDGET=30 STUDY=digits SPACE=digits RESULTS=results'
	@echo '             SEARCH=random|optuna SCHEDULER=none|asha CONFIRM=10'
	@echo '             ARGS="any.key=value"; every key is listed by: .venv/bin/bigwae sweep --help'

setup: .venv/ready ## make .venv with the pinned versions (every target that needs it does so once)

.venv/ready: pyproject.toml constraints.txt
	@$(call quoted,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo 'bigwae needs Python 3.11 or newer: make setup PYTHON=python3.12' >&2; exit 2)
	$(call quoted,$(PYTHON)) -m venv .venv
	$(call quoted,$(BIN)/pip) install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,notebooks]'
	@touch $@

setup-tpu: .venv-tpu/ready ## make .venv-tpu, with torch_xla and the torch that it is built for: 7 GB, for cluster=tpu

.venv-tpu/ready: pyproject.toml constraints.txt constraints-tpu.txt
	$(call quoted,$(PYTHON)) -m venv .venv-tpu
	grep -v '^torch==' constraints.txt > .venv-tpu/constraints.txt
	.venv-tpu/bin/pip install --quiet --disable-pip-version-check --constraint .venv-tpu/constraints.txt \
	    --constraint constraints-tpu.txt --editable '.[dev,notebooks,tpu]'
	@touch $@

data: $(READY) ## pack a data set: DATA=mnist|celeba|folder SOURCE=zip or folder (NAME= SIZE= HELD_OUT= ARGS=--check)
	@$(BIGWAE) data $(if $(DATA),$(call quoted,$(DATA))) $(call option,source,$(SOURCE)) $(call option,name,$(NAME)) \
	    $(call option,size,$(SIZE)) $(call option,held-out,$(HELD_OUT)) $(ARGS)

space: SPACE ?= digits
space: $(READY) ## a search space as a table, with remarks and a picture of 1,000 draws: SPACE= STUDY_SEED=
	@$(BIGWAE) space $(call quoted,$(SPACE)) $(call option,seed,$(STUDY_SEED)) \
	    --results $(call quoted,$(RESULTS)) $(ARGS)

sweep: $(READY) ## train the models of a budget; the same words again continue it
	@$(BIGWAE) sweep $(WORDS)

status: $(READY) ## planned = completed + diverged + failed + missing, and the ledger: STUDY=; ARGS=--check reads every file
	@$(BIGWAE) status --results $(call quoted,$(RESULTS)) $(call option,study,$(STUDY)) $(ARGS)

ui: $(READY) ## browse RESULTS in MLflow on 127.0.0.1: configurations over their seeds first, then runs
	@$(BIGWAE) ui --results $(call quoted,$(RESULTS)) $(call option,tracking,$(TRACKING))

mlflow-rebuild: $(READY) ## write the MLflow mirror of RESULTS again from the Parquet
	@$(BIGWAE) mlflow-rebuild --results $(call quoted,$(RESULTS)) $(call option,tracking,$(TRACKING))

notebooks: $(READY) ## run analysis/notebooks on a study of RESULTS and write them as HTML to RESULTS/notebooks: STUDY=
	@$(BIGWAE) notebooks --results $(call quoted,$(RESULTS)) $(call option,study,$(STUDY))

figures: $(READY) ## pictures of models side by side: the best of each algorithm of STUDY=, or MODELS="best.safetensors …" OUT=
	@$(BIGWAE) figures $(MODELS) --results $(call quoted,$(RESULTS)) $(call option,study,$(STUDY)) $(call option,output,$(OUT)) $(ARGS)

report: STUDY ?= digits
report: $(READY) ## one page that says what a study has found, and how sure that is: STUDY= WITH=another study or folder
	@$(BIGWAE) report --results $(call quoted,$(RESULTS)) --study $(call quoted,$(STUDY)) $(call option,with,$(WITH)) $(ARGS)

rescore: STUDY ?= digits
rescore: $(READY) ## score stored models again, without training: FEATURES=efficientnet|inception|digits SAMPLES=50000 STUDY=
	@$(BIGWAE) rescore --results $(call quoted,$(RESULTS)) --study $(call quoted,$(STUDY)) \
	    $(call option,features,$(FEATURES)) $(call option,samples,$(SAMPLES)) $(ARGS)

counterfactual: STUDY ?= digits
counterfactual: $(READY) ## what early stopping or fewer seeds would have found and saved in a finished study: STUDY=
	@$(BIGWAE) counterfactual --results $(call quoted,$(RESULTS)) --study $(call quoted,$(STUDY)) \
	    --out $(call quoted,$(RESULTS)/counterfactual-$(STUDY).png) $(ARGS)

test: check ## check, and all tests but the long ones: what CI runs
	$(PARALLEL_PYTEST) -m "not ray and not long"
	$(call quoted,$(BIN)/pytest) -m "ray and not long"

test-xla: .venv-tpu/ready ## tests of device xla, by XLA for CPUs: training, scores, resumption, packs, compilations
	PJRT_DEVICE=CPU XLA_FLAGS='--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true' \
	    .venv-tpu/bin/pytest tests/wae_core/test_xla.py

test-quick: $(READY) ## lint, and the tests that are not marked slow, while you edit: under 90 s on 2 cores
	$(call quoted,$(BIN)/ruff) check .
	$(PARALLEL_PYTEST) -m "not slow"

check: $(READY) ## lint, format and types; changes nothing
	$(call quoted,$(BIN)/ruff) check .
	$(call quoted,$(BIN)/ruff) format --check .
	$(call quoted,$(BIN)/mypy)

fix: $(READY) ## format the code, and mend what ruff can
	$(call quoted,$(BIN)/ruff) format .
	$(call quoted,$(BIN)/ruff) check --fix .

bench: $(READY) ## measure speed against others, about 15 minutes, on a GPU 8: DEVICE=cpu|cuda PARTS="step frechet" PYTHAE=its Python
	@$(call quoted,$(BIN)/python) -m tests.benchmarks $(PARTS) $(call option,device,$(DEVICE)) $(call option,pythae,$(PYTHAE)) \
	    --json $(call quoted,$(RESULTS)/bench.json) $(ARGS)

chaos: $(READY) ## kill workers, nodes and drivers and compare with a quiet sweep, about 30 minutes: KILLS=100 SEED=0
	@$(call quoted,$(BIN)/python) -m tests.chaos $(call option,kills,$(KILLS)) $(call option,budget,$(BUDGET)) $(call option,seed,$(SEED)) \
	    --results $(call quoted,$(RESULTS)/chaos) $(ARGS)

faults: $(READY) ## every failure at every write, every fault at every request to an object store, and the long tests, two hours
	$(call quoted,$(BIN)/pytest) --all-positions -rP tests/sweep/test_faults.py tests/sweep/test_store_faults.py
	$(call quoted,$(BIN)/pytest) -rP -m long

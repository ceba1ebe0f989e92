# Everything that a person does with bigwae; `make help` lists it.
# Variables of `make sweep`: ALG BUDGET STUDY SPACE RESULTS TRACKING SEARCH SCHEDULER ARGS, e.g. make sweep ALG=wae-mmd BUDGET=1000

RESULTS ?= results
PYTHON ?= python3
BIN := .venv/bin
# The command bigwae, of this source tree whatever is installed.
BIGWAE = $(BIN)/python -m sweep.command
# A word that is not given falls back to sweep/conf/config.yaml.
WORDS = $(if $(ALG),alg=$(ALG)) $(if $(BUDGET),budget=$(BUDGET)) $(if $(STUDY),study=$(STUDY)) \
        $(if $(SPACE),"space=$(SPACE)") $(if $(SEARCH),search=$(SEARCH)) $(if $(SCHEDULER),scheduler=$(SCHEDULER)) \
        $(if $(TRACKING),"tracking=$(TRACKING)") \
        "results=$(RESULTS)" $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup data space sweep status ui mlflow-rebuild notebooks figures counterfactual test test-quick check fix bench chaos faults

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  make %-15s %s\n", $$1, $$2}'
	@echo
	@echo '  make sweep ALG=wae-mmd|wae-gan|vae|all BUDGET=30 STUDY=digits SPACE=digits RESULTS=results'
	@echo '             SEARCH=random|optuna SCHEDULER=none|asha'
	@echo '             ARGS="any.key=value"; every key is listed by: .venv/bin/bigwae sweep --help'

setup: .venv/ready ## make .venv with the pinned versions (every target that needs it does so once)

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || (echo 'bigwae needs Python 3.11 or newer: make setup PYTHON=python3.12' >&2; exit 2)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,notebooks]'
	@touch $@

data: .venv/ready ## pack a data set: DATA=mnist|celeba|folder SOURCE=zip or folder (NAME= SIZE= ARGS=--check)
	@$(BIGWAE) data $(DATA) $(if $(SOURCE),--source "$(SOURCE)") $(if $(NAME),--name "$(NAME)") \
	    $(if $(SIZE),--size "$(SIZE)") $(ARGS)

space: SPACE ?= digits
space: .venv/ready ## a search space as a table, with remarks and a picture of 1,000 draws: SPACE= STUDY_SEED=
	@$(BIGWAE) space "$(SPACE)" $(if $(STUDY_SEED),--seed "$(STUDY_SEED)") \
	    --out "$(RESULTS)/space-$(basename $(notdir $(SPACE))).png" $(ARGS)

sweep: .venv/ready ## train the models of a budget; the same words again continue it
	@$(BIGWAE) sweep $(WORDS)

status: .venv/ready ## planned = completed + diverged + failed + missing, and the ledger, for each study of RESULTS
	@$(BIGWAE) status --results "$(RESULTS)"

ui: .venv/ready ## browse the runs of RESULTS in MLflow on 127.0.0.1
	@$(BIGWAE) ui --results "$(RESULTS)" $(if $(TRACKING),--tracking "$(TRACKING)")

mlflow-rebuild: .venv/ready ## write the MLflow mirror of RESULTS again from the Parquet
	@$(BIGWAE) mlflow-rebuild --results "$(RESULTS)" $(if $(TRACKING),--tracking "$(TRACKING)")

notebooks: .venv/ready ## run analysis/notebooks on RESULTS and write them as HTML to RESULTS/notebooks
	@$(BIGWAE) notebooks --results "$(RESULTS)"

figures: .venv/ready ## samples, reconstructions and interpolations of models side by side: MODELS="best.safetensors …" OUT=
	@$(BIGWAE) figures $(MODELS) --output "$(if $(OUT),$(OUT),$(RESULTS)/figures.png)" $(ARGS)

counterfactual: STUDY ?= digits
counterfactual: .venv/ready ## what early stopping or fewer seeds would have found and saved in a finished study: STUDY=
	@$(BIGWAE) counterfactual --results "$(RESULTS)" --study "$(STUDY)" \
	    --out "$(RESULTS)/counterfactual-$(STUDY).png" $(ARGS)

test: check ## check, and all tests: what CI runs
	$(BIN)/pytest

test-quick: .venv/ready ## lint, and the tests that are not marked slow, while you edit: under 90 s on 2 cores
	$(BIN)/ruff check .
	$(BIN)/pytest -m "not slow"

check: .venv/ready ## lint, format and types; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fix: .venv/ready ## format the code, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready ## measure speed against others, about 15 minutes: DEVICE=cpu|cuda PARTS="step frechet" PYTHAE=its Python
	@$(BIN)/python -m tests.benchmarks $(PARTS) $(if $(DEVICE),--device $(DEVICE)) $(if $(PYTHAE),--pythae "$(PYTHAE)") \
	    --json "$(RESULTS)/bench.json" $(ARGS)

chaos: .venv/ready ## kill workers, nodes and drivers and compare with a quiet sweep, about 30 minutes: KILLS=100 SEED=0
	@$(BIN)/python -m tests.chaos $(if $(KILLS),--kills $(KILLS)) $(if $(BUDGET),--budget $(BUDGET)) $(if $(SEED),--seed $(SEED)) \
	    --results "$(RESULTS)/chaos" $(ARGS)

faults: .venv/ready ## every failure at every write of a sweep, and every fault at every request to an object store, an hour
	$(BIN)/pytest --all-positions -rP tests/sweep/test_faults.py tests/sweep/test_store_faults.py

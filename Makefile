# The only door: each target sets up what it needs in .venv, from Python 3.10+ and make alone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := trubrics_instrument tests examples benchmarks docs conftest.py

# The tests start a thousand processes, and all of them would compile the same files.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-apps test-langchain-sdk test-openai-sdk test-versions check bench measure docs format clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | column -t -s '	'

demo: $(READY)-demo ## Watch patched clients talk, and see what arrived (ARGS=--once ends by itself)
	$(BIN)/python examples/demo.py $(ARGS)

test: $(READY)-test ## Run all the tests (ARGS="-k stream" for some)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

test-versions: $(READY)-environments ## Run the suites at the SDKs' oldest and newest versions (ARGS="--list")
	$(BIN)/python -m tests.versions.run $(ARGS)

test-openai-sdk: $(READY)-test ## Run the newest openai's own tests, without the patch and with it
	$(BIN)/python tests/sdk/run_openai.py $(ARGS)

test-langchain-sdk: $(READY)-test ## Run LangChain's own tests, without the handler and with it
	$(BIN)/python -m tests.sdk.run_langchain $(ARGS)

test-apps: $(READY)-test ## Run public applications, untouched, observed (ARGS="llm gradio" for some)
	$(BIN)/python -m tests.apps.run $(ARGS)

check: $(READY)-test $(READY)-check ## Lint, check the format and the types
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)
	$(BIN)/mypy
	$(BIN)/pyright

bench: ## Measure beside others, as ratios within one run (ARGS="delivery threads" for some)
	@$(MAKE) --no-print-directory VENV=.venv-bench measure

measure: $(READY)-bench
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(READY)-docs ## Build the documentation into site/
	$(BIN)/sphinx-build -q -W --keep-going -b html docs site
	@echo "open site/index.html"

format: $(READY)-check ## Format the code, and repair what can be repaired
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

clean: ## Remove the environment and everything built
	rm -rf $(VENV) site dist .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "Python 3.10 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

$(READY)-%: $(VENV)/.python pyproject.toml
	@echo "Installing what 'make $*' needs into $(VENV), a minute or two the first time ..."
	$(BIN)/python -m pip install --quiet --editable '.[all]' --group $*
	@touch $@

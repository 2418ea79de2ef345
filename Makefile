# What can be done here. All of it works without an API key.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test torture check bench bench-quick clean

PYTHON ?= python3
BIN := .venv/bin
REHEARSAL := outputs/rehearsal
# Half of the tests wait for a disk or a service at any time.
SPREAD = -n $$(( 2 * $$(getconf _NPROCESSORS_ONLN) )) --dist worksteal

# No recipe may find a key by chance and spend money, nor be led elsewhere by settings of the shell it was started from.
unexport GEMINI_API_KEY GOOGLE_API_KEY PIPELINE_KEY_FILE GOOGLE_GEMINI_BASE_URL GOOGLE_GENAI_USE_VERTEXAI
unexport PIPELINE_SERVICE PIPELINE_OUTPUTS PIPELINE_STATE PIPELINE_MODELS PYTHONPATH
# Every test that starts a process would compile the product anew.
unexport PYTHONDONTWRITEBYTECODE

help:    ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: .venv/.ready    ## Render jobs/catalog.yaml on the local service: no key, no cost
	@$(BIN)/pipeline --service local --outputs $(REHEARSAL) run jobs/catalog.yaml
	@echo
	@echo "The pictures: $(REHEARSAL)/catalog/  (what is known of each: manifest.csv beside them)"
	@echo "Next: write a job of your own, or change this one and run 'make demo' again; README.md tells how."

test: .venv/.ready-dev    ## Run the tests
	@$(BIN)/python -m pytest $(SPREAD) -m "not torture"

torture: .venv/.ready-dev    ## Kill it at every point, break every call, at length: what `make test` tries a part of
	@$(BIN)/python -m pytest $(SPREAD) -m "torture or hypothesis" --hypothesis-profile=thorough

check: .venv/.ready-dev    ## All that must pass before a commit: style, types, the quick tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest $(SPREAD) -m "not slow and not torture"

bench: .venv/.ready-dev    ## Compare speed and memory with the usual way of doing this: most of an hour
	@$(BIN)/python benchmarks/bench.py --json benchmarks/results/bench.json $(BENCH)

bench-quick: .venv/.ready-dev    ## The same with little work: under two minutes
	@$(BIN)/python benchmarks/bench.py --quick --json benchmarks/results/quick.json $(BENCH)

clean:    ## Remove the environment, caches, builds and rehearsals; never a picture that was paid for
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist $(REHEARSAL)
	find pipeline tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, made again when the dependencies change. Debian has pip without ensurepip: there pip is brought along.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 …")'
	@if $(PYTHON) -c 'import ensurepip' 2> /dev/null; then $(PYTHON) -m venv .venv; else \
	    $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --python .venv/bin/python install -q pip; fi

.venv/.ready: pyproject.toml .venv/bin/python
	@echo "Installing into .venv …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

.venv/.ready-dev: pyproject.toml .venv/bin/python
	@echo "Installing into .venv, with what the tests need …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch .venv/.ready $@

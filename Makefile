# Two commands need no preparation: `make demo` and `make test`. Everything they need is installed, in
# the versions of requirements.lock, into .venv in this folder. Needed beforehand: Python 3.11 or later.

.DEFAULT_GOAL := help

# The interpreter that creates .venv; `make demo PYTHON=python3.12` chooses another one.
PYTHON ?= python3

# SLOW=1 adds the slow tests, SLOW=only runs them alone; WORKERS is the number of test processes; ARGS is handed on to the command.
SLOW ?=
WORKERS ?= 2
ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input

# Nothing of another active environment, of the user's own packages or of pip's settings leaks in.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_VIRTUALENV
export PYTHONNOUSERSITE := 1

.PHONY: help demo test check lint types docs format lock clean
.SUFFIXES:
.DELETE_ON_ERROR:

help:  ## Show this help
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 18

demo: .venv/.core  ## Write the report on the digits data set: widthwise-report/index.html
	$(BIN)/widthwise report $(ARGS)

# Most of the time of the quick tests is compilation, so they are compiled with fewer optimisations; the slow run is
# compiled as users compile.
ifeq ($(SLOW),)
test: export XLA_FLAGS := $(strip --xla_backend_optimization_level=1 $(XLA_FLAGS))
endif
test: .venv/.dev  ## Run the tests (SLOW=1: the slow ones too)
	$(BIN)/python -m pytest -n $(WORKERS) $(if $(SLOW),-m $(if $(filter only,$(SLOW)),slow,"slow or not slow")) $(ARGS)

check: .venv/.core  ## Check every claim and every mutant of it
	$(BIN)/widthwise check --all $(ARGS)

lint: .venv/.dev  ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/.dev  ## Repair style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.dev  ## Check the types
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: .venv/.docs  ## Build the documentation, running its examples: docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -E -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "docs/_build/html/index.html"

# What only torch's build for CUDA needs is left out: its build for the CPU does, and any build of that version may be used.
lock: .venv/.dev  ## Renew the pinned versions of requirements.lock
	$(PIP) install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --upgrade \
	  --all-extras --no-emit-package widthwise --no-emit-index-url --no-annotate --custom-compile-command "make lock" \
	  pyproject.toml -o requirements.lock
	sed -i.old -E '/^(cuda|nvidia|triton)[-=]/d' requirements.lock && rm requirements.lock.old

clean:  ## Remove everything that make has made
	rm -rf .venv build dist docs/_build docs/theory docs/benchmarks.md jupyter_execute .jupyter_cache widthwise-report \
	  .pytest_cache .ruff_cache .hypothesis
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment grows in three steps, each with a stamp that is written last: an installation that was
# interrupted is taken up again, and a finished one costs nothing.
.venv/.core: requirements.lock pyproject.toml
	@$(BIN)/python -c '' 2>/dev/null || { $(find-python) && "$$found" -m venv --clear .venv; }
	$(PIP) install --quiet -c requirements.lock hatchling
	$(PIP) install --quiet -c requirements.lock --no-build-isolation -e .
	@rm -f .venv/.dev .venv/.docs && touch $@

.venv/.dev: .venv/.core
	$(PIP) install --quiet -c requirements.lock --no-build-isolation -e ".[dev]"
	@touch $@

.venv/.docs: .venv/.dev
	$(PIP) install --quiet -c requirements.lock --no-build-isolation -e ".[dev,docs]"
	@touch $@

define find-python
found=; for candidate in $(PYTHON) python3 python3.11 python3.12 python3.13 python3.14 python; do \
  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
  then found=$$candidate; break; fi; done; \
if [ -z "$$found" ]; then \
  echo "widthwise needs Python 3.11 or later with its venv module, and found: $$($(PYTHON) --version 2>&1)." >&2; \
  echo "Install one (Debian and Ubuntu: python3 and python3-venv) or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; \
  exit 1; fi; \
echo "Installing into .venv with $$("$$found" --version) (about 800 MB, a few minutes the first time)" >&2
endef

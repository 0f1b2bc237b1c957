# Three photos to a video: `make demo`. Proof of the whole: `make test`. Needs make and python3-venv, nothing else.
#
# VENV    virtual environment to use; default: the active one, else .venv, made on first use
# PYTHON  interpreter to make it from; default: the first Python 3.10 to 3.12 on the PATH

VENV ?= $(or $(VIRTUAL_ENV),.venv)
PYTHON ?=
PYTEST_ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.fewshot-ns-installed
STAMP_DEV := $(STAMP)-dev

# Idle OpenMP threads spin by default, which costs much where several processes share the cores.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help demo test lint docs format install install-dev
.DEFAULT_GOAL := help

help:
	@echo "make demo     train, evaluate and render the built-in scene from three views -> outputs/demo/"
	@echo "make test     lint, types, documentation and every quick test, nerfstudio's commands included"
	@echo "make lint     ruff and pyright alone"
	@echo "make docs     the documentation as a site -> site/"
	@echo "make format   let ruff put the layout right"
	@echo "make install  only install, into VENV ($(VENV))"

demo: $(STAMP)
	$(BIN)/ns-fewshot demo

test: lint docs
	$(BIN)/python -m pytest -m "not slow" --durations=15 $(PYTEST_ARGS)

lint: $(STAMP_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Every warning is an error, which --quiet would undo. The variable silences a notice of the theme about its successor.
docs: $(STAMP_DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(STAMP_DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(STAMP)
install-dev: $(STAMP_DEV)

# Repeated only when the list of dependencies has changed.
$(STAMP): pyproject.toml setup.py tools/install.sh
	tools/install.sh "$(VENV)" "" "$(PYTHON)"
	@touch $@

$(STAMP_DEV): pyproject.toml setup.py tools/install.sh
	tools/install.sh "$(VENV)" dev,priors,bench,photos "$(PYTHON)"
	@touch $(STAMP) $@

# Every target does its own set-up: a virtual environment in .venv, installed anew only when what it holds changes.

PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= passive
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-all lint bench docs clean

demo: .venv/.installed
	$(BIN)/konspekt fit image-classifier data=digits image_size=32 augment=shift

test: .venv/.installed
	$(BIN)/python -m pytest -n auto

test-all: .venv/.installed
	$(BIN)/python -m pytest -n auto --all

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m konspekt.testing.docs --check

bench: .venv/.installed
	$(BIN)/python benchmarks/engine.py

docs: .venv/.installed
	$(BIN)/python -m konspekt.testing.docs

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

# Every target does its own set-up: a virtual environment in .venv, installed anew only when what it holds changes.

PYTHON ?= python3
BIN := .venv/bin
export OMP_WAIT_POLICY ?= passive
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test test-all browser lint bench peers images clusters acting-bench reproductions faults docs gallery clean

demo: .venv/.installed
	$(BIN)/konspekt fit image-classifier data=digits image_size=32 augment=shift

test: .venv/.installed
	$(BIN)/python -m pytest -n auto

test-all: .venv/.installed
	$(BIN)/python -m pytest -n auto --all

browser:  # what the tests of the report's page need; without it they are skipped
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then exit 0; \
	elif command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then apt-get update && apt-get install -y chromium; \
	elif command -v apt-get >/dev/null; then sudo apt-get update && sudo apt-get install -y chromium; \
	else echo "apt-get is not here; install Chromium or Google Chrome by this system's own means" >&2; exit 1; fi

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m konspekt.testing.docs --check

bench: .venv/.installed
	$(BIN)/python benchmarks/engine.py

peers: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/peers.py --adult $(ADULT) --mnist $(MNIST)

images: .venv/.installed  # DATA: a folder that holds mnist/
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/images.py --data $(DATA)

clusters: .venv/.installed
	$(BIN)/python benchmarks/clustering.py

acting-bench: .venv/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[rl,bench]"
	$(BIN)/python benchmarks/rl.py

reproductions: .venv/.installed  # DATA: a folder of data sets; see reproductions/README.md
	for script in $(filter-out %/common.py,$(wildcard reproductions/*.py)); do $(BIN)/python $$script --data $(DATA) || exit 1; done

faults: .venv/.installed
	$(BIN)/python benchmarks/faults all --write

docs: .venv/.installed
	$(BIN)/python -m konspekt.testing.docs

gallery: .venv/.installed
	$(BIN)/python -m konspekt.testing.gallery

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

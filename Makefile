SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/bin
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
CLICK_SEQUENCES ?= 200

# A window is opened only where there is a screen to show it on.
HAS_DISPLAY := $(DISPLAY)$(WAYLAND_DISPLAY)$(filter Darwin,$(shell uname -s))
VIEW := $(if $(HAS_DISPLAY),--view)

.PHONY: help demo test lint typecheck manifest unit coverage fuzz clicks installs screenshot benchmark \
	setup-demo setup-dev clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | \
		awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

demo: setup-demo  ## Set up, segment the example images, and open napari where there is a display
	$(BIN)/napari-kdsam demo --out demo-results $(VIEW)

test: lint typecheck manifest installs unit  ## Set up and run every check and test

lint: setup-dev  ## Check style, formatting and which part imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/lint_imports.py

typecheck: setup-dev  ## Check types
	$(BIN)/python scripts/typecheck.py

manifest: setup-dev  ## Check napari's manifest
	$(BIN)/npe2 validate src/napari_kdsam/napari.yaml

unit: setup-dev  ## Run the tests; choose some with PYTEST_ARGS="tests/package/test_package.py -k contracts"
	scripts/test.sh $(PYTEST_ARGS)

coverage: setup-dev  ## Run the tests, slower, and say which lines they leave out
	rm -f .coverage .coverage.*
	KDSAM_COVERAGE=1 scripts/test.sh $(PYTEST_ARGS)
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

fuzz: setup-dev  ## Give each parser damaged files for a minute (FUZZ_SECONDS=60)
	KDSAM_FUZZ_SECONDS=$(FUZZ_SECONDS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s -q tests/fuzz

clicks: setup-dev  ## Click around a window in random ways (CLICK_SEQUENCES=200)
	KDSAM_CLICK_SEQUENCES=$(CLICK_SEQUENCES) scripts/test.sh -s --timeout 0 tests/widgets/annotator/test_random_clicks.py

installs: setup-dev  ## Build wheel and sdist and try each in an empty environment
	$(BIN)/python scripts/check_installs.py

screenshot: setup-dev  ## Make the pictures of the documentation
	scripts/with_display.sh $(BIN)/python scripts/make_screenshot.py

benchmark: setup-dev  ## Measure speed on this computer
	$(BIN)/python benchmarks/speed.py

setup-demo:
	@scripts/setup.sh demo

setup-dev:
	@scripts/setup.sh dev

clean:  ## Remove everything that was built or installed here
	rm -rf .venv build dist demo-results .pytest_cache .mypy_cache .ruff_cache \
		.coverage .coverage.* .hypothesis .benchmarks .tox src/*.egg-info
	find src training tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +

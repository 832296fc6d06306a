# make demo   install into .venv, train a small population on real digits, show the results
# make test   install, then lint, types and tests
# make lint   lint and types alone
# make bench  measure the speed claims of benchmarks/
# make notebooks  open the notebooks of analysis/ in JupyterLab
# make install  what the nodes of a cluster do

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
LAB := .venv-lab

.PHONY: install demo test lint bench notebooks lock

install: $(READY)

demo: $(READY)
	$(BIN)/python -m sparsepop.run tune_configs/quickstart.py --fresh
	$(BIN)/python -m analysis.figures results/quickstart
	@echo "one page that tells all about it: $(BIN)/python -m sparsepop.report results/quickstart"

# two processes, and all that starts Ray in one of them
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.exchange
	$(BIN)/python -m benchmarks.read
	$(BIN)/python -m benchmarks.tickets

notebooks: $(LAB)/.ready
	$(LAB)/bin/jupyter lab analysis

# apart, for JupyterLab brings a package that costs every process of Ray 1.5 s to import
$(LAB)/.ready: $(READY)
	$(PYTHON) -m venv $(LAB)
	$(BIN)/uv pip install --quiet --python $(LAB)/bin/python "jupyterlab==4.*"
	$(BIN)/python -m ipykernel install --prefix $(LAB) --name python3 --display-name sparsepop
	touch $@

# uncompiled, every Ray worker would spend seconds compiling torch and ray again
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --upgrade --all-extras --python-version 3.10 pyproject.toml -o requirements.lock

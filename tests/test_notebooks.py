"""The notebooks: stored without outputs, and every cell runs on what real members left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sparsepop.storage import Storage
from tests.real import write_methods, write_population

ANALYSIS = Path(__file__).resolve().parents[1] / "analysis"
NOTEBOOKS = sorted(ANALYSIS.glob("*.ipynb"))
# one kernel for all, for each takes seconds to start; in a process of its own, for its warnings are not ours
RUN = """
import json, os, sys
import nbformat
from nbclient import NotebookClient

merged, starts = nbformat.v4.new_notebook(), {}
for path, experiment in json.loads(sys.argv[1]):
    setting = f"%reset -f\\nimport os; os.environ['SPARSEPOP_EXPERIMENT'] = {experiment!r}"
    merged.cells += [nbformat.v4.new_code_cell(setting), *nbformat.read(path, 4).cells]
    starts[path] = len(merged.cells)
NotebookClient(merged, timeout=120, resources={"metadata": {"path": sys.argv[2]}}).execute()
begin, found = 0, {}
for path, end in starts.items():
    outputs = [out for cell in merged.cells[begin:end] for out in cell.get("outputs", [])]
    found[path] = [[out["output_type"], *out.get("data", {}), out.get("text", "")] for out in outputs]
    begin = end
print(json.dumps(found))
"""


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[list[str]]]:
    """What the cells of each notebook put out."""
    pytest.importorskip("nbclient", reason="needs the packages of the extra dev")
    root = tmp_path_factory.mktemp("notebooks")
    small, methods = str(root / "small"), str(root / "methods")
    write_population(Storage(small))
    write_methods(Storage(methods))
    experiments = {"methods": f"{methods}:{small}", "population": small, "tickets": small}
    wanted = [(str(path), experiments[path.stem]) for path in NOTEBOOKS]
    environment = {**os.environ, "PYTHONPATH": str(ANALYSIS.parent), "IPYTHONDIR": str(root / "ipython")}
    command = [sys.executable, "-c", RUN, json.dumps(wanted), str(ANALYSIS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return {Path(path).stem: found for path, found in json.loads(done.stdout).items()}


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["methods", "population", "tickets"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_bare_and_names_its_experiment_first(path: Path) -> None:
    code = cells(path, "code")
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert "".join(code[0]["source"]).count("EXPERIMENT = os.environ.get(") == 1
    assert len(code) + len(cells(path, "markdown")) <= 15


@pytest.mark.parametrize(("name", "pictures"), [("methods", 9), ("population", 6), ("tickets", 3)])
def test_a_notebook_runs_and_draws(outputs: dict[str, list[list[str]]], name: str, pictures: int) -> None:
    found = outputs[name]
    assert sum("image/png" in out for out in found) == pictures
    assert not [out for out in found if out[0] == "error"]
    assert not [out for out in found if "Warning" in out[-1]]

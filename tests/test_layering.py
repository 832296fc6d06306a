"""Which module may import which: a module imports from lower layers only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sparsepop

ROOT = Path(sparsepop.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}

# A unit (module or folder) imports units of lower levels; within a folder, imports are free.
LAYERS: list[set[str]] = [
    {"__init__", "schedule", "seeds", "space", "budgets", "storage", "describe"},
    {"search", "results"},
    {"experiment"},
    {"config", "figures"},
    {"report"},
    {"kinds"},
    {"nn", "masks", "ledger", "data", "optim", "ranks", "bits", "outputs", "overlaps"},
    {"averaging"},
    {"models", "methods"},
    {"recipe"},
    {"member"},
    {"train", "tickets"},
    {"merge", "ensemble", "choice"},
    {"superpose"},
    {"population"},
    {"run"},
]
LEVELS = {unit: level for level, units in enumerate(LAYERS) for unit in units}
STDLIB_ONLY = {"search", "schedule", "seeds", "space", "budgets", "describe", "experiment", "config"}
FIRST_WITH_TORCH, FIRST_WITH_RAY = LEVELS["kinds"], LEVELS["population"]
ALSO = {"tickets": {"pandas"}, "ensemble": {"pandas"}, "choice": {"pandas"}, "superpose": {"pandas", "rich"}}
PURE = {
    "population.messages",
    "population.needs",
    "population.standings",
    "population.rules",
    "population.rounds",
    "population.partitions",
    "population.superpositions",
    "population.board",
}


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports when it runs, wherever in it; not what only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for block in [node for node in ast.walk(tree) if isinstance(node, ast.If)]:
        if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def unit(module: str) -> str:
    return module.split(".")[0]


def own(module: str) -> set[str]:
    """Units of sparsepop that a module imports."""
    names = [name.split(".") for name in imports(MODULES[module])]
    return {parts[1] for parts in names if parts[0] == "sparsepop" and len(parts) > 1 and parts[1] in LEVELS}


def others(module: str) -> set[str]:
    """Top-level packages besides sparsepop and the standard library that a module imports."""
    tops = {name.split(".")[0] for name in imports(MODULES[module])}
    return tops - {"sparsepop"} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_lower_layers_only(module: str) -> None:
    assert unit(module) in LEVELS, f"{unit(module)} has no layer: give it one in this file"
    level = LEVELS[unit(module)]
    assert {each for each in own(module) - {unit(module)} if LEVELS[each] >= level} == set()


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_layers(module: str) -> None:
    level, used = LEVELS[unit(module)], others(module)
    if unit(module) in STDLIB_ONLY or module in PURE:
        assert used == set()
    if level < FIRST_WITH_TORCH:
        assert not used & {"torch", "torchvision", "ray"}
    if level < FIRST_WITH_RAY:
        assert "ray" not in used
    if FIRST_WITH_TORCH <= level < FIRST_WITH_RAY:
        assert not used - {"torch", "numpy"} - ALSO.get(unit(module), set()) or unit(module) == "data"


def test_the_table_knows_the_tree() -> None:
    assert len(MODULES) > 30
    assert {unit(module) for module in MODULES} == set(LEVELS)


@pytest.mark.parametrize(
    ("loaded", "absent"),
    [
        ("sparsepop.train, sparsepop.data, sparsepop.models, sparsepop.methods", "ray"),
        ("sparsepop.results, sparsepop.storage, sparsepop.config, sparsepop.population.rules", "ray torch"),
        ("sparsepop.figures, sparsepop.report", "ray torch matplotlib.pyplot"),
    ],
)
def test_what_is_loaded_with_it(loaded: str, absent: str) -> None:
    code = f"import sys, {loaded}; print(sorted(set({absent.split()}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr

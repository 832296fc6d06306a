"""The examples of one's own model, data and method: they load, are short, and train."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepop.config import config_modules, load
from sparsepop.data import open_data
from sparsepop.member import Member, Task
from sparsepop.models import blank, model_name
from sparsepop.population.preflight import check_experiment
from sparsepop.train import train

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "examples").glob("own_*.py"))


def shapes() -> Any:
    spec = importlib.util.spec_from_file_location("make_shapes", ROOT / "examples" / "make_shapes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_trains(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEPOP_DATA", str(tmp_path))
    experiment = load(str(file), smoke=True)
    assert check_experiment(experiment) > 0
    start = experiment.starts()[-1]
    data = open_data(experiment.data)
    recipe = experiment.recipe(dict(start.hp))
    member = Member.build(recipe, start.seed, Task(data.shape, data.classes))
    *_, last = train(member, data, every=experiment.generation)
    assert last.final
    assert last.alive == round(recipe.density * last.prunable)


def test_the_whole_experiments_can_be_built() -> None:
    for file in FILES:
        check_experiment(load(str(file)))


def test_a_function_of_a_config_has_a_name_that_imports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = load(str(ROOT / "examples" / "own_model.py"), smoke=True)
    name = model_name(experiment.recipe({"model": "mine"}).model)
    assert name == "own_model:net"
    assert str(ROOT / "examples") in sys.path  # as PYTHONPATH would have it
    assert len(blank(name, (1, 8, 8), 10).state_dict()) == 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_example_is_short(file: Path) -> None:
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    code = [line for line in lines if not line.startswith(("from ", "import ", '"""'))]
    assert len(code) <= 25
    assert len(lines) <= 40


def test_both_layouts_hold_the_same_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEPOP_DATA", str(tmp_path / "home"))
    made = shapes()
    for split, count in (("train", 60), ("test", 30)):
        found = made.images(count, seed=3)
        made.write_parquet(tmp_path / "parquet", split, found)
        made.write_folders(tmp_path / "folders", split, found)
    found = {}
    for layout in ("parquet", "folders"):
        data = open_data(str(tmp_path / layout), validation=6)
        assert (data.shape, data.classes) == ((1, 12, 12), 3)
        images, labels = next(iter(data.batches("test", 30)))
        # mean and spread follow from which images are held out, and classes are numbered by name in folders
        levels = images - images.amin((1, 2, 3), keepdim=True) > 0.5 * (images.amax() - images.amin())
        names = sorted(made.NAMES) if layout == "folders" else made.NAMES
        found[layout] = sorted(
            (names[label], int(area)) for label, area in zip(labels, levels.sum((1, 2, 3)), strict=True)
        )
    assert found["parquet"] == found["folders"]
    assert [name for name, _ in found["parquet"]] == sorted(made.NAMES * 10)


def test_the_files_beside_the_example_are_those_that_it_draws() -> None:
    data = open_data(str(ROOT / "examples" / "shapes"))
    assert data.sizes["train"] + data.sizes["validation"] == 300
    assert data.sizes["test"] == 90
    (drawn, _), again = shapes().images(1, 0)[0], shapes().images(1, 0)[0]
    assert drawn == again[0]


def test_a_configs_modules_travel_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets").mkdir()
    (tmp_path / "own_nets" / "__init__.py").write_text("")
    (tmp_path / "own_nets" / "small.py").write_text("WIDTH = 3\n")
    (tmp_path / "own_sizes.py").write_text("DEPTH = 2\n")
    installed = tmp_path / "venv" / "lib" / "packages"
    installed.mkdir(parents=True)
    (installed / "own_installed.py").write_text("")
    monkeypatch.syspath_prepend(str(installed))
    text = (ROOT / "examples" / "own_method.py").read_text(encoding="utf-8")
    lines = "import own_installed\nimport own_sizes\nfrom own_nets.small import WIDTH\n"
    (tmp_path / "config.py").write_text(text.replace("from dataclasses", lines + "from dataclasses"))
    load(str(tmp_path / "config.py"))
    found = {module.__name__ for module in config_modules(str(tmp_path / "config.py"))}
    ours = {name for name in found if name.startswith("own_")}
    assert ours == {"own_nets", "own_nets.small", "own_sizes"}
    assert sum(name.startswith("sparsepop_config_config") for name in found) == 1
    # a config at the root of a checkout does not drag the package along
    loaded = {module.__name__ for module in config_modules(str(ROOT / "config.py"))}
    assert not any(name.partition(".")[0] in ("sparsepop", "torch") for name in loaded)
    for name in ours | {"own_installed"}:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_trains_an_example(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / file.name
    shutil.copy(file, copy)
    shutil.copytree(file.parent / "shapes", tmp_path / "shapes")
    command = [
        sys.executable,
        "-m",
        "sparsepop.run",
        str(copy),
        "--smoke",
        "--storage",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "best: member" in done.stdout


def test_torch_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    check_experiment(load(str(ROOT / "examples" / "own_model.py"), smoke=True))
    assert torch.equal(before, torch.get_rng_state())

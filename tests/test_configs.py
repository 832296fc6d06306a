"""Every file of tune_configs: it loads, its score is reported, and a member of it trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsepop.config import load
from sparsepop.data import open_data
from sparsepop.experiment import Experiment
from sparsepop.member import Member, Task
from sparsepop.methods import Thresholds
from sparsepop.optim import SGD, AdamW
from sparsepop.population.preflight import check_experiment
from sparsepop.train import train

FILES = sorted((Path(__file__).parent.parent / "tune_configs").glob("*.py"))


def small(file: Path) -> Experiment:
    """The experiment on digits, the small variant where there is one; skips without its optional package."""
    if file.stem == "optuna_tpe":
        pytest.importorskip("optuna")
    source = file.read_text(encoding="utf-8")
    return load(str(file), data="digits", smoke="smoke: bool" in source or "SMOKE =" in source)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_trains(file: Path) -> None:
    experiment = small(file)
    check_experiment(experiment)
    start = experiment.starts()[0]
    recipe = experiment.recipe(dict(start.hp))
    assert recipe == experiment.recipe(dict(start.hp))
    data = open_data(experiment.data)
    member = Member.build(recipe, start.seed, Task(data.shape, data.classes))
    (report,) = train(member, data, every=3, until=3)
    known = {**report.numbers, "validation_accuracy": 0.0, "validation_loss": 0.0}
    assert experiment.score in known
    assert report.step == 3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_config_is_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize("network", ["lstm-a", "lstm-b"])
def test_published_lstms_have_settings_of_their_own(network: str) -> None:
    """Adam at 0.001, batches of 100, 20 epochs, the classifier dense, no resets (Liu et al. 2020, code)."""
    file = next(file for file in FILES if file.stem == "dst_published")
    published = load(str(file), settings={"network": network})
    (recipe,) = {published.recipe(dict(start.hp)) for start in published.starts()}
    assert recipe.methods == (Thresholds(1e-3, floor=None),)
    assert (recipe.steps, recipe.batch, recipe.optimizer) == (12_000, 100, AdamW(1e-3, weight_decay=0.0))
    assert recipe.keep_dense == ("net.fc.weight",)


@pytest.mark.parametrize("around", [(0, 3), (4, 3)])
def test_parallel_gap_begins_with_or_without_common_training(around: tuple[int, int]) -> None:
    """The paper's has none."""
    file = next(file for file in FILES if file.stem == "gap_parallel")
    found = load(str(file), settings={"around": around, "rounds": 2})
    recipe = found.recipe(dict(found.starts()[0].hp))
    assert isinstance(recipe.optimizer, SGD)
    assert callable(rate := recipe.optimizer.lr)
    length, (first, last) = found.generation, around
    begins = [0, *([first * length] if first else []), (first + 1) * length, (first + 2) * length]
    assert recipe.steps == (first + 2 + last) * length
    # each stretch warms up over a quarter of a round, and ends at a rate near zero
    assert [rate(begin) for begin in begins] == pytest.approx([0.1 / (length // 4)] * len(begins))
    assert all(rate(begin - 1) < 0.003 for begin in [*begins[1:], recipe.steps])

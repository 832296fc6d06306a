"""A population of networks that are not ours, with dropout: exchanged, repeated exactly, kept as tickets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from sparsepop.config import ConfigError
from sparsepop.member import Task
from sparsepop.population.preflight import check_experiment
from sparsepop.recipe import Recipe
from sparsepop.results import lineage, read
from sparsepop.storage import Storage
from tests.test_population.worlds import World, assert_same_results, experiment, recipe


def net(task: Task) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Dropout(), nn.Linear(24, task.classes)
    )


def wrong(task: Task) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, task.classes + 1))


def own(hp: dict[str, Any]) -> Recipe:
    return replace(recipe(hp), model=net)


def test_members_exchange_and_two_runs_agree(tmp_path: Path) -> None:
    one, other = (Storage(str(tmp_path / name / "small")) for name in ("one", "other"))
    for storage in (one, other):
        assert World(experiment(recipe=own), storage).run().errors == {}
    assert_same_results(one, other)
    assert len(lineage(one)) > 0
    assert read(one, "reports")["prunable"].unique().tolist() == [64 * 24 + 24 * 10]
    assert len(read(one, "tickets")) == 3


def test_members_that_differ_in_their_network_are_refused() -> None:
    mixed = experiment(recipe=lambda hp: replace(recipe(hp), model=net if hp["lr"] > 0.05 else "lenet-5"))
    named = r"agree on model, these have lenet-5 or tests\.test_population\.test_own_members:net"
    with pytest.raises(ConfigError, match=named):
        check_experiment(mixed)


def test_a_network_that_does_not_fit_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r":wrong answers \(1, 11\) to 1 images") as caught:
        check_experiment(experiment(recipe=lambda hp: replace(recipe(hp), model=wrong)))
    assert "\n" not in str(caught.value)

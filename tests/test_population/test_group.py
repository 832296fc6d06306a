"""Data-parallel members on a real local Ray cluster: one process's results, whatever happens to workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import ray

from sparsepop.experiment import PBT, Experiment, Resources
from sparsepop.methods import Method
from sparsepop.population import group
from sparsepop.population.job import Job
from sparsepop.population.launch import train_all
from sparsepop.population.places import Places
from sparsepop.population.preflight import begin
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.storage import Storage
from tests.test_population.test_cluster import Trip, undisturbed
from tests.test_population.worlds import SPACE, experiment, recipe, without_times

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_address")]
WORKERS = 2


def exactly(*more: Method) -> Callable[[dict[str, Any]], Recipe]:
    def made(hp: dict[str, Any]) -> Recipe:
        plain = recipe(hp)
        return replace(plain, precision="float64", methods=(*plain.methods, *more))

    return made


def population(*more: Method, members: int = 2) -> Experiment:
    search = PBT(SPACE, members=members, quantile=0.34 if members > 2 else 0.5)
    return experiment(search, recipe=exactly(*more), resources=Resources(cpus=2, workers=WORKERS))


def run(experiment: Experiment, folder: Path, at_once: int) -> Storage:
    storage = Storage(str(folder / "small"))
    begin(experiment, storage, fresh=False)
    before = free()
    assert train_all(experiment, storage, Places(at_once, 1.0, 0.0, 1)) == {}
    assert free() == before
    return storage


def free() -> float:
    """CPUs that nobody holds, once Ray has noticed who has gone."""
    groups = ray.util.placement_group_table().values()
    assert {group["state"] for group in groups} <= {"REMOVED"}
    return ray.cluster_resources()["CPU"]


def assert_close_results(one: Storage, other: Storage) -> None:
    """Equal tables, but for times, attempts, and the last digits of sums in another order."""
    for table in ("reports", "layers", "events"):
        left, right = (without_times(read(each, table), ["recipe"]) for each in (one, other))
        keys = [name for name in ("member", "generation", "step", "layer", "kind") if name in left]
        left, right = (frame.sort_values(keys, ignore_index=True) for frame in (left, right))
        pd.testing.assert_frame_equal(left, right, rtol=1e-6)


def test_workers_do_what_one_process_does(tmp_path: Path) -> None:
    changed = population()
    storage = run(changed, tmp_path, at_once=2)
    assert_close_results(storage, undisturbed(changed, tmp_path))
    assert len(read(storage, "events")) > 0
    assert len(read(storage, "members", superseded=True)) == 4


@pytest.mark.slow
@pytest.mark.parametrize("raises", [False, True], ids=["killed", "raises"])
def test_a_worker_that_fails_costs_no_result(tmp_path: Path, raises: bool) -> None:
    changed = population(Trip(str(tmp_path), 11, kill=not raises))
    storage = run(changed, tmp_path, at_once=2)
    assert (tmp_path / "0").exists()
    assert_close_results(storage, undisturbed(changed, tmp_path))
    members = read(storage, "members", superseded=True)
    again = members[members["attempt"] > 0]
    assert set(again["status"]) == {"started", "done"}
    assert (again["step"] >= 8).all()


@pytest.mark.slow
def test_more_members_than_places_give_way_to_each_other(tmp_path: Path) -> None:
    changed = population(members=3)
    storage = run(changed, tmp_path, at_once=2)
    assert_close_results(storage, undisturbed(changed, tmp_path))


@pytest.mark.parametrize(
    ("error", "told"),
    [(ray.exceptions.RayActorError(), "The actor"), (None, "the workers of member 1 ended")],
    ids=["error", "nothing"],
)
def test_a_group_that_ends_without_a_word_has_not_given_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception | None, told: str
) -> None:
    """The process in which Train controls it may die."""

    def fit() -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(group, "_trainer", lambda *given: SimpleNamespace(fit=fit))
    changed = population()
    stay = group._Stay(Job(changed, str(tmp_path), None, 1, "cpu"), changed.starts()[1])
    with pytest.raises(type(error or RuntimeError()), match=told):
        stay.run(lambda word: None)

"""Members whose densities are outcomes of training meet where their score speaks of one density."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparsepop.experiment import PBT
from sparsepop.methods import AtDensity, Cut, Thresholds
from sparsepop.optim import SGD
from sparsepop.population.preflight import begin
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.space import LogUniform
from sparsepop.storage import Storage
from tests.test_population.worlds import GENERATION, STEPS, World, experiment

SEARCH = PBT({"alpha": LogUniform(1e-3, 0.3)}, members=3, quantile=0.34)


def recipe(hp: dict[str, Any]) -> Recipe:
    methods = (Thresholds(hp["alpha"], floor=0.0), Cut(0.05, STEPS - 4), AtDensity((0.05,)))
    return Recipe("lenet-300-100", STEPS, methods, SGD(0.1), batch=32)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder: Path = tmp_path_factory.mktemp("learned")
    small, storage = (
        experiment(SEARCH, recipe=recipe, score="accuracy_at_0.05"),
        Storage(str(folder / "small")),
    )
    begin(small, storage, fresh=False)
    assert not World(small, storage).run().errors
    return {name: read(storage, name) for name in ("reports", "events")}


def test_a_donor_is_found_across_densities(tables: dict[str, pd.DataFrame]) -> None:
    """Each generation but the last, while thresholds are trained, the worst takes over the best."""
    reports, events = tables["reports"], tables["events"]
    exploits = events[events["kind"] == "exploit"]
    assert sorted(exploits["generation"]) == [1, 2, 3]
    for _, exploit in exploits.iterrows():
        now = reports[reports["generation"] == exploit["generation"]].set_index("member")
        assert now["density"].nunique() == 3
        assert now["score"].idxmax() == exploit["donor"]
        assert now["score"][exploit["member"]] == now["score"].min()


def test_all_end_at_the_density_that_they_were_compared_at(tables: dict[str, pd.DataFrame]) -> None:
    last = tables["reports"].query("final")
    assert set(last["alive"]) == {2510}
    assert (last["score"] == last["validation_accuracy"]).all()
    assert last["step"].tolist() == [STEPS] * 3
    assert STEPS == 4 * GENERATION

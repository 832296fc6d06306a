"""Parallel grow-and-prune on processes of a real local Ray cluster: the simulation, bit for bit."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepop.experiment import PartitionParallel, Resources
from sparsepop.member import Member
from sparsepop.methods import Method, PartitionGrow
from sparsepop.population.launch import train_all
from sparsepop.population.places import Places
from sparsepop.population.preflight import begin
from sparsepop.population.watch import Watch
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.storage import Storage
from sparsepop.tickets import take
from tests.test_population.rounds import PARTS, maker, parallel, simulated, ticket_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_address")]
LOST = PartitionParallel(PARTS, batches=3, lost="again")


@dataclass(frozen=True)
class Kill(Method):
    """kill -9 of whoever grows partition 1, at `step`, once."""

    folder: str
    step: int

    def after_step(self, member: Member) -> None:
        grow, mark = member.recipe.methods[0], Path(self.folder, "killed")
        assert isinstance(grow, PartitionGrow)
        if member.step == self.step and grow.own == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("model", "kills"),
    [("lenet-300-100", True), pytest.param("wrn-10-1", False, marks=pytest.mark.slow)],
)
def test_processes_come_to_what_the_simulation_comes_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, kills: bool
) -> None:
    """With a member killed in the midst of the second round, and without; where members outnumber places."""
    shown: list[dict[int, str]] = []
    monkeypatch.setattr(Watch, "close", lambda watch: shown.append(watch.states))
    trouble = (Kill(str(tmp_path), 5),) if kills else ()
    experiment = parallel(maker(model, 1, 2, *trouble), LOST)
    storage = Storage(str(tmp_path / "parallel"))
    begin(experiment, storage, fresh=False)
    places = Places(2, 1.0, 0.0, 1) if kills else Places(1, 5.0, 0.0, 1)
    assert train_all(experiment, storage, places) == {}
    assert shown == [{0: "done", 1: "merged"}]
    assert Path(tmp_path, "killed").exists() is kills
    attempts = read(storage, "members", superseded=True)
    assert attempts[attempts["member"] == 1]["attempt"].max() >= kills
    member, rounds = simulated(experiment, maker(model))
    assert ticket_of(storage, 0).id == take(member).id
    events = read(storage, "events")
    merges = events[(events["kind"] == "merge") & (events["member"] == 0)]
    for each, numbers in zip(rounds, merges["numbers"], strict=True):
        assert {**numbers, "bytes_up": sum(each.bytes_up)} == each.numbers()


@pytest.mark.slow
def test_members_of_two_processes_each_come_to_it_too(tmp_path: Path) -> None:
    def exactly(hp: dict[str, Any]) -> Recipe:
        return replace(maker()(hp), precision="float64")

    experiment = parallel(exactly, LOST, resources=Resources(cpus=2, workers=2))
    storage = Storage(str(tmp_path / "parallel"))
    begin(experiment, storage, fresh=False)
    assert train_all(experiment, storage, Places(2, 1.0, 0.0, 1)) == {}
    found, wanted = ticket_of(storage, 0), take(simulated(experiment, exactly)[0])
    for name, mask in wanted.masks.items():
        assert torch.equal(found.masks[name], mask)
        torch.testing.assert_close(found.weights[name], wanted.weights[name], rtol=1e-6, atol=1e-9)

"""The configs of Sup-tickets and of harvesting: they load, build, and train their first steps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsepop.config import load
from sparsepop.data import open_data
from sparsepop.experiment import Experiment
from sparsepop.member import Member, Task
from sparsepop.methods import Superpose
from sparsepop.storage import Storage
from sparsepop.tickets import FromTicket, TicketStore, take
from sparsepop.train import train
from tests.test_data.made import pictures, write_parquet

FOLDER = Path(__file__).parents[1] / "tune_configs"


@pytest.fixture(autouse=True)
def _path() -> Iterator[None]:
    path = list(sys.path)
    yield
    sys.path[:] = path


def member_of(experiment: Experiment, number: int = 0) -> Member:
    data = open_data(experiment.data)
    start = experiment.starts()[number]
    return Member.build(experiment.recipe(dict(start.hp)), start.seed, Task(data.shape, data.classes))


@pytest.mark.parametrize("name", ["sup_tickets", "harvest"])
@pytest.mark.parametrize("smoke", [False, True])
def test_a_config_trains(name: str, smoke: bool) -> None:
    experiment = load(str(FOLDER / f"{name}.py"), smoke=smoke)
    assert len(experiment.starts()) == (
        2 if smoke and name == "sup_tickets" else 4 * (2 if "sup" in name else 1)
    )
    for number in range(len(experiment.starts())):
        member = member_of(experiment, number)
        assert member.recipe.density == 0.1
    (report,) = train(member, open_data("digits"), every=3, until=3)
    assert report.step == 3


def test_configs_are_short() -> None:
    for name in ("sup_tickets", "harvest"):
        assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 40


def test_every_member_has_cycles() -> None:
    experiment = load(str(FOLDER / "sup_tickets.py"))
    for start in experiment.starts():
        *_, last = experiment.recipe(dict(start.hp)).methods
        assert isinstance(last, Superpose)
        assert last.phases.cycles >= 3


@pytest.mark.parametrize("name", ["sup_tickets", "harvest"])
def test_a_folder_gets_the_model_of_its_data(tmp_path: Path, name: str) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / "mnist", split, pictures(400))
    experiment = load(str(FOLDER / f"{name}.py"), data=str(tmp_path / "mnist"), smoke=True)
    assert member_of(experiment).recipe.model == "lenet-300-100"


def test_tickets_are_harvested_and_retrained(tmp_path: Path) -> None:
    first = load(str(FOLDER / "harvest.py"), smoke=True)
    member = member_of(first)
    list(train(member, open_data("digits"), every=1000))
    ticket = TicketStore(Storage(str(tmp_path))).write(take(member))
    module = sys.modules[first.recipe.__module__]
    again = module.experiment(smoke=True, parent=f"{tmp_path}:{ticket[:8]}")
    child = member_of(again)
    assert child.recipe.methods == (FromTicket(str(tmp_path), ticket, 0.1),)
    assert child.masks.digest() == member.masks.digest()

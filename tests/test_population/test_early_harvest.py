"""Tickets of members in mid-training: taken at every generation's end or at some, and nobody notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Grid, Resources
from sparsepop.member import Member, Task
from sparsepop.methods import Cut, GrowPrune, Method, Partition, PhaseDyReLU, Thresholds, rigl
from sparsepop.methods.harden import harden
from sparsepop.optim import SGD
from sparsepop.outputs import evaluate
from sparsepop.population.launch import train_all
from sparsepop.population.places import Places
from sparsepop.population.preflight import begin
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.schedule import Linear, Phases
from sparsepop.storage import Storage
from sparsepop.tickets import TicketStore, load
from sparsepop.train import train
from tests.test_population.worlds import (
    GENERATION,
    STEPS,
    World,
    assert_same_results,
    cut,
    experiment,
    without_times,
)

EARLY = list(range(GENERATION, STEPS, GENERATION))


def lone(*methods: Any, harvest: Any = "generation", model: str = "lenet-300-100") -> Experiment:
    """One member, which exchanges nothing."""
    recipe = Recipe(model, STEPS, methods, SGD(0.1), batch=32)
    settings: dict[str, Any] = {"resources": Resources(cpus=1), "harvest": harvest}
    return Experiment("lone", lambda hp: recipe, "digits", Grid({}), GENERATION, **settings)


def trained(experiment: Experiment, folder: Path) -> World:
    storage = Storage(str(folder))
    begin(experiment, storage, fresh=False)
    world = World(experiment, storage).run()
    assert not world.errors
    return world


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    """PBT that harvests at the end alone."""
    return trained(experiment(), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same that harvests at the end of every generation."""
    return trained(experiment(harvest="generation"), tmp_path_factory.mktemp("early"))


def tickets(storage: Storage) -> pd.DataFrame:
    keys = ["member", "step"]
    frame = without_times(read(storage, "tickets"), ["numbers", "bytes"])  # seconds are in both
    return frame.sort_values(keys, ignore_index=True)


def test_the_members_train_as_if_nothing_had_been_taken(world: World, plain: World) -> None:
    assert_same_results(world.storage, plain.storage)
    for number, trial in world.trials.items():
        one, other = (each.member.model.state_dict() for each in (trial, plain.trials[number]))
        assert all(torch.equal(one[name], other[name]) for name in other)
    ends = tickets(world.storage).query("step == @STEPS").reset_index(drop=True)
    pd.testing.assert_frame_equal(ends, tickets(plain.storage))


def test_every_generation_leaves_the_networks_that_it_ends_with(world: World) -> None:
    rows, reports = tickets(world.storage), read(world.storage, "reports")
    assert rows["step"].tolist() == [*EARLY, STEPS] * 3
    keys = ["member", "generation", "step"]
    both = rows.merge(reports, on=keys, suffixes=("", "_reported"))
    assert len(both) == 12
    for name in ("alive", "prunable", "density", "score", "validation_accuracy"):
        assert (both[name] == both[f"{name}_reported"]).all(), name
    store = TicketStore.of_experiment(world.storage)
    assert sorted(set(rows["ticket"])) == store.ids()
    kinds = store.frame().set_index("ticket")["kind"]
    assert kinds[rows["ticket"]].tolist() == ["early", "early", "early", "member"] * 3


def test_tickets_are_left_at_chosen_steps_alone(tmp_path: Path) -> None:
    left = trained(lone(*rigl(0.1, STEPS), harvest=(16,)), tmp_path)
    assert tickets(left.storage)["step"].tolist() == [16, STEPS]


@pytest.mark.parametrize("place", [4, 9, 14, 15, 16, 17, 25, 40])
def test_a_run_that_is_cut_anywhere_leaves_the_same_tickets(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """All processes end at the `place`th file that is written; every other time it still arrives."""
    storage = Storage(str(tmp_path))
    changed = experiment(harvest="generation")
    begin(changed, storage, fresh=False)

    with monkeypatch.context() as patch:
        cut(patch, place, arrives=bool(place % 2))
        broken = World(changed, storage)
        broken.killed_together = True
        assert broken.run().errors
    assert not World(changed, storage).run().errors
    pd.testing.assert_frame_equal(tickets(storage), tickets(world.storage))
    stores = (TicketStore.of_experiment(each) for each in (storage, world.storage))
    ids, wanted = (set(store.ids()) for store in stores)
    assert ids == wanted


def test_a_soft_network_is_judged_as_it_would_be_if_it_were_cut_now(tmp_path: Path) -> None:
    made = lone(Thresholds(0.1))
    world = trained(made, tmp_path)
    data, start = open_data("digits"), made.starts()[0]
    member = Member.build(made.recipe({}), start.seed, Task(data.shape, data.classes))
    next(train(member, data, every=GENERATION))
    harden(member)
    row = tickets(world.storage).iloc[0]
    assert row["step"] == GENERATION
    model, masks = load(TicketStore.of_experiment(world.storage).read(row["ticket"]))
    assert masks.digest() == member.masks.digest()
    assert all(torch.equal(value, member.model.state_dict()[n]) for n, value in model.state_dict().items())
    assert row["validation_accuracy"] == evaluate(member, data.batches("validation", 500)).accuracy
    assert row["alive"] == member.masks.alive < member.masks.total


@pytest.mark.parametrize(
    "method",
    [Cut(0.3, 2 * GENERATION), GrowPrune(0.3, Partition(2), Phases(((0, 3), (3, 2 * GENERATION - 1))))],
)
def test_a_network_that_was_just_pruned_is_kept_as_it_is_scored(tmp_path: Path, method: Method) -> None:
    step = 2 * GENERATION
    storage = trained(lone(method, harvest=(step,), model="wrn-10-1"), tmp_path).storage
    (row,) = read(storage, "tickets").query(f"step == {step}").to_dict("records")
    model, _ = load(TicketStore.of_experiment(storage).read(row["ticket"]))
    right = [
        model.eval()(images).argmax(1) == labels
        for images, labels in open_data("digits").batches("validation", 500)
    ]
    scored = float(torch.cat(right).double().mean())
    (reported,) = read(storage, "reports").query(f"step == {step}")["validation_accuracy"]
    assert [scored, row["validation_accuracy"]] == pytest.approx([reported, reported])


def test_where_the_network_is_not_plain_yet_an_event_says_so(tmp_path: Path) -> None:
    world = trained(lone(PhaseDyReLU(Linear(1.0, 0.0, 12))), tmp_path)
    assert tickets(world.storage)["step"].tolist() == [16, 24, STEPS]
    (event,) = read(world.storage, "events").query("kind == 'no-ticket'").to_dict("records")
    assert event["step"] == GENERATION
    assert event["message"].startswith("no ticket after step 8: PhaseDyReLU has modules of its own")


@pytest.mark.ray
@pytest.mark.usefixtures("ray_address")
def test_processes_leave_the_tickets_that_one_process_leaves(tmp_path: Path, world: World) -> None:
    storage, made = Storage(str(tmp_path)), experiment(harvest="generation")
    begin(made, storage, fresh=False)
    assert train_all(made, storage, Places(1, 5.0, 0.0, 1)) == {}
    pd.testing.assert_frame_equal(tickets(storage), tickets(world.storage))

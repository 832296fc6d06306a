"""Training from a ticket: what is taken over, what stays the member's own, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparsepop.budgets import allocate
from sparsepop.member import Member
from sparsepop.methods import DropGrow, GrowPrune, Method, Partition, ShareWeights, Static, rigl
from sparsepop.recipe import Recipe
from sparsepop.schedule import Every, Phases
from sparsepop.storage import Storage
from sparsepop.tickets import FromTicket, TicketStore, from_ticket, take
from sparsepop.train import train
from tests.cases import BATCH, STEPS, TASK, Toy, run
from tests.test_tickets.made import made


def recipe(*methods: Method, model: str = "wrn-10-1") -> Recipe:
    return Recipe(model, STEPS, methods, batch=BATCH)


@pytest.fixture
def store(tmp_path: Path) -> TicketStore:
    store = TicketStore(Storage(str(tmp_path)))
    store.write(made())
    return store


def test_masks_weights_and_statistics_are_taken_over(store: TicketStore) -> None:
    member = Member.build(recipe(from_ticket(store, "")), 5, TASK)
    assert member.step == 0
    assert not member.optimizer.state
    for name, value in made().state().items():
        assert torch.equal(member.model.state_dict()[name], value)
    for name, mask in made().masks.items():
        assert torch.equal(member.masks.tensors[name], mask)
    assert member.recipe.density == made().density


def test_masks_alone_keep_the_members_own_start(store: TicketStore) -> None:
    member = Member.build(recipe(from_ticket(store, "", weights=False)), 5, TASK)
    fresh = Member.build(recipe(), 5, TASK)
    for name, value in fresh.model.state_dict().items():
        mask = made().masks.get(name)
        assert torch.equal(member.model.state_dict()[name], value if mask is None else value * mask)
    for name, mask in made().masks.items():
        assert torch.equal(member.masks.tensors[name], mask)


def test_masks_stay_while_it_trains(store: TicketStore) -> None:
    member = Member.build(recipe(from_ticket(store, "")), 5, TASK)
    before = member.masks.digest()
    weights = {name: param.detach().clone() for name, param in member.masks.params.items()}
    run(member, STEPS)
    assert member.masks.digest() == before
    assert any(not torch.equal(weights[name], p.detach()) for name, p in member.masks.params.items())


def test_other_methods_go_on_from_its_masks(store: TicketStore) -> None:
    (grow,) = rigl(0.1, STEPS, interval=3)
    member = Member.build(Recipe("wrn-10-1", STEPS, (grow, from_ticket(store, "")), batch=BATCH), 5, TASK)
    before, counts = member.masks.digest(), dict(member.masks.counts)
    assert counts == made().counts
    for name, value in made().state().items():
        assert torch.equal(member.model.state_dict()[name], value)
    run(member, STEPS)
    assert member.masks.digest() != before
    assert member.masks.counts == allocate(member.masks.shapes, 0.1, "erk")


def test_initial_weights_that_are_gone_are_refused(store: TicketStore) -> None:
    start, (explore,) = from_ticket(store, "", weights=False), rigl(0.1, STEPS, interval=3)
    with pytest.raises(ValueError, match=r"only 0\.1 of the initial weights .*: put FromTicket first"):
        Member.build(recipe(explore, start), 5, TASK)
    member = Member.build(recipe(start, DropGrow(None, 0.3, Every(3))), 5, TASK)
    assert member.masks.counts == made().counts
    before = member.masks.digest()
    assert run(member, STEPS).masks.counts == made().counts
    assert member.masks.digest() != before


@pytest.mark.parametrize("weights", [True, False])
def test_random_masks_do_not_replace_a_tickets(store: TicketStore, weights: bool) -> None:
    for second in (*rigl(0.1, STEPS), Static(0.1), GrowPrune(0.1, Partition(2), Phases.regular(2, 2))):
        with pytest.raises(ValueError, match=r"replace those of an earlier method.*DropGrow\(None"):
            Member.build(recipe(from_ticket(store, "", weights=weights), second), 5, TASK)


def test_the_store_is_needed_once(store: TicketStore) -> None:
    start = recipe(from_ticket(store, ""))
    state = run(Member.build(start, 5, TASK), 2).state()
    store.storage.delete_tree()
    assert run(Member.restore(start, 5, TASK, state), 2).step == 4
    with pytest.raises(FileNotFoundError):
        Member.build(start, 5, TASK)


def test_a_place_may_be_a_folder_a_storage_or_an_experiment(tmp_path: Path) -> None:
    """A store in a folder of its own, and one in the folder of an experiment."""
    for experiment in (False, True):
        folder = tmp_path / str(experiment)
        store = TicketStore.of_experiment(folder) if experiment else TicketStore(folder)
        store.write(made())
        places = (folder, str(folder), Storage(str(folder)), store, TicketStore.at(folder))
        assert {from_ticket(place, "") for place in places} == {
            FromTicket(store.storage.root, made().id, made().density)
        }
    with pytest.raises(ValueError, match=r"no tickets in .*absent.*: give the folder of a finished"):
        from_ticket(tmp_path / "absent", "")


def test_a_ticket_of_shared_weights_needs_them_shared(store: TicketStore) -> None:
    grown = Recipe("resnet-20-w4", STEPS, (ShareWeights(), *rigl(0.1, STEPS)), batch=BATCH)
    parent = Member.build(grown, 5, TASK)
    list(train(parent, Toy(), every=STEPS))
    start = from_ticket(store, store.write(take(parent)))
    child = Member.build(recipe(ShareWeights(), start, model="resnet-20-w4"), 6, TASK)
    assert child.masks.alive == parent.masks.alive
    images, _ = Toy().batch(0, 0, 8)
    assert torch.equal(child.model.eval()(images), parent.model.eval()(images))
    with pytest.raises(ValueError, match="share weights: put ShareWeights before it"):
        Member.build(recipe(start, model="resnet-20-w4"), 6, TASK)


@pytest.mark.parametrize(
    ("model", "named"), [("lenet-300-100", "does not fit this lenet-300-100"), ("wrn-10-2", "differs")]
)
def test_another_network_is_refused(store: TicketStore, model: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Member.build(recipe(from_ticket(store, ""), model=model), 5, TASK)


def test_a_wrong_density_is_refused(store: TicketStore) -> None:
    with pytest.raises(ValueError, match=r"not 0\.5: use from_ticket"):
        Member.build(recipe(FromTicket(store.storage.root, made().id, 0.5)), 5, TASK)
    with pytest.raises(ValueError, match=r"got 0\.0"):
        FromTicket(store.storage.root, made().id, 0.0)

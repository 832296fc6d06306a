"""What a finished member leaves: its ticket in the store, its row in the table, each once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparsepop.data import open_data
from sparsepop.ensemble import Setting, cost_of, superpose
from sparsepop.experiment import Grid
from sparsepop.member import Member
from sparsepop.methods import east, gap, sup_tickets
from sparsepop.optim import SGD
from sparsepop.population import harvest as module
from sparsepop.population.ancestry import LINEAGE
from sparsepop.population.preflight import begin
from sparsepop.population.trial import MemberTrial
from sparsepop.recipe import Recipe
from sparsepop.results import ancestors, read
from sparsepop.schedule import Triangular, TwoPhases
from sparsepop.storage import Storage
from sparsepop.tickets import FOLDER, Provenance, Ticket, TicketStore, load, take
from tests.test_population.worlds import GENERATION, STEPS, World, experiment


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    storage = Storage(str(tmp_path_factory.mktemp("harvest") / "small"))
    begin(experiment(), storage, fresh=False)
    world = World(experiment(), storage).run()
    assert not world.errors
    return world


def test_every_member_leaves_its_network(world: World) -> None:
    store = TicketStore.of_experiment(world.storage)
    rows = read(world.storage, "tickets").set_index("member")
    assert sorted(rows.index) == [0, 1, 2]
    assert sorted(rows["ticket"]) == store.ids()
    for number, trial in world.trials.items():
        model, masks = load(store.read(rows.loc[number, "ticket"]))
        assert masks.digest() == trial.member.masks.digest()
        for name, value in trial.member.model.state_dict().items():
            assert torch.equal(model.state_dict()[name], value)


def test_rows_say_what_the_last_report_says(world: World) -> None:
    rows = read(world.storage, "tickets").set_index("member")
    last = read(world.storage, "reports").query("final").set_index("member")
    for name in ("alive", "prunable", "density", "score", "validation_accuracy", "generation", "step"):
        assert (rows[name] == last[name]).all(), name
    for member, row in rows.iterrows():
        assert isinstance(member, int)
        assert row["numbers"]["test_accuracy"] == last.loc[member, "test_accuracy"]
        assert row["numbers"]["train_flops"] == last.loc[member, "train_flops"]
        file = Path(world.storage.root) / row["path"]
        assert file.parent.name == FOLDER
        assert file.stat().st_size == row["bytes"]
    assert (rows["step"] == STEPS).all()
    assert (rows["generation"] == STEPS // GENERATION).all()


def test_a_ticket_knows_whose_weights_it_holds(world: World) -> None:
    store = TicketStore.of_experiment(world.storage)
    lengths = set()
    for row in read(world.storage, "tickets").itertuples():
        source = store.read(str(row.ticket)).provenance
        assert source.lineage == tuple(ancestors(world.storage, int(str(row.member))))
        assert (source.experiment, source.data, source.member) == ("small", "digits", row.member)
        assert source.recipe["model"] == "lenet-300-100"
        lengths.add(len(source.lineage))
    assert max(lengths) > 1


def test_whose_weights_they_are_is_read_in_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every member that ends would read the rows of all."""
    original, read_files = Storage.read, list[str]()

    def noted(self: Storage, path: str) -> bytes:
        read_files.append(path)
        return original(self, path)

    monkeypatch.setattr(Storage, "read", noted)
    storage = Storage(str(tmp_path / "small"))
    assert not World(experiment(), storage).run().errors
    assert not [path for path in read_files if path.endswith(".parquet")]


def test_states_that_do_not_say_whose_they_are_are_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = MemberTrial._snapshot

    def older(self: MemberTrial, *args: Any) -> Any:
        snapshot = original(self, *args)
        del snapshot.state[LINEAGE]
        return snapshot

    monkeypatch.setattr(MemberTrial, "_snapshot", older)
    storage = Storage(str(tmp_path / "small"))
    assert not World(experiment(), storage).run().errors
    test_a_ticket_knows_whose_weights_it_holds(SimpleNamespace(storage=storage))  # type: ignore[arg-type]


def test_running_it_again_adds_nothing(world: World) -> None:
    before = read(world.storage, "tickets")
    assert not World(experiment(), world.storage).run().errors
    assert read(world.storage, "tickets").equals(before)


@pytest.mark.parametrize("base", ["east", "gap"])
def test_sup_tickets_of_any_base_end_with_a_ticket(tmp_path: Path, base: str) -> None:
    def cycling(hp: dict[str, Any]) -> Recipe:
        phases = TwoPhases(16, 8, 2)
        first = east(0.1, 16, cycles=1, cyclic_interval=2, interval=4) if base == "east" else gap(0.1, 16)
        lr = Triangular(0.001, 0.05, phases, 0.05)
        return Recipe("resnet-20-w4", STEPS, sup_tickets(first, phases), SGD(lr), batch=32)

    settings, storage = experiment(Grid({}), recipe=cycling), Storage(str(tmp_path / "small"))
    begin(settings, storage, fresh=False)
    assert not World(settings, storage).run().errors
    assert read(storage, "members")["status"].tolist() == ["done"]
    (row,) = read(storage, "tickets").to_dict("records")
    (last,) = read(storage, "reports").query("final").to_dict("records")
    store = TicketStore.of_experiment(storage)
    for name in ("alive", "prunable", "density"):
        assert row[name] == last[name]
        assert store.frame()[name].tolist() == [row[name]] * 4
    assert cost_of([store.read(row["ticket"])]).inference_flops == pytest.approx(last["inference_flops"])

    # what can be made of the cheap tickets is the member's own network
    cheap = [store.read(each) for each in store.frame(kind="cheap")["ticket"]]
    own = superpose(cheap, Setting(open_data("digits")), recalibrate=False).ticket
    assert own.masks.keys() == store.read(row["ticket"]).masks.keys()
    assert all(torch.equal(own.weights[n], w) for n, w in store.read(row["ticket"]).weights.items())


def not_plain(*_: Any) -> Ticket:
    raise ValueError("not plain")


def of_no_kept_type(member: Member, provenance: Provenance) -> Ticket:
    ticket = take(member, provenance)
    return replace(ticket, weights={name: value.bfloat16() for name, value in ticket.weights.items()})


@pytest.mark.parametrize(
    ("taken", "message"), [(not_plain, "not plain"), (of_no_kept_type, "cannot hold torch.bfloat16")]
)
def test_a_network_that_is_no_ticket_is_an_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Any, message: str
) -> None:
    monkeypatch.setattr(module, "take", taken)
    storage = Storage(str(tmp_path / "small"))
    begin(experiment(), storage, fresh=False)
    assert not World(experiment(), storage).run().errors
    events = read(storage, "events").query("kind == 'no-ticket'")
    assert len(events) == 3
    assert events["message"].str.contains(message).all()
    assert set(read(storage, "members")["status"]) == {"done"}
    assert read(storage, "tickets").empty

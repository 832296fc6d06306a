"""The command superpose: what it prints and keeps; everything wrong is one line and exit status 2."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepop import superpose
from sparsepop.data import open_data
from sparsepop.ensemble import HOW, Setting, combine
from sparsepop.experiment import Experiment, Grid
from sparsepop.methods import rigl, sup_tickets
from sparsepop.optim import SGD
from sparsepop.population.preflight import begin
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.schedule import Triangular, TwoPhases
from sparsepop.storage import Storage
from sparsepop.tickets import Provenance, Ticket, TicketStore
from tests.test_data.made import pictures, write_folders
from tests.test_population.worlds import STEPS, World, experiment
from tests.test_tickets.made import made

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A population of three members that has ended."""
    return ended(experiment(), tmp_path_factory.mktemp("finished"))


def cycling(hp: dict[str, Any]) -> Recipe:
    phases = TwoPhases(16, 8, 2)
    methods = sup_tickets(rigl(0.1, 16, interval=3), phases)
    return Recipe("lenet-300-100", STEPS, methods, SGD(Triangular(0.001, hp["lr"], phases, 0.05)), batch=32)


def cycles(*rates: float) -> Experiment:
    """A member with Sup-tickets, three cheap tickets, for each of the rates, of one seed."""
    return experiment(Grid({"lr": list(rates)}), recipe=cycling)


def ended(of: Experiment, folder: Path) -> Storage:
    storage = Storage(str(folder / "small"))
    begin(of, storage, fresh=False)
    assert not World(of, storage).run().errors
    return storage


def call(storage: Storage, *flags: str) -> int:
    return superpose.main([storage.root, *flags])


@pytest.mark.parametrize("how", ["uniform", "score", "greedy", "lineage"])
def test_a_new_ticket_and_its_row(finished: Storage, capsys: pytest.CaptureFixture[str], how: str) -> None:
    assert call(finished, "--how", how, "--lines") == 0
    rows = read(finished, "ensembles")
    row = rows[rows["kind"] == how].iloc[-1]
    store = TicketStore.of_experiment(finished)
    ticket = store.read(row["ensemble"])
    parents = store.frame(kind="member")
    assert ticket.provenance.kind == how
    assert sorted(ticket.provenance.parents) == sorted(row["tickets"])
    assert set(row["tickets"]) <= set(parents["ticket"])
    assert (row["alive"], row["prunable"]) == (ticket.alive, ticket.total) == (5020, 50200)
    scored = {"validation_accuracy": row["numbers"]["recalibrated"]}
    scored |= {"test_accuracy": row["accuracy"], "test_loss": row["nll"]}
    assert ticket.provenance.metrics == scored
    assert 0 < row["accuracy"] <= 1
    if how == "lineage":
        assert 1 < len(row["tickets"]) <= 3
        assert 0 < row["numbers"]["common_step"] < STEPS
    assert row["inference_flops"] == 2 * ticket.alive  # each weight of a linear layer is used once
    assert {"temperature", "scaled_calibration_error", "union_density", "unpruned", "pruned"} <= set(
        row["numbers"]
    )
    printed = capsys.readouterr().out
    assert row["ensemble"] in printed
    assert all(each[:8] in printed for each in parents["ticket"])


def test_a_vote_costs_all_its_tickets(finished: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    before = TicketStore.of_experiment(finished).ids()
    assert call(finished, "--how", "vote", "--members", "0", "2") == 0
    row = read(finished, "ensembles").query("kind == 'vote'").iloc[-1]
    assert (row["alive"], len(row["tickets"])) == (2 * 5020, 2)
    assert TicketStore.of_experiment(finished).ids() == before
    assert "2 tickets of" in capsys.readouterr().out


def test_all_ways_side_by_side(finished: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    store = TicketStore.of_experiment(finished)
    ids = store.frame(kind="member")["ticket"].tolist()
    assert call(finished, "--how", "vote", "--split", "validation") == 0
    half = store.write(superposed(store, ids, density=0.05))
    capsys.readouterr()
    assert call(finished, "--how", "all", "--against", half, "--split", "validation") == 0
    rows = read(finished, "ensembles").query("split == 'validation'").drop_duplicates("kind", keep="last")
    assert set(rows["kind"]) == {"single", "uniform", "score", "greedy", "lineage", "vote"}
    singles = read(finished, "ensembles").query("kind == 'single'").set_index("ensemble")
    assert sorted(singles.index) == sorted([*ids, half])
    assert singles["tickets"].map(list).tolist() == [[each] for each in singles.index]
    assert singles["disagreement"].eq(0).all()
    assert singles.loc[half, "alive"] == 2510
    rows = rows.set_index("kind")
    assert rows.loc["vote", "alive"] == 3 * rows.loc["uniform", "alive"]
    assert rows.loc["vote", "inference_flops"] == 3 * rows.loc["uniform", "inference_flops"]
    assert rows.loc["vote", "disagreement"] == rows.loc["uniform", "disagreement"] > 0
    printed = capsys.readouterr().out
    for column in ("nll", "calibration_error", "scaled_calibration_error", "disagreement", "inference_flops"):
        assert column in printed
    for name in (half[:8], *(each[:8] for each in ids), *rows.index.drop("single")):
        assert name in printed


def test_all_ways_of_different_networks_are_a_vote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def recipe(hp: dict[str, Any]) -> Recipe:
        return Recipe(hp["model"], STEPS, rigl(0.1, STEPS, interval=3), batch=32)

    models = Grid({"model": ["lenet-300-100", "residual-mlp"]})
    storage = ended(experiment(models, recipe=recipe), tmp_path)
    assert call(storage, "--how", "all") == 0
    rows = read(storage, "ensembles")
    assert sorted(rows["kind"]) == ["single", "single", "vote"]
    told = capsys.readouterr().err
    assert "left out: superpositions, for tickets of different networks have no average" in told


def superposed(store: TicketStore, ids: list[str], density: float) -> Ticket:
    setting = Setting(open_data("digits"))
    return combine([store.read(each) for each in ids], setting, density=density).ticket


def test_a_place_between_two_tickets(finished: Storage) -> None:
    ids = TicketStore.of_experiment(finished).frame(kind="member")["ticket"].tolist()[:2]
    assert call(finished, "--how", "interpolate", "--at", "0.25", "--tickets", *ids) == 0
    row = read(finished, "ensembles").iloc[-1]
    assert (row["kind"], row["tickets"], row["alive"]) == ("interpolate", ids, 5020)
    assert TicketStore.of_experiment(finished).read(row["ensemble"]).provenance.kind == "interpolate"


def test_the_same_again_takes_its_own_place(finished: Storage) -> None:
    for _ in range(2):
        assert call(finished, "--how", "vote") == 0
    assert call(finished, "--how", "vote", "--split", "validation") == 0
    rows = read(finished, "ensembles").query("kind == 'vote'")
    rows = rows[rows["tickets"].map(len) == 3]
    assert sorted(rows["split"]) == ["test", "validation"]
    scaled = {row["split"]: row["numbers"]["scaled_nll"] for _, row in rows.iterrows()}
    assert math.isfinite(scaled["test"])
    assert math.isnan(scaled["validation"])


def test_another_question_takes_no_place(tmp_path: Path, finished: Storage) -> None:
    store, source = TicketStore(Storage(str(tmp_path / "tickets-store"))), TicketStore.of_experiment(finished)
    ids = [store.write(source.read(each)) for each in source.frame(kind="member")["ticket"][:2]]
    digits = open_data("digits")
    for split, count in (("train", 40), ("test", 10)):
        write_folders(tmp_path / "tens", split, pictures(count, 8, 8, 1), classes=digits.classes)
    for flags in ([], ["--lines"], ["--data", str(tmp_path / "tens")], ["--lines"]):
        assert call(Storage(str(tmp_path)), "--how", "vote", "--tickets", *ids, *flags) == 0
    rows = read(Storage(str(tmp_path)), "ensembles")
    assert rows["ensemble"].nunique() == 1
    assert [any("barrier" in name for name in numbers) for numbers in rows["numbers"]] == [False, False, True]


def test_tickets_by_the_beginnings_of_their_ids(finished: Storage) -> None:
    ids = TicketStore.of_experiment(finished).frame(kind="member")["ticket"].tolist()[:2]
    assert call(finished, "--tickets", *(each[:10] for each in ids), "--density", "0.05") == 0
    row = read(finished, "ensembles").iloc[-1]
    assert (row["tickets"], row["alive"]) == (ids, 2510)


def test_a_denser_ticket_of_another_experiment_is_judged_beside_them(
    tmp_path: Path, finished: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    source, other = TicketStore.of_experiment(finished), TicketStore.of_experiment(Storage(str(tmp_path)))
    ids = source.frame(kind="member")["ticket"].tolist()
    denser = other.write(superposed(source, ids, density=0.102))
    assert denser not in source.ids()
    for place in (tmp_path, tmp_path / "tickets-store"):
        assert call(finished, "--how", "all", "--against", f"{place}:{denser[:8]}") == 0
        assert denser[:8] in capsys.readouterr().out
    singles = read(finished, "ensembles").query("kind == 'single'").set_index("ensemble")
    assert singles.loc[denser, "alive"].max() == round(0.102 * 50200)
    combined = read(finished, "ensembles").query("kind != 'single'")
    assert not any(denser in tickets for tickets in combined["tickets"])


def test_a_denser_ticket_beside_others_of_its_store_is_no_part_of_them(
    tmp_path: Path, finished: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    store, source = TicketStore.of_experiment(Storage(str(tmp_path))), TicketStore.of_experiment(finished)
    ids = source.frame(kind="member")["ticket"].tolist()
    for each in ids:
        store.write(source.read(each))
    more = superposed(source, ids, density=0.102)
    denser = store.write(replace(more, provenance=replace(more.provenance, kind="member", member=9)))
    assert call(Storage(str(tmp_path)), "--how", "uniform") == superpose.BAD_INPUT
    assert "tickets of different density" in capsys.readouterr().err
    assert call(Storage(str(tmp_path)), "--how", "uniform", "--against", denser) == 0
    assert sorted(read(Storage(str(tmp_path)), "ensembles").iloc[-1]["tickets"]) == sorted(ids)
    lone = Storage(str(tmp_path / "lone"))
    TicketStore.of_experiment(lone).write(store.read(denser))
    assert call(lone, "--against", denser) == superpose.BAD_INPUT
    assert "is left beside those of --against" in capsys.readouterr().err


def test_another_data_sets_scores_are_not_kept_with_a_ticket(tmp_path: Path, finished: Storage) -> None:
    store, source = TicketStore.of_experiment(Storage(str(tmp_path))), TicketStore.of_experiment(finished)
    ids = [store.write(source.read(each)) for each in source.frame(kind="member")["ticket"]]
    for split, count in (("train", 40), ("test", 10)):
        write_folders(tmp_path / "tens", split, pictures(count, 8, 8, 1), classes=open_data("digits").classes)
    flags = ("--no-recalibrate", "--tickets", *ids, "--data", str(tmp_path / "tens"))
    assert call(Storage(str(tmp_path)), *flags) == 0
    made = read(Storage(str(tmp_path)), "ensembles").iloc[-1]["ensemble"]
    assert store.read(made).provenance.metrics == {}


@pytest.mark.parametrize("located", [True, False])  # older tickets don't say where their data lay
def test_scores_on_a_folder_that_its_tickets_were_trained_on_are_kept(
    tmp_path: Path, finished: Storage, located: bool
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    own, other = tmp_path / "sets" / "mini", tmp_path / "others" / "mini"
    for folder in (own, other):
        for split, count in (("train", 40), ("test", 10)):
            write_folders(folder, split, pictures(count, 8, 8, 1), classes=open_data("digits").classes)
    store, source = TicketStore.of_experiment(Storage(str(tmp_path))), TicketStore.of_experiment(finished)
    for each in source.frame(kind="member")["ticket"]:
        ticket = source.read(each)
        where = replace(ticket.provenance, data="mini", located=str(own) if located else "")
        store.write(replace(ticket, provenance=where))
    kept = []
    for alive, folder in ((5020, own), (2510, tmp_path / "link" / "sets" / "mini"), (1004, other)):
        flags = ("--no-recalibrate", "--density", str(alive / 50200), "--data", str(folder))
        assert call(Storage(str(tmp_path)), *flags) == 0
        rows = read(Storage(str(tmp_path)), "ensembles").query(f"alive == {alive}")
        kept.append(sorted(store.read(rows["ensemble"].item()).provenance.metrics))
    scores = ["test_accuracy", "test_loss", "validation_accuracy"]
    assert kept == [scores, scores, [] if located else scores]


def test_a_superposed_ticket_is_superposed_again_as_its_parents_were(
    tmp_path: Path, finished: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, source = Storage(str(tmp_path)), TicketStore.of_experiment(finished)
    store, used = TicketStore.of_experiment(storage), []
    for number, each in enumerate(source.frame(kind="member")["ticket"]):
        ticket = source.read(each)
        recipe = {"batch": 16, "augment": False, "optimizer": {"lr": number}}
        store.write(replace(ticket, provenance=replace(ticket.provenance, recipe=recipe)))
    setting = superpose._setting

    def watched(*given: Any) -> Any:
        used.append(setting(*given)[1])
        return setting(*given)

    monkeypatch.setattr(superpose, "_setting", watched)
    assert call(storage) == 0
    made = read(storage, "ensembles").iloc[-1]["ensemble"]
    assert call(storage, "--tickets", made) == 0
    assert [(each.batch, each.augment) for each in used] == [(16, False)] * 2


def test_cheap_tickets_of_a_member_that_ran_cycles(tmp_path: Path) -> None:
    storage = ended(cycles(0.05), tmp_path)
    frame = TicketStore.of_experiment(storage).frame(kind="cheap")
    assert frame["step"].tolist() == [16, 24, 32]
    (whole,) = TicketStore.of_experiment(storage).frame(kind="member").to_dict("records")
    for name in ("dense_flops", "others"):
        assert frame[name].tolist() == [whole[name]] * 3
    told = read(storage, "events").query("kind == 'ticket'")["numbers"]
    assert frame["validation_accuracy"].tolist() == [numbers["accuracy"] for numbers in told]
    assert frame["train_flops"].is_monotonic_increasing
    assert frame["inference_flops"].notna().all()
    assert call(storage, "--kind", "cheap", "--members", "0", "--no-recalibrate") == 0
    row = read(storage, "ensembles").iloc[-1]
    own = TicketStore.of_experiment(storage).frame(kind="member")["ticket"].tolist()
    assert [row["ensemble"]] == own  # what the member itself has become
    events = read(storage, "events")
    assert events["kind"].tolist() == ["ticket"] * 3 + ["average"] * 3 + ["superpose"]


def test_members_that_share_a_cheap_ticket_both_own_it(tmp_path: Path) -> None:
    """Paired runs differ in their cycles alone: ticket 0 is one network."""
    storage = ended(cycles(0.05, 0.2), tmp_path)
    store = TicketStore.of_experiment(storage)
    frame = store.frame(kind="cheap")
    assert frame["step"].tolist() == [16, 24, 32] * 2
    assert frame["member"].tolist() == [0] * 3 + [1] * 3
    assert frame["ticket"].nunique() == 5
    assert call(storage, "--kind", "cheap", "--members", "1", "--no-recalibrate") == 0
    row = read(storage, "ensembles").iloc[-1]
    assert row["tickets"] == frame["ticket"].tolist()[3:]
    assert [row["ensemble"]] == store.frame(kind="member", member=1)["ticket"].tolist()
    assert call(storage, "--kind", "cheap", "--how", "vote") == 0
    assert len(read(storage, "ensembles").iloc[-1]["tickets"]) == 5


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--members", "7"], "no ticket of member 7"),
        (["--tickets", "zz"], "no ticket begins with 'zz'"),
        (["--members", "7"], "choose among the members 0, 1, 2, or another --kind"),
        (["--kind", "early", "--members", "0"], "no tickets of kind 'early'"),
        (["--kind", "bogus"], "its kinds are "),
        (["--kind", "cheap"], "no tickets of kind 'cheap'"),
        (["--tickets", "zz", "--members", "0"], "--tickets names the tickets itself, and --members others"),
        (["--tickets", "zz", "--kind", "member"], "and --kind member others"),
        (["--at", "0.5"], "give --how interpolate with it"),
        (["--how", "all", "--at", "0.5"], "give --how interpolate with it"),
        (["--how", "vote", "--density", "0.05"], "no network that --density could shape"),
        (["--how", "vote", "--scope", "global"], "no network that --scope could shape"),
        (["--how", "vote", "--no-recalibrate"], "no network that --no-recalibrate could shape"),
        (["--against", "absent:zz"], "absent/tickets-store: give the folder"),
        (["--how", "soup"], "share one mask"),
        (["--how", "interpolate"], "a line joins 2 tickets"),
        (["--how", "all", "--against", "zz"], "no ticket begins with 'zz'"),
        (["--how", "all", "--density", "0.9"], "lower it"),
        (["--data", "imaginary"], "'imaginary'"),
        (["--device", "gpu"], "--device gpu cannot be used here"),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used here"),
        (["--device", "meta"], "leave it out, or give cpu"),
        (["--density", "1.5"], "1.5"),
        (["--scope", "layer", "--density", "0.05"], "'layer' keeps the density"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    finished: Storage, capsys: pytest.CaptureFixture[str], flags: list[str], named: str
) -> None:
    rows, ids = len(read(finished, "ensembles")), TicketStore.of_experiment(finished).ids()
    assert call(finished, *flags) == superpose.BAD_INPUT
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("sparsepop.superpose: ")
    assert named in printed.err
    assert (len(read(finished, "ensembles")), TicketStore.of_experiment(finished).ids()) == (rows, ids)


@pytest.mark.parametrize("count", [1, 4])
def test_the_store_is_listed_as_often_for_many_tickets_as_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    store, listings, names = TicketStore(Storage(str(tmp_path))), [], Storage.names
    for member in range(count):
        store.write(made(seed=member, provenance=Provenance(member=member)))

    def counted(self: Storage, folder: str = "") -> list[str]:
        listings.append(folder)
        return names(self, folder)

    monkeypatch.setattr(Storage, "names", counted)
    found, _ = superpose._chosen(store, superpose._parser().parse_args([str(tmp_path)]))
    assert [ticket.provenance.member for ticket in found] == list(range(count))
    assert len(listings) == 3


def test_a_ticket_named_twice_is_refused(finished: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    ids = TicketStore.of_experiment(finished).frame(kind="member")["ticket"].tolist()
    assert call(finished, "--tickets", *ids, ids[0][:12]) == superpose.BAD_INPUT
    assert f"ticket {ids[0][:8]} is named twice" in capsys.readouterr().err


def test_a_place_without_tickets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert superpose.main([str(tmp_path / "absent")]) == superpose.BAD_INPUT
    assert "absent holds no tickets: check the path" in capsys.readouterr().err
    assert not (tmp_path / "absent").exists()


def test_a_damaged_ticket_is_named(
    tmp_path: Path, finished: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    store = TicketStore(Storage(str(tmp_path / "tickets-store")))
    source = TicketStore.of_experiment(finished)
    ticket = store.write(source.read(source.ids()[0]))
    path = tmp_path / "tickets-store" / store.path(ticket)
    path.write_bytes(path.read_bytes()[:-1])
    assert superpose.main([str(tmp_path)]) == superpose.BAD_INPUT
    printed = capsys.readouterr().err
    assert str(path) in printed
    assert len(printed.splitlines()) == 1


def test_a_damaged_ticket_does_not_keep_named_members_waiting(
    tmp_path: Path, finished: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    store, source = TicketStore(Storage(str(tmp_path / "tickets-store"))), TicketStore.of_experiment(finished)
    for member in range(3):
        (ticket,) = source.frame(kind="member", member=member)["ticket"]
        path = tmp_path / "tickets-store" / store.path(store.write(source.read(ticket)))
    path.write_bytes(path.read_bytes()[:-1])
    assert superpose.main([str(tmp_path), "--members", "0", "1"]) == 0
    assert len(read(Storage(str(tmp_path)), "ensembles").iloc[-1]["tickets"]) == 2
    printed = capsys.readouterr().err
    assert f"left out: {path} is damaged" in printed
    assert superpose.main([str(tmp_path), "--members", "2"]) == superpose.BAD_INPUT
    assert "no ticket of member 2" in capsys.readouterr().err


def diverged(ticket: Ticket) -> Ticket:
    """The same with a NaN in its first layer."""
    name, values = next(iter(ticket.weights.items()))
    return replace(
        ticket, weights={**ticket.weights, name: values.index_fill(0, torch.tensor([1]), math.nan)}
    )


@pytest.mark.parametrize("how", ["vote", "uniform"])
def test_a_ticket_that_diverged_is_left_out(
    tmp_path: Path, finished: Storage, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    store, source = TicketStore(Storage(str(tmp_path / "tickets-store"))), TicketStore.of_experiment(finished)
    tickets = [source.read(each) for each in source.frame(kind="member")["ticket"]]
    bad = store.write(diverged(tickets[0]))
    sound = [store.write(ticket) for ticket in tickets[1:]]
    assert call(Storage(str(tmp_path)), "--how", how) == 0
    row = read(Storage(str(tmp_path)), "ensembles").iloc[-1]
    assert sorted(row["tickets"]) == sorted(sound)
    assert math.isfinite(row["nll"])
    assert f"left out: ticket {bad[:8]}: its training has diverged" in capsys.readouterr().err
    assert call(Storage(str(tmp_path)), "--how", how, "--tickets", bad) == superpose.BAD_INPUT
    assert "no ticket of 1 that has not diverged" in capsys.readouterr().err


def test_networks_are_judged_on_the_data_that_they_were_trained_on(
    tmp_path: Path, finished: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not on the known set that has the same name as the folder."""
    store, source = TicketStore(Storage(str(tmp_path / "tickets-store"))), TicketStore.of_experiment(finished)
    folder = tmp_path / "variant" / "digits"
    images = pictures(30, height=8, width=8, channels=1)
    ticket = source.read(source.frame(kind="member")["ticket"].iloc[0])
    assert ticket.provenance.located == "digits"
    store.write(replace(ticket, provenance=replace(ticket.provenance, located=str(folder))))
    flags = ("--how", "vote", "--split", "test")
    assert call(Storage(str(tmp_path)), *flags) == superpose.BAD_INPUT
    printed = capsys.readouterr().err
    assert str(folder) in printed
    assert "--data" in printed
    write_folders(folder, "train", images)
    write_folders(folder, "test", images[:5])
    assert call(Storage(str(tmp_path)), *flags) == superpose.BAD_INPUT
    assert "is for other images than" in capsys.readouterr().err  # of 3 classes
    assert call(Storage(str(tmp_path)), *flags, "--data", "digits") == 0


def test_help_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys\nfrom sparsepop.superpose import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
        "    print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_flag_knows_all_ways() -> None:
    assert (*HOW, "vote", "all") == superpose._HOW

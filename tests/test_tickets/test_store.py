"""The store: each ticket once, atomic, verified, listed."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import pytest

from sparsepop.storage import Storage, objects, temporary
from sparsepop.tickets import DamagedTicket, NewerTicket, Provenance, TicketStore
from sparsepop.tickets.format import provenance_of
from tests.test_tickets.made import made


@pytest.fixture
def store(tmp_path: Path) -> TicketStore:
    return TicketStore(Storage(str(tmp_path)))


def test_what_is_written_is_read(store: TicketStore) -> None:
    ticket = made(provenance=Provenance(member=2))
    found = store.read(store.write(ticket))
    assert found.id == ticket.id
    assert found.provenance == ticket.provenance
    assert store.ids() == [ticket.id]


def test_the_same_network_is_kept_once_with_all_its_owners(store: TicketStore) -> None:
    first, again = (made(provenance=Provenance(member=member, kind="cheap")) for member in (1, 2))
    assert store.write(first) == store.write(again) == store.write(again)
    assert store.ids() == [first.id]
    assert store.frame()["member"].tolist() == [1, 2]
    assert store.frame(member=2)["ticket"].tolist() == [first.id]
    assert store.frame(member=2)["bytes"].tolist() == store.frame(member=1)["bytes"].tolist()
    assert store.read(first.id).provenance == first.provenance
    assert store.read(first.id, member=2).provenance == again.provenance
    with pytest.raises(FileNotFoundError, match="no owner of ticket"):
        store.read(first.id, member=3)


def test_tickets_of_a_listing_are_read_with_one_more_listing(
    store: TicketStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        for member in (2 * seed, 2 * seed + 1):
            store.write(made(seed=seed, provenance=Provenance(member=member, step=8)))
    store.write(made(seed=9, provenance=Provenance(kind="uniform")))
    rows, listings, names = store.frame().iloc[::2], [], Storage.names

    def counted(self: Storage, folder: str = "") -> list[str]:
        listings.append(folder)
        return names(self, folder)

    monkeypatch.setattr(Storage, "names", counted)
    found = store.read_rows(rows)
    assert len(listings) == 1
    assert [each.id for each in found] == rows["ticket"].tolist()
    assert [each.provenance.member for each in found] == [0, 2, 4, None]
    assert [each.provenance.kind for each in found] == ["member"] * 3 + ["uniform"]
    assert store.read_rows(rows.iloc[:0]) == []


def test_a_row_of_nobody_has_no_ticket(store: TicketStore) -> None:
    store.write(made(provenance=Provenance(member=1)))
    with pytest.raises(FileNotFoundError, match="no owner of ticket"):
        store.read_rows(store.frame().assign(member=2))


def test_an_owner_that_comes_again_is_no_other(store: TicketStore) -> None:
    for time, score in (("1", 0.5), ("2", 0.6)):
        for member in (1, 2):
            source = Provenance(member=member, time=time, metrics={"score": score})
            store.write(made(provenance=source))
    assert store.frame()["member"].tolist() == [1, 2]
    assert store.frame()["score"].tolist() == [0.5, 0.6]


def test_a_damaged_owner_is_named(store: TicketStore) -> None:
    for member in (1, 2):
        ticket = store.write(made(provenance=Provenance(member=member)))
    (path,) = Path(store.storage.root).glob("*.owner")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedTicket, match=str(path)):
        store.frame()
    assert store.read(ticket).provenance.member == 1
    store.write(made(provenance=Provenance(member=2)))
    assert store.frame()["member"].tolist() == [1, 2]


@pytest.mark.parametrize("damage", [b"", b"SPTICKET and no more", b"x" * 5000])
def test_a_damaged_file_is_one_clear_error_and_is_replaced(store: TicketStore, damage: bytes) -> None:
    ticket = made()
    path = Path(store.storage.root) / store.path(store.write(ticket))
    path.write_bytes(damage)
    for look in (lambda: store.read(ticket.id), store.frame):
        with pytest.raises(DamagedTicket) as caught:
            look()
        assert str(path) in str(caught.value)
        assert "remove it to go on without it" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    store.write(ticket)
    assert store.read(ticket.id).id == ticket.id


def newer(path: Path) -> bytes:
    """The file's bytes as a later version of the format would have them."""
    data = path.read_bytes()[:-32]
    data = data[:8] + (3).to_bytes(4, "little") + data[12:]
    return data + hashlib.sha256(data).digest()


def test_a_newer_versions_file_is_no_damage_and_stays(store: TicketStore) -> None:
    ticket = made(provenance=Provenance(member=1))
    path = Path(store.storage.root) / store.path(store.write(ticket))
    old, new = path.read_bytes(), newer(path)
    path.write_bytes(new)
    for look in (lambda: store.read(ticket.id), store.frame):
        with pytest.raises(NewerTicket) as caught:
            look()
        assert str(path) in str(caught.value)
        assert str(caught.value).endswith("version 3 and this sparsepop reads 1 to 2): update sparsepop")
    left_out: list[DamagedTicket] = []
    assert store.frame(left_out).empty
    assert isinstance(left_out[0], NewerTicket)
    for member in (1, 2):
        assert store.write(made(provenance=Provenance(member=member))) == ticket.id
    assert path.read_bytes() == new
    path.write_bytes(old)  # as who knows the version reads it
    assert store.frame()["member"].tolist() == [1, 2]


def test_a_damaged_file_of_a_newer_version_is_damaged(store: TicketStore) -> None:
    ticket = made()
    path = Path(store.storage.root) / store.path(store.write(ticket))
    path.write_bytes(newer(path)[:-1])
    with pytest.raises(DamagedTicket, match="is damaged"):
        store.read(ticket.id)
    store.write(ticket)
    assert store.read(ticket.id).id == ticket.id


def test_a_keyword_that_no_owner_has_is_named(store: TicketStore) -> None:
    ticket = store.write(made())
    with pytest.raises(ValueError, match=r"'density': use one of data, experiment, kind"):
        store.read(ticket, density=0.1)


def in_memory() -> TicketStore:
    """A store where nothing can be renamed, as in a bucket."""
    return TicketStore(Storage(f"mock:///{uuid4().hex}"))


def test_a_writer_that_was_killed_half_way_blocks_nobody() -> None:
    store, ticket = in_memory(), made(provenance=Provenance(member=1))
    for hidden in ("last", "door"):
        store.storage.write(temporary(f"{store.path(ticket.id)}.{hidden}"), b"")
    assert store.write(ticket) == ticket.id
    assert store.read(ticket.id).provenance == ticket.provenance
    assert store.write(made(provenance=Provenance(member=2))) == ticket.id
    assert store.frame()["member"].tolist() == [1, 2]


def test_of_two_that_write_one_network_at_once_both_own_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = in_memory()
    one, other = (made(provenance=Provenance(member=member)) for member in (1, 2))
    put = objects.put

    def overtaken(place: object, target: str, data: bytes) -> None:
        if target.endswith(".ticket"):
            monkeypatch.setattr(objects, "put", put)
            store.write(other)
        put(place, target, data)

    monkeypatch.setattr(objects, "put", overtaken)
    assert store.write(one) == other.id
    assert store.frame()["member"].tolist() == [1, 2]


def test_where_the_data_lay_makes_no_other_owner(store: TicketStore) -> None:
    for located in ("/here/digits", "/there/digits"):
        ticket = store.write(made(provenance=Provenance(data="digits", located=located)))
    assert len(store.frame()) == 1
    assert store.read(ticket).provenance.located == "/here/digits"


def test_a_provenance_of_before_it_said_where_the_data_lay() -> None:
    saved = asdict(Provenance(data="digits", member=1))
    del saved["located"]
    assert provenance_of(saved) == Provenance(data="digits", member=1)


def test_a_ticket_under_another_name_is_refused(store: TicketStore) -> None:
    one, other = store.write(made()), made(seed=1).id
    folder = Path(store.storage.root)
    (folder / store.path(one)).rename(folder / store.path(other))
    with pytest.raises(DamagedTicket, match=f"holds ticket {one}"):
        store.read(other)
    with pytest.raises(DamagedTicket, match=f"holds ticket {one}"):
        store.frame()


def test_what_is_not_there(store: TicketStore) -> None:
    for name in (made().id, "../elsewhere", ""):
        with pytest.raises(FileNotFoundError, match="no ticket"):
            store.read(name)
    assert store.ids() == []
    assert store.frame().empty


def test_beginnings_of_ids(store: TicketStore) -> None:
    ids = [store.write(made(seed=seed)) for seed in range(3)]
    assert store.find(ids[0][:6]) == ids[0]
    with pytest.raises(ValueError, match="3 tickets begin with ''"):
        store.find("")
    with pytest.raises(ValueError, match="no ticket begins with 'zz'"):
        store.find("zz")


def test_a_listing(store: TicketStore) -> None:
    for member, density in ((1, 0.1), (0, 0.2)):
        source = Provenance(member=member, step=40, experiment="e", data="digits", metrics={"score": density})
        store.write(made(density, provenance=source))
    store.write(made(0.3, provenance=Provenance(kind="greedy", parents=("a",))))
    frame = store.frame()
    assert frame["member"].tolist()[:2] == [0, 1]
    assert frame["kind"].tolist() == ["member", "member", "greedy"]
    assert frame["score"].tolist()[:2] == [0.2, 0.1]
    assert frame["score"].isna().tolist() == [False, False, True]
    assert (frame["density"] == frame["alive"] / frame["prunable"]).all()
    sizes = [(Path(store.storage.root) / store.path(each)).stat().st_size for each in frame["ticket"]]
    assert frame["bytes"].tolist() == sizes
    assert frame["parents"].tolist() == [[], [], ["a"]]


def test_a_filtered_listing(store: TicketStore) -> None:
    for member in range(3):
        store.write(made(seed=member, provenance=Provenance(member=member)))
    store.write(made(seed=9, provenance=Provenance(kind="uniform")))
    assert store.frame(member=1)["member"].tolist() == [1]
    assert store.frame(kind="member", model="wrn-10-1")["member"].tolist() == [0, 1, 2]
    assert store.frame(kind="vote").empty
    assert list(store.frame(kind="vote")) == list(store.frame())
    with pytest.raises(ValueError, match="no column 'size'"):
        store.frame(size=3)


def test_other_files_in_the_folder_do_no_harm(store: TicketStore) -> None:
    store.storage.write("notes.txt", b"mine")
    store.write(made())
    assert len(store.frame()) == 1

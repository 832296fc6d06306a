"""Tickets on storage, each once, verified when it is read."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import Any, TypeVar

import pandas as pd

from sparsepop.results.reader import Folder, open_experiment
from sparsepop.storage import side_by_side
from sparsepop.tickets.format import (
    DamagedTicket,
    NewerTicket,
    from_bytes,
    owner_from_bytes,
    owner_to_bytes,
    provenance_of,
    read_header,
    to_bytes,
)
from sparsepop.tickets.ticket import Provenance, Ticket

FOLDER = "tickets-store"  # where an experiment keeps its tickets; `tickets` is the table that lists them
_ENDING, _OWNER = ".ticket", ".owner"
_ID = re.compile("[0-9a-f]{32}")
_TYPES = {
    **{"ticket": "str", "kind": "str", "model": "str", "experiment": "str", "data": "str", "time": "str"},
    **{"member": "Int32", "step": "Int64", "density": "float64", "alive": "int64", "prunable": "int64"},
    **{"bytes": "int64", "parents": "object"},
}
_ONE_OWNER = ("kind", "member", "step")  # what sets the owners of a ticket apart
_PROVENANCE = {each.name for each in fields(Provenance)}
_Result = TypeVar("_Result")


class TicketStore:
    """The tickets in one folder of a storage, each in a file named by its id.

    Members may come to one network, as paired runs do before they part: it is kept once, with the provenance
    of its first owner, and beside it lies a small file for each further one.
    """

    def __init__(self, storage: Folder) -> None:
        self.storage = open_experiment(storage)

    @classmethod
    def of_experiment(cls, experiment: Folder) -> TicketStore:
        """The store of the experiment in this folder."""
        return cls(open_experiment(experiment).child(FOLDER))

    @classmethod
    def at(cls, place: Folder) -> TicketStore:
        """The store in this folder, where tickets lie in it, else that of the experiment there."""
        itself = cls(place)
        return itself if itself.ids() else cls.of_experiment(place)

    def path(self, ticket: str) -> str:
        """The file of a ticket, relative to the store."""
        return f"{ticket}{_ENDING}"

    def write(self, ticket: Ticket) -> str:
        """Keep a ticket, atomically; returns its id. A network that is there already stays as it is, also in
        a newer version's file, unless its file is damaged: then it is replaced. A further owner of it is kept
        too, each once.
        """
        data = to_bytes(ticket)
        try:
            self.storage.write(self.path(ticket.id), data, exclusive=True)
        except FileExistsError:
            self._write_again(ticket, data)
        return ticket.id

    def _write_again(self, ticket: Ticket, data: bytes) -> None:
        try:
            first = self.read(ticket.id).provenance
        except NewerTicket:
            # its first owner cannot be read; who reads the file tells an owner that comes twice
            self._keep_owner(ticket)
        except DamagedTicket:
            self.storage.write(self.path(ticket.id), data)
        except FileNotFoundError:
            # in an object store the place is taken before anything lies in it: by one that was killed there,
            # or by another owner who writes now, so that either may write the ticket last
            self._keep_owner(ticket)
            self.storage.write(self.path(ticket.id), data)
        else:
            if ticket.provenance.owner != first.owner:
                self._keep_owner(ticket)

    def _keep_owner(self, ticket: Ticket) -> None:
        source = ticket.provenance
        self.storage.write(f"{ticket.id}-{source.owner}{_OWNER}", owner_to_bytes(source))

    def read(self, ticket: str, **wanted: Any) -> Ticket:
        """The ticket of this id, with the provenance of its first owner, or of the first that has what is
        `wanted` (`kind="cheap"`, `member=3`). Raises FileNotFoundError when there is none, and DamagedTicket,
        naming the file, when its content is not what was written, or NewerTicket, one of these, when it is
        for a newer sparsepop; ValueError for a keyword that no provenance has.
        """
        if odd := sorted(wanted.keys() - _PROVENANCE):
            known = ", ".join(sorted(_PROVENANCE))
            raise ValueError(f"no owner of a ticket has {odd[0]!r}: use one of {known}; frame() knows more")
        return self._read(ticket, wanted, self._beside() if wanted else {})

    def read_rows(self, rows: pd.DataFrame) -> list[Ticket]:
        """The tickets of rows of `frame`, in their order, each with the provenance of the owner that its row
        is of; the store is listed once for all of them. Raises as `read` does.
        """
        beside, owners = self._beside(), rows[list(_ONE_OWNER)].astype("object")
        known = owners.where(owners.notna(), None).to_dict("records")
        asked = zip(rows["ticket"], known, strict=True)
        return list(side_by_side(lambda each: self._read(*each, beside), asked))

    def _read(self, ticket: str, wanted: Mapping[str, Any], beside: Mapping[str, list[str]]) -> Ticket:
        if not _ID.fullmatch(ticket) or not self.storage.exists(self.path(ticket)):
            raise FileNotFoundError(
                f"no ticket {ticket!r} in {self.storage}: check the id; find() knows it by its beginning"
            )
        found = self._checked(ticket, from_bytes, lambda found: found.id)
        if not wanted:
            return found
        for source in self._owners(found.provenance, beside.get(ticket, [])):
            if all(getattr(source, name) == value for name, value in wanted.items()):
                return replace(found, provenance=source)
        raise FileNotFoundError(f"no owner of ticket {ticket!r} in {self.storage} has {wanted}: see frame()")

    def find(self, prefix: str) -> str:
        """The id that begins with `prefix`; ValueError when there is none, or more than one."""
        ids = self.ids()
        if not ids:
            raise ValueError(f"no tickets in {self.storage}: give the folder of a finished experiment")
        found = [each for each in ids if each.startswith(prefix)]
        if len(found) != 1:
            what = f"{len(found)} tickets begin" if found else "no ticket begins"
            raise ValueError(f"{what} with {prefix!r} in {self.storage}: give more of an id that is there")
        return found[0]

    def ids(self) -> list[str]:
        """Ids of all tickets, sorted."""
        return [name.removesuffix(_ENDING) for name in self.storage.names() if name.endswith(_ENDING)]

    def frame(self, damaged: list[DamagedTicket] | None = None, **wanted: Any) -> pd.DataFrame:
        """One row per ticket and owner, sorted by member and step, with a fresh index: id, kind, network,
        provenance, size, and a column for every metric and cost that any of them has. Keywords keep the rows
        that hold these values (`kind="member"`, `member=3`). Raises DamagedTicket as `read` does, unless it
        may append what is wrong to `damaged` and leave the ticket out; ValueError for a keyword that is no
        column.
        """
        beside = self._beside()
        found = side_by_side(lambda ticket: self._rows(ticket, beside.get(ticket, []), damaged), self.ids())
        rows = list(chain.from_iterable(found))
        numbers = {name: "float64" for row in rows for name in row if name not in _TYPES}
        frame = pd.DataFrame(rows, columns=[*_TYPES, *numbers]).astype({**_TYPES, **numbers})
        for name, value in wanted.items():
            if name not in frame:
                raise ValueError(f"tickets have no column {name!r}: use one of {', '.join(frame)}")
            frame = frame[(frame[name] == value).fillna(False)]
        return frame.sort_values(["member", "step", "ticket"], kind="stable", ignore_index=True)

    def _rows(
        self, ticket: str, beside: list[str], damaged: list[DamagedTicket] | None
    ) -> list[dict[str, Any]]:
        try:
            return self._sound_rows(ticket, beside)
        except DamagedTicket as error:
            if damaged is None:
                raise
            damaged.append(error)
            return []

    def _sound_rows(self, ticket: str, beside: list[str]) -> list[dict[str, Any]]:
        size, header = self._checked(ticket, _sized_header, lambda found: found[1]["id"])
        sizes = {name: math.prod(shape) for name, _, shape, _ in header["prunable"]}
        uses = header.get("shared", {}).values()
        total = sum(sizes.values()) + sum(sizes.get(owner, 0) for owner in uses)
        alive = sum(count for *_, count in header["prunable"])
        about = {"ticket": ticket, "model": header["model"], "bytes": size, "density": alive / total}
        about |= {"alive": alive, "prunable": total}
        owners = self._owners(provenance_of(header["provenance"]), beside)
        return [{**source.ledger, **source.metrics, **_told(source), **about} for source in owners]

    def _owners(self, first: Provenance, beside: list[str]) -> Iterator[Provenance]:
        """The first owner, and those in the files `beside` its ticket."""
        yield first
        for path in beside:
            source = self._opened(path, owner_from_bytes)
            if source.owner != first.owner:
                yield source

    def _beside(self) -> dict[str, list[str]]:
        """The files of further owners, sorted, by ticket."""
        found = defaultdict(list)
        for name in self.storage.names():
            if name.endswith(_OWNER):
                found[name.partition("-")[0]].append(name)
        return found

    def _checked(
        self, ticket: str, open_it: Callable[[bytes], _Result], name: Callable[[_Result], str]
    ) -> _Result:
        def checked(data: bytes) -> _Result:
            found = open_it(data)
            if name(found) != ticket:
                raise DamagedTicket(f"it holds ticket {name(found)}")
            return found

        return self._opened(self.path(ticket), checked)

    def _opened(self, path: str, open_it: Callable[[bytes], _Result]) -> _Result:
        try:
            return open_it(self.storage.read(path))
        except NewerTicket as error:
            raise NewerTicket(f"{self.storage}/{path} is newer ({error}): update sparsepop") from error
        except DamagedTicket as error:
            where = f"{self.storage}/{path}"
            raise DamagedTicket(
                f"{where} is damaged ({error}): restore the file, or remove it to go on without it"
            ) from error


def _sized_header(data: bytes) -> tuple[int, dict[str, Any]]:
    return len(data), read_header(data)


def _told(source: Provenance) -> dict[str, Any]:
    """What the columns say of an owner."""
    known = {name: getattr(source, name) for name in _TYPES if hasattr(source, name)}
    return {**known, "parents": list(source.parents)}

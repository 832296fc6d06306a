"""Tickets on storage, each once, verified when it is read."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pandas as pd

from sparsepop.storage import Storage
from sparsepop.tickets.format import DamagedTicket, from_bytes, read_header, to_bytes
from sparsepop.tickets.ticket import Ticket

FOLDER = "tickets-store"  # where an experiment keeps its tickets; `tickets` is the table that lists them
_ENDING = ".ticket"
_ID = re.compile("[0-9a-f]{32}")
_READERS = 16
_TYPES = {
    **{"ticket": "str", "kind": "str", "model": "str", "experiment": "str", "data": "str", "time": "str"},
    **{"member": "Int32", "step": "Int64", "density": "float64", "alive": "int64", "prunable": "int64"},
    **{"bytes": "int64", "parents": "object"},
}
_Result = TypeVar("_Result")


class TicketStore:
    """The tickets in one folder of a storage, each in a file named by its id."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def of_experiment(cls, storage: Storage) -> TicketStore:
        """The store of the experiment that `storage` is rooted at."""
        return cls(storage.child(FOLDER))

    def path(self, ticket: str) -> str:
        """The file of a ticket, relative to the store."""
        return f"{ticket}{_ENDING}"

    def write(self, ticket: Ticket) -> str:
        """Keep a ticket, atomically; returns its id. One that is there already stays as it is, with the
        provenance that it came with first, unless its file is damaged: then it is replaced.
        """
        data = to_bytes(ticket)
        try:
            self.storage.write(self.path(ticket.id), data, exclusive=True)
        except FileExistsError:
            try:
                self.read(ticket.id)
            except DamagedTicket:
                self.storage.write(self.path(ticket.id), data)
        return ticket.id

    def read(self, ticket: str) -> Ticket:
        """The ticket of this id. Raises FileNotFoundError when there is none, and DamagedTicket, naming the
        file, when its content is not what was written.
        """
        if not _ID.fullmatch(ticket) or not self.storage.exists(self.path(ticket)):
            raise FileNotFoundError(f"no ticket {ticket!r} in {self.storage}: check the id")
        return self._checked(ticket, from_bytes, lambda found: found.id)

    def find(self, prefix: str) -> str:
        """The id that begins with `prefix`; ValueError when there is none, or more than one."""
        found = [each for each in self.ids() if each.startswith(prefix)]
        if len(found) != 1:
            what = f"{len(found)} tickets begin" if found else "no ticket begins"
            raise ValueError(f"{what} with {prefix!r} in {self.storage}: give more of an id that is there")
        return found[0]

    def ids(self) -> list[str]:
        """Ids of all tickets, sorted."""
        return [name.removesuffix(_ENDING) for name in self.storage.names() if name.endswith(_ENDING)]

    def frame(self, **wanted: Any) -> pd.DataFrame:
        """One row per ticket, sorted by member and step, with a fresh index: id, kind, network, provenance,
        size, and a column for every metric and cost that any of them has. Keywords keep the rows that hold
        these values (`kind="member"`, `member=3`). Raises DamagedTicket as `read` does, ValueError for a
        keyword that is no column.
        """
        with ThreadPoolExecutor(_READERS) as pool:
            rows = list(pool.map(self._row, self.ids()))
        numbers = {name: "float64" for row in rows for name in row if name not in _TYPES}
        frame = pd.DataFrame(rows, columns=[*_TYPES, *numbers]).astype({**_TYPES, **numbers})
        for name, value in wanted.items():
            if name not in frame:
                raise ValueError(f"tickets have no column {name!r}: use one of {', '.join(frame)}")
            frame = frame[(frame[name] == value).fillna(False)]
        return frame.sort_values(["member", "step", "ticket"], kind="stable", ignore_index=True)

    def _row(self, ticket: str) -> dict[str, Any]:
        size, header = self._checked(ticket, _sized_header, lambda found: found[1]["id"])
        source = header["provenance"]
        total = sum(math.prod(shape) for _, _, shape, _ in header["prunable"])
        alive = sum(count for *_, count in header["prunable"])
        kept = {name: source[name] for name in _TYPES if name in source}
        about = {"ticket": ticket, "model": header["model"], "bytes": size, "density": alive / total}
        return {**source["ledger"], **source["metrics"], **kept, **about, "alive": alive, "prunable": total}

    def _checked(
        self, ticket: str, open_it: Callable[[bytes], _Result], name: Callable[[_Result], str]
    ) -> _Result:
        path = f"{self.storage}/{self.path(ticket)}"
        try:
            found = open_it(self.storage.read(self.path(ticket)))
            if name(found) != ticket:
                raise DamagedTicket(f"it holds ticket {name(found)}")
        except DamagedTicket as error:
            raise DamagedTicket(
                f"{path} is damaged ({error}): restore the file, or remove it to go on without it"
            ) from error
        return found


def _sized_header(data: bytes) -> tuple[int, dict[str, Any]]:
    return len(data), read_header(data)

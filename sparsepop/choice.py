"""Which tickets a command is about: those that are named, or those of a kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pandas as pd

from sparsepop.tickets import DamagedTicket, Ticket, TicketStore

KIND = "member"
_SHOWN = 8  # members that an error names

Tell = Callable[[str], None]


def by_name(store: TicketStore, names: Sequence[str]) -> list[Ticket]:
    """The tickets of `names`: the beginnings of ids in `store`, or STORE_OR_EXPERIMENT:ID for one elsewhere.
    ValueError where one is not there, or is named twice.
    """
    found: dict[str, Ticket] = {}
    for name in names:
        place, _, prefix = name.rpartition(":")
        where = TicketStore.at(place) if place else store
        ticket = where.read(where.find(prefix))
        if ticket.id in found:
            raise ValueError(f"ticket {ticket.id[:8]} is named twice ({name}): name each once")
        found[ticket.id] = ticket
    return list(found.values())


def of_kind(
    store: TicketStore, kind: str, members: Collection[int], tell: Tell, besides: Collection[str] = ()
) -> list[Ticket]:
    """The tickets of one kind, of the `members` or, where none are named, of all but those with ids in
    `besides`; each network once however many members came to it. Raises FileNotFoundError in a store without
    tickets, and ValueError where there are others alone. A damaged ticket is told of and left out where
    members are named, for whose it is cannot be known; else it raises DamagedTicket.
    """
    damaged: list[DamagedTicket] | None = [] if members else None
    everything = store.frame(damaged)
    for error in damaged or []:
        tell(f"left out: {error}")
    frame = _with_members(_with_kind(everything, kind, store), kind, members, store)
    if not members:
        frame = frame[~frame["ticket"].isin(besides)]
    if frame.empty:
        raise ValueError(f"no ticket of kind {kind!r} is left beside those of --against: name --tickets")
    return store.read_rows(frame.drop_duplicates("ticket"))


def finite(tickets: Sequence[Ticket], tell: Tell) -> list[Ticket]:
    """Those that have not diverged: a single one would make every average and every vote NaN. ValueError
    where all of them have.
    """
    kept = [ticket for ticket in tickets if ticket.finite]
    if not kept:
        raise ValueError(
            f"no ticket of {len(tickets)} that has not diverged: choose other members, or a --kind"
        )
    for ticket in tickets:
        if not ticket.finite:
            reason = "its training has diverged, for not all that it holds is finite"
            tell(f"left out: ticket {ticket.id[:8]}: {reason}")
    return kept


def _with_kind(frame: pd.DataFrame, kind: str, store: TicketStore) -> pd.DataFrame:
    if frame.empty:
        raise FileNotFoundError(f"no tickets in {store.storage}: give the folder of a finished experiment")
    found = frame[frame["kind"] == kind]
    if found.empty:
        known = ", ".join(sorted(frame["kind"].unique()))
        raise ValueError(f"no tickets of kind {kind!r} in {store.storage}: its kinds are {known}")
    return found


def _with_members(
    frame: pd.DataFrame, kind: str, members: Collection[int], store: TicketStore
) -> pd.DataFrame:
    if not members:
        return frame
    known = sorted(set(frame["member"].dropna()))
    if missing := sorted(set(members) - set(known)):
        shown = ", ".join(map(str, known[:_SHOWN])) + (", ..." if len(known) > _SHOWN else "")
        raise ValueError(
            f"no ticket of member {missing[0]} is of kind {kind!r} in {store.storage}: choose among the "
            f"members {shown}, or another --kind"
        )
    return frame[frame["member"].isin(members)]

"""Tickets: finished sparse networks as small, safe, content-addressed files."""

from sparsepop.tickets.early import broken_off, check_plain_at
from sparsepop.tickets.format import DamagedTicket, NewerTicket
from sparsepop.tickets.network import load, take, take_cheap, take_plain
from sparsepop.tickets.retrain import FromTicket, from_ticket
from sparsepop.tickets.store import FOLDER, TicketStore
from sparsepop.tickets.ticket import Provenance, Ticket

__all__ = [
    "FOLDER",
    "DamagedTicket",
    "FromTicket",
    "NewerTicket",
    "Provenance",
    "Ticket",
    "TicketStore",
    "broken_off",
    "check_plain_at",
    "from_ticket",
    "load",
    "take",
    "take_cheap",
    "take_plain",
]

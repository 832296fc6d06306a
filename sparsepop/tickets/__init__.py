"""Tickets: finished sparse networks as small, safe, content-addressed files."""

from sparsepop.tickets.format import DamagedTicket
from sparsepop.tickets.network import load, take, take_cheap
from sparsepop.tickets.retrain import FromTicket, from_ticket
from sparsepop.tickets.store import FOLDER, TicketStore
from sparsepop.tickets.ticket import Provenance, Ticket

__all__ = [
    "FOLDER",
    "DamagedTicket",
    "FromTicket",
    "Provenance",
    "Ticket",
    "TicketStore",
    "from_ticket",
    "load",
    "take",
    "take_cheap",
]

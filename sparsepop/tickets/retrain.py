"""Training that starts from a ticket instead of from a random network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from sparsepop.budgets import check_density
from sparsepop.methods.base import Method
from sparsepop.models import model_name
from sparsepop.results.reader import Folder
from sparsepop.storage import Storage
from sparsepop.tickets.store import TicketStore
from sparsepop.tickets.ticket import Ticket

if TYPE_CHECKING:
    from sparsepop.member import Member


@dataclass(frozen=True)
class FromTicket(Method):
    """Start at step 0 with the masks of `ticket` from the store at `store` (a folder or URI), and with its
    weights, biases and statistics too unless `weights` is False: then only the connections are taken, and the
    member's own initial weights stay (the lottery ticket's question, Frankle & Carbin 2019). A ticket whose
    layers share weights needs the `ShareWeights` that it was made with before it.

    Masks then stay as they are unless another method changes them. With its weights it may follow a method
    that sets masks of its own at the start, and replaces these; without, it comes first, for what is pruned
    has lost its initial weights. Made by `from_ticket`, which fills in the ticket's `density`. The store is
    read once, at the start; a resumed member needs it no more. Raises ValueError where the ticket is of
    another network.
    """

    store: str
    ticket: str
    density: float
    weights: bool = True

    def __post_init__(self) -> None:
        check_density(self.density)

    def start(self, member: Member) -> None:
        ticket = TicketStore(Storage(self.store)).read(self.ticket)
        _check_fits(ticket, member)
        if not self.weights and not member.masks.all_alive:
            raise ValueError(
                f"only {member.masks.density:.4g} of the initial weights are left for ticket {self.ticket} "
                "without its own: put FromTicket first, and explore with DropGrow(None, ...)"
            )
        member.masks.set(ticket.masks, member.optimizer)
        if self.weights:
            # after the masks, which zero whatever was dead before
            _copy_weights(ticket, member)
        if member.masks.alive != round(self.density * member.masks.total):
            raise ValueError(
                f"ticket {self.ticket} has density {ticket.density}, not {self.density}: use from_ticket"
            )

    def needs_masks_at(self) -> int:
        return 0

    def density_at(self, step: int) -> float:
        return self.density


def from_ticket(store: Folder | TicketStore, ticket: str, *, weights: bool = True) -> FromTicket:
    """`FromTicket` for the one ticket whose id begins with `ticket`, in a store or an experiment's folder."""
    opened = store if isinstance(store, TicketStore) else TicketStore.at(store)
    found = opened.read(opened.find(ticket))
    return FromTicket(opened.storage.root, found.id, found.density, weights)


def _check_fits(ticket: Ticket, member: Member) -> None:
    shapes = {name: tuple(mask.shape) for name, mask in ticket.masks.items()}
    if shapes != member.masks.shapes:
        odd = sorted(name for name, _ in shapes.items() ^ member.masks.shapes.items())[0]
        hint = "; its layers share weights: put ShareWeights before it" if ticket.shared else ""
        raise ValueError(
            f"ticket {ticket.id} is a {ticket.model} for {ticket.classes} classes of {ticket.shape} images "
            f"and does not fit this {model_name(member.recipe.model)}: {odd} differs{hint}"
        )


@torch.no_grad()
def _copy_weights(ticket: Ticket, member: Member) -> None:
    # methods may have added parameters of their own to the model: those stay
    found = member.model.load_state_dict(ticket.held(), strict=False)
    if found.unexpected_keys:
        raise ValueError(f"ticket {ticket.id} holds {found.unexpected_keys[0]}, which this network lacks")

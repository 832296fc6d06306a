"""What tickets cost at inference, alone and together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sparsepop.ledger import measure_costs
from sparsepop.tickets import Ticket, load


@dataclass(frozen=True)
class Cost:
    """Alive prunable weights (one that several layers use counts once), prunable weights of the full network,
    and FLOPs of one sample's forward pass, in which a shared weight costs at every use.
    """

    alive: int
    prunable: int
    inference_flops: float


def cost_of(tickets: Iterable[Ticket]) -> Cost:
    """The cost of running all of `tickets` on each sample."""
    costs = [_cost(ticket) for ticket in tickets]
    return Cost(
        sum(cost.alive for cost in costs),
        sum(cost.prunable for cost in costs),
        sum(cost.inference_flops for cost in costs),
    )


def _cost(ticket: Ticket) -> Cost:
    model, masks = load(ticket)
    shares = {name: count / masks.params[name].numel() for name, count in masks.counts.items()}
    flops = measure_costs(model, ticket.shape, masks.params).forward_flops(shares)
    return Cost(ticket.alive, ticket.total, flops)

"""Superposition: several tickets averaged in weight space and pruned back to one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import nn

from sparsepop.averaging import check_ranking, has_statistics, merge, prune_back
from sparsepop.budgets import check_density
from sparsepop.ensemble.setting import Setting
from sparsepop.overlaps import density_of, occurrences
from sparsepop.tickets import Provenance, Ticket, load

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Superposed:
    """The new ticket; density of the parents' union; validation accuracy of their average before it was
    pruned, after that, and after BatchNorm's statistics were re-estimated.
    """

    ticket: Ticket
    union_density: float
    unpruned: float
    pruned: float
    recalibrated: float


def superpose(
    tickets: Sequence[Ticket],
    setting: Setting,
    weights: Sequence[float] | None = None,
    *,
    density: float | None = None,
    scope: str = "global",
    recalibrate: bool = True,
    how: str = "uniform",
) -> Superposed:
    """One ticket from several: their average (`weights` in any scale, default all alike; 0 leaves a ticket
    out), zeros counted as zeros, pruned back by magnitude (Sup-tickets, Yin et al. 2022, without its cycles).

    `density`: of the result, default that of the tickets; `scope`: `global` ranks the whole network, `layer`
    keeps the first ticket's count in each layer. Tickets that share one mask keep it (Sparse Model Soups,
    Zimmer et al. 2024). Raises ValueError for tickets of
    different networks, or of different densities where none is given.
    """
    check_ranking(scope)
    tickets, shares = _counted(tickets, weights)
    ticket = _mean(tickets, shares, how)
    counts = _counts(tickets, ticket.alive, density, scope)
    union_density, unpruned = ticket.density, setting.accuracy(ticket)
    ticket = _pruned(ticket, counts, scope)
    model, _ = load(ticket, setting.device)
    pruned = recalibrated = setting.accuracy(model)
    if recalibrate and has_statistics(model):
        setting.recalibrate(model)
        recalibrated = setting.accuracy(model)
        ticket = _with_statistics(ticket, model)
    return Superposed(ticket, union_density, unpruned, pruned, recalibrated)


def greedy(
    tickets: Sequence[Ticket],
    setting: Setting,
    *,
    density: float | None = None,
    scope: str = "global",
    recalibrate: bool = True,
) -> tuple[Superposed, list[Ticket]]:
    """The uniform superposition of those tickets that pay, and which these are: from the best on, each is
    tried and stays only if the validation accuracy of the superposed network rises (Wortsman et al. 2022,
    "Model soups", recipe 1, which also keeps a ticket that changes nothing). `density` is the most that the
    result may have: those that stay may not have as many weights together.
    """
    check_alike(tickets)
    _check_enough(tickets, density)
    chosen: list[Ticket] = []
    best: Superposed | None = None
    for ticket in sorted(tickets, key=setting.accuracy, reverse=True):
        reachable = _reachable([*chosen, ticket], density)
        # a ticket alone has statistics of its own, unless it is pruned further
        changed = bool(chosen) or (reachable is not None and round(reachable * ticket.total) < ticket.alive)
        tried = superpose(
            [*chosen, ticket],
            setting,
            density=reachable,
            scope=scope,
            recalibrate=recalibrate and changed,
            how="greedy",
        )
        if best is None or tried.recalibrated > best.recalibrated:
            best, chosen = tried, [*chosen, ticket]
    assert best is not None
    return best, chosen


def same_mask(tickets: Sequence[Ticket]) -> bool:
    """Whether all tickets have the same connections."""
    return all(
        ticket.masks.keys() == tickets[0].masks.keys()
        and all(torch.equal(mask, tickets[0].masks[name]) for name, mask in ticket.masks.items())
        for ticket in tickets[1:]
    )


def check_alike(tickets: Sequence[Ticket]) -> None:
    """ValueError, naming what differs, unless there are tickets, and all are of one network."""
    if not tickets:
        raise ValueError("no ticket to superpose: give at least one")
    for ticket in tickets[1:]:
        if difference := _difference(tickets[0], ticket):
            raise ValueError(
                f"tickets of different networks have no average ({tickets[0].id[:8]} and {ticket.id[:8]}: "
                f"{difference}): choose those of one"
            )


def are_alike(tickets: Sequence[Ticket]) -> bool:
    """Whether all are of one network, so that they have an average."""
    return not any(_difference(tickets[0], ticket) for ticket in tickets[1:])


def _difference(one: Ticket, other: Ticket) -> str:
    """What sets the networks of two tickets apart, in words; none where they have an average."""
    first, second = (f"{each.model} {each.shape}, {each.classes} classes" for each in (one, other))
    if first != second:
        return f"{first}; {second}"
    if odd := sorted(dict(one.shared).items() ^ dict(other.shared).items()):
        return f"{odd[0][0]} is shared in one alone, or with another layer"
    if odd_names := sorted(one.masks.keys() ^ other.masks.keys()):
        return f"{odd_names[0]} is kept dense in one alone"
    return ""


def _counted(tickets: Sequence[Ticket], weights: Sequence[float] | None) -> tuple[list[Ticket], list[float]]:
    """The tickets that have any weight, and what each adds when it is merged into those before it: its weight
    over the sum so far.
    """
    check_alike(tickets)
    given = [1.0] * len(tickets) if weights is None else list(weights)
    if len(given) != len(tickets) or min(given) < 0 or max(given) == 0:
        raise ValueError(
            f"{len(tickets)} tickets need as many weights, none negative and not all 0, not {given}"
        )
    positive = [weight for weight in given if weight > 0]
    used = [ticket for ticket, weight in zip(tickets, given, strict=True) if weight > 0]
    return used, [weight / so_far for weight, so_far in zip(positive, accumulate(positive), strict=True)]


def _reachable(tickets: Sequence[Ticket], density: float | None) -> float | None:
    """`density`, or that of the tickets' union where it is less."""
    return None if density is None else min(density, _union_density(tickets))


def _check_enough(tickets: Sequence[Ticket], density: float | None) -> None:
    if density is not None and check_density(density) > (most := _union_density(tickets)):
        raise ValueError(f"density {density} is above {most}, what all tickets together have: lower it")


def _union_density(tickets: Sequence[Ticket]) -> float:
    return density_of(occurrences(ticket.masks for ticket in tickets), tickets[0].total)


def _counts(tickets: Sequence[Ticket], most: int, density: float | None, scope: str) -> dict[str, int]:
    first = tickets[0]
    if density is None:
        if sizes := sorted({ticket.alive for ticket in tickets} - {first.alive}):
            raise ValueError(
                f"tickets of different density ({first.alive} and {sizes[0]} alive): say which one results "
                "(density=, --density)"
            )
        return first.counts
    keep = round(check_density(density) * first.total)
    if scope == "layer" and keep != first.alive:
        raise ValueError(f"scope 'layer' keeps the density {first.density} of the tickets: use 'global'")
    if keep > most:
        raise ValueError(
            f"density {density} asks for {keep} weights, all tickets together have {most}: lower it"
        )
    # in global scope only their sum counts
    return first.counts if keep == first.alive else {next(iter(first.counts)): keep}


def _mean(tickets: Sequence[Ticket], shares: Sequence[float], how: str) -> Ticket:
    """The average, alive where any of them is; one layer at a time, so that no dense network is ever held."""
    masks, weights = {}, {}
    for name in tickets[0].masks:
        masks[name] = torch.stack([ticket.masks[name] for ticket in tickets]).any(0)
        mean = _average(({name: ticket.dense(name)} for ticket in tickets), shares)
        weights[name] = mean[name][masks[name]]
    others = _average((ticket.others for ticket in tickets), shares)
    provenance = _parents(tickets, how)
    return replace(tickets[0], masks=masks, weights=weights, others=others, provenance=provenance)


def _average(states: Iterable[Mapping[str, torch.Tensor]], shares: Sequence[float]) -> State:
    mean: State | None = None
    for state, share in zip(states, shares, strict=True):
        mean = merge(mean, state, share)
    assert mean is not None
    return mean


def _pruned(mean: Ticket, counts: dict[str, int], scope: str) -> Ticket:
    """The largest weights of an average."""
    alive = {name: torch.ones_like(values, dtype=torch.bool) for name, values in mean.weights.items()}
    kept = prune_back(mean.weights, alive, counts, scope)
    masks = {name: mask.clone() for name, mask in mean.masks.items()}
    for name, mask in masks.items():
        mask[mean.masks[name]] = kept[name]
    weights = {name: values[kept[name]] for name, values in mean.weights.items()}
    return replace(mean, masks=masks, weights=weights)


def _with_statistics(ticket: Ticket, model: nn.Module) -> Ticket:
    """`ticket` with everything beside its weights as it is in `model` now."""
    state = model.state_dict()
    fresh = {name: state[name].cpu().clone() for name in ticket.others if name in state}
    return replace(ticket, others={**ticket.others, **fresh})


def _parents(tickets: Sequence[Ticket], how: str) -> Provenance:
    """What the parents have in common, and who they are."""
    known = [ticket.provenance for ticket in tickets]
    same = {
        name: getattr(known[0], name)
        for name in ("experiment", "data", "located")
        if all(getattr(each, name) == getattr(known[0], name) for each in known)
    }
    # entry by entry: members that differ in a learning rate still share batch and augmentation
    recipe = dict(
        entry for entry in known[0].recipe.items() if all(entry in each.recipe.items() for each in known)
    )
    return Provenance(kind=how, parents=tuple(ticket.id for ticket in tickets), recipe=recipe, **same)

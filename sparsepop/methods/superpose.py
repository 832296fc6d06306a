"""Sup-tickets: the networks at the ends of a few short cycles become one, at the cost of none."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from sparsepop.averaging import (
    check_average,
    check_ranking,
    merge,
    prune_back,
    recalibrate_member,
    share_of,
)
from sparsepop.methods.base import Batches, Method
from sparsepop.methods.cheap import CheapTicket, recall, remember, remember_scores, renew
from sparsepop.outputs import Score, evaluate, own_part
from sparsepop.overlaps import density_of, occurrences, overlap, shared
from sparsepop.schedule import TwoPhases

if TYPE_CHECKING:
    from sparsepop.member import Member

PRUNE = ("end", "each")
WARN_BELOW = 0.01  # a ticket this much less accurate than the first spoils the average more than it adds


@dataclass(frozen=True)
class Superpose(Method):
    """Remember the network after phase 1 (ticket 0) and after each cycle; at the end put their average,
    pruned back to as many weights as are alive, in the network's place (Sup-tickets, Yin et al. 2022).

    Stands last in the tuple. Exploring at the start of each cycle is the work of a `DropGrow(None, ...,
    phases.starts)` before it, the learning rate that of `Triangular`; `sup_tickets` puts all of it together.
    `average`: `caa` (all tickets alike) or `cima` (moving, the newest having the share `factor`); `prune`:
    once at the `end` (the paper's figure) or after `each` merge (its code); `scope`: rank weights over the
    whole network (`global`) or keep each layer's count (`layer`). Nothing is merged before the last step, so
    the network in training is never touched. BatchNorm's statistics are re-estimated on one epoch of training
    batches of rank 0's whole size, equal on all ranks; the forward passes are booked. Notes tell the
    validation accuracy of each ticket, of the average of the first n for each n, and of every stage of the
    last. Only tickets of this member's own ends count: a state that was taken over may remember those of
    other cycles, and lack some.

    Deviations: the code also re-estimates statistics between merges, which no weight depends on; its ties
    may leave more than the exact count; no layer is emptied by global pruning; other buffers than BatchNorm's
    are averaged too where they are floating-point numbers, and taken from the newest ticket where not.

    Not during the soft phase of a method like DST, whose masks are only observed: a `Cut` comes before. The
    last cycle ends with the run; else a new member raises ValueError.
    """

    phases: TwoPhases
    average: str = "caa"
    factor: float = 0.5
    prune: str = "end"
    scope: str = "global"

    def __post_init__(self) -> None:
        check_average(self.average, self.factor)
        check_ranking(self.scope)
        if self.prune not in PRUNE:
            raise ValueError(f"unknown time to prune {self.prune!r}: choose one of {', '.join(PRUNE)}")

    def start(self, member: Member) -> None:
        end, steps = self.phases.end, member.recipe.steps
        if self.phases.cycles and end != steps:
            raise ValueError(
                f"the last cycle ends at step {end} and training at step {steps}: what is trained between "
                "them would be thrown away; let the cycles end with the run, as those of split(steps, ...) do"
            )

    def after_step(self, member: Member) -> None:
        if self.phases.cycles and self.phases.ends(member.step):
            # all ranks must remember the same ticket, statistics included
            member.ranks.share_buffers(member.model)
            memory = member.memory_of(self)
            remember(memory, member)
            if any(method.outdates(member) for method in member.recipe.methods):
                memory["outdated"] = [*memory.get("outdated", ()), member.step]

    def finish(self, member: Member, data: Batches) -> None:
        if self.phases.cycles == 0:
            return
        taken = {ticket.step for ticket in self._alike(member)}
        missing = self._missing(taken)
        if not taken:
            member.note("superpose", f"nothing to superpose{missing}", tickets=0.0)
            return
        self._refresh(member, data)
        scores = self._judge_tickets(member, data)
        average, stages = self._judge_averages(member, data)
        numbers = {"tickets": float(len(scores)), "best_ticket": max(scores), "mean_ticket": _mean(scores)}
        numbers |= self._sharing(member, average.masks) | stages
        member.masks.set(average.masks, member.optimizer)
        member.model.load_state_dict(average.state)
        recalibrate_member(member, data, data.steps_per_epoch(member.recipe.batch), member.seed)
        numbers["recalibrated"] = _score(member, data).accuracy
        member.note("superpose", f"{len(scores)} tickets became one network{missing}", **numbers)

    def break_off(self, member: Member, data: Batches) -> None:
        """Nothing: the network in training is one of those that will be averaged, and plain."""

    def needs_masks_at(self) -> int | None:
        return self.phases.before if self.phases.cycles else None

    def needs_modules_at(self) -> int | None:
        return self.needs_masks_at()

    def settled_at(self) -> int:
        return self.phases.end

    def average_of(self, member: Member, prune: str | None) -> CheapTicket:
        """The average of the tickets so far, pruned to the count of the network in training (None: not)."""
        newest: CheapTicket | None = None
        for average in self._averages(member, prune):
            newest = average
        if newest is None:
            raise ValueError(f"no ticket was taken: the first one is due at step {self.phases.before}")
        return newest

    def tickets(self, member: Member) -> Iterator[CheapTicket]:
        """The tickets that count so far, oldest first."""
        return recall(member.memory_of(self), member, self.phases.ends)

    def _averages(self, member: Member, prune: str | None) -> Iterator[CheapTicket]:
        """The averages of the first ticket, the first two, ..., each pruned as `average_of` says."""
        mean: CheapTicket | None = None
        for position, ticket in enumerate(self._alike(member)):
            mean = _merged(mean, ticket, share_of(position, self.average, self.factor))
            average = mean if prune is None else self._pruned(mean, member)
            mean = average if prune == "each" else mean
            yield average

    def _alike(self, member: Member) -> Iterator[CheapTicket]:
        """The tickets that count and have an average with the network in training: who has taken over a
        state may remember networks with modules that are gone.
        """
        names = member.model.state_dict().keys()
        return (ticket for ticket in self.tickets(member) if ticket.state.keys() == names)

    def _missing(self, taken: Collection[int]) -> str:
        """In words, at which steps there should be tickets, beside those `taken`, and are none."""
        due = range(self.phases.before, self.phases.end + 1, self.phases.length)
        steps = ", ".join(str(step) for step in due if step not in taken)
        return f"; none of step {steps}, for the state of then had other cycles or modules" if steps else ""

    def _pruned(self, mean: CheapTicket, member: Member) -> CheapTicket:
        weights = {name: mean.state[name] for name in mean.masks}
        masks = prune_back(weights, mean.masks, member.masks.counts, self.scope)
        pruned = {name: weights[name].masked_fill(~mask, 0.0) for name, mask in masks.items()}
        return CheapTicket(mean.step, mean.state | pruned, masks)

    def _refresh(self, member: Member, data: Batches) -> None:
        """Give tickets that were taken right after a prune the statistics of the networks that they are."""
        memory = member.memory_of(self)
        outdated = memory.pop("outdated", ())
        for ticket in self._alike(member) if outdated else ():
            if ticket.step in outdated:
                member.model.load_state_dict(ticket.state)
                recalibrate_member(member, data)
                renew(memory, member, ticket.step)

    def _judge_tickets(self, member: Member, data: Batches) -> list[float]:
        """Note and return every ticket's validation accuracy; the network is the last ticket afterwards."""
        scores: dict[int, Score] = {}
        for ticket in self._alike(member):
            scores[ticket.step] = _score(member, data, ticket)
            found = [score.accuracy for score in scores.values()]
            place, first = (self._place(step) for step in (ticket.step, min(scores)))
            numbers = {"ticket": place, "step": ticket.step, "alive": ticket.alive, "accuracy": found[-1]}
            member.note("ticket", _warning(place, first, found), **numbers)
        remember_scores(member.memory_of(self), scores)
        return found

    def _judge_averages(self, member: Member, data: Batches) -> tuple[CheapTicket, dict[str, float]]:
        """Note the validation accuracy of the average of the first n tickets for each n, before and after it
        was pruned; returns the pruned average of all, and its two accuracies.
        """
        pairs = zip(self._averages(member, None), self._averages(member, self.prune), strict=True)
        for count, (whole, pruned) in enumerate(pairs, 1):
            stages = {"unpruned": whole, "pruned": pruned}
            numbers = {name: _score(member, data, stage).accuracy for name, stage in stages.items()}
            member.note("average", "", tickets=count, **numbers)
        return pruned, numbers

    def _place(self, step: int) -> int:
        """The number of the ticket that is taken after `step` steps."""
        return (step - self.phases.before) // self.phases.length

    def _sharing(self, member: Member, final: dict[str, Tensor]) -> dict[str, float]:
        masks = [ticket.masks for ticket in self._alike(member)]
        found = occurrences(masks)
        overlaps = [overlap(one, other) for one, other in pairwise(masks)] or [1.0]
        known = {"union_density": density_of(found, member.masks.total), "overlap": _mean(overlaps)}
        known["overlap_final"] = _mean([overlap(each, final) for each in masks])
        return known | shared(found, final)


def _merged(mean: CheapTicket | None, ticket: CheapTicket, share: float) -> CheapTicket:
    if mean is None:
        return CheapTicket(ticket.step, merge(None, ticket.state, 1.0), ticket.masks)
    union = {name: mask | ticket.masks[name] for name, mask in mean.masks.items()}
    return CheapTicket(ticket.step, merge(mean.state, ticket.state, share), union)


def _score(member: Member, data: Batches, network: CheapTicket | None = None) -> Score:
    """How `network`, which the member's model is afterwards, or else that as it is, does on validation."""
    if network is not None:
        member.model.load_state_dict(network.state)
    return evaluate(member, own_part(member, data, "validation"))


def _warning(place: int, first: int, scores: list[float]) -> str:
    """What to do about the newest of the `scores`, where it is far below the first."""
    if scores[-1] >= scores[0] - WARN_BELOW:
        return ""
    points = 100 * (scores[0] - scores[-1])
    return f"ticket {place} is {points:.1f} points below ticket {first}: make cycles longer, or explore less"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)

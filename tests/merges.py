"""A merge of whole states, against which what is packed, sent and joined is held."""

from __future__ import annotations

from collections.abc import Mapping

from sparsepop.averaging import recalibrate_member
from sparsepop.member import Member, State, Task
from sparsepop.merge import join, owners_of, part_of
from sparsepop.methods.base import Batches
from sparsepop.methods.partition_grow import growth_of
from sparsepop.recipe import Recipe


def combine(states: Mapping[int, State], owners: Mapping[str, int], rest: str = "first") -> State:
    """What each of `states`, by the number of the partition that it grew, owns."""
    return join({part: part_of(state, owners, part, rest) for part, state in states.items()}, rest)


def gather(recipe: Recipe, task: Task, states: Mapping[int, State], rest: str = "first") -> Member:
    """A member with the combined state, not pruned: each partition dense, as its member left it."""
    member = Member.restore(recipe, 0, task, states[min(states)])
    groups = growth_of(recipe).partition.groups(member.masks.shapes)
    member.load(combine(states, owners_of(member.model, groups), rest))
    return member


def merge(
    recipe: Recipe, task: Task, states: Mapping[int, State], data: Batches | None = None, batches: int = 0
) -> State:
    """The state that every member goes on from."""
    member = gather(recipe, task, states)
    growth_of(recipe).conclude(member)
    if data is not None:
        recalibrate_member(member, data, batches)
    return member.state()

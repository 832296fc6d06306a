"""The end of a round of parallel grow-and-prune: one sparse network out of those that its members trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sparsepop.member import Member, State, Task
from sparsepop.merge.combine import combine
from sparsepop.merge.owners import owners_of
from sparsepop.merge.statistics import recalibrate
from sparsepop.methods.base import Batches
from sparsepop.methods.partition_grow import PartitionGrow
from sparsepop.recipe import Recipe


def merge(
    recipe: Recipe,
    task: Task,
    states: Mapping[int, State],
    *,
    rest: str = "first",
    data: Batches | None = None,
    batches: int = 0,
    device: str | torch.device = "cpu",
) -> State:
    """The state that every member goes on from after a round: combined, pruned to the recipe's density, and
    with BatchNorm statistics taken anew over `batches` batches of `data`.

    `states` are those of the round's end, by the number of the partition that each member grew; `recipe` is
    that of any member. Nothing is random and no seed matters, so whoever merges comes to the same state.
    """
    member = gather(recipe, task, states, rest=rest, device=device)
    conclude(member, data, batches)
    return member.state()


def gather(
    recipe: Recipe,
    task: Task,
    states: Mapping[int, State],
    *,
    rest: str = "first",
    device: str | torch.device = "cpu",
) -> Member:
    """A member with the combined state, not pruned: each partition dense, as its member left it."""
    member = Member.restore(recipe, 0, task, states[min(states)], device)
    groups = growth_of(recipe).partition.groups(member.masks.shapes)
    if len(states) != len(groups):
        raise ValueError(
            f"{len(states)} of {len(groups)} partitions took part: a merge needs the state of each"
        )
    member.load(combine(states, owners_of(member.model, groups), rest))
    return member


def conclude(member: Member, data: Batches | None, batches: int) -> None:
    """Prune the gathered `member`, then take its BatchNorm statistics anew."""
    growth_of(member.recipe).conclude(member)
    if data is not None:
        recalibrate(member, data, batches)


def growth_of(recipe: Recipe) -> PartitionGrow:
    """The recipe's part in parallel grow-and-prune; ValueError when it has none, or several."""
    found = [method for method in recipe.methods if isinstance(method, PartitionGrow)]
    if len(found) != 1:
        raise ValueError(
            f"a recipe to merge needs one PartitionGrow among its methods, this has {len(found)}"
        )
    return found[0]

"""Tickets of members in mid-training, taken of copies: the members themselves go on as they were."""

from __future__ import annotations

from sparsepop.averaging import recalibrate_member
from sparsepop.member import Member
from sparsepop.methods.base import Batches
from sparsepop.recipe import Recipe


def broken_off(member: Member, data: Batches) -> Member:
    """A copy of `member` as it would be if training had ended now: a plain network, and masks that hold.
    Nothing of the member changes. Without optimizer buffers, for a copy does not train on.

    Raises ValueError where some method's modules cannot be taken out of the network yet.
    """
    check_plain_at(member.recipe, member.step)
    state = member.state()
    state["optimizer"] = {**state["optimizer"], "buffers": {}}
    copy = Member.restore(member.recipe, member.seed, member.task, state, member.device)
    outdated = any(method.outdates(copy) for method in copy.recipe.methods)
    for method in reversed(copy.recipe.methods):
        method.break_off(copy, data)
    if outdated:  # as reports of the member are scored
        recalibrate_member(copy, data)
    return copy


def check_plain_at(recipe: Recipe, step: int) -> None:
    """ValueError where members of `recipe` are no plain networks after `step` steps."""
    for method in recipe.methods:
        if not method.plain_at(step):
            raise ValueError(
                f"no ticket after step {step}: {type(method).__name__} has modules of its own in the network "
                f"up to step {method.settled_at()}; harvest later"
            )

"""Parallel grow-and-prune in one process: its members are trained one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparsepop.member import Member, State, Task
from sparsepop.merge.agreement import common_rounds
from sparsepop.merge.parcel import old_parcel, parcel
from sparsepop.merge.round import COLLAPSE, Round, end_round
from sparsepop.methods.base import Batches
from sparsepop.recipe import Recipe
from sparsepop.schedule import Phases
from sparsepop.train import train


def simulate(
    recipes: Sequence[Recipe],
    seeds: Sequence[int],
    task: Task,
    data: Batches,
    *,
    rest: str = "first",
    batches: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[Member, list[Round]]:
    """Parallel grow-and-prune with one member for each recipe, which differ in the partition they grow and
    agree on everything else; member i draws its batches from seeds[i].

    All start from what member 0 is at the first round's begin: its initialisation, or, where rounds begin
    later, what it has learned by then in common sparse training. Returns member 0 after the last merge, and
    the rounds; `train` takes it through the fine-tuning. What is told to the results is in its notes; its
    FLOPs are those of all members. Populations on Ray come to the same, bit for bit.
    """
    rounds_of = common_rounds(recipes)
    if len(seeds) != len(recipes):
        raise ValueError(f"{len(recipes)} members need as many seeds, got {len(seeds)}")
    common = _start(recipes[0], seeds[0], task, data, rounds_of, device)
    spent = [common["train_flops"], *[0.0] * (len(recipes) - 1)]
    rounds: list[Round] = []
    for _, end in rounds_of.spans:

        def old(own: int, begun: State = common, end: int = end) -> State:
            return old_parcel(recipes[own], task, begun, end, rest, device)

        parcels, accuracies = {}, {}
        for own, (recipe, seed) in enumerate(zip(recipes, seeds, strict=True)):
            member = _restored(recipe, seed, task, common, spent[own], device)
            accuracies[own] = _train_to(member, data, end)
            parcels[own], spent[own] = parcel(member, rest), member.train_flops
        merged, ended = end_round(
            recipes[0], task, parcels, accuracies, data, old, rest=rest, batches=batches, device=device
        )
        rounds.append(ended)
        spent[0] += ended.flops
        common = merged.state()
    last = _restored(recipes[0], seeds[0], task, common, sum(spent), device)
    for each in rounds:
        _note(last, each)
    return last, rounds


def _start(
    recipe: Recipe, seed: int, task: Task, data: Batches, rounds: Phases, device: str | torch.device
) -> State:
    member = Member.build(recipe, seed, task, device)
    if begin := rounds.spans[0][0] if rounds.spans else 0:
        _train_to(member, data, begin)
    return member.state()


def _restored(
    recipe: Recipe, seed: int, task: Task, common: State, spent: float, device: str | torch.device
) -> Member:
    member = Member.restore(recipe, seed, task, common, device)
    member.train_flops = spent  # its own, whoever's weights it holds
    return member


def _train_to(member: Member, data: Batches, step: int) -> float:
    """Train up to `step`; returns the validation accuracy there."""
    (report,) = train(member, data, every=step, until=step)
    return report.validation.accuracy


def _note(member: Member, each: Round) -> None:
    member.note("merge", f"round up to step {each.step}", **each.numbers())
    if each.collapsed:
        member.note("collapse", COLLAPSE, **each.numbers())

"""Parallel grow-and-prune in one process: its members are trained one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from sparsepop.member import Member, State, Task
from sparsepop.merge.owners import owners_of
from sparsepop.merge.round import conclude, gather, growth_of
from sparsepop.merge.traffic import bytes_down, bytes_up
from sparsepop.methods.base import Batches
from sparsepop.recipe import Recipe
from sparsepop.schedule import Phases
from sparsepop.train import EVALUATION_BATCH, Score, evaluate, train

COLLAPSED = 0.1
"""How much worse than its members, in accuracy, a merged network is noted as collapsed."""


@dataclass(frozen=True)
class Round:
    """A round that ended with `step`: how each member's network did on the validation split with its own
    partition dense, the combined one before and after pruning, and what was sent (bytes by member; to each).
    """

    step: int
    members: tuple[Score, ...]
    dense: Score
    merged: Score
    bytes_up: tuple[int, ...]
    bytes_down: int

    @property
    def collapsed(self) -> bool:
        """Whether the parts, trained apart, no longer fit together."""
        return self.merged.accuracy < _mean_accuracy(self.members) - COLLAPSED


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
    agree on everything that the network is; member i draws its batches from seeds[i].

    All start from what member 0 is at the first round's begin: its initialisation, or, where rounds begin
    later, what it has learned by then in common sparse training. Returns member 0 after the last merge, and
    the rounds; `train` takes it through the fine-tuning. What is told to the results is in its notes; its
    FLOPs are those of all members. Populations on Ray must come to the same, bit for bit.
    """
    rounds_of = _agreed(recipes, seeds)
    common = _start(recipes[0], seeds[0], task, data, rounds_of, device)
    spent = [common["train_flops"], *[0.0] * (len(recipes) - 1)]
    rounds: list[Round] = []
    for _, end in rounds_of.spans:
        ended = [
            _trained(_restored(recipe, seed, task, common, cost, device), data, end)
            for recipe, seed, cost in zip(recipes, seeds, spent, strict=True)
        ]
        states = {own: state for own, (state, _) in enumerate(ended)}
        merged = gather(recipes[0], task, states, rest=rest, device=device)
        rounds.append(_ended(merged, ended, data, rest, batches))
        spent = [state["train_flops"] for state in states.values()]
        spent[0] += merged.train_flops - sum(spent)  # what re-estimating the statistics took
        common = merged.state()
    last = _restored(recipes[0], seeds[0], task, common, sum(spent), device)
    for each in rounds:
        _note(last, each)
    return last, rounds


def _agreed(recipes: Sequence[Recipe], seeds: Sequence[int]) -> Phases:
    """The rounds that all recipes agree on; ValueError when they don't fit together."""
    parts = [growth_of(recipe) for recipe in recipes]
    if [part.own for part in parts] != list(range(len(parts))) or len(parts) != parts[0].partition.parts:
        raise ValueError(
            f"recipes grow the partitions {[part.own for part in parts]}: give one for each of "
            f"0..{parts[0].partition.parts - 1}, in order"
        )
    if any(replace(part, own=0) != parts[0] for part in parts):
        raise ValueError("recipes differ in more than the partition they grow: use one PartitionGrow for all")
    if len(seeds) != len(recipes):
        raise ValueError(f"{len(recipes)} members need as many seeds, got {len(seeds)}")
    return parts[0].rounds


def _start(
    recipe: Recipe, seed: int, task: Task, data: Batches, rounds: Phases, device: str | torch.device
) -> State:
    member = Member.build(recipe, seed, task, device)
    begin = rounds.spans[0][0] if rounds.spans else 0
    return _trained(member, data, begin)[0] if begin else member.state()


def _restored(
    recipe: Recipe, seed: int, task: Task, common: State, spent: float, device: str | torch.device
) -> Member:
    member = Member.restore(recipe, seed, task, common, device)
    member.train_flops = spent  # its own, whoever's weights it holds
    return member


def _trained(member: Member, data: Batches, until: int) -> tuple[State, Score]:
    """The state after training up to the step `until`, and how it does on the validation split."""
    (report,) = train(member, data, every=until, until=until)
    return member.state(), report.validation


def _ended(
    merged: Member, ended: Sequence[tuple[State, Score]], data: Batches, rest: str, batches: int
) -> Round:
    """Conclude the round on the gathered member, scoring it before and after."""
    owners = owners_of(merged.model, growth_of(merged.recipe).partition.groups(merged.masks.shapes))
    dense = evaluate(merged, data.batches("validation", EVALUATION_BATCH))
    conclude(merged, data, batches)
    return Round(
        step=merged.step,
        members=tuple(score for _, score in ended),
        dense=dense,
        merged=evaluate(merged, data.batches("validation", EVALUATION_BATCH)),
        bytes_up=tuple(bytes_up(state, owners, part, rest) for part, (state, _) in enumerate(ended)),
        bytes_down=bytes_down(merged.state()),
    )


def _note(member: Member, each: Round) -> None:
    numbers = {
        "round_end": each.step,
        "members": _mean_accuracy(each.members),
        "dense": each.dense.accuracy,
        "merged": each.merged.accuracy,
    }
    member.note("merge", f"round up to step {each.step}", **numbers)
    if each.collapsed:
        member.note(
            "collapse", "the merged network is far worse than its members: train longer before", **numbers
        )


def _mean_accuracy(scores: Sequence[Score]) -> float:
    return sum(score.accuracy for score in scores) / len(scores)

"""The end of a round of parallel grow-and-prune: one sparse network out of those that its members trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from sparsepop.averaging import recalibrate_member
from sparsepop.member import Member, State, Task
from sparsepop.merge.combine import join
from sparsepop.merge.parcel import is_finite, merged_parcel, unpack, weight_of
from sparsepop.methods.base import Batches
from sparsepop.methods.partition_grow import growth_of
from sparsepop.methods.regrowth import lost, share_lost
from sparsepop.outputs import Score, evaluate, own_part
from sparsepop.recipe import Recipe

COLLAPSE = "the merged network is far worse than its members: train longer before the first round"
COLLAPSED = 0.1
"""How much worse than its members, in accuracy, a merged network counts as collapsed."""


@dataclass(frozen=True)
class Round:
    """A round that ended with `step`: the validation accuracies of its members' networks, each with its own
    partition dense (without those that have diverged), how the combined one did before and after pruning,
    each with BatchNorm statistics of its own, what was sent (bytes from each who did, by partition; to each),
    the share of weights that the masks have exchanged, the partitions that stayed as they were because their
    members had diverged, and the FLOPs of the merge.
    """

    step: int
    members: tuple[float, ...]
    dense: Score
    merged: Score
    bytes_up: tuple[int, ...]
    bytes_down: int
    changed: float
    flops: float
    diverged: tuple[int, ...] = ()

    @property
    def collapsed(self) -> bool:
        """Whether the parts, trained apart, no longer fit together."""
        if not math.isfinite(self.merged.loss):
            return True
        return self.merged.accuracy < self.members_accuracy - COLLAPSED

    @property
    def members_accuracy(self) -> float:
        """The mean over members; NaN where all have diverged."""
        return sum(self.members) / len(self.members) if self.members else math.nan

    def numbers(self) -> dict[str, float]:
        """What the results tell of the round."""
        return {
            "round_end": float(self.step),
            "networks": float(len(self.members)),
            "members": self.members_accuracy,
            "dense": self.dense.accuracy,
            "merged": self.merged.accuracy,
            "merged_loss": self.merged.loss,
            "changed": self.changed,
            "collapsed": float(self.collapsed),
            "diverged": float(len(self.diverged)),
            "bytes_up": float(sum(self.bytes_up)),
            "bytes_down": float(self.bytes_down),
        }


def end_round(
    recipe: Recipe,
    task: Task,
    sent: Mapping[int, State],
    accuracies: Mapping[int, float],
    data: Batches,
    old: Callable[[int], State],
    *,
    rest: str = "first",
    batches: int = 0,
    device: str | torch.device = "cpu",
) -> tuple[Member, Round]:
    """The merged member and what is told of the round, from what the members have `sent` (`parcel`), by the
    number of the partition that each grew: joined, pruned to the recipe's density, and with BatchNorm
    statistics taken anew over `batches` batches of `data`. `accuracies`, also by partition, are those
    members' before the merge. `old` gives the `old_parcel` of a partition, for the place of one whose member
    has sent nothing, or has diverged: it alone would make everybody's network NaN.

    `recipe` is that of any member. No seed matters, so whoever merges comes to the same.
    """
    growth = growth_of(recipe)
    sound = {part: each for part, each in sent.items() if is_finite(each)}
    parcels = {part: sound[part] if part in sound else old(part) for part in range(growth.partition.parts)}
    member = Member.restore(
        recipe, 0, task, join({n: unpack(each) for n, each in parcels.items()}, rest), device
    )
    grown = member.memory_of(growth).get("before", {})
    masks = {name: grown.get(name, member.masks.tensors[name]).clone() for name in member.masks.owned}
    before = member.train_flops
    recalibrate_member(member, data, batches)  # else a good merge would be blamed for stale statistics
    dense = evaluate(member, own_part(member, data, "validation"))
    growth.conclude(member)
    recalibrate_member(member, data, batches)
    member.take_notes()  # of the prune, which are no single member's
    return member, Round(
        step=member.step,
        members=tuple(each for part, each in sorted(accuracies.items()) if part in sound),
        dense=dense,
        merged=evaluate(member, own_part(member, data, "validation")),
        bytes_up=tuple(weight_of(sent[part]) for part in sorted(sent)),
        bytes_down=weight_of(merged_parcel(member)),
        changed=share_lost(lost(masks, member.masks.tensors)),
        flops=member.train_flops - before,
        diverged=tuple(sorted(sent.keys() - sound.keys())),
    )

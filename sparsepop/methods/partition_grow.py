"""One member's part in parallel grow-and-prune: it grows the same partition in every round."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from sparsepop.methods.partition import Partition
from sparsepop.methods.regrowth import Regrowth
from sparsepop.schedule import Phases

if TYPE_CHECKING:
    from sparsepop.member import Member
    from sparsepop.recipe import Recipe


@dataclass(frozen=True)
class PartitionGrow(Regrowth):
    """P-GaP (Ma et al. 2022, "Effective Model Sparsification by Scheduled Grow-and-Prune Methods"), seen from
    one of `partition.parts` members: its partition number `own` is dense in every round, the masks of the
    others stay. Steps before the first round are common sparse training.

    A round ends dense: `sparsepop.merge` joins each partition from the member that grew it, prunes, and every
    member goes on from that. A member that nobody merges prunes by itself when its next step begins, which
    comes to GaP of one partition. `scope`, `initial` (here of all layers) and `fresh` are those of
    `GrowPrune`.
    """

    density: float
    partition: Partition
    own: int
    rounds: Phases
    scope: str = "uniform"
    initial: str = "random"
    fresh: bool = True

    def __post_init__(self) -> None:
        self.check_settings(self.rounds)
        if not 0 <= self.own < self.partition.parts:
            raise ValueError(f"own={self.own} is none of the {self.partition.parts} partitions: count from 0")
        if any(end != begin for (_, end), (begin, _) in pairwise(self.rounds.spans)):
            raise ValueError(f"rounds must follow one upon the other, got {self.rounds.spans}")

    def start(self, member: Member) -> None:
        self.partition.groups(member.masks.shapes)  # refuses what cannot be cut now, not in mid-run
        if self.initial == "random":
            self.random_start(member)
        else:
            self.magnitude_start(member)

    def after_backward(self, member: Member) -> None:
        phase = self.rounds.beginning(member.step)
        over = member.step >= self.rounds.end
        if phase is not None or over:
            self.conclude(member)
        if phase is not None:
            names = self.partition.groups(member.masks.shapes)[self.own]
            self.grow(member, names)
            self.note_growth(member, phase, names)
        if self.fresh and (phase is not None or member.step == self.rounds.end):
            member.optimizer.state.clear()

    def density_at(self, step: int) -> float | None:
        """`density` outside the rounds; None within one and at its end, before the merge (1 where there is
        but one partition).
        """
        if not self.rounds.within(step) and not self.rounds.ending(step):
            return self.density
        return 1.0 if self.partition.parts == 1 else None

    def settled_at(self) -> int:
        # the last round ends dense, so it takes a step of fine-tuning to be sparse
        return self.rounds.end + 1 if self.rounds.spans else 0


def growth_of(recipe: Recipe) -> PartitionGrow:
    """The recipe's part in parallel grow-and-prune; ValueError when it has none, or several."""
    found = [method for method in recipe.methods if isinstance(method, PartitionGrow)]
    if len(found) != 1:
        raise ValueError(
            f"a recipe to merge needs one PartitionGrow among its methods, this has {len(found)}"
        )
    return found[0]

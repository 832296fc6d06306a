"""When a population is superposed while its members train, and who takes the superposed network."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparsepop.experiment import SuperposeParallel
from sparsepop.population.messages import Assignment, Post, go_on
from sparsepop.population.rounds import Merge, Outcome
from sparsepop.population.standings import alive, merit


@dataclass(frozen=True)
class Superpositions:
    """Rounds of a whole population, one group, that end with the generations `ends`.

    `start`: the generation after which all start from the first member's state, with the hyperparameters of
    `hps` (by member); -1: everybody starts on its own. `mode`: whether high scores are good (max) or low
    ones.
    """

    search: SuperposeParallel
    ends: tuple[int, ...]
    start: int
    mode: str
    hps: Mapping[int, dict[str, Any]]
    event: str = "superpose"
    patient: bool = False
    groups: int = 1

    def group_of(self, member: int) -> int:
        return 0

    def members_of(self, group: int) -> range:
        return range(self.search.members)

    def leader_of(self, member: int) -> int:
        return member if self.start < 0 else 0

    def end_with(self, generation: int) -> bool:
        return generation in self.ends

    def followers(self, leader: Post) -> dict[int, dict[str, Any]]:
        return {member: hp for member, hp in self.hps.items() if member != leader.member}

    def excused(self, gone: Collection[int], lost: Collection[int]) -> Collection[int]:
        return gone

    def in_order(self, posts: Sequence[Post]) -> list[Post]:
        """Worst first, those that have diverged before all others: the best one is the newest to a moving
        average, and what cannot be averaged is its.
        """
        return sorted(posts, key=lambda post: (merit(post, self.mode), -post.member))

    def compared(self, generation: int) -> bool:
        return False

    def after(self, ended: Sequence[tuple[Merge, Outcome]], running: Collection[int]) -> list[Assignment]:
        """Those who take the superposed network keep their own hyperparameters; the others go on. Where it is
        not accepted they are told of it, and go on too, but for whoever has diverged.
        """
        ((merge, outcome),) = ended
        takers = self._takers(merge)
        payer = min(takers, default=0)
        decided = [
            self._told(merge, outcome, post, payer) if post.member in takers else go_on(post)
            for post in merge.posts
        ]
        return sorted(decided, key=lambda each: each.member)

    def _told(self, merge: Merge, outcome: Outcome, post: Post, payer: int) -> Assignment:
        taken = self._accepts(outcome) or not alive(post)
        return Assignment(
            post.member,
            merge.generation,
            None,
            post.hp,
            None,
            f"{len(averaged(merge))} networks superposed after step {post.step}"
            + ("" if taken else ", and left: no better than the best of them"),
            group=merge.group if taken else None,
            numbers=outcome.numbers_of(post.member, payer),
        )

    def without(self, member: int) -> str:
        return (
            f"member {member} has failed for good, and all were to start from its state: run the same "
            "command again"
        )

    def _accepts(self, outcome: Outcome) -> bool:
        numbers = outcome.numbers
        return self.search.accept == "any" or numbers["recalibrated"] > numbers["best_member"]

    def _takers(self, merge: Merge) -> set[int]:
        posts = merge.posts
        if self.search.share == "all":
            return {post.member for post in posts}
        count = max(1, math.floor(self.search.quantile * len(posts) + 1e-9))
        return {post.member for post in posts[:count]} | {post.member for post in posts if not alive(post)}


def averaged(merge: Merge) -> list[Post]:
    """The posts of those whose networks are averaged: nobody who has diverged, unless all have."""
    return [post for post in merge.posts if alive(post)] or list(merge.posts)

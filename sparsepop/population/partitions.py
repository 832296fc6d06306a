"""When the partitions of a population's groups are merged, and who takes the merged network."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sparsepop.experiment import PARTITION, PartitionParallel
from sparsepop.population.messages import Assignment, Post
from sparsepop.population.rounds import Merge, Outcome
from sparsepop.population.rules import synchronous


@dataclass(frozen=True)
class PartitionRounds:
    """Rounds of parallel grow-and-prune: the first begins after the generation `start` (0: at once), the last
    ends with the generation `last`, and each generation between is one. Where groups are compared, `score`
    names the number of a merge by which, `mode` says whether it is to be high (max) or low.
    """

    search: PartitionParallel
    start: int
    last: int
    score: str = "merged"
    mode: str = "max"
    seed: int = 0
    event: str = "merge"

    @property
    def patient(self) -> bool:
        return self.search.lost == "again"

    @property
    def groups(self) -> int:
        return self.search.groups

    def group_of(self, member: int) -> int:
        return member // self.search.parts

    def members_of(self, group: int) -> range:
        """In order of their partitions."""
        return range(group * self.search.parts, (group + 1) * self.search.parts)

    def leader_of(self, member: int) -> int:
        return self.members_of(self.group_of(member))[0]

    def end_with(self, generation: int) -> bool:
        return self.start < generation <= self.last

    def followers(self, leader: Post) -> dict[int, dict[str, Any]]:
        """All others of the group: partitions trained from different networks do not fit together."""
        others = self.members_of(self.group_of(leader.member))[1:]
        return {member: {**leader.hp, PARTITION: member % self.search.parts} for member in others}

    def excused(self, gone: Collection[int], lost: Collection[int]) -> set[int]:
        return set() if self.patient else {*gone, *lost}

    def in_order(self, posts: Sequence[Post]) -> Sequence[Post]:
        return posts

    def compared(self, generation: int) -> bool:
        # after the last round there is nothing left to search
        return self.search.quantile is not None and generation < self.last

    def after(self, ended: Sequence[tuple[Merge, Outcome]], running: Collection[int]) -> list[Assignment]:
        """Groups that are compared decide as members of PBT do: all members of one that loses take over the
        winner's merged network, and the same explored hyperparameters.
        """
        decided = [each for merge, outcome in ended for each in self._take(merge, outcome, running)]
        if not self.compared(ended[0][0].generation):
            return decided
        settings = {name: getattr(self.search, name) for name in ("space", "quantile", "resample", "factors")}
        posts = [self._post_of(merge, outcome) for merge, outcome in ended]
        of_group = synchronous(posts, mode=self.mode, seed=self.seed, **settings)
        return [self._exploit(each, of_group[self.group_of(each.member)]) for each in decided]

    def _take(self, merge: Merge, outcome: Outcome, running: Collection[int]) -> list[Assignment]:
        """All take the merged network; after the last round the first of those `running` goes on alone,
        unless all are to fine-tune.
        """
        members = self.members_of(merge.group)
        alone = merge.generation == self.last and self.search.fine_tune == "first"
        first = next((member for member in members if member in running), members[0])
        post = merge.posts[0]
        return [
            Assignment(
                member,
                merge.generation,
                None,
                {**post.hp, PARTITION: number},
                None,
                f"round up to step {post.step}",
                group=merge.group,
                ends=alone and member != first,
                # booked on one that still reports
                numbers=outcome.numbers_of(member, first),
            )
            for number, member in enumerate(members)
        ]

    def _post_of(self, merge: Merge, outcome: Outcome) -> Post:
        """What a group would post, were it a member: all groups are merged to the same density."""
        hp = {name: value for name, value in merge.posts[0].hp.items() if name != PARTITION}
        # a network of NaNs still has an accuracy
        score = outcome.numbers[self.score] if math.isfinite(outcome.numbers["merged_loss"]) else math.nan
        return Post(merge.group, merge.generation, score, 0.0, hp, merge.posts[0].step)

    def _exploit(self, own: Assignment, of_group: Assignment) -> Assignment:
        if of_group.donor is None:
            return own
        part = own.hp[PARTITION]
        return replace(
            own,
            donor=self.members_of(of_group.donor)[part],
            donor_generation=own.generation,
            hp={**of_group.hp, PARTITION: part},
            group=of_group.donor,
            reason=f"{own.reason}; group {of_group.donor} is better",
        )

    def without(self, member: int) -> str:
        if not self.patient:  # then only the leader is ever missed, at the common start
            return (
                f"member {member} has failed for good, and its group was to start from its state: run the "
                "same command again"
            )
        return (
            f"member {member} has failed for good, and its partition is missing: run the same command again, "
            "or let old partitions be kept (PartitionParallel(lost='keep'), under another --name)"
        )

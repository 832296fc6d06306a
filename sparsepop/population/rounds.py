"""Rounds of a population that is merged now and then: who starts from whom, what is merged, who takes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from sparsepop.experiment import PARTITION, PartitionParallel
from sparsepop.population.messages import Assignment, Post, go_on
from sparsepop.population.rules import synchronous


@dataclass(frozen=True)
class Merge:
    """The round of a group that can be merged: the posts of those who have finished it, in the order in which
    they are merged.
    """

    group: int
    generation: int
    posts: tuple[Post, ...]

    @property
    def key(self) -> tuple[int, int]:
        return self.group, self.generation


@dataclass(frozen=True)
class Outcome:
    """What is told of a merge: the round's numbers, what each member has sent (bytes), and its FLOPs."""

    numbers: dict[str, float]
    sent: dict[int, int]
    flops: float

    def numbers_of(self, member: int, payer: int) -> dict[str, float]:
        """What is told to one member; `payer` is whom the merge's FLOPs are booked on."""
        sent = {"bytes_up": float(self.sent.get(member, 0))}
        return {**self.numbers, **sent, "flops": self.flops if member == payer else 0.0}


class Rounds(Protocol):
    """When the states of a group's members become one network, and what that decides; pure."""

    @property
    def start(self) -> int:
        """The generation after which all of a group start from its leader's state; 0: at once, -1: never."""

    @property
    def event(self) -> str:
        """What the taking of a merged network is called in the events."""

    @property
    def patient(self) -> bool:
        """Whether a round waits for members that have failed for good."""

    @property
    def groups(self) -> int:
        """How many groups there are."""

    def group_of(self, member: int) -> int: ...

    def members_of(self, group: int) -> Sequence[int]: ...

    def leader_of(self, member: int) -> int:
        """Whose state `member` starts from; itself where it starts on its own."""

    def end_with(self, generation: int) -> bool:
        """Whether a round ends with `generation`."""

    def followers(self, leader: Post) -> Mapping[int, dict[str, Any]]:
        """Who starts from the state that its leader has posted, each with its own hyperparameters."""

    def excused(self, gone: Collection[int], lost: Collection[int]) -> Collection[int]:
        """Without whom a round may be merged: `gone` have failed for good; `lost` were killed within it, and
        train it again.
        """

    def in_order(self, posts: Sequence[Post]) -> Sequence[Post]:
        """The posts of a round in the order in which they are merged."""

    def compared(self, generation: int) -> bool:
        """Whether groups are compared at the end of this round, so that all of them wait for each other."""

    def after(self, ended: Sequence[tuple[Merge, Outcome]], running: Collection[int]) -> list[Assignment]:
        """What the members of groups do after the merges of a round: of a single group, or of all that are
        compared.
        """

    def without(self, member: int) -> str:
        """What to do about `member`, who has failed for good and is missed."""


def at_once(rounds: Rounds, post: Post) -> list[Assignment]:
    """What a single post decides; nothing where a round ends."""
    if rounds.end_with(post.generation):
        return []
    followers = rounds.followers(post) if post.generation == rounds.start else {}
    started = [
        Assignment(member, post.generation, post.member, hp, post.generation, "the common start")
        for member, hp in followers.items()
    ]
    return [go_on(post), *started]


def mergeable(
    rounds: Rounds,
    group: int,
    generation: int,
    posts: Mapping[int, Post],
    gone: Collection[int],
    lost: Collection[int],
) -> Merge | None:
    """The merge of a group's round once all have posted but for those excused; at least one has to."""
    members, excused = rounds.members_of(group), rounds.excused(gone, lost)
    posted = [posts[member] for member in members if member in posts]
    if not posted or any(member not in posts and member not in excused for member in members):
        return None
    return Merge(group, generation, tuple(rounds.in_order(posted)))


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
        return Post(merge.group, merge.generation, outcome.numbers[self.score], 0.0, hp, merge.posts[0].step)

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
        return (
            f"member {member} has failed for good, and its partition is missing: run the same command again, "
            "or let old partitions be kept (PartitionParallel(lost='keep'))"
        )

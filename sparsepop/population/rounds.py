"""Rounds of parallel grow-and-prune: who starts from whom, whose partitions are merged, and who goes on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sparsepop.experiment import PARTITION, PartitionParallel
from sparsepop.population.messages import Assignment, Post, go_on


@dataclass(frozen=True)
class Rounds:
    """When the rounds of a population are: the first begins after the generation `start` (0: at once), the
    last ends with the generation `last`."""

    search: PartitionParallel
    start: int
    last: int

    def group_of(self, member: int) -> int:
        return member // self.search.parts

    def members_of(self, group: int) -> range:
        """In order of their partitions."""
        return range(group * self.search.parts, (group + 1) * self.search.parts)

    def leader_of(self, member: int) -> int:
        """Whose state `member` starts from."""
        return self.members_of(self.group_of(member))[0]

    def end_with(self, generation: int) -> bool:
        """Whether `generation` is a round."""
        return self.start < generation <= self.last


@dataclass(frozen=True)
class Merge:
    """The round of a group that can be merged: the posts of those who have finished it, in order of their
    partitions; the old partitions of all others are kept."""

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


def at_once(rounds: Rounds, post: Post) -> list[Assignment]:
    """What a single post decides; nothing where a round ends.

    Where the rounds begin all members of a group take their leader's state: partitions that were trained from
    different networks do not fit together.
    """
    if rounds.end_with(post.generation):
        return []
    if post.generation != rounds.start:
        return [go_on(post)]
    others = rounds.members_of(rounds.group_of(post.member))[1:]
    return [go_on(post), *(_start(rounds, post, member) for member in others)]


def mergeable(
    rounds: Rounds, group: int, generation: int, posts: Mapping[int, Post], excused: Collection[int]
) -> Merge | None:
    """The merge of a group's round once all its members have posted it, but for those `excused`; at least one
    has to."""
    members = rounds.members_of(group)
    posted = tuple(posts[member] for member in members if member in posts)
    if not posted or any(member not in posts and member not in excused for member in members):
        return None
    return Merge(group, generation, posted)


def after(rounds: Rounds, merge: Merge, outcome: Outcome, running: Collection[int]) -> list[Assignment]:
    """What all members of the group do after a merge: take the merged network; after the last round the first
    of those `running` goes on alone, unless all are to fine-tune."""
    members = rounds.members_of(merge.group)
    alone = merge.generation == rounds.last and rounds.search.fine_tune == "first"
    first = next((member for member in members if member in running), members[0])
    payer = merge.posts[0].member
    step = merge.posts[0].step
    return [
        Assignment(
            member,
            merge.generation,
            None,
            {**merge.posts[0].hp, PARTITION: number},
            None,
            f"round up to step {step}",
            group=merge.group,
            ends=alone and member != first,
            numbers={
                **outcome.numbers,
                "bytes_up": float(outcome.sent.get(member, 0)),
                "flops": outcome.flops if member == payer else 0.0,
            },
        )
        for number, member in enumerate(members)
    ]


def _start(rounds: Rounds, post: Post, member: int) -> Assignment:
    hp = {**post.hp, PARTITION: member % rounds.search.parts}
    return Assignment(member, post.generation, post.member, hp, post.generation, "the common start")

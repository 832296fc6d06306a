"""Rounds of a population that is merged now and then: who starts from whom, what is merged, who takes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sparsepop.population.messages import Assignment, Post, go_on


@dataclass(frozen=True)
class Merge:
    """The round of a group that can be merged: the posts of those who have finished it, in the order in which
    they are merged. `begun_from`: the group whose merged network the round began with, where not its own.
    """

    group: int
    generation: int
    posts: tuple[Post, ...]
    begun_from: int | None = None

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

"""A member's side of the exchange: posts and assignments, with states through the object store."""

from __future__ import annotations

from typing import Any, Protocol

import ray

from sparsepop.member import State
from sparsepop.population.messages import Assignment, Post
from sparsepop.population.snapshot import from_arrays, to_arrays

PATIENCE = 5.0  # seconds that a member waits for the others before it offers its place to a waiting member


class Client(Protocol):
    """What a trial asks of the exchange."""

    def post(self, post: Post, state: State | None) -> None:
        """Say what a member has reached; its state is on storage, and given here where others may want it."""

    def ask(self, member: int, generation: int) -> tuple[Assignment, State | None] | None:
        """The assignment after `generation`, with the donor's state, or the merged network as it was packed,
        unless it has to come from storage; None when the others take long."""

    def decided(self, member: int, generation: int) -> bool:
        """Whether `ask` has an answer; False when the others take long."""

    def newest(self, member: int) -> int:
        """The newest generation that `member` has posted; -1 before the first."""


class ActorClient:
    """A `Client` of the exchange actor, which may take `patience` seconds for each answer."""

    def __init__(self, actor: Any, patience: float = PATIENCE) -> None:
        self.actor = actor
        self.patience = patience

    def post(self, post: Post, state: State | None) -> None:
        reference = _shared(state) if state is not None else []
        ray.get(self.actor.post.remote(post, reference))

    def ask(self, member: int, generation: int) -> tuple[Assignment, State | None] | None:
        answer = ray.get(self.actor.ask.remote(member, generation, self.patience))
        if answer is None:
            return None
        assignment, reference = answer
        return assignment, fetched(reference)

    def decided(self, member: int, generation: int) -> bool:
        return bool(ray.get(self.actor.decided.remote(member, generation, self.patience)))

    def newest(self, member: int) -> int:
        return int(ray.get(self.actor.newest.remote(member)))


def _shared(state: State) -> list[Any]:
    """A reference to a copy of `state`; none where the object store is full: storage has it too."""
    try:
        return [ray.put(to_arrays(state))]
    except ray.exceptions.RayError:
        return []


def fetched(reference: list[Any]) -> State | None:
    """What a reference holds; None without one, or where that is gone."""
    if not reference:
        return None
    try:
        return from_arrays(ray.get(reference[0]))
    except ray.exceptions.RayError:  # the process that put it is gone
        return None

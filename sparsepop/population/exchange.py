"""The actor that members post to and ask: a `Board` in its own process, with references to posted states."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sparsepop.experiment import PBT
from sparsepop.population.board import Board, State
from sparsepop.population.rules import Assignment, Post
from sparsepop.population.states import StateFiles
from sparsepop.storage import Storage

Reference = list[Any]  # a list around an ObjectRef, so that Ray passes the reference itself; [] without one


class Exchange:
    """Answers `ask` as soon as the board can, keeps the references of states that somebody may still take,
    and deletes the states that nobody can.

    A restarted actor finds posts and decisions on storage; the references are gone then, and members load
    from storage.
    """

    def __init__(self, root: str, search: PBT, members: list[int], mode: str, seed: int) -> None:
        storage = Storage(root)
        self._board = Board(storage, search, members, mode, seed)
        self._files = StateFiles(storage)
        self._stored = self._files.all()
        self._references: dict[State, Reference] = {}
        self._changed = asyncio.Condition()

    async def post(self, post: Post, reference: Reference) -> None:
        """Note a post and the reference to its state, which is on storage already; wakes those who wait."""
        self._board.post(post)
        self._stored.add((post.member, post.generation))
        if reference:
            self._references[post.member, post.generation] = reference
        self._forget(self._board.needed_states())
        await self._wake()

    async def ask(self, member: int, generation: int, patience: float) -> tuple[Assignment, Reference] | None:
        """The assignment after `generation` with the reference to its donor's state ([]: take it from
        storage); None when others have not posted within `patience` seconds."""
        async with self._changed:
            with suppress(asyncio.TimeoutError):
                answered = self._changed.wait_for(lambda: self._board.assignment(member, generation))
                await asyncio.wait_for(answered, patience)
        assignment = self._board.assignment(member, generation)
        if assignment is None:
            return None
        if assignment.donor is None or assignment.donor_generation is None:
            return assignment, []
        return assignment, self._references.get((assignment.donor, assignment.donor_generation), [])

    async def newest(self, member: int) -> int:
        """The newest generation that a member has posted; -1 before the first."""
        return self._board.newest(member)

    async def retire(self, member: int) -> None:
        """Stop waiting for a member that failed for good."""
        self._board.retire(member)
        await self._wake()

    def _forget(self, needed: set[State]) -> None:
        self._references = {key: kept for key, kept in self._references.items() if key in needed}
        for member, generation in self._stored - needed:
            # a newer one was saved by a run that was killed before it could post
            if generation < self._board.newest(member):
                self._files.delete(member, generation)
                self._stored.discard((member, generation))

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def start_exchange(root: str, search: PBT, members: list[int], mode: str, seed: int) -> Any:
    """The handle of a new exchange actor, which restarts by itself; calls are repeated until it answers."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=1000)(Exchange)
    # beside the driver, whose node is the last that a cluster loses
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return actor.options(scheduling_strategy=here).remote(root, search, members, mode, seed)

"""The actor that members post to and ask: a `Board` in a process of its own, with references to the posted states."""

from __future__ import annotations

import asyncio
from typing import Any

import ray

from sparsepop.experiment import Search
from sparsepop.population.board import Board
from sparsepop.population.rules import Assignment, Post
from sparsepop.population.states import StateStore
from sparsepop.storage import Storage

Reference = list[Any]  # a list around an ObjectRef, so that Ray passes the reference itself; [] when there is none


class Exchange:
    """Answers `ask` when the board can; keeps the newest state reference of each member alive.

    A restarted actor finds posts and decisions on storage; the references are gone then, and members load from storage.
    """

    def __init__(self, root: str, search: Search, members: list[int], mode: str, seed: int) -> None:
        storage = Storage(root)
        self._board = Board(storage, search, members, mode, seed)
        self._states = StateStore(storage)
        self._references: dict[tuple[int, int], Reference] = {}
        self._changed = asyncio.Condition()

    async def post(self, post: Post, reference: Reference) -> None:
        """Note a post and the reference to its state; wakes those who wait for it."""
        self._board.post(post)
        self._references[post.member, post.generation] = reference
        needed = self._board.needed_states()
        self._references = {key: kept for key, kept in self._references.items() if key in needed}
        self._states.prune(needed)
        await self._wake()

    async def ask(self, member: int, generation: int, patience: float) -> tuple[Assignment, Reference] | None:
        """The assignment after `generation` with the reference to its donor's state ([]: take it from storage); None when others
        have not posted within `patience` seconds."""
        async with self._changed:
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(lambda: self._board.ask(member, generation) is not None), patience
                )
            except asyncio.TimeoutError:
                return None
        assignment = self._board.ask(member, generation)
        assert assignment is not None
        donor = (assignment.donor, assignment.donor_generation)
        return assignment, self._references.get(donor, [])  # type: ignore[arg-type]

    async def retire(self, member: int) -> None:
        """Stop waiting for a member that failed for good."""
        self._board.retire(member)
        await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def start_exchange(root: str, search: Search, members: list[int], mode: str, seed: int) -> Any:
    """The handle of a new exchange actor; it restarts by itself, and calls to it are repeated until it answers."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=1000)(Exchange)
    return actor.remote(root, search, members, mode, seed)

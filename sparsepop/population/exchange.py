"""The actor that members post to and ask: a `Board` in its own process, with references to posted states."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sparsepop.experiment import PBT
from sparsepop.population.board import Board, State
from sparsepop.population.rules import Assignment, Post
from sparsepop.population.states import StateFiles
from sparsepop.storage import Storage

WRITERS = 32  # files that are written or deleted at a time
CALLS = 10_000  # calls that may wait at a time: every member's `ask`, and posts must still get through
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
        self._stored: defaultdict[int, set[int]] = defaultdict(set)  # generations by member
        for member, generation in self._files.all():
            self._stored[member].add(generation)
        self._references: dict[State, Reference] = {}
        self._threads = ThreadPoolExecutor(WRITERS)
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settling = asyncio.Lock()
        self._waiting: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)  # by generation

    async def post(self, post: Post, reference: Reference) -> None:
        """Note a post and the reference to its state, which is on storage already; wakes those who wait."""
        async with self._turns[post.member]:  # a repeated post waits for the first one's decision
            if not self._board.known(post):
                await self._in_thread(self._board.keep, post)
                self._board.note(post)
                await self._decide(post)
        if reference:
            self._references[post.member, post.generation] = reference
        self._stored[post.member].add(post.generation)
        await self._forget(post.member)
        self._wake()

    async def ask(self, member: int, generation: int, patience: float) -> tuple[Assignment, Reference] | None:
        """The assignment after `generation` with the reference to its donor's state ([]: take it from
        storage); None when others have not posted within `patience` seconds."""
        if self._board.assignment(member, generation) is None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._waiting[generation].wait(), patience)
        if self._board.assignment(member, generation) is None:
            await self._catch_up()
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
        """Stop waiting for a member that failed for good; OSError where storage has no room for that."""
        async with self._settling:
            self._board.retire(member)
        self._wake()

    async def _catch_up(self) -> None:
        """Decide what a retirement made ripe and storage had no room for then."""
        async with self._settling:
            for tag, decided in self._board.ripe():
                await self._in_thread(self._board.journal, tag, decided)
                self._board.enter(decided)
        self._wake()

    async def _decide(self, post: Post) -> None:
        """Decide what is due, on storage first; one synchronous generation is decided by one post."""
        async with self._settling if self._board.search.synchronous else nullcontext():
            for tag, decided in [] if self._board.known(post) else self._board.due(post):
                await self._in_thread(self._board.journal, tag, decided)
                self._board.enter(decided)

    async def _forget(self, member: int) -> None:
        """Drop what nobody can take any more, of `member` and of what has been released."""
        needed = self._board.needed
        mine = {(member, generation) for generation in self._stored[member]}
        unneeded = [state for state in mine | self._board.released() if not needed(state)]
        for owner, generation in unneeded:
            self._references.pop((owner, generation), None)
            # a newer one was saved by a run that was killed before it could post
            if generation in self._stored[owner] and generation < self._board.newest(owner):
                self._stored[owner].discard(generation)
                await self._in_thread(self._files.delete, owner, generation)

    async def _in_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        """Wait for storage without keeping the others waiting."""
        await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _wake(self) -> None:
        for generation in [each for each in self._waiting if self._board.settled(each)]:
            self._waiting.pop(generation).set()


def start_exchange(root: str, search: PBT, members: list[int], mode: str, seed: int) -> Any:
    """The handle of a new exchange actor, which restarts by itself; calls are repeated until it answers."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=CALLS)(Exchange)
    # beside the driver, whose node is the last that a cluster loses
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return actor.options(scheduling_strategy=here).remote(root, search, members, mode, seed)

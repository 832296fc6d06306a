"""The actor that members post to and ask: a `Board` in its own process, with references to posted states."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any

import ray

from sparsepop.population.board import Board, Terms
from sparsepop.population.merger import Merger, Reference, on_this_node
from sparsepop.population.messages import Assignment, Post
from sparsepop.population.needs import StateKey
from sparsepop.population.rounds import Merge
from sparsepop.population.states import StateFiles, delete_merged
from sparsepop.storage import Storage

WRITERS = 32  # files that are written or deleted at a time
CALLS = 10_000  # calls that may wait at a time: every member's `ask`, and posts must still get through
MERGED = 2  # rounds whose merged networks are kept: somebody may be one behind


class Exchange:
    """Answers `ask` as soon as the board can, keeps the references of states that somebody may still take,
    and deletes the states that nobody can.

    A restarted actor finds posts and decisions on storage; the references are gone then, and members load
    from storage. Rounds are merged by what `merger` makes, in another process; what comes of it is journalled
    before anybody hears of it, and a merge that was interrupted is done again.
    """

    def __init__(self, root: str, terms: Terms, merger: Callable[[], Merger] | None = None) -> None:
        storage = Storage(root)
        self._storage = storage
        self._board = Board(storage, terms)
        self._merger = merger() if merger is not None else None
        self._merging: dict[int, asyncio.Task[None]] = {}  # by group; it stays where it failed
        self._merged: dict[tuple[int, int], Reference] = {}
        self._answered: set[StateKey] = set()
        self._files = StateFiles(storage)
        self._stored: defaultdict[int, set[int]] = defaultdict(set)  # generations by member
        for member, generation in self._files.all():
            self._stored[member].add(generation)
        self._references: dict[StateKey, Reference] = {}
        self._threads = ThreadPoolExecutor(WRITERS)
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._settling = asyncio.Lock()
        self._waiting: defaultdict[StateKey, asyncio.Event] = defaultdict(asyncio.Event)

    async def post(self, post: Post, reference: Reference) -> None:
        """Note a post and the reference to its state, which is on storage already; wakes those who wait."""
        if reference:
            self._references[post.member, post.generation] = reference
        async with self._turns[post.member]:  # a repeated post waits for the first one's decision
            if not self._board.known(post):
                await self._in_thread(self._board.keep, post)
                self._board.note(post)
                await self._decide(post)
        self._stored[post.member].add(post.generation)
        await self._forget(post.member)
        self._start_merge(post.member)

    async def ask(self, member: int, generation: int, patience: float) -> tuple[Assignment, Reference] | None:
        """The assignment after `generation` with the reference to its donor's state, or to the merged network
        ([]: take it from storage); None when others have not posted within `patience` seconds.

        RuntimeError where somebody is missing for good, and whatever made a merge fail: the next question
        has it tried again.
        """
        before = self._board.assignment(member, generation)
        if before is not None and (member, before.generation) in self._answered:
            # it had gone on from here, and was killed
            self._board.lose(member, before.generation + 1)
        await self.decided(member, generation, patience)
        assignment = self._board.assignment(member, generation)
        if assignment is None:
            return None
        if self._board.rounds is not None:
            self._answered.add((member, assignment.generation))
        if assignment.group is not None:
            return assignment, self._merged.get((assignment.group, assignment.generation), [])
        if assignment.source is None:
            return assignment, []
        return assignment, self._references.get(assignment.source, [])

    async def decided(self, member: int, generation: int, patience: float) -> bool:
        """Whether `ask` has an answer within `patience` seconds; raises what it raises."""
        self._start_merge(member)
        self._check(member, generation)
        if self._board.assignment(member, generation) is None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._waiting[member, generation].wait(), patience)
        if self._board.assignment(member, generation) is None:
            await self._catch_up()
        return self._board.assignment(member, generation) is not None

    async def newest(self, member: int) -> int:
        """The newest generation that a member has posted; -1 before the first."""
        return self._board.newest(member)

    async def retire(self, member: int) -> None:
        """Stop waiting for a member that failed for good; OSError where storage has no room for that."""
        self._board.retire(member)  # first: where storage is why it failed, this run goes on without it
        await self._catch_up()
        self._start_merge(member)

    async def _catch_up(self) -> None:
        """Write retirements, and decide what they made ripe, that storage had no room for then."""
        await self._in_thread(self._board.keep_retired)  # outside the lock: posts need not wait for it
        async with self._settling:
            for tag, decided in self._board.ripe():
                await self._announce(tag, decided)

    async def _decide(self, post: Post) -> None:
        """Decide what is due, on storage first; one synchronous generation is decided by one post."""
        async with self._settling if self._board.together else nullcontext():
            for tag, decided in [] if self._board.known(post) else self._board.due(post):
                await self._announce(tag, decided)

    def _start_merge(self, member: int) -> None:
        """Have the round of `member`'s group merged if it can be, once."""
        merge = self._board.merge(member)
        if merge is not None and self._merger is not None and merge.group not in self._merging:
            self._merging[merge.group] = asyncio.ensure_future(self._merge(self._merger, merge))

    async def _merge(self, merger: Merger, merge: Merge) -> None:
        sent = [self._references.get((post.member, post.generation), []) for post in merge.posts]
        outcome, reference = await merger(merge, sent)
        self._merged[merge.key] = reference
        async with self._settling:  # groups that are compared are decided by the last one's merge
            for tag, decided in self._board.merged(merge, outcome):
                await self._announce(tag, decided)
        old = merge.generation - MERGED
        for group, generation in list(self._merged):
            if group == merge.group and generation <= old:
                del self._merged[group, generation]
        spared = self._board.merged_from(merge.group)
        with suppress(OSError):  # tried again after the next round
            await self._in_thread(delete_merged, self._storage, merge.group, old, spared)
        del self._merging[merge.group]

    def _check(self, member: int, generation: int) -> None:
        """Raise what stands in the way of an answer."""
        rounds = self._board.rounds
        if rounds is None:
            return
        task = self._merging.get(group := rounds.group_of(member))
        if task is not None and task.done():
            del self._merging[group]
            task.result()
        if (missing := self._board.missing(member, generation)) is not None:
            raise RuntimeError(rounds.without(missing))

    async def _forget(self, member: int) -> None:
        """Drop what nobody can take any more, of `member` and of what has been released; where storage does
        not let go of a state, that is tried again after its owner's next post."""
        needs = self._board.needs
        mine = {(member, generation) for generation in self._stored[member]}
        unneeded = [state for state in mine | needs.take_released() if state not in needs]
        for state in unneeded:
            self._references.pop(state, None)
        with suppress(OSError):
            for owner, generation in unneeded:
                # a newer one was saved by a run that was killed before it could post
                if generation in self._stored[owner] and generation < self._board.newest(owner):
                    await self._in_thread(self._files.delete, owner, generation)
                    self._stored[owner].discard(generation)

    async def _in_thread(self, call: Callable[..., None], *arguments: Any) -> None:
        """Wait for storage without keeping the others waiting."""
        await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _announce(self, tag: str, decided: list[Assignment]) -> None:
        """Journal decisions, then answer with them."""
        self._board.expect(decided)
        await self._in_thread(self._board.journal, tag, decided)
        self._board.enter(decided)
        self._wake((each.member, each.generation) for each in decided)

    def _wake(self, states: Iterable[StateKey]) -> None:
        for state in states:
            if state in self._waiting:
                self._waiting.pop(state).set()


def exchange_actor() -> Any:
    """The class of an actor that restarts by itself; `remote` starts it, and calls are repeated until it
    answers."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=CALLS)(Exchange)
    return on_this_node(actor)  # beside the driver, whose node is the last that a cluster loses

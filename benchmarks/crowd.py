"""Members that train nothing: each writes what a member writes, posts and asks; few processes drive all."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import ray

from benchmarks.measure import Spread
from sparsepop.experiment import PBT
from sparsepop.population.board import Terms
from sparsepop.population.exchange import CALLS, Exchange
from sparsepop.population.messages import Post
from sparsepop.population.states import StateFiles
from sparsepop.results import Writer
from sparsepop.space import Domain, LogUniform, Uniform, sample, stable_rng
from sparsepop.storage import Storage

DRIVERS = 2  # processes that drive all members
LAYERS = 20  # rows of `layers` in a report, as many as ResNet-20 has
AT_A_TIME = 8  # members of a driver that write their own files at a time
PATIENCE = 600.0
SPACE: dict[str, Domain] = {
    "lr": LogUniform(1e-3, 1.0),
    "weight_decay": LogUniform(1e-5, 1e-2),
    "fraction": Uniform(0.1, 0.5),
    "momentum": Uniform(0.8, 0.99),
}


@dataclass(frozen=True)
class Case:
    """One population: where it lies, how large it is, how it exchanges, and the bytes of a member's state."""

    root: str
    members: int
    synchronous: bool
    generations: int
    state_bytes: int

    @property
    def search(self) -> PBT:
        return PBT(SPACE, self.members, synchronous=self.synchronous)


@dataclass(frozen=True)
class Measured:
    """Seconds of a generation from the first post to the last answer, seconds of members' own files (rows and
    states), CPU seconds of the exchange in a generation, seconds until a new exchange on the same storage
    answers, and the most resident bytes that the old one had."""

    control: Spread
    files: Spread
    cpu: float
    restart: float
    memory: float


class Watched(Exchange):
    """The exchange, which also says what its process uses."""

    async def used(self) -> tuple[float, float]:
        """CPU seconds so far, and resident bytes at most."""
        return time.process_time(), 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Crowd:
    """One process that drives some of the members."""

    def __init__(self, actor: Any, root: str, members: Sequence[int], state_bytes: int) -> None:
        self.actor, self.storage, self.members = actor, Storage(root), members
        self.states, self.state = StateFiles(self.storage), os.urandom(state_bytes)
        self.writers = {member: Writer(self.storage, member, 0) for member in members}
        self.hp = {member: sample(SPACE, stable_rng("crowd", member)) for member in members}
        self.references: dict[int, list[Any]] = {}

    async def own_files(self, generation: int) -> float:
        """Rows and states of a generation, and copies of the states in the object store; seconds."""
        began, free = time.perf_counter(), asyncio.Semaphore(AT_A_TIME)

        async def one(member: int) -> None:
            async with free:
                await asyncio.to_thread(self._write, member, generation)

        await asyncio.gather(*map(one, self.members))
        for member in self.members:
            self.references[member] = [ray.put(np.frombuffer(self.state, np.uint8))]
        return time.perf_counter() - began

    def _write(self, member: int, generation: int) -> None:
        writer = self.writers[member]
        row = {"validation_accuracy": 0.5, "density": 0.1, "alive": 5000, "prunable": 50000, "seconds": 1.0}
        writer.add("reports", generation=generation, step=100 * generation, score=0.5, **row)
        for layer in range(LAYERS):
            name = f"layer{layer}"
            writer.add(
                "layers", generation=generation, step=100 * generation, layer=name, size=2500, alive=250
            )
        writer.flush(f"g{generation:04d}")
        self.states.write(member, generation, self.state)

    async def exchange(self, generation: int) -> float:
        """All members post and ask at once; seconds."""
        began = time.perf_counter()
        await asyncio.gather(*(self._one(member, generation) for member in self.members))
        return time.perf_counter() - began

    async def _one(self, member: int, generation: int) -> None:
        score = stable_rng("score", member, generation).random()
        post = Post(member, generation, score, 0.1, self.hp[member], 100 * generation)
        await self.actor.post.remote(post, self.references[member])
        assignment, _ = await self.actor.ask.remote(member, generation, PATIENCE)
        self.hp[member] = dict(assignment.hp)


def measure(case: Case) -> Measured:
    """Run a population for a generation that is not counted, and for the others."""
    storage = Storage(case.root).child(uuid4().hex)
    actor = _exchange(case, storage.root)
    shares = [list(range(case.members))[place::DRIVERS] for place in range(DRIVERS)]
    crowd = ray.remote(num_cpus=0)(Crowd)
    crowds = [crowd.remote(actor, storage.root, share, case.state_bytes) for share in shares]
    files, control, used = [], [], []
    for generation in range(1, case.generations + 2):
        files.append(max(ray.get([each.own_files.remote(generation) for each in crowds])))
        before, _ = ray.get(actor.used.remote())
        control.append(max(ray.get([each.exchange.remote(generation) for each in crowds])))
        after, memory = ray.get(actor.used.remote())
        used.append(after - before)
    for each in (actor, *crowds):
        ray.kill(each)
    restart = _restart(case, storage.root)
    storage.delete_tree()
    return Measured(Spread.of(control[1:]), Spread.of(files[1:]), Spread.of(used[1:]).median, restart, memory)


def _restart(case: Case, root: str) -> float:
    """Seconds that a new board takes to read everything, in this process."""
    began = time.perf_counter()
    Exchange(root, Terms(case.search, range(case.members)))
    return time.perf_counter() - began


def _exchange(case: Case, root: str) -> Any:
    actor = ray.remote(num_cpus=0, max_concurrency=CALLS)(Watched)
    return actor.remote(root, Terms(case.search, range(case.members)))

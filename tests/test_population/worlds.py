"""Small populations, and a population in one process: the real trials, exchange and storage, without Ray."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pandas as pd
import pytest
import torch

from sparsepop.experiment import PBT, Exchanging, Experiment, Resources, Search
from sparsepop.member import State
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.population.board import Terms
from sparsepop.population.exchange import Exchange
from sparsepop.population.job import Job
from sparsepop.population.launch import unfinished
from sparsepop.population.merging import merge_round
from sparsepop.population.messages import Assignment, Post
from sparsepop.population.rounds import Merge, Outcome
from sparsepop.population.timetable import rounds_of
from sparsepop.population.trial import MemberTrial
from sparsepop.recipe import Recipe
from sparsepop.results import read
from sparsepop.schedule import Cosine
from sparsepop.space import Domain, LogUniform, Uniform
from sparsepop.storage import Storage

STEPS, GENERATION = 32, 8
SPACE: dict[str, Domain] = {"lr": LogUniform(1e-3, 0.3), "fraction": Uniform(0.1, 0.5)}


def recipe(hp: dict[str, Any]) -> Recipe:
    methods = rigl(0.1, STEPS, fraction=hp["fraction"], interval=3)
    optimizer = SGD(lr=Cosine(hp["lr"], 0.0, STEPS), momentum=0.9)
    return Recipe("lenet-300-100", STEPS, methods, optimizer, batch=32)


def experiment(search: Search | None = None, **changes: Any) -> Experiment:
    """Three members under synchronous PBT, four generations of eight steps."""
    search = search or PBT(SPACE, members=3, quantile=0.34)
    settings: dict[str, Any] = {"recipe": recipe, "data": "digits", "resources": Resources(cpus=1), **changes}
    return Experiment(name="small", search=search, generation=GENERATION, **settings)


class Killed(BaseException):
    """The process ends here."""


class LocalClient:
    """The exchange in this process. One member computes at a time (torch's generator is one for all threads);
    whoever waits for the others hands the baton on."""

    def __init__(self, exchange: Exchange | None, through_memory: bool = True) -> None:
        self.exchange = exchange
        self.through_memory = through_memory
        self.baton = threading.Lock()
        self.killed = threading.Event()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _call(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self.loop).result(30)

    def post(self, post: Post, state: State | None) -> None:
        assert self.exchange is not None
        reference = [copy.deepcopy(state)] if self.through_memory and state is not None else []
        self._call(self.exchange.post(post, reference))

    def decided(self, member: int, generation: int) -> bool:
        assert self.exchange is not None
        return bool(self._call(self.exchange.decided(member, generation, 0.05)))

    def newest(self, member: int) -> int:
        assert self.exchange is not None
        return int(self._call(self.exchange.newest(member)))

    def ask(self, member: int, generation: int) -> tuple[Assignment, State | None] | None:
        assert self.exchange is not None
        self.baton.release()
        try:
            answer = self._call(self.exchange.ask(member, generation, 0.05))
        finally:
            self.baton.acquire()
        if self.killed.is_set():
            raise Killed
        return None if answer is None else (answer[0], answer[1][0] if answer[1] else None)


class World:
    """One run of an experiment, to its end or to where it is killed."""

    def __init__(self, experiment: Experiment, storage: Storage, *, through_memory: bool = True) -> None:
        self.experiment = experiment
        self.storage = storage
        search = experiment.search
        members = [start.member for start in unfinished(experiment, storage)]
        rounds, exchange = rounds_of(experiment), None
        if isinstance(search, Exchanging):
            terms = Terms(search, members, experiment.mode, experiment.seed, rounds)
            exchange = Exchange(storage.root, terms, lambda: self.merge)
        self.client = LocalClient(exchange, through_memory)
        client = self.client if exchange else None
        self.job = Job(experiment, storage.root, client, 1, "cpu", rounds=rounds)
        self.killed_together = False
        self.told: list[dict[str, Any]] = []
        self.errors: dict[int, BaseException] = {}
        self.trials: dict[int, MemberTrial] = {}

    async def merge(self, merge: Merge, references: list[list[Any]]) -> tuple[Outcome, list[Any]]:
        """In a thread of its own, while all members wait."""

        def work() -> tuple[Outcome, State]:
            with self.client.baton:
                return merge_round(self.job, merge, [each[0] if each else None for each in references])

        outcome, merged = await asyncio.get_running_loop().run_in_executor(None, work)
        return outcome, [merged] if self.client.through_memory else []

    def run(self, hook: Callable[[MemberTrial, dict[str, Any]], None] = lambda trial, result: None) -> World:
        """Train every member that is not done, each in a thread; `hook` sees what each says at a generation's
        end."""
        starts = unfinished(self.experiment, self.storage)
        threads = [threading.Thread(target=self._member, args=(start, hook), daemon=True) for start in starts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "deadlock"
        return self

    def _member(self, start: Any, hook: Callable[[MemberTrial, dict[str, Any]], None]) -> None:
        def tell(result: dict[str, Any]) -> None:
            if not result["waiting"]:
                self.told.append(result)
                hook(self.trials[start.member], result)

        torch.set_num_threads(1)  # holds for one thread alone
        with self.client.baton:
            try:
                self.trials[start.member] = MemberTrial(self.job, start, tell)
                self.trials[start.member].run()
            except BaseException as error:
                self.errors[start.member] = error
                if isinstance(error, Killed) and self.killed_together:
                    self.client.killed.set()


def without_times(frame: pd.DataFrame, drop: Iterable[str] = ()) -> pd.DataFrame:
    """The columns that do not depend on the clock, nor on how often a member was started."""
    extra = {"time", "seconds", "attempt", "hardware", "git_sha", *drop}
    return frame.drop(columns=[name for name in frame if name in extra])


def assert_same_results(
    one: Storage, other: Storage, ignored: Iterable[str] = (), kinds: Iterable[str] = ()
) -> None:
    """Equal tables, but for times, attempts, `ignored` columns, and events of some `kinds`."""
    for table in ("members", "reports", "layers", "events"):
        left, right = (without_times(read(each, table), ignored) for each in (one, other))
        if table == "events":
            left = left[~left["kind"].isin(list(kinds))]
        keys = [name for name in ("member", "generation", "step", "layer", "kind") if name in left]
        left, right = (frame.sort_values(keys, ignore_index=True) for frame in (left, right))
        pd.testing.assert_frame_equal(left, right)


def cut(monkeypatch: pytest.MonkeyPatch, after: int, *, arrives: bool) -> None:
    """Let `after` writes through, then kill whoever writes; the write of that moment may still arrive."""
    original, left = Storage.write, [after]

    def write(self: Storage, path: str, data: bytes, exclusive: bool = False) -> None:
        left[0] -= 1
        if left[0] < 0:
            if left[0] == -1 and arrives:
                original(self, path, data, exclusive)
            raise Killed(path)
        original(self, path, data, exclusive)

    monkeypatch.setattr(Storage, "write", write)

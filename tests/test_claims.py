"""Claims in object stores: no order of two writers' requests lets both succeed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from types import SimpleNamespace
from typing import Any

from pyarrow import fs

from sparsepop.storage.objects import put_once

REQUESTS = 7  # of a writer that is alone


class Turns:
    """Lets two threads make one request at a time, in the order given."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = list(order)
        self.left = {0, 1}
        self.moved = threading.Condition()
        self.objects: dict[str, bytes] = {}
        self.requests = [0, 0]

    @contextmanager
    def turn(self, writer: int) -> Iterator[None]:
        with self.moved:
            assert self.moved.wait_for(lambda: self._next() == writer, timeout=30)
            self.requests[writer] += 1
            yield
            if self.order:
                self.order.pop(0)
            self.moved.notify_all()

    def leave(self, writer: int) -> None:
        with self.moved:
            self.left.discard(writer)
            self.moved.notify_all()

    def _next(self) -> int:
        while self.order and self.order[0] not in self.left:
            self.order.pop(0)
        return self.order[0] if self.order else min(self.left)


class Store:
    """What one writer sees of the objects, through pyarrow's interface."""

    def __init__(self, turns: Turns, writer: int) -> None:
        self.turns, self.writer = turns, writer

    def get_file_info(self, target: str) -> Any:
        with self.turns.turn(self.writer):
            there = target in self.turns.objects
        return SimpleNamespace(type=fs.FileType.File if there else fs.FileType.NotFound)

    def open_output_stream(self, target: str, compression: None) -> Any:
        return Output(self, target)

    @contextmanager
    def open_input_file(self, target: str) -> Iterator[Any]:
        with self.turns.turn(self.writer):
            data = self.turns.objects[target]
        yield SimpleNamespace(metadata=dict, read=lambda: data)


class Output:
    """An object that is there once it is closed."""

    def __init__(self, store: Store, target: str) -> None:
        self.store, self.target = store, target
        self.data = b""

    def __enter__(self) -> Output:
        return self

    def write(self, data: bytes) -> None:
        self.data += data

    def __exit__(self, *_: object) -> None:
        with self.store.turns.turn(self.store.writer):
            self.store.turns.objects[self.target] = self.data


def race(order: Sequence[int]) -> tuple[list[int], Turns]:
    """Who succeeds when requests are made in this order; afterwards whoever is left goes on."""
    turns, winners = Turns(order), []

    def write(writer: int) -> None:
        try:
            put_once(Store(turns, writer), "folder/claim", str(writer).encode())
            winners.append(writer)
        except FileExistsError:
            pass
        finally:
            turns.leave(writer)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return winners, turns


def test_one_after_the_other() -> None:
    winners, turns = race([0] * REQUESTS)
    assert winners == [0]
    assert turns.requests == [REQUESTS, 1]


def test_in_no_order_do_both_succeed() -> None:
    outcomes = set()
    for first in combinations(range(2 * REQUESTS), REQUESTS):
        winners, turns = race([0 if place in first else 1 for place in range(2 * REQUESTS)])
        assert len(winners) <= 1
        assert turns.objects.get("folder/claim") == (str(winners[0]).encode() if winners else None)
        outcomes.add(tuple(winners))
    assert outcomes == {(0,), (1,), ()}

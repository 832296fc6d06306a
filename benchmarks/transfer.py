"""One exchange between two actors, part by part, beside the bare transfer of as many bytes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import torch
from rich.console import Console

from benchmarks.measure import Spread, Times, show, take_turns, verdict
from sparsepop.experiment import PBT
from sparsepop.member import Member, Task
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.population.board import Terms
from sparsepop.population.client import ActorClient
from sparsepop.population.exchange import exchange_actor
from sparsepop.population.messages import Post
from sparsepop.population.snapshot import to_arrays
from sparsepop.recipe import Recipe
from sparsepop.space import LogUniform
from sparsepop.storage import Storage
from sparsepop.train import train_step

MODEL, TASK, STEPS = "resnet-18", Task((3, 32, 32), 10), 100_000
DONOR, RECEIVER = 0, 1
PARTS = ("donor: put and post", "receiver: ask and get", "receiver: restore")
BARE = ("bare: put", "bare: get", "bare: copy out")


class Party:
    """A member in its own process, one side of the exchange; each call returns the seconds of its parts."""

    def __init__(self, number: int, threads: int) -> None:
        torch.set_num_threads(threads)
        self.number = number
        self.recipe = Recipe(MODEL, STEPS, rigl(0.1, STEPS), SGD(lr=0.01, momentum=0.9), batch=2)
        self.member = Member.build(self.recipe, number, TASK)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, *TASK.shape, generator=generator)
        # one step, so that the momentum is there
        train_step(self.member, images, torch.randint(TASK.classes, (2,), generator=generator))
        self.kept: list[Any] = []

    def size(self) -> int:
        """Bytes of the arrays in this member's state."""
        return _nbytes(to_arrays(self.member.state()))

    def post(self, exchange: Any, generation: int) -> Times:
        """Ship the state and say so; the member with the lower number has the better score."""
        parts, client = Parts(), ActorClient(exchange)
        post = Post(self.number, generation, -float(self.number), 0.1, {"lr": 0.01}, self.member.step)
        parts.time("donor: put and post", lambda: client.post(post, self.member.state()))
        return parts.times

    def take(self, exchange: Any, generation: int) -> Times:
        """Ask, fetch what the donor shipped, and become it."""
        parts, client = Parts(), ActorClient(exchange)
        answer = parts.time("receiver: ask and get", lambda: client.ask(self.number, generation))
        if answer is None or answer[0].donor != DONOR or answer[1] is None:
            raise RuntimeError(
                f"member {DONOR} should have been the donor, with its state by reference: {answer}"
            )
        place, state = (self.recipe, self.number, TASK), answer[1]
        restored = parts.time("receiver: restore", lambda: Member.restore(*place, state))
        self.member = restored
        return parts.times

    def put_flat(self, size: int) -> tuple[Times, list[Any]]:
        """The transfer itself, first half: one buffer of `size` bytes."""
        parts, buffer = Parts(), np.ones(size, dtype=np.uint8)
        return parts.times, [parts.time("bare: put", lambda: ray.put(buffer))]

    def take_flat(self, reference: list[Any]) -> Times:
        """The transfer itself, second half: fetch the buffer and copy it to where it can be written."""
        parts = Parts()
        buffer = parts.time("bare: get", lambda: ray.get(reference[0]))
        # kept until the next turn, as the restored member is
        self.kept = [parts.time("bare: copy out", buffer.copy)]
        return parts.times


class Parts:
    """Seconds of the parts of something, by name."""

    def __init__(self) -> None:
        self.times: Times = {}

    def time(self, name: str, part: Callable[[], Any]) -> Any:
        """What `part` returns; how long it took is noted under `name`."""
        began = time.perf_counter()
        result = part()
        self.times.setdefault(name, []).append(time.perf_counter() - began)
        return result


def measure(folder: str, rounds: int) -> tuple[Times, int]:
    """Seconds of every part in every round, and the bytes that one exchange moves."""
    actor = ray.remote(num_cpus=1)(Party)
    donor, receiver = (actor.remote(number, 1) for number in (DONOR, RECEIVER))
    search = PBT({"lr": LogUniform(0.001, 0.1)}, members=2)
    root = Storage(folder).child("transfer").root
    exchange = exchange_actor().remote(root, Terms(search, [DONOR, RECEIVER]))
    size, times, generation = ray.get(donor.size.remote()), Times(), 0
    ray.get(receiver.size.remote())

    def swap() -> None:
        nonlocal generation
        generation += 1
        _add(times, ray.get(donor.post.remote(exchange, generation)))
        ray.get(receiver.post.remote(exchange, generation))
        _add(times, ray.get(receiver.take.remote(exchange, generation)))

    def move() -> None:
        put, reference = ray.get(donor.put_flat.remote(size))
        _add(times, put)
        _add(times, ray.get(receiver.take_flat.remote(reference)))

    warmup = 2
    take_turns({"swap": swap, "move": move}, rounds, warmup=warmup)
    for each in (donor, receiver, exchange):
        ray.kill(each)
    return {name: each[warmup:] for name, each in times.items()}, size


def report(console: Console, measured: tuple[Times, int], target: float) -> None:
    """Print the parts, their sums, and the difference of the sums."""
    times, size = measured
    rows = [[name, *_milliseconds(times[name])] for name in (*PARTS, *BARE)]
    whole, bare = (total(times, names) for names in (PARTS, BARE))
    beyond = [a - b for a, b in zip(whole, bare, strict=True)]
    rows += [["exchange, sum", *_milliseconds(whole)], ["bare transfer, sum", *_milliseconds(bare)]]
    rows += [["exchange beyond the transfer", *_milliseconds(beyond)]]
    ratio = Spread.of(a / b for a, b in zip(whole, bare, strict=True))
    rows += [["exchange / transfer (ratio)", *ratio.cells(2)]]
    title = f"One exchange of a {MODEL} with momentum and masks, {size / 2**20:.1f} MiB, {len(whole)} rounds"
    show(console, title, ("part", "ms (median)", "least", "most"), rows)
    console.print(f"beyond the transfer: {verdict(Spread.of(beyond).median * 1e3, target)} ms")


def total(times: Times, names: tuple[str, ...]) -> list[float]:
    """The sum of the named parts, round by round."""
    return [sum(parts) for parts in zip(*(times[name] for name in names), strict=True)]


def _milliseconds(seconds: list[float]) -> tuple[str, str, str]:
    return Spread.of(1e3 * each for each in seconds).cells(1)


def _add(times: Times, more: Times) -> None:
    for name, each in more.items():
        times.setdefault(name, []).extend(each)


def _nbytes(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    return sum(map(_nbytes, value.values())) if isinstance(value, dict) else 0

"""A population whose generations last as long as asked, and its members in plain loops without Ray."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from sparsepop.data import open_data
from sparsepop.experiment import PBT, Experiment, Resources
from sparsepop.member import Member, Task
from sparsepop.methods import rigl
from sparsepop.optim import SGD
from sparsepop.recipe import Recipe
from sparsepop.space import LogUniform
from sparsepop.train import train

MEMBERS, DATA, LOWEST, HIGHEST = 2, "digits", 0.001, 0.1
TASK = Task((1, 8, 8), 10)


@dataclass(frozen=True)
class Toy:
    """Members of `generations` generations of `every` steps: LeNet-300-100, RigL, digits, one thread each."""

    every: int
    generations: int

    @property
    def steps(self) -> int:
        return self.every * self.generations

    def recipe(self, hp: Mapping[str, Any]) -> Recipe:
        """The whole mapping from what is searched to a member."""
        return Recipe("lenet-300-100", self.steps, rigl(0.1, self.steps), SGD(lr=hp["lr"]), batch=64)

    def experiment(self) -> Experiment:
        """The toy as an experiment: after a generation the worse member exploits the better one."""
        search = PBT({"lr": LogUniform(LOWEST, HIGHEST)}, MEMBERS, quantile=0.5)
        return Experiment("toy", self.recipe, DATA, search, self.every, resources=Resources(cpus=1, gpus=0))


def calibrate(seconds: float, generations: int) -> Toy:
    """A toy whose generation takes about `seconds` where its members run side by side."""
    trial = Toy(round(200 * seconds), 1)
    return Toy(max(1, round(trial.every * seconds / time_alone(trial).seconds)), generations)


@dataclass(frozen=True)
class Alone:
    """Seconds of a generation without Ray, and the share of that time for which the process had a CPU."""

    seconds: float
    share: float


def time_alone(toy: Toy) -> Alone:
    """Plain training loops side by side, one process each: the slowest of them."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(MEMBERS)
    with ProcessPoolExecutor(MEMBERS, context, initializer=_meet_at, initargs=(together,)) as pool:
        calls = [pool.submit(_train_alone, toy, seed) for seed in range(MEMBERS)]
        wall, busy = max(call.result() for call in calls)
        return Alone(wall / toy.generations, busy / wall)


_BARRIER: Any = None


def _meet_at(barrier: Any) -> None:
    global _BARRIER
    _BARRIER = barrier
    # where a machine is busy, Linux shares it out by session, and Ray's processes have sessions of their own
    os.setsid()
    torch.set_num_threads(1)


def _train_alone(toy: Toy, seed: int) -> tuple[float, float]:
    recipe, data = toy.recipe({"lr": 0.01}), open_data(DATA)
    # a few steps of somebody else first, so that nobody's first calls are timed
    for _ in train(Member.build(recipe, seed, TASK), data, every=10, until=10):
        pass
    member = Member.build(recipe, seed, TASK)
    _BARRIER.wait(120)
    began, worked = time.perf_counter(), time.process_time()
    for _ in train(member, data, every=toy.every):
        pass
    return time.perf_counter() - began, time.process_time() - worked

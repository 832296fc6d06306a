"""A member inside a Tune trial: trains, saves, records, and exchanges at every generation's end."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from sparsepop.data import Data, open_data
from sparsepop.experiment import PBT, Experiment, Start, to_json
from sparsepop.member import Member, State, Task
from sparsepop.population.rules import Assignment, Post
from sparsepop.population.states import DamagedState, Saved, StateStore, from_arrays, to_arrays
from sparsepop.recipe import Recipe
from sparsepop.results import Writer
from sparsepop.storage import Storage
from sparsepop.train import Report, train

PATIENCE = 20.0  # seconds that a member waits for the others before it offers its place to a waiting member


@dataclass(frozen=True)
class Job:
    """What all trials of an experiment share: the experiment, where it is kept, and the exchange actor."""

    experiment: Experiment
    root: str
    data: str
    exchange: Any
    threads: int
    device: str


def exchanges(experiment: Experiment) -> bool:
    """Whether members of `experiment` ever take over each other's states."""
    return isinstance(experiment.search, PBT)


def run_member(config: dict[str, Any], job: Job) -> None:
    """The function that Tune runs: one member from its newest state to its end. Tune sees one result for each generation."""
    torch.set_num_threads(job.threads)
    start = job.experiment.starts()[config["member"]]
    MemberTrial(job, start).run()


class MemberTrial:
    """One attempt at training one member."""

    def __init__(self, job: Job, start: Start) -> None:
        self.job = job
        self.start = start
        self.storage = Storage(job.root)
        self.states = StateStore(self.storage)
        self.attempt = claim_attempt(self.storage, start.member)
        self.writer = Writer(self.storage, start.member, self.attempt)
        self.data: Data = cached_data(job.data, job.device)
        self.task = Task(self.data.shape, self.data.classes)
        self.hp = dict(start.hp)
        self.generation = 0
        self.donor: int | None = None
        self.spent_flops = 0.0
        self.member: Member

    def run(self) -> None:
        """Go on from the newest state, or start; return when the last report is written."""
        self.member = self._begin()
        self._record_status("started")
        if self.generation:
            self._exchange()
        every = self.job.experiment.generation
        while self.member.step < self.member.recipe.steps:
            for report in train(self.member, self.data, every=every, until=self.member.step + every):
                self._conclude(report)
            if self.member.step < self.member.recipe.steps:
                self._exchange()

    def _begin(self) -> Member:
        saved = self._newest_state()
        if saved is None:
            recipe: Recipe = self.job.experiment.recipe(dict(self.hp))
            return Member.build(recipe, self.start.seed, self.task, self.job.device)
        self.hp, self.generation, self.spent_flops = saved.hp, saved.generation, saved.spent_flops
        return self._adopt(saved.state, saved.seconds)

    def _adopt(self, state: State, seconds: float) -> Member:
        recipe: Recipe = self.job.experiment.recipe(dict(self.hp))
        member = Member.restore(recipe, self.start.seed, self.task, state, self.job.device)
        member.seconds = seconds
        # what this member has spent itself, whoever's weights it holds
        member.train_flops = self.spent_flops
        return member

    def _newest_state(self) -> Saved | None:
        for generation in self.states.generations(self.start.member):
            try:
                return self.states.load(self.start.member, generation)
            except DamagedState as error:
                self._event("damaged", message=str(error))
        return None

    def _conclude(self, report: Report) -> None:
        """A generation is over: its rows, its state and its post, in this order, then word to Tune."""
        self.generation += 1
        self.spent_flops = report.train_flops
        score = score_of(report, self.job.experiment.score)
        self._record(report, score)
        if report.final:
            self._record_status("done")
        else:
            self.writer.flush(f"g{self.generation:04d}")
            state = self.member.state()
            self.states.save(self._saved(state))
            self._post(report, score, state)
        tune.report(self._progress(report, score))

    def _saved(self, state: State) -> Saved:
        return Saved(
            self.start.member, self.generation, self.hp, state, self.member.seconds, self.spent_flops
        )

    def _post(self, report: Report, score: float, state: State) -> None:
        post = Post(self.start.member, self.generation, score, report.density, self.hp, report.step)
        # nothing would ever read the copy of a population that exchanges nothing
        reference = [ray.put(to_arrays(state))] if exchanges(self.job.experiment) else []
        ray.get(self.job.exchange.post.remote(post, reference))

    def _exchange(self) -> None:
        if not exchanges(self.job.experiment):
            return
        assignment, reference = self._ask()
        if assignment.donor is None:
            return
        state = self._donor_state(assignment, reference)
        before, old = self.member, self.hp
        self.hp, self.donor = dict(assignment.hp), assignment.donor
        self.member = self._adopt(state, before.seconds)
        self._event(
            "exploit",
            donor=assignment.donor,
            hp_before=json.dumps(to_json(old)),
            hp_after=json.dumps(to_json(self.hp)),
            overlap=overlap(before, self.member),
            message=assignment.reason,
        )

    def _ask(self) -> tuple[Assignment, list[Any]]:
        while True:
            call = self.job.exchange.ask.remote(self.start.member, self.generation, PATIENCE)
            answer = ray.get(call)
            if answer is not None:
                return answer
            tune.report({"member": self.start.member, "generation": self.generation, "waiting": True})

    def _donor_state(self, assignment: Assignment, reference: list[Any]) -> State:
        """The donor's state from the object store, or from storage where that copy is gone."""
        assert assignment.donor is not None and assignment.donor_generation is not None
        if reference:
            try:
                return from_arrays(ray.get(reference[0]))
            except ray.exceptions.ObjectLostError:
                pass
        return self.states.load(assignment.donor, assignment.donor_generation).state

    def _record(self, report: Report, score: float) -> None:
        self.writer.add("reports", generation=self.generation, score=score, **report_row(report))
        for layer in report.layers:
            row = {"layer": layer.name, "size": layer.size, "alive": layer.alive}
            self.writer.add("layers", generation=self.generation, step=report.step, **row)

    def _event(self, kind: str, **row: Any) -> None:
        step = self.member.step if hasattr(self, "member") else 0
        self.writer.add("events", generation=self.generation, step=step, kind=kind, **row)

    def _record_status(self, status: str) -> None:
        recipe = self.member.recipe
        self.writer.add(
            "members",
            status=status,
            step=self.member.step,
            recipe=json.dumps(to_json(recipe)),
            hp=json.dumps(to_json(self.hp)),
            seed=self.start.seed,
            git_sha=git_sha(),
            hardware=json.dumps(hardware(self.job.device)),
        )
        self.writer.flush(f"g{self.generation:04d}-{status}")

    def _progress(self, report: Report, score: float) -> dict[str, Any]:
        return {
            "member": self.start.member,
            "generation": self.generation,
            "step": report.step,
            "steps": self.member.recipe.steps,
            "score": score,
            "density": report.density,
            "donor": -1 if self.donor is None else self.donor,
            "seconds": report.seconds,
            "waiting": False,
            "final": report.final,
        }


def report_row(report: Report) -> dict[str, Any]:
    """A report as columns of the table `reports`."""
    same = ("step", "epoch", "seconds", "lr", "train_loss", "density", "alive", "prunable", "train_flops")
    more = ("inference_flops", "dense_flops", "bytes", "final")
    row = {name: getattr(report, name) for name in same + more}
    row |= {"validation_loss": report.validation.loss, "validation_accuracy": report.validation.accuracy}
    if report.test is not None:
        row |= {"test_loss": report.test.loss, "test_accuracy": report.test.accuracy}
    counts = dict(report.learnables)
    return row | {"others": sum(counts.values()), "learnables": counts, "numbers": dict(report.numbers)}


def score_of(report: Report, name: str) -> float:
    """The number that members are compared by: a column of `reports` or one of a method's numbers; ValueError when there is none."""
    row = report_row(report)
    value = row.get(name, report.numbers.get(name))
    if not isinstance(value, int | float):
        known = sorted(key for key, each in row.items() if isinstance(each, float)) + sorted(report.numbers)
        raise ValueError(f"no report has a score called {name!r}: choose one of {', '.join(known)}")
    return float(value)


def overlap(before: Member, after: Member) -> float:
    """The share of the weights alive in either member that are alive in both (the Jaccard index of their masks)."""
    both = either = 0
    for name, mask in before.masks.tensors.items():
        other = after.masks.tensors[name]
        both += int((mask & other).sum())
        either += int((mask | other).sum())
    return both / max(1, either)


def claim_attempt(storage: Storage, member: int) -> int:
    """A number for this attempt at `member` that no other attempt has or will have."""
    taken = storage.names(f"attempts/m{member:04d}")
    attempt = 1 + max((int(name) for name in taken), default=-1)
    while True:
        try:
            storage.write(f"attempts/m{member:04d}/{attempt:04d}", b"", exclusive=True)
            return attempt
        except FileExistsError:
            attempt += 1


@cache
def cached_data(where: str, device: str) -> Data:
    """One copy of a data set for each process."""
    return open_data(where, device)


@cache
def git_sha() -> str:
    """The commit that the package runs from; empty outside a repository."""
    folder = Path(__file__).resolve().parent
    call = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=False)
    return call.stdout.strip()


def hardware(device: str) -> dict[str, Any]:
    """What a member ran on."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    found = {"device": device, "name": name, "threads": torch.get_num_threads(), "host": platform.node()}
    return found | {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}

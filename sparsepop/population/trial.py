"""A member inside a Tune trial: trains, saves, records, and exchanges at every generation's end."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from ray import tune

from sparsepop.data import Data, open_data
from sparsepop.describe import to_json
from sparsepop.experiment import Experiment, Start
from sparsepop.member import Member, State, Task
from sparsepop.population.client import Client
from sparsepop.population.harvest import harvest
from sparsepop.population.records import Records, overlap, report_row
from sparsepop.population.rules import Assignment
from sparsepop.population.snapshot import DamagedState, Snapshot, decode, encode
from sparsepop.population.states import StateFiles
from sparsepop.storage import Storage
from sparsepop.train import Report, train

KEPT = 2  # newest states that a member which exchanges nothing keeps; the exchange keeps the others'


@dataclass(frozen=True)
class Job:
    """What all trials of an experiment share: the experiment, where it is kept, and the exchange (None where
    members never take over each other's states)."""

    experiment: Experiment
    root: str
    exchange: Client | None
    threads: int
    device: str


def run_member(config: dict[str, Any], job: Job) -> None:
    """The function that Tune runs: one member from its newest state to its end. Tune sees one result for each
    generation."""
    torch.set_num_threads(job.threads)
    gc.collect()  # in a process that another member has left
    start = job.experiment.starts()[config["member"]]
    MemberTrial(job, start, tune.report).run()


class MemberTrial:
    """One attempt at training one member.

    A generation ends in this order: rows, state, post; then word to Tune, then the exchange. So whatever the
    others may decide on is on storage, and an attempt that is cut off anywhere is repeated from the newest
    state with the same outcome.
    """

    def __init__(self, job: Job, start: Start, tell: Callable[[dict[str, Any]], None]) -> None:
        self.job = job
        self.start = start
        self.tell = tell
        self.storage = Storage(job.root)
        self.states = StateFiles(self.storage)
        self.records = self._records()
        self.data = cached_data(job.experiment.data, job.device)
        self.task = Task(self.data.shape, self.data.classes)
        self.hp = dict(start.hp)
        self.generation = 0
        self.donor: int | None = None
        self.spent_flops = 0.0
        self.member: Member

    def run(self) -> None:
        """Go on from the newest state, or start; return when the last report is written."""
        self._begin()
        while self.member.step < self.member.recipe.steps:
            self._conclude(next(train(self.member, self.data, every=self.job.experiment.generation)))
            if self.member.step < self.member.recipe.steps:
                self._exchange()

    def _begin(self) -> None:
        saved = self._newest_state()
        if saved is None:
            recipe = self.job.experiment.recipe(dict(self.hp))
            self.member = Member.build(recipe, self.start.seed, self.task, self.job.device)
            self._record_status("started")
            return
        self.hp, self.generation, self.spent_flops = dict(saved.hp), saved.generation, saved.spent_flops
        self._adopt(saved.state, saved.seconds)
        self._record_status("started")
        self._post(saved, share=False)  # once more, for the run may have ended before it got there
        self._exchange()

    def _newest_state(self) -> Snapshot | None:
        for generation in self.states.generations(self.start.member):
            try:
                return self._read_state(self.start.member, generation)
            except (DamagedState, FileNotFoundError) as error:
                self.records.event("damaged", generation, 0, message=f"{error}: going on from an older state")
        return None

    def _read_state(self, member: int, generation: int) -> Snapshot:
        try:
            return decode(self.states.read(member, generation))
        except DamagedState as error:
            raise DamagedState(f"{self.states.path(member, generation)} is damaged ({error})") from error

    def _adopt(self, state: State, seconds: float) -> None:
        recipe = self.job.experiment.recipe(dict(self.hp))
        self.member = Member.restore(recipe, self.start.seed, self.task, state, self.job.device)
        # what this member has spent itself, whoever's weights it holds
        self.member.seconds, self.member.train_flops = seconds, self.spent_flops

    def _conclude(self, report: Report) -> None:
        self.generation += 1
        self.spent_flops = report.train_flops
        score = score_of(report, self.job.experiment.score)
        self.records.report(self.generation, report, score)
        self.records.flush(f"g{self.generation:04d}")
        if report.final:
            harvest(self, report, score)
            self._record_status("done")
        else:
            self._save(report, score)
        self.tell(self._progress(report, score))

    def _save(self, report: Report, score: float) -> None:
        snapshot = Snapshot(
            member=self.start.member,
            generation=self.generation,
            step=report.step,
            score=score,
            density=report.density,
            hp=self.hp,
            state=self.member.state(),
            seconds=self.member.seconds,
            spent_flops=self.spent_flops,
        )
        self.states.write(self.start.member, self.generation, encode(snapshot))
        self._post(snapshot)
        if self.job.exchange is None:
            self.states.delete(self.start.member, self.generation - KEPT)

    def _post(self, snapshot: Snapshot, *, share: bool = True) -> None:
        if self.job.exchange is not None:
            self.job.exchange.post(snapshot.post, snapshot.state if share else None)

    def _exchange(self) -> None:
        if self.job.exchange is None:
            return
        assignment, state = self._ask(self.job.exchange)
        if assignment.donor is None or assignment.donor_generation is None:
            return
        try:
            if state is None:
                state = self._read_state(assignment.donor, assignment.donor_generation).state
        except (DamagedState, FileNotFoundError) as error:
            self._event("lost", donor=assignment.donor, message=f"{error}: going on without it")
            return
        self._take(state, assignment)

    def _ask(self, exchange: Client) -> tuple[Assignment, State | None]:
        while True:
            answer = exchange.ask(self.start.member, self.generation)
            if answer is not None:
                return answer
            self.tell({"member": self.start.member, "generation": self.generation, "waiting": True})

    def _take(self, state: State, assignment: Assignment) -> None:
        old, step, seconds = self.hp, self.member.step, self.member.seconds
        masks = self.member.masks.tensors
        del self.member  # a device may not hold two
        self.hp, self.donor = dict(assignment.hp), assignment.donor
        self._adopt(state, seconds)
        if self.member.step < step:
            # back in time, where members don't wait for each other: the rows beyond no longer hold
            self.records = self._records()
            self._record_status("started")
        self._event(
            "exploit",
            donor=assignment.donor,
            hp_before=json.dumps(to_json(old)),
            hp_after=json.dumps(to_json(self.hp)),
            overlap=overlap(masks, self.member.masks.tensors),
            message=assignment.reason,
        )

    def _records(self) -> Records:
        return Records(self.storage, self.start.member, self.start.seed, self.job.device)

    def _event(self, kind: str, **row: Any) -> None:
        self.records.event(kind, self.generation, self.member.step, **row)

    def _record_status(self, status: str) -> None:
        self.records.status(status, self.member, self.hp)
        self.records.flush(f"g{self.generation:04d}-{status}")

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


def score_of(report: Report, name: str) -> float:
    """The number that members are compared by: a column of `reports` or one of a method's numbers; ValueError
    when there is none."""
    row = report_row(report)
    value = row.get(name, report.numbers.get(name))
    if not isinstance(value, int | float):
        known = sorted(key for key, each in row.items() if isinstance(each, float)) + sorted(report.numbers)
        raise ValueError(f"no report has a score called {name!r}: choose one of {', '.join(known)}")
    return float(value)


@cache
def cached_data(where: str, device: str) -> Data:
    """One copy of a data set for each process."""
    return open_data(where, device)

"""A member inside a Tune trial: trains, saves, records, and exchanges at every generation's end."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from ray import tune

from sparsepop.describe import to_json
from sparsepop.experiment import Start
from sparsepop.member import ALONE, Member, State
from sparsepop.methods.base import Batches
from sparsepop.overlaps import overlap
from sparsepop.population.ancestry import LINEAGE, Lineage, handed_on, lineage_of
from sparsepop.population.client import Client
from sparsepop.population.harvest import harvest, harvest_early
from sparsepop.population.job import Job, cached_data, task_of
from sparsepop.population.messages import Assignment
from sparsepop.population.notice import leaving, own_node
from sparsepop.population.pulse import Pulse
from sparsepop.population.records import NoRecords, Records, report_row, score_of
from sparsepop.population.rounds_taken import (
    decline_merged,
    follows,
    stored,
    take_merged,
    take_start,
    to_share,
)
from sparsepop.population.snapshot import DamagedState, Snapshot, decode, encode
from sparsepop.population.states import StateFiles
from sparsepop.population.suggestions import start_of
from sparsepop.ranks import Ranks
from sparsepop.results.schema import DONOR_GENERATION
from sparsepop.storage import Storage
from sparsepop.train import Report, train

KEPT = 2  # newest states that a member which exchanges nothing keeps; the exchange keeps the others'
Tell = Callable[[dict[str, Any]], None]
Answer = tuple[Assignment, State | None]


def run_member(config: dict[str, Any], job: Job) -> None:
    """The function that Tune runs: one member from its newest state to its end. Tune sees one result for each
    generation."""
    job.settle()
    gc.collect()  # in a process that another member has left
    start = start_of(job.experiment, Storage(job.root), config["member"])
    if job.experiment.resources.workers > 1:
        # late, for it takes seconds to load
        from sparsepop.population.group import run_group

        run_group(job, start, tune.report)
        return
    torch.set_num_threads(job.threads)
    trial = MemberTrial(job, start, tune.report)
    with watched(trial, [own_node()]):
        trial.run()


class MemberTrial:
    """One attempt at training one member, in each of the processes that do it together; the leading one alone
    talks to storage, exchange and Tune.

    A generation ends in this order: rows, ticket, state, post; then word to Tune, then the exchange. So
    whatever the others may decide on is on storage, and an attempt that is cut off anywhere is repeated from
    the newest state with the same outcome.
    """

    def __init__(
        self,
        job: Job,
        start: Start,
        tell: Tell,
        ranks: Ranks = ALONE,
        gives_way: Callable[[], bool] = lambda: False,
    ) -> None:
        self.job = job
        self.start = start
        self.tell = tell
        self.beat: Callable[[], None] = lambda: None  # says that the member moves, to whoever watches it
        self.ranks = ranks
        self.gives_way = gives_way
        self.storage = Storage(job.root)
        self.states = StateFiles(self.storage)
        self.records = self._records()
        self.data: Batches = cached_data(job.experiment.data, job.device)
        self.task = task_of(job)
        self.hp = dict(start.hp)
        self.generation = 0
        self.donor: int | None = None
        self.spent_flops = 0.0
        self.lineage: Lineage | None = ((start.member, 0),)  # None: to be read off the tables
        self.ended = False  # before its recipe's last step: others go on with what it has learned
        self.network: Member | None = None  # none before it begins, nor while another's takes its place

    @property
    def member(self) -> Member:
        """The network in training, where there is one."""
        assert self.network is not None
        return self.network

    def run(self) -> bool:
        """Go on from the newest state, or start; True when the last report is written, False when the member
        has given its place away, to be run again."""
        going = self._begin()
        while going and not self.ended and self.member.step < self.member.recipe.steps:
            self._conclude(next(train(self.member, self.data, every=self.job.experiment.generation)))
            if self.member.step < self.member.recipe.steps:
                going = self._exchange()
        return going

    def save_early(self) -> bool:
        """Save in the middle of a generation, for the machine is to be taken away; False where nothing is to
        be saved: at its beginning, for an attempt from there repeats, and tells, what the exchange did, and
        after the last step, while the methods finish."""
        if not self.ranks.leads:
            return True
        step = self.member.step
        if step % self.job.experiment.generation == 0 or step == self.member.recipe.steps:
            return False
        self.member.book_seconds()
        snapshot = self._snapshot(self.member.step, math.nan)
        self.event("notice", message="the machine is to be taken away: saving early")
        # first: who goes on from the early state does not tell again what the exchange did before it
        self.records.flush(f"g{self.generation:04d}-early")
        self.states.write_early(self.start.member, encode(snapshot))
        return True

    def report_hang(self, message: str) -> None:
        """Record that this process makes no progress. Called from another thread, so with rows of its own."""
        records = Records(self.storage, self.start.member, self.start.seed, self.job.device)
        network = self.network  # once: the other thread may put it away
        records.event("hung", self.generation, network.step if network else 0, message=message)
        records.flush("hung")

    def _begin(self) -> bool:
        found = self.ranks.share(self._newest_state)
        if found is None:
            return take_start(self) if follows(self) else self._begin_anew()
        saved, early = found
        self.hp, self.generation, self.spent_flops = dict(saved.hp), saved.generation, saved.spent_flops
        self.lineage = lineage_of(saved.state)
        self.adopt(saved.state, saved.seconds)
        self.record_status("started")
        if early:
            return True  # from within a generation: the exchange before it is done
        self._post(saved, share=False)  # once more, for the run may have ended before it got there
        return self._exchange()

    def _begin_anew(self) -> bool:
        recipe = self.job.experiment.recipe(dict(self.hp))
        self.network = Member.build(recipe, self.start.seed, self.task, self.job.device, self.ranks)
        self.record_status("started")
        if self.job.rounds is None or self.job.rounds.start != 0:
            return True
        if self.ranks.leads:
            self._keep(self._snapshot(0, math.nan))  # what the others start from
        return self._exchange()  # which then knows that the first round has begun

    def _newest_state(self) -> tuple[Snapshot, bool] | None:
        """The newest state that can be read, and whether it is one from within a generation."""
        early, generations = self._early_state(), self.states.generations(self.start.member)
        posted = self.job.exchange.newest(self.start.member) if self.job.exchange is not None else -1
        if posted > max(generations, default=-1):
            path = self.states.path(self.start.member, posted)
            self.records.event("missing", posted, 0, message=f"{path} is gone: going on from an older state")
        for generation in generations:
            if early is not None and early.generation >= generation:
                break
            try:
                return self.read_state(self.start.member, generation), False
            except (DamagedState, FileNotFoundError) as error:
                self.records.event("damaged", generation, 0, message=f"{error}: going on from an older state")
        return None if early is None else (early, True)

    def _early_state(self) -> Snapshot | None:
        try:
            return decode(self.states.read_early(self.start.member))
        except (DamagedState, FileNotFoundError):
            return None

    def read_state(self, member: int, generation: int) -> Snapshot:
        try:
            return decode(self.states.read(member, generation))
        except DamagedState as error:
            raise DamagedState(f"{self.states.path(member, generation)} is damaged ({error})") from error

    def adopt(self, state: State, seconds: float) -> None:
        recipe = self.job.experiment.recipe(dict(self.hp))
        self.network = Member.restore(recipe, self.start.seed, self.task, state, self.job.device, self.ranks)
        # what this member has spent itself, whoever's weights it holds
        self.member.seconds, self.member.train_flops = seconds, self.spent_flops

    def put_away(self) -> None:
        """Free the network, for a device may not hold two."""
        self.network = None
        if self.ranks.world > 1:
            gc.collect()  # synchronised norms stand in a cycle with what computes them

    def _conclude(self, report: Report) -> None:
        self.generation += 1
        self.spent_flops = report.train_flops
        score = score_of(report, self.job.experiment.score)
        self.records.report(self.generation, report, score)
        self.records.flush(f"g{self.generation:04d}")
        if report.final:
            if self.ranks.leads:
                harvest(self, report, score)
            self.record_status("done")
        elif self.ranks.leads:
            if self.job.experiment.harvests_at(report.step):
                harvest_early(self, report)
            self._keep(self._snapshot(report.step, score, report.validation.accuracy))
        self.tell(self._progress(report, score))

    def _keep(self, snapshot: Snapshot) -> None:
        try:
            self.states.write(self.start.member, self.generation, encode(snapshot))
        except OSError as error:
            self.event("unsaved", message=str(error))
            self.records.flush(f"g{self.generation:04d}-unsaved")
            raise
        self.states.delete_early(self.start.member)
        self._post(snapshot)
        if self.job.exchange is None:
            self.states.delete(self.start.member, self.generation - KEPT)

    def _snapshot(self, step: int, score: float, accuracy: float = math.nan) -> Snapshot:
        return Snapshot(
            member=self.start.member,
            generation=self.generation,
            step=step,
            score=score,
            density=self._compared_at(),
            hp=self.hp,
            state={**self.member.state(), LINEAGE: self.lineage},
            seconds=self.member.seconds,
            spent_flops=self.member.train_flops,
            accuracy=accuracy,
        )

    def _compared_at(self) -> float:
        """The density that this member's score speaks of."""
        stated = self.member.recipe.density_of(self.job.experiment.score)
        return self.member.masks.density if stated is None else stated

    def _post(self, snapshot: Snapshot, *, share: bool = True) -> None:
        if self.job.exchange is not None and self.ranks.leads:
            self.job.exchange.post(snapshot.post, to_share(self, snapshot) if share else None)

    def _exchange(self) -> bool:
        """Take over what the exchange assigns; False when the place is needed for those to be waited for."""
        if self.job.exchange is None:
            return True
        answer = self.answer(self.job.exchange)
        if answer is None:
            return False
        assignment, state = answer
        if assignment.group is not None:
            take_merged(self, assignment, state)
        elif state is not None:
            self._take(state, assignment)
        elif assignment.numbers:
            decline_merged(self, assignment)
        return True

    def answer(self, exchange: Client) -> Answer | None:
        """The assignment, in all processes, with the donor's state where there is one to take over; None to
        give way.
        """
        while True:
            # every process, in every round: who only waited for the leading one would be taken for hung, and
            # the connection to it for dead
            self.beat()
            settled, answer = self.ranks.share(lambda: self._ask(exchange))
            if settled:
                return answer

    def _ask(self, exchange: Client) -> tuple[bool, Answer | None]:
        """Whether the waiting is over, and the answer; None then to give way."""
        answer = exchange.ask(self.start.member, self.generation)
        if answer is not None:
            return True, self._complete(*answer)
        self.tell({"member": self.start.member, "generation": self.generation, "waiting": True})
        return self.gives_way(), None

    def _complete(self, assignment: Assignment, state: State | None) -> Answer:
        """The assignment with the state that it speaks of, from storage where it did not come along."""
        if state is not None:
            return assignment, state
        if self.job.rounds is not None:
            return assignment, stored(self, assignment)
        if assignment.source is None:
            return assignment, None
        try:
            return assignment, self.read_state(*assignment.source).state
        except (DamagedState, FileNotFoundError) as error:
            self.event("lost", donor=assignment.donor, message=f"{error}: going on without it")
            return assignment, None

    def _take(self, state: State, assignment: Assignment) -> None:
        old, step, seconds = self.hp, self.member.step, self.member.seconds
        masks = self.member.masks.tensors
        self.put_away()
        self.hp, self.donor = dict(assignment.hp), assignment.donor
        self.lineage = handed_on(state, self.start.member)
        self.adopt(state, seconds)
        if self.member.step < step:
            # back in time, where members don't wait for each other: the rows beyond no longer hold
            self.records = self._records()
            self.record_status("started")
        self.record_exploit(assignment, old, overlap(masks, self.member.masks.tensors))

    def _records(self) -> Records | NoRecords:
        if not self.ranks.leads:
            return NoRecords()
        return Records(self.storage, self.start.member, self.start.seed, self.job.device)

    def event(self, kind: str, **row: Any) -> None:
        self.records.event(kind, self.generation, self.member.step, **row)

    def record_taken(self, kind: str, assignment: Assignment, received: int = 0, **row: Any) -> None:
        """The event of a donor's state that is this member's now; `received`: its bytes, if told."""
        numbers: dict[str, Any] = {DONOR_GENERATION: assignment.donor_generation}
        if received:
            numbers["bytes_down"] = float(received)
        self.event(kind, donor=assignment.donor, message=assignment.reason, numbers=numbers, **row)

    def record_exploit(
        self, assignment: Assignment, hp_before: Mapping[str, Any], shared: float | None
    ) -> None:
        """The event of a donor's state, with hyperparameters made of the donor's."""
        before, after = (json.dumps(to_json(hp)) for hp in (hp_before, self.hp))
        self.record_taken("exploit", assignment, hp_before=before, hp_after=after, overlap=shared)

    def record_status(self, status: str) -> None:
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
            **self._shown(report, score),
        }

    def _shown(self, report: Report, score: float) -> dict[str, Any]:
        """What loggers are told besides, where there are any."""
        if not self.job.experiment.loggers:
            return {}
        row = {name: value for name, value in report_row(report).items() if not isinstance(value, dict)}
        numbers = {"numbers": dict(report.numbers), "hp": to_json(self.hp)}
        return {"report": {"row": {**row, "score": score}, **numbers}}


@contextmanager
def watched(trial: MemberTrial, nodes: list[str]) -> Iterator[None]:
    """End this process when `trial` hangs, and have it save when one of `nodes` is to be taken away."""
    pulse = Pulse(
        trial.data,
        trial.job.experiment.resources.patience,
        notice=leaving(nodes),
        save=trial.save_early,
        report=trial.report_hang,
    )
    tell = trial.tell

    def told(result: dict[str, Any]) -> None:
        pulse.rest()  # Tune may hold a member here for as long as it likes
        tell(result)
        pulse.beat()

    trial.data, trial.tell, trial.beat = pulse, told, pulse.beat
    try:
        yield
    finally:
        pulse.stop()

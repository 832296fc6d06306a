"""Members of several processes that wait for the exchange: each of the processes says that it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from sparsepop.member import State
from sparsepop.population import trial as trials
from sparsepop.population.job import Job
from sparsepop.population.messages import Assignment
from sparsepop.population.pulse import Pulse
from sparsepop.population.rounds_taken import take_start
from sparsepop.population.timetable import rounds_of
from sparsepop.population.trial import MemberTrial, watched
from sparsepop.ranks import Ranks, Value
from tests.test_population.rounds import maker, parallel

ROUNDS = 3


@dataclass(frozen=True)
class Line(Ranks):
    """Ranks that take their turns in one process: what the leading one has shared is there for the other."""

    said: SimpleQueue[Any] = field(default_factory=SimpleQueue)

    def share(self, make: Callable[[], Value]) -> Value:
        if not self.leads:
            value: Value = self.said.get_nowait()
            return value
        value = make()
        self.said.put(value)
        return value


class Slow:
    """An exchange that answers when it is asked for the third time."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, member: int, generation: int) -> tuple[Assignment, State | None] | None:
        self.asked += 1
        if self.asked < ROUNDS:
            return None
        return Assignment(member, generation, None, {"lr": 0.1}, None, "go on", group=0), {}


def two_processes(folder: Path, gives_way: Callable[[], bool]) -> tuple[Slow, list[MemberTrial]]:
    """A member that starts from another one's state, as each of its processes holds it."""
    experiment, exchange, said = parallel(maker()), Slow(), SimpleQueue[Any]()
    job = Job(experiment, str(folder), exchange, 1, "cpu", rounds=rounds_of(experiment))  # type: ignore[arg-type]
    start = experiment.starts()[1]
    ranks = [Line(rank, 2, None, said) for rank in range(2)]
    return exchange, [MemberTrial(job, start, lambda word: None, each, gives_way) for each in ranks]


def count_beats(trial: MemberTrial) -> list[None]:
    beats: list[None] = []
    trial.beat = lambda: beats.append(None)
    return beats


@pytest.mark.parametrize("wait", [MemberTrial._exchange, take_start])
def test_every_process_beats_in_each_round_of_waiting(
    tmp_path: Path, wait: Callable[[MemberTrial], bool]
) -> None:
    left = iter([False, False, True])
    exchange, both = two_processes(tmp_path, lambda: next(left))
    for trial in both:
        beats = count_beats(trial)
        exchange.asked = -ROUNDS
        assert not wait(trial)
        assert len(beats) == ROUNDS


def test_every_process_gets_the_answer_that_the_leading_one_waited_for(tmp_path: Path) -> None:
    exchange, both = two_processes(tmp_path, lambda: False)
    beats = [count_beats(trial) for trial in both]
    answers = [trial.answer(exchange) for trial in both]  # type: ignore[arg-type]
    assert answers[0] is not None
    assert answers[0] == answers[1]
    assert [len(each) for each in beats] == [ROUNDS, ROUNDS]
    assert exchange.asked == ROUNDS


def test_who_watches_a_trial_hears_its_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "leaving", lambda nodes: lambda: False)
    _, (trial, _) = two_processes(tmp_path, lambda: False)
    heard: list[Pulse] = []
    monkeypatch.setattr(Pulse, "beat", lambda pulse: heard.append(pulse))
    with watched(trial, []):
        heard.clear()
        trial.beat()
        assert heard == [trial.data]

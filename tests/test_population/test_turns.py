"""Turn-taking, played through with a controller that has members, places and a barrier but trains nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from sparsepop.population.turns import Turns


@dataclass
class FakeTrial:
    trial_id: str
    status: str = Trial.PENDING
    generation: int = 0
    asked: bool = False  # has the place and waits at the exchange
    since: int = 0


class FakeController:
    """As Tune does it: places go to whom the scheduler chooses, or (`unruly`) to anybody that is pending."""

    def __init__(self, members: int, places: int, generations: int, synchronous: bool, seed: int) -> None:
        self.rng = random.Random(seed)
        self.trials = [FakeTrial(str(member)) for member in range(members)]
        self.places, self.generations, self.synchronous = places, generations, synchronous
        self.turns = Turns()
        self.clock = 0
        self.equally_fast = False
        self.led = False  # whether all start from the first one's first generation
        self.trained: list[tuple[str, int]] = []
        self.lead = 0

    def get_trials(self) -> list[FakeTrial]:
        return self.trials

    def of(self, *statuses: str) -> list[FakeTrial]:
        return [trial for trial in self.trials if trial.status in statuses]

    def play(self, crashes: int = 0) -> None:
        for _ in range(200 * len(self.trials) * self.generations):
            if not self.of(Trial.PENDING, Trial.PAUSED, Trial.RUNNING):
                return
            self.give_places()
            moving = [trial for trial in self.of(Trial.RUNNING) if not self.blocked(trial)]
            if not moving:
                # everybody's patience ends: each says so, and may have to give its place
                moving = self.of(Trial.RUNNING)
                assert moving, "nobody has a place"
            trial = min(moving, key=lambda t: t.since) if self.equally_fast else self.rng.choice(moving)
            trial.since = self.clock = self.clock + 1
            if crashes and self.rng.random() < 0.2:
                crashes -= 1
                trial.status, trial.asked = Trial.PENDING, trial.generation > 0
            else:
                self.advance(trial)
        raise AssertionError(f"no end in sight: {self.trials}")

    def give_places(self) -> None:
        while len(self.of(Trial.RUNNING)) < self.places and self.of(Trial.PENDING, Trial.PAUSED):
            chosen = self.turns.choose_trial_to_run(self)
            pending = self.of(Trial.PENDING)
            if pending and self.rng.random() < 0.3:  # Tune starts pending trials in any order
                chosen = self.rng.choice(pending)
            assert chosen is not None
            chosen.status, chosen.since = Trial.RUNNING, self.clock

    def blocked(self, trial: FakeTrial) -> bool:
        first = self.trials[0]
        if self.led and trial is not first and trial.generation == first.generation == 0:
            return True
        return (
            self.synchronous
            and trial.asked
            and any(other.generation < trial.generation for other in self.trials)
        )

    def advance(self, trial: FakeTrial) -> None:
        if self.blocked(trial):
            self.report(trial, waiting=True)
            return
        self.trained.append((trial.trial_id, trial.generation))
        trial.generation += 1
        trial.asked = True
        alive = [other.generation for other in self.trials if other.status != Trial.TERMINATED]
        self.lead = max(self.lead, trial.generation - min(alive))
        self.report(trial, waiting=False)

    def report(self, trial: FakeTrial, *, waiting: bool) -> None:
        final = trial.generation == self.generations
        result = {"generation": trial.generation, "waiting": waiting, "final": final}
        decision = self.turns.on_trial_result(self, trial, result)
        if final:
            assert decision == TrialScheduler.CONTINUE
            trial.status = Trial.TERMINATED
        elif decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED


@settings(max_examples=150)
@given(
    members=st.integers(1, 9),
    places=st.integers(1, 6),
    generations=st.integers(1, 5),
    synchronous=st.booleans(),
    led=st.booleans(),
    crashes=st.integers(0, 3),
    seed=st.integers(0, 10**6),
)
def test_every_population_comes_to_its_end(
    members: int, places: int, generations: int, synchronous: bool, led: bool, crashes: int, seed: int
) -> None:
    controller = FakeController(members, places, generations, synchronous, seed)
    controller.led = led
    controller.play(crashes)
    everything = sorted((str(member), each) for member in range(members) for each in range(generations))
    assert sorted(controller.trained) == everything


@pytest.mark.parametrize("members", [3, 5, 8])
@pytest.mark.parametrize("places", [1, 2])
def test_of_equally_fast_members_nobody_runs_ahead(members: int, places: int) -> None:
    for seed in range(20):
        controller = FakeController(members, places, 6, False, seed)
        controller.equally_fast = True
        controller.play()
        assert controller.lead <= 2


def test_whoever_has_a_place_keeps_it_while_nobody_waits() -> None:
    controller = FakeController(2, 2, 3, True, 0)
    controller.give_places()
    trial = controller.trials[0]
    trial.generation = 1
    result = {"generation": 1, "waiting": False, "final": False}
    assert controller.turns.on_trial_result(controller, trial, result) == TrialScheduler.CONTINUE
    controller.trials.append(FakeTrial("new"))
    assert controller.turns.on_trial_result(controller, trial, result) == TrialScheduler.PAUSE

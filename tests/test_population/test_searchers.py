"""Searchers and schedulers of Ray Tune: what they decided stays decided when a run goes on. No cluster."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import Searcher

from sparsepop.config import ConfigError, load
from sparsepop.experiment import Resources, Sampled, Tuned
from sparsepop.population.launch import unfinished
from sparsepop.population.preflight import check_experiment
from sparsepop.population.schedulers import Judge
from sparsepop.population.searchers import Asked, decoded, encoded, samplers
from sparsepop.population.suggestions import read_suggestion, read_suggestions, start_of, write_suggestion
from sparsepop.population.tuned import check_tuned, guides
from sparsepop.results import Writer, read
from sparsepop.space import Choice, Domain, Integers, LogUniform, Uniform
from sparsepop.storage import Storage
from tests.populations import clock, report_row
from tests.test_population.worlds import SPACE, experiment

CONFIGS = Path(__file__).parents[2] / "tune_configs"
MIXED: dict[str, Domain] = {
    "rate": LogUniform(1e-3, 0.3),
    "share": Uniform(-0.5, 0.5),
    "fixed": Uniform(0.25, 0.25),
    "count": Integers(1, 3),
    "interval": Integers(2, 4, log=True),
    "kind": Choice(("linear", "cosine", None)),
    "odd": Choice((1, 1.0, True, ("a", 2))),
}


class Guess(Searcher):
    """Draws from a seeded generator, and moves by what it was told: another order gives other suggestions."""

    def __init__(self, seed: int | None = 0) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self.waiting: set[str] = set()
        self.told: list[tuple[Any, ...]] = []

    def set_search_properties(self, metric: Any, mode: Any, config: dict[str, Any], **spec: Any) -> bool:
        self.space = config
        return True

    def suggest(self, trial_id: str) -> dict[str, Any]:
        self.waiting.add(trial_id)
        shift = sum(place * score for place, (_, score) in enumerate(self.told, 1) if score)
        return {"lr": 0.001 + 0.299 * ((self.rng.random() + shift) % 1), "fraction": np.float64(0.5)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self.waiting.remove(trial_id)
        self.told.append((trial_id, None if error or result is None else result["score"]))


class Open(Guess):
    """The same, and takes points that it did not ask for."""

    def add_evaluated_point(self, parameters: dict[str, Any], value: float, *args: Any, **more: Any) -> None:
        self.told.append((parameters["lr"], value))


def optuna_search() -> Any:
    pytest.importorskip("optuna")
    from optuna.samplers import TPESampler
    from ray.tune.search.optuna import OptunaSearch

    search = OptunaSearch(sampler=TPESampler(n_startup_trials=2, seed=3))
    assert search.set_search_properties("score", "max", samplers(SPACE))
    return search


def asked(
    folder: Path, make: Callable[[], Any], members: Iterable[int], scores: dict[int, float] | None = None
) -> Asked:
    return Asked(make(), SPACE, Storage(str(folder)), list(members), scores or {})


def score_of(storage: Storage, member: int) -> float:
    return read_suggestion(storage, member).hp["lr"]


# ---- spaces


@pytest.mark.parametrize("name", MIXED)
def test_tune_draws_what_the_space_holds(name: str) -> None:
    sampler = samplers(MIXED)[name]
    drawn = [decoded({name: MIXED[name]}, {name: sampler.sample()})[name] for _ in range(200)]
    assert all(MIXED[name].contains(value) for value in drawn)
    if isinstance(MIXED[name], Choice | Integers):
        assert len({repr(value) for value in drawn}) == 4 if name == "odd" else 3


@given(st.randoms(use_true_random=False))
def test_hyperparameters_survive_the_way_to_a_searcher_and_back(rng: random.Random) -> None:
    hp = {name: domain.sample(rng) for name, domain in MIXED.items()}
    there = encoded(MIXED, hp)
    assert repr(decoded(MIXED, {**there, "__trial_index__": 3})) == repr(hp)
    for name, value in there.items():
        assert samplers(MIXED)[name].is_valid(value) or value == MIXED[name].high  # type: ignore[union-attr]


def test_numpy_and_rounding_do_no_harm() -> None:
    found = decoded(
        {"lr": LogUniform(0.1, 0.3), "n": Integers(1, 3)}, {"lr": 0.30000000000000004, "n": np.int64(2)}
    )
    assert (found, type(found["n"])) == ({"lr": 0.3, "n": 2}, int)


@pytest.mark.parametrize("suggestion", [{}, {"lr": None}, {"lr": "fast"}, {"lr": math.nan}])
def test_a_suggestion_outside_the_space_is_named(suggestion: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"'?lr'?.*no space of its own"):
        decoded({"lr": Uniform(0, 1)}, suggestion)


# ---- searchers


def played(folder: Path, make: Callable[[], Any], cuts: Iterable[int] = (), members: int = 8) -> list[Any]:
    """Two members at a time; after each of `cuts` outcomes the run ends, and another one goes on. The scores
    are the learning rates, so they depend on what was suggested."""
    storage, ended = Storage(str(folder)), dict[int, float]()
    names, left = (f"t{number}" for number in itertools.count()), set(cuts)
    while len(ended) < members:
        todo = [each for each in range(members) if each not in ended]
        searcher, trials = asked(folder, make, todo, dict(ended)), list[tuple[str, int]]()
        for _ in todo:
            while len(trials) < min(2, members - len(ended)):
                trials.append((name := next(names), searcher.suggest(name)["member"]))
            # the second one is the faster, now and then
            trial, member = trials.pop(-1 if len(ended) % 3 == 1 else 0)
            ended[member] = score_of(storage, member)
            searcher.on_trial_complete(trial, {"score": ended[member]})
            if len(ended) in left:
                left.remove(len(ended))
                break
    return [suggestion.hp for suggestion in read_suggestions(storage).values()]


@pytest.mark.parametrize("make", [Guess, Open, optuna_search])
@pytest.mark.parametrize("cuts", [[1], [4], [2, 5, 7]])
def test_a_seeded_searcher_goes_on_as_if_nothing_had_been(
    tmp_path: Path, make: Callable[[], Any], cuts: list[int]
) -> None:
    whole = played(tmp_path / "whole", make)
    assert len({hp["lr"] for hp in whole}) == 8
    assert played(tmp_path / "cut", make, cuts) == whole


def test_each_outcome_is_stored_once_and_files_with_all_outcomes_mean_the_same(tmp_path: Path) -> None:
    played(tmp_path, Guess, [4])
    storage = Storage(str(tmp_path))
    suggestions = read_suggestions(storage)
    stored = [member for suggestion in suggestions.values() for member in suggestion.told]
    assert len(stored) == len(set(stored)) == 6
    scores = {member: suggestion.hp["lr"] for member, suggestion in suggestions.items()}
    before: Any = asked(tmp_path, Guess, [], scores).inner
    told = list[int]()
    for member, suggestion in suggestions.items():
        told += suggestion.told
        write_suggestion(storage, member, suggestion.hp, told)
    after: Any = asked(tmp_path, Guess, [], scores).inner
    assert after.told == before.told
    assert len(after.told) == 8


def test_an_unseeded_searcher_gets_the_points_that_it_no_longer_knows(tmp_path: Path) -> None:
    first = played(tmp_path, lambda: Open(None), members=3)
    searcher = asked(tmp_path, lambda: Open(None), [3], {0: 0.5, 1: math.nan, 2: 0.7})
    inner: Any = searcher.inner
    assert inner.waiting == set()
    dropped = [entry for entry in inner.told if entry[1] is None]
    assert [name for name, _ in dropped] == ["m0000", "m0001", "m0002"]
    assert [entry for entry in inner.told if entry[1] is not None] == [
        (first[0]["lr"], 0.5),
        (first[2]["lr"], 0.7),
    ]


def test_unfinished_members_get_back_what_was_suggested(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    searcher = asked(tmp_path, lambda: Guess(None), range(3))
    assert [searcher.suggest(name)["member"] for name in "ab"] == [0, 1]
    before = read_suggestions(storage)
    again = asked(tmp_path, lambda: Guess(None), range(3))
    assert [again.suggest(name)["member"] for name in "xy"] == [0, 1]
    assert read_suggestions(storage) == before
    assert again.suggest("z") == {"member": 2}
    assert again.suggest("end") == Searcher.FINISHED
    again.on_trial_complete("x", {"score": 0.5})  # unseeded: it knows of no such question, and takes no point
    assert all(score is None for _, score in again.inner.told)


@pytest.mark.parametrize(("result", "error"), [(None, True), ({"score": math.nan}, False), (None, False)])
def test_who_diverged_or_failed_has_no_score(tmp_path: Path, result: Any, error: bool) -> None:
    searcher = asked(tmp_path, Guess, [0])
    searcher.suggest("a")
    searcher.on_trial_complete("a", result, error)
    assert searcher.inner.told == [("m0000", None)]


def test_a_searcher_may_want_to_wait_or_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = asked(tmp_path, Guess, [0])
    for answer in (None, Searcher.FINISHED):
        monkeypatch.setattr(searcher.inner, "suggest", lambda name, answer=answer: answer)
        assert searcher.suggest("a") == answer
    monkeypatch.undo()
    assert searcher.suggest("a") == {"member": 0}


def test_members_start_with_what_was_suggested(tmp_path: Path) -> None:
    storage, hp = Storage(str(tmp_path)), {"lr": 0.123, "fraction": 0.2, "kind": ("a", 1)}
    write_suggestion(storage, 1, hp, [0])
    guided, random_search = experiment(Tuned(SPACE, 2, searcher=Guess)), experiment(Sampled(SPACE, 2))
    assert start_of(guided, storage, 1).hp == hp
    assert start_of(guided, storage, 1).seed == guided.starts()[1].seed
    assert start_of(random_search, storage, 1) == random_search.starts()[1]
    with pytest.raises(FileNotFoundError):
        start_of(guided, storage, 0)


# ---- schedulers


def asha(**changes: Any) -> ASHAScheduler:
    return ASHAScheduler(**{"time_attr": "generation", "max_t": 8, "reduction_factor": 2, **changes})


def row(generation: int, score: float, **more: Any) -> dict[str, Any]:
    return {
        **report_row(8 * generation, score),
        "generation": generation,
        "seconds": 1.0 * generation,
        **more,
    }


class Table:
    """A run in which everybody reports once in a turn; scores are given beforehand, a row for each member."""

    def __init__(self, folder: Path, scores: list[list[float]]) -> None:
        self.storage = Storage(str(folder))
        self.scores = scores
        self.time = 0

    def report(self, member: int, generation: int) -> dict[str, Any]:
        """What a member leaves on storage before Tune hears of it."""
        writer = Writer(self.storage, member, 0)
        if generation == 1:
            (self.storage).write(f"attempts/m{member:04d}/0000", b"")
            writer.add("members", status="started", step=0, time=clock(0))
        self.time += 1
        final = generation == len(self.scores[member])
        told = row(generation, self.scores[member][generation - 1], final=final)
        writer.add("reports", **{**told, "time": clock(self.time)})
        if final:
            writer.add("members", status="done", step=told["step"])
        writer.flush(f"g{generation}")
        return {"member": member, **told}

    def play(
        self, make: Callable[[], TrialScheduler], cuts: Iterable[int] = ()
    ) -> dict[int, tuple[str, int]]:
        """The run to its end, begun anew after each of `cuts` reports, which nobody lives to judge; what
        became of everybody, and at which step."""
        cuts, search = set(cuts), Tuned(SPACE, len(self.scores), scheduler=make)
        done = [0] * len(self.scores)
        while True:
            guided = guides(experiment(search), self.storage, self.left())
            assert guided.scheduler is not None
            if self.turns(guided.scheduler, guided.members, done, cuts):
                break
        frame = read(self.storage, "members")
        ends = zip(frame["status"], frame["step"], strict=True)
        return dict(zip(frame["member"], ends, strict=True))

    def left(self) -> list[int]:
        return [
            start.member for start in unfinished(experiment(Sampled(SPACE, len(self.scores))), self.storage)
        ]

    def turns(self, judge: Judge, members: list[int], done: list[int], cuts: set[int]) -> bool:
        trials = {each: Trial("t", stub=True, config={"member": each}) for each in members}
        for trial in trials.values():
            judge.on_trial_add(None, trial)
        while trials:
            member = min(trials, key=lambda each: (done[each], each))
            done[member] += 1
            result = self.report(member, done[member])
            if self.time in cuts:
                cuts.remove(self.time)
                return False
            decision = judge.on_trial_result(None, trials[member], result)
            if result["final"] or decision == TrialScheduler.STOP:
                judge.on_trial_complete(None, trials.pop(member), result)
        return True


SCORES = [[0.5, 0.6, 0.7, 0.8], [0.6, 0.7, 0.8, 0.9], [0.4, 0.9, 0.9, 0.9], [0.7, 0.5, 0.9, 0.9], [0.55] * 4]


def test_successive_halving_by_hand(tmp_path: Path) -> None:
    # rungs at 1, 2 and 4, each stopping who is below the median of those that came before
    found = Table(tmp_path, SCORES).play(asha)
    # 1: 0.5 and 0.6 go on, 0.4 < 0.55 stops, 0.7 goes on, 0.55 is the median of 0.4 0.5 0.6 0.7 and goes on
    # 2: 0.6 and 0.7 go on, 0.5 < 0.65 stops, 0.55 < 0.6 stops
    assert found == {
        0: ("done", 32),
        1: ("done", 32),
        2: ("stopped", 8),
        3: ("stopped", 16),
        4: ("stopped", 16),
    }
    members = read(Storage(str(tmp_path)), "members").set_index("member")
    assert members.loc[2, "message"] == "AsyncHyperBandScheduler stopped it: score 0.4 after generation 1"


def median() -> MedianStoppingRule:
    return MedianStoppingRule(time_attr="step", grace_period=8, min_samples_required=2)


@pytest.mark.slow
@pytest.mark.parametrize("make", [asha, lambda: asha(brackets=3), lambda: asha(time_attr="step", max_t=64)])
@settings(max_examples=15)
@given(data=st.data())
def test_a_run_that_is_cut_anywhere_stops_the_same_members(
    tmp_path_factory: pytest.TempPathFactory, make: Callable[[], TrialScheduler], data: st.DataObject
) -> None:
    score = st.integers(0, 20).map(lambda value: value / 20)
    scores = data.draw(st.lists(st.lists(score, min_size=4, max_size=4), min_size=2, max_size=6))
    cuts = data.draw(st.lists(st.integers(1, 4 * len(scores)), max_size=3))
    whole = Table(tmp_path_factory.mktemp("whole"), scores).play(make)
    assert Table(tmp_path_factory.mktemp("cut"), scores).play(make, cuts) == whole


@pytest.mark.parametrize("cuts", [[], [9], [3, 13]])
def test_the_median_rule_goes_on_too(tmp_path: Path, cuts: list[int]) -> None:
    scores = [[0.9] * 4, [0.8] * 4, [0.7] * 4, [0.1] * 4]
    found = Table(tmp_path, scores).play(lambda: Calm(), cuts)
    assert found[3] == ("stopped", 8)
    assert found[0] == found[1] == ("done", 32)


class Calm(MedianStoppingRule):
    """The median rule where nobody waits for a place."""

    def __init__(self) -> None:
        super().__init__(time_attr="step", grace_period=8, min_samples_required=2)

    def _on_insufficient_samples(self, *args: Any) -> str:
        return TrialScheduler.CONTINUE


def test_who_diverged_is_stopped_and_who_is_done_is_not(tmp_path: Path) -> None:
    class Cruel(FIFOScheduler):
        def on_trial_result(self, *args: Any) -> str:
            return TrialScheduler.STOP

    diverged = Table(tmp_path / "one", [[math.nan, 0.5], [0.5, math.nan]]).play(asha)
    assert diverged == {0: ("stopped", 8), 1: ("done", 16)}
    assert Table(tmp_path / "two", [[0.5], [0.5, 0.6]]).play(Cruel) == {0: ("done", 8), 1: ("stopped", 8)}


def test_a_scheduler_sees_the_time_since_a_members_very_start(tmp_path: Path) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []

    class Eyes(FIFOScheduler):
        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            seen.append((trial.trial_id, result))
            return TrialScheduler.CONTINUE

    Table(tmp_path, [[0.1, 0.2, 0.3]]).play(Eyes, cuts=[2])
    assert [(name, result["training_iteration"]) for name, result in seen] == [
        ("m0000", 1),
        ("m0000", 1),
        ("m0000", 2),
        ("m0000", 3),
    ]
    assert all(result["time_total_s"] == result["generation"] for _, result in seen)
    assert seen[0][1] == seen[1][1]


def judged(folder: Path) -> tuple[Judge, Trial]:
    """A judge that has seen one of two members' first result, and the trial of the other."""
    judge = Judge(asha(), Storage(str(folder)), 0)
    judge.inner.set_search_properties("score", "max")
    one, two = (Trial("t", stub=True, config={"member": member}) for member in (0, 1))
    for trial in (one, two):
        judge.on_trial_add(None, trial)
    judge.on_trial_result(None, one, {"member": 0, **row(1, 0.9)})
    return judge, two


def test_tune_shows_a_last_result_twice(tmp_path: Path) -> None:
    judge, two = judged(tmp_path)
    assert judge.on_trial_result(None, two, {"member": 1, **row(1, 0.8)}) == TrialScheduler.STOP
    assert judge.on_trial_result(None, two, {"member": 1, **row(1, 0.8)}) == TrialScheduler.CONTINUE
    assert "Iter 1.000: 0.85" in judge.debug_string()


def test_a_stop_among_unlike_densities_says_so(tmp_path: Path) -> None:
    """Tune's schedulers know scores alone."""
    for density, told in ((0.5, ", at density 0.5 among densities from 0.05 to 0.5"), (0.05, "")):
        folder = str(tmp_path / f"{density}")
        judge, two = judged(Path(folder))
        result = {"member": 1, **row(1, 0.8), "density": density}
        assert judge.on_trial_result(None, two, result) == TrialScheduler.STOP
        (message,) = read(folder, "members")["message"]
        assert message == f"AsyncHyperBandScheduler stopped it: score 0.8 after generation 1{told}"


def test_a_stop_that_storage_has_no_room_for_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Storage, "write", full)
    judge, two = judged(tmp_path)
    assert judge.on_trial_result(None, two, {"member": 1, **row(1, 0.8)}) == TrialScheduler.STOP


def test_numpys_generator_is_left_alone(tmp_path: Path) -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index]
    Table(tmp_path, [[0.1, 0.2]]).play(lambda: asha(brackets=3))
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index]


# ---- what is refused


def raising(error: Exception) -> Callable[[], Any]:
    def make() -> Any:
        raise error

    return make


class Closed(Guess):
    def set_search_properties(self, *args: Any, **spec: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"searcher": raising(ModuleNotFoundError("no", name="optuna"))}, "'optuna'.*extra sparsepop.optuna"),
        ({"searcher": raising(AssertionError("Optuna must be installed! Run x"))}, "extra sparsepop.optuna"),
        ({"searcher": raising(AssertionError("HEBO must be installed!"))}, "package 'hebo'.* install it"),
        ({"searcher": raising(RuntimeError("a\nb"))}, "searcher.. raised RuntimeError: a b"),
        ({"searcher": dict}, "searcher.. gave a dict: return a Searcher"),
        ({"searcher": asha}, "return a Searcher"),
        ({"searcher": Closed}, "Closed has a space, metric or mode of its own"),
        ({"searcher": Searcher}, "Searcher has a space"),
        ({"scheduler": Guess}, "scheduler.. gave a Guess: return a TrialScheduler"),
        ({"scheduler": HyperBandScheduler}, "HyperBandScheduler waits.*use ASHAScheduler"),
        (
            {"scheduler": lambda: PopulationBasedTraining(hyperparam_mutations={"lr": [1, 2]})},
            "use search=PBT",
        ),
        ({"scheduler": lambda: asha(time_attr="epoch")}, "counts 'epoch', which no report has"),
        ({"scheduler": lambda: asha(metric="loss", mode="min")}, "metric or mode of its own"),
    ],
)
def test_what_cannot_guide_is_refused_in_one_line(made: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_experiment(experiment(Tuned(SPACE, 2, **made)))
    assert "\n" not in str(caught.value)


def test_a_suggestion_is_tried_beforehand() -> None:
    space: dict[str, Domain] = {"depth": Integers(1, 3)}
    with pytest.raises(ConfigError, match=r"searcher.. raised ValueError: .* nothing for 'depth'"):
        check_tuned(experiment(Tuned(space, 2, searcher=Guess)))


def test_members_of_several_workers_are_not_stopped_early() -> None:
    wide = Resources(workers=2)
    with pytest.raises(ConfigError, match="workers=1"):
        check_tuned(experiment(Tuned(SPACE, 2, scheduler=asha), resources=wide))
    check_tuned(experiment(Tuned(SPACE, 2, searcher=Guess), resources=wide))


@pytest.mark.parametrize("smoke", [True, False])
@pytest.mark.parametrize("name", ["asha", "optuna_tpe"])
def test_the_configs(name: str, smoke: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    if name.startswith("optuna"):
        pytest.importorskip("optuna")
    found = load(str(CONFIGS / f"{name}.py"), smoke=smoke)
    assert isinstance(found.search, Tuned)
    check_experiment(found)

"""Members in one process: what an exploit copies, and that no cut of a run loses or doubles anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsepop.experiment import PBT, Experiment, Grid
from sparsepop.methods import Cut, static, sup_tickets
from sparsepop.population.ancestry import LINEAGE
from sparsepop.population.board import Board, Terms, welcome
from sparsepop.population.messages import Assignment
from sparsepop.population.preflight import begin
from sparsepop.population.records import Records, record_failure
from sparsepop.population.snapshot import decode
from sparsepop.population.states import StateFiles
from sparsepop.population.trial import MemberTrial
from sparsepop.recipe import Recipe
from sparsepop.results import ancestors, leaderboard, lineage, read
from sparsepop.schedule import TwoPhases
from sparsepop.storage import Storage
from tests.test_population.worlds import (
    GENERATION,
    SPACE,
    STEPS,
    Killed,
    World,
    assert_same_results,
    cut,
    experiment,
    recipe,
)

GENERATIONS = STEPS // GENERATION


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A synchronous population that nothing disturbed."""
    storage = Storage(str(tmp_path_factory.mktemp("whole") / "small"))
    begin(experiment(), storage, fresh=False)
    assert not World(experiment(), storage).run().errors
    return storage


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Everything in nested containers by its path."""
    if isinstance(value, dict):
        return {
            name: leaf for key, each in value.items() for name, leaf in leaves(each, f"{path}/{key}").items()
        }
    return {path: value}


def assert_same_state(one: Any, other: Any) -> None:
    left, right = leaves(one), leaves(other)
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, right[name]), name
        elif name != "/train_flops":  # each member's own
            assert value == right[name], name


@pytest.mark.parametrize("through_memory", [True, False], ids=["memory", "storage"])
def test_after_an_exploit_the_state_is_the_donors_and_all_else_the_receivers_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through_memory: bool
) -> None:
    storage = Storage(str(tmp_path / "small"))
    seen: list[int] = []
    original = MemberTrial._take

    def take(self: MemberTrial, state: Any, assignment: Any) -> None:
        seconds, flops = self.member.seconds, self.member.train_flops
        original(self, state, assignment)
        saved = decode(StateFiles(storage).read(assignment.donor, assignment.donor_generation))
        member = self.member
        assert_same_state({**member.state(), LINEAGE: saved.state[LINEAGE]}, saved.state)
        assert self.lineage == (*saved.state[LINEAGE], (self.start.member, member.step))
        assert member.seed == self.start.seed
        assert (member.seconds, member.train_flops) == (seconds, flops)
        assert self.hp == assignment.hp
        assert self.hp != saved.hp
        assert member.recipe == recipe(assignment.hp)
        lr = member.set_learning_rate()
        assert lr == recipe(assignment.hp).optimizer.lr(member.step)  # type: ignore[operator]
        assert {group["lr"] for group in member.optimizer.param_groups} == {lr}
        seen.append(assignment.member)

    monkeypatch.setattr(MemberTrial, "_take", take)
    world = World(experiment(), storage, through_memory=through_memory).run()
    assert not world.errors
    events = read(storage, "events")
    assert sorted(events["member"]) == sorted(seen)
    assert len(seen) >= 2
    assert set(events["kind"]) == {"exploit"}
    assert events["overlap"].between(0, 1, inclusive="left").all()


def test_an_undisturbed_run_writes_everything_once(whole: Storage) -> None:
    reports = read(whole, "reports", superseded=True)
    assert sorted(zip(reports["member"], reports["generation"], strict=True)) == [
        (member, generation) for member in range(3) for generation in range(1, GENERATIONS + 1)
    ]
    assert (reports["step"] == GENERATION * reports["generation"]).all()
    assert reports["final"].sum() == 3
    assert set(read(whole, "members")["status"]) == {"done"}


def test_only_the_states_that_somebody_may_need_stay(whole: Storage) -> None:
    kept = StateFiles(whole).all()
    newest = {(member, GENERATIONS - 1) for member in range(3)}
    assert newest <= kept
    assert kept <= newest | {(member, GENERATIONS - 2) for member in range(3)}


def run_until_cut(storage: Storage, changed: Experiment | None = None) -> World:
    world = World(changed or experiment(), storage)
    world.killed_together = True
    return world.run()


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("after", [0, 2, 5, 8, 11, 14, 17, 18, 19, 20, 23, 26, 29, 32, 35, 38, 41, 47, 53])
def test_a_run_that_is_cut_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Storage, after: int, arrives: bool
) -> None:
    storage = Storage(str(tmp_path / "small"))
    begin(experiment(), storage, fresh=False)
    with monkeypatch.context() as patch:
        cut(patch, after, arrives=arrives)
        world = run_until_cut(storage)
        assert {type(error) for error in world.errors.values()} == {Killed}
    assert not World(experiment(), storage).run().errors
    assert_same_results(storage, whole)
    reports = read(storage, "reports")
    assert not reports.duplicated(["member", "generation"]).any()
    flops = reports.set_index(["member", "generation"])["train_flops"]
    assert flops.equals(read(whole, "reports").set_index(["member", "generation"])["train_flops"])


def test_a_run_that_is_cut_again_and_again_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Storage
) -> None:
    storage = Storage(str(tmp_path / "small"))
    runs = 0
    while True:
        with monkeypatch.context() as patch:
            cut(patch, 23, arrives=bool(runs % 2))
            runs += 1
            if not run_until_cut(storage).errors:
                break
    assert runs > 2
    assert_same_results(storage, whole)
    tickets, undisturbed = (read(each, "tickets").set_index("member")["lineage"] for each in (storage, whole))
    assert tickets.equals(undisturbed)


def test_a_member_that_starts_again_alone_takes_the_same_decision_again(
    tmp_path: Path, whole: Storage
) -> None:
    storage = Storage(str(tmp_path / "small"))
    first: list[int] = []

    def fail_once(trial: MemberTrial, result: dict[str, Any]) -> None:
        if result["generation"] == 2 and not first:
            first.append(result["member"])
            raise Killed

    world = World(experiment(), storage)
    original = world._member

    def retried(start: Any, hook: Callable[..., None]) -> None:
        original(start, hook)
        if isinstance(world.errors.pop(start.member, None), Killed):
            original(start, hook)

    world._member = retried  # type: ignore[method-assign]
    assert not world.run(fail_once).errors
    assert len(first) == 1
    assert_same_results(storage, whole)
    assert read(storage, "members", superseded=True)["attempt"].max() == 1


def test_a_member_that_failed_for_good_catches_up_in_the_next_run(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "small"))
    world = World(experiment(), storage)

    def fail(trial: MemberTrial, result: dict[str, Any]) -> None:
        if (result["member"], result["generation"]) == (1, 1):
            assert world.client.exchange is not None
            world.client._call(world.client.exchange.retire(1))
            record_failure(storage, 1, result["step"], "it fell")
            raise ValueError("it fell")

    assert list(world.run(fail).errors) == [1]
    members = read(storage, "members").set_index("member")
    assert dict(members["status"]) == {0: "done", 1: "failed", 2: "done"}
    assert (members.loc[1, "message"], members.loc[1, "attempt"]) == ("it fell", 0)
    decided = {name: storage.read(f"decisions/{name}") for name in storage.names("decisions")}
    welcome(storage)
    assert not World(experiment(), storage).run().errors
    assert set(read(storage, "members")["status"]) == {"done"}
    assert {name: storage.read(f"decisions/{name}") for name in decided} == decided
    reports = read(storage, "reports")
    assert not reports.duplicated(["member", "generation"]).any()
    assert len(reports) == 3 * GENERATIONS


def test_a_damaged_state_is_noted_and_an_older_one_taken(tmp_path: Path, whole: Storage) -> None:
    storage = Storage(str(tmp_path / "small"))

    def stop(trial: MemberTrial, result: dict[str, Any]) -> None:
        if result["generation"] == 3:
            raise Killed

    World(experiment(), storage).run(stop)
    files = StateFiles(storage)
    files.write(1, 3, files.read(1, 3)[:1000])
    assert not World(experiment(), storage).run().errors
    events = read(storage, "events")
    damaged = events[events["kind"] == "damaged"]
    assert list(damaged["member"]) == [1]
    assert "g0003.pt is damaged" in damaged["message"].iloc[0]
    reports, undisturbed = read(storage, "reports"), read(whole, "reports")
    assert list(reports["score"]) == list(undisturbed["score"])


def test_a_state_that_is_gone_is_noted_and_an_older_one_taken(tmp_path: Path, whole: Storage) -> None:
    storage = Storage(str(tmp_path / "small"))

    def stop(trial: MemberTrial, result: dict[str, Any]) -> None:
        if result["generation"] == 3:
            raise Killed

    World(experiment(), storage).run(stop)
    StateFiles(storage).delete(1, 3)
    assert not World(experiment(), storage).run().errors
    events = read(storage, "events")
    assert list(events[events["kind"] == "missing"]["member"]) == [1]
    assert list(read(storage, "reports")["score"]) == list(read(whole, "reports")["score"])


@pytest.mark.parametrize("within", [3, 0])
def test_a_member_whose_machine_goes_is_saved_within_the_generation(
    tmp_path: Path, whole: Storage, within: int
) -> None:
    """Saved after the step `cut`, killed at once, and run again: nothing is lost, nothing comes twice. At a
    generation's beginning nothing is saved: the state from its end is as good."""
    storage = Storage(str(tmp_path / "small"))
    begin(experiment(), storage, fresh=False)
    cut = 2 * GENERATION + within
    world = World(experiment(), storage)
    original = MemberTrial.__init__

    def leaving(self: MemberTrial, *args: Any) -> None:
        original(self, *args)
        self.data = Leaving(self.data, self, cut)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemberTrial, "__init__", leaving)
        world.killed_together = True
        assert {type(error) for error in world.run().errors.values()} == {Killed}
    saved = [
        decode(StateFiles(storage).read_early(member)).step for member in range(3) if early(storage, member)
    ]
    assert set(saved) == ({cut} if within else set())
    assert not World(experiment(), storage).run().errors
    assert not any(early(storage, member) for member in range(3))
    members = read(storage, "members", superseded=True)
    assert cut in set(members["step"])
    events = read(storage, "events")
    assert set(events["kind"]) == ({"exploit", "notice"} if within else {"exploit"})
    told = events[events["kind"] == "exploit"]
    assert list(told["step"]) == list(read(whole, "events")["step"])
    reports, undisturbed = read(storage, "reports"), read(whole, "reports")
    assert list(reports["score"]) == list(undisturbed["score"])
    assert list(reports["step"]) == list(undisturbed["step"])
    assert list(reports["train_flops"]) == list(undisturbed["train_flops"])
    assert list(reports["train_loss"]) == list(undisturbed["train_loss"])


def test_who_is_killed_right_after_an_early_save_has_told_its_exploit(
    tmp_path: Path, whole: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path / "small"))
    begin(experiment(), storage, fresh=False)
    world, original = World(experiment(), storage), MemberTrial.__init__
    first = lineage(whole).iloc[0]
    written = StateFiles.write_early

    def leaving(self: MemberTrial, *arguments: Any) -> None:
        original(self, *arguments)
        if self.start.member == first["member"]:
            self.data = Leaving(self.data, self, int(first["generation"]) * GENERATION + 3)

    def killed(self: StateFiles, *arguments: Any) -> None:
        written(self, *arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MemberTrial, "__init__", leaving)
        patch.setattr(StateFiles, "write_early", killed)
        world.killed_together = True
        assert {type(error) for error in world.run().errors.values()} == {Killed}
    assert not World(experiment(), storage).run().errors
    columns = ["member", "generation", "donor", "step"]
    assert lineage(storage)[columns].values.tolist() == lineage(whole)[columns].values.tolist()


def test_what_a_method_noted_before_an_early_save_is_told_afterwards(tmp_path: Path) -> None:
    """A prune within the generation, then the save, then the end of the process: the event and the seconds
    until then are there when the generation ends elsewhere."""
    cut = 2 * GENERATION + 5

    def pruned_once(hp: dict[str, Any]) -> Recipe:
        return Recipe("lenet-300-100", STEPS, (Cut(0.1, cut - 2),), batch=32)

    def run(storage: Storage, interrupted: bool) -> None:
        world = World(experiment(Grid({}), recipe=pruned_once), storage)
        original = MemberTrial.__init__

        def leaving(self: MemberTrial, *args: Any) -> None:
            original(self, *args)
            self.data = Leaving(self.data, self, cut)

        with pytest.MonkeyPatch.context() as patch:
            if interrupted:
                patch.setattr(MemberTrial, "__init__", leaving)
            assert {type(error) for error in world.run().errors.values()} == (
                {Killed} if interrupted else set()
            )

    begin(experiment(Grid({}), recipe=pruned_once), Storage(str(tmp_path / "small")), fresh=False)
    storage, whole = Storage(str(tmp_path / "small")), Storage(str(tmp_path / "whole"))
    begin(experiment(Grid({}), recipe=pruned_once), whole, fresh=False)
    run(whole, False)
    run(storage, True)
    saved = decode(StateFiles(storage).read_early(0))
    before = read(storage, "reports")["seconds"].max()
    assert saved.seconds > before
    run(storage, False)
    kinds = ["kind", "step", "message"]
    events = read(storage, "events")
    assert (
        events[events["kind"] != "notice"][kinds].values.tolist()
        == read(whole, "events")[kinds].values.tolist()
    )
    assert list(events["kind"]).count("cut") == 1
    assert read(storage, "reports")["seconds"].max() > saved.seconds


def test_a_machine_that_goes_while_a_member_finishes_costs_its_last_generation_alone(tmp_path: Path) -> None:
    """Half of what `finish` does is no state to go on from."""
    phases = TwoPhases(GENERATION, 5, 1)
    steps = phases.end

    def superposed(hp: dict[str, Any]) -> Recipe:
        return Recipe("wrn-10-1", steps, sup_tickets(static(0.1), phases), batch=32)

    storage = Storage(str(tmp_path / "small"))
    begin(experiment(Grid({}), recipe=superposed), storage, fresh=False)
    original = MemberTrial.__init__

    def leaving(self: MemberTrial, *args: Any) -> None:
        original(self, *args)
        self.data = Leaving(self.data, self, 0, after=steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemberTrial, "__init__", leaving)
        (error,) = World(experiment(Grid({}), recipe=superposed), storage).run().errors.values()
        assert type(error) is Killed
    assert not early(storage, 0)
    assert World(experiment(Grid({}), recipe=superposed), storage).run().errors == {}
    assert list(read(storage, "reports")["step"]) == [GENERATION, steps]
    assert list(read(storage, "reports")["final"]) == [False, True]


def early(storage: Storage, member: int) -> bool:
    return storage.exists(f"states/m{member:04d}/early.pt")


class Leaving:
    """A data set whose machine goes before step `cut`, or the first such batch `after` so many."""

    def __init__(self, data: Any, trial: MemberTrial, cut: int, after: int = 0) -> None:
        self.data, self.trial, self.cut, self.after = data, trial, cut, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def batch(self, seed: int, step: int, *args: Any, **more: Any) -> Any:
        if step == self.cut and self.trial.member.step >= self.after:
            self.trial.save_early()
            raise Killed
        return self.data.batch(seed, step, *args, **more)


def test_a_donors_state_that_is_lost_is_noted_and_the_member_goes_on(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "small"))

    def stop(trial: MemberTrial, result: dict[str, Any]) -> None:
        if result["generation"] == 1:
            raise Killed

    World(experiment(), storage).run(stop)
    board = Board(storage, Terms(PBT(SPACE, members=3), range(3)))
    taken = next(each for each in board.decisions.values() if each.donor is not None)
    assert taken.donor is not None
    StateFiles(storage).delete(taken.donor, 1)
    world = World(experiment(), storage)

    def stop_later(trial: MemberTrial, result: dict[str, Any]) -> None:
        assert result["generation"] == 2
        raise Killed

    world._member(experiment().starts()[taken.member], stop_later)
    assert isinstance(world.errors[taken.member], Killed)
    events = read(storage, "events")
    lost = events[events["kind"] == "lost"]
    assert list(zip(lost["member"], lost["donor"], strict=True)) == [(taken.member, taken.donor)]
    assert "going on without it" in lost["message"].iloc[0]


def test_a_member_that_diverges_is_replaced(tmp_path: Path) -> None:
    def explosive(hp: dict[str, Any]) -> Recipe:
        made = recipe(hp)
        return replace(made, optimizer=replace(made.optimizer, lr=1e30 if hp["fraction"] > 0.5 else 0.05))

    changed = experiment(recipe=explosive, score="train_loss", mode="min")
    starts = changed.starts()
    victim = replace(starts[1], hp={**starts[1].hp, "fraction": 0.51})

    class OneExplodes(PBT):
        def starts(self, seed: int) -> list[Any]:
            return [starts[0], victim, starts[2]]

    search = OneExplodes({**SPACE, "fraction": SPACE["fraction"]}, members=3, quantile=0.34)
    storage = Storage(str(tmp_path / "small"))
    assert not World(replace(changed, search=search), storage).run().errors
    reports, events = read(storage, "reports"), read(storage, "events")
    first = reports[(reports["member"] == 1) & (reports["generation"] == 1)]
    assert first["score"].isna().all()
    assert 1 in set(events[events["generation"] == 1]["member"])
    told = events[events["kind"] == "diverged"]
    assert (told["member"].tolist(), told["step"].tolist()) == ([1], [GENERATION])
    assert reports[reports["final"]]["score"].notna().all()


def test_a_diverged_member_that_nobody_replaces_ends_last(tmp_path: Path) -> None:
    """By validation accuracy, of which a network of NaNs has some too."""
    made = replace(experiment(), recipe=lambda hp: replace(recipe({"fraction": 0.3, **hp}), steps=24))
    broken = replace(made, search=Grid({"lr": [1e30, 0.05]}))
    storage = Storage(str(tmp_path / "small"))
    begin(broken, storage, fresh=False)
    assert not World(broken, storage).run().errors
    board, events = leaderboard(storage), read(storage, "events")
    assert board["member"].tolist() == [1, 0]
    assert board["score"].isna().tolist() == [False, True]
    assert board["validation_accuracy"].notna().all()
    (told,) = events[events["kind"] == "diverged"].to_dict("records")
    assert (told["member"], told["step"]) == (0, GENERATION)
    assert "smaller learning rate" in told["message"]


def test_members_that_do_not_wait_for_each_other_may_go_back_in_time(tmp_path: Path) -> None:
    """A fast diverged member takes a slower one's state: its rows beyond that step no longer hold."""
    search = PBT(SPACE, members=2, quantile=0.5, synchronous=False)
    changed = experiment(search, score="train_loss", mode="max")
    storage = Storage(str(tmp_path / "small"))
    world = World(changed, storage)
    trial = MemberTrial(world.job, changed.starts()[0], lambda result: None)
    with world.client.baton:
        trial._begin()
        behind = trial.member.state()
        behind_step = trial.member.step
        trial.member.step = GENERATION
        trial.generation = 1
        donated = {**behind, "step": behind_step}
        trial._take(donated, Assignment(0, 1, 1, dict(trial.hp), 1, "test"))
    assert trial.member.step == 0
    assert isinstance(trial.records, Records)
    assert trial.records.writer.attempt == 1
    started = read(storage, "members", superseded=True)
    assert list(started["step"]) == [0, 0]


def test_a_hang_is_recorded_where_there_is_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a member has one, and while the donor's takes the place of its own."""
    storage = Storage(str(tmp_path / "small"))
    world = World(experiment(), storage)
    trial = MemberTrial(world.job, experiment().starts()[0], lambda result: None)
    trial.report_hang("at the beginning")

    def adopt(*given: Any) -> None:
        trial.report_hang("in between")
        raise Killed

    with world.client.baton:
        trial._begin()
        trial.generation = 1
        monkeypatch.setattr(trial, "adopt", adopt)
        with pytest.raises(Killed):
            trial._take(trial.member.state(), Assignment(0, 1, 1, dict(trial.hp), 1, "test"))
    events = read(storage, "events", superseded=True)
    assert list(events["message"]) == ["at the beginning", "in between"]
    assert list(events["generation"]) == [0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_asynchronous_populations_end_with_complete_tables(tmp_path: Path, seed: int) -> None:
    search = PBT(SPACE, members=4, quantile=0.5, synchronous=False)
    storage = Storage(str(tmp_path / "small"))
    assert not World(experiment(search, seed=seed), storage).run().errors
    reports = read(storage, "reports")
    assert not reports.duplicated(["member", "step"]).any()
    assert set(reports[reports["final"]]["member"]) == {0, 1, 2, 3}
    for member in range(4):
        segments = ancestors(storage, member)
        assert segments[0][1] == 0
        assert segments[-1][::2] == (member, STEPS)
        assert all(before[2] == after[1] for before, after in pairwise(segments))


def test_members_without_exchange_keep_their_last_states_and_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = experiment(Grid({"lr": [0.01, 0.1], "fraction": [0.3]}))
    whole, storage = Storage(str(tmp_path / "whole")), Storage(str(tmp_path / "small"))
    assert not World(changed, whole).run().errors
    assert StateFiles(whole).all() == {(member, generation) for member in (0, 1) for generation in (2, 3)}
    assert not whole.exists("posts")
    with monkeypatch.context() as patch:
        cut(patch, 13, arrives=False)
        assert run_until_cut(storage, changed).errors
    assert not World(changed, storage).run().errors
    assert_same_results(storage, whole)


def test_an_unknown_score_is_named(tmp_path: Path) -> None:
    world = World(
        experiment(Grid({"lr": [0.1], "fraction": [0.3]}), score="accurracy"), Storage(str(tmp_path))
    )
    (error,) = world.run().errors.values()
    assert "'accurracy'" in str(error)
    assert "validation_accuracy" in str(error)


def test_the_rows_tell_the_members_own_hyperparameters(whole: Storage) -> None:
    events = read(whole, "events")
    for before, after in zip(events["hp_before"], events["hp_after"], strict=True):
        assert json.loads(before) != json.loads(after)
        assert set(json.loads(after)) == set(SPACE)

"""Rounds of parallel grow-and-prune without Ray: the simulation bit for bit, whatever is cut off and when."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsepop.experiment import PARTITION, PartitionParallel
from sparsepop.member import Member
from sparsepop.merge import Round
from sparsepop.methods import Method, PartitionGrow, Superpose
from sparsepop.population.board import Board, Terms
from sparsepop.population.exchange import Exchange
from sparsepop.population.messages import Assignment, Post
from sparsepop.population.partitions import PartitionRounds
from sparsepop.population.rounds import Merge, Outcome, at_once, mergeable
from sparsepop.population.states import merged_path
from sparsepop.population.trial import MemberTrial
from sparsepop.recipe import Recipe
from sparsepop.results import ancestors, leaderboard, read
from sparsepop.schedule import TwoPhases
from sparsepop.storage import Storage
from sparsepop.tickets import take
from tests.test_population.boards import settle, tell
from tests.test_population.rounds import (
    GENERATION,
    PARTS,
    SEARCH,
    Make,
    maker,
    parallel,
    simulated,
    ticket_of,
)
from tests.test_population.worlds import Killed, World, assert_same_results, cut

ROUNDS = PartitionRounds(PartitionParallel(3, groups=2), start=1, last=3)
KEEPING = PartitionRounds(PartitionParallel(3, groups=2, lost="keep"), start=1, last=3)
OUTCOME = Outcome({"merged": 0.5, "collapsed": 0.0}, {3: 30, 4: 40, 5: 50}, 7.0)


def post(member: int, generation: int) -> Post:
    density = 0.3 + member / 10  # partly dense, each otherwise: nobody is compared
    return Post(member, generation, 0.5, density, {PARTITION: member % 3, "lr": 0.1}, 4 * generation, 0.5)


# --- who does what when


def test_the_members_of_a_group_start_from_their_leader() -> None:
    decided = {each.member: each for each in at_once(ROUNDS, post(3, 1))}
    assert sorted(decided) == [3, 4, 5]
    assert decided[3].donor is None
    assert [(decided[m].donor, decided[m].donor_generation) for m in (4, 5)] == [(3, 1), (3, 1)]
    assert [decided[m].hp[PARTITION] for m in (3, 4, 5)] == [0, 1, 2]


@pytest.mark.parametrize("generation", [0, 4, 9])
def test_outside_the_rounds_everybody_goes_on_at_once(generation: int) -> None:
    (decided,) = at_once(ROUNDS, post(0, generation))
    assert (decided.member, decided.donor, decided.group) == (0, None, None)


def test_a_round_waits_for_all_of_its_group_and_for_nobody_else() -> None:
    posts = {member: post(member, 2) for member in (5, 3)}
    assert at_once(ROUNDS, posts[3]) == []
    assert mergeable(ROUNDS, 1, 2, posts, (), ()) is None
    assert mergeable(KEEPING, 1, 2, {}, (3, 4, 5), ()) is None
    merge = mergeable(ROUNDS, 1, 2, {**posts, 4: post(4, 2), 0: post(0, 2)}, (), ())
    assert merge is not None
    assert [each.member for each in merge.posts] == [3, 4, 5]
    excused = mergeable(KEEPING, 1, 2, posts, {4}, ())
    assert excused is not None
    assert [each.member for each in excused.posts] == [3, 5]
    assert mergeable(KEEPING, 1, 2, posts, (), {4}) == excused
    assert mergeable(ROUNDS, 1, 2, posts, {4}, {4}) is None


@pytest.mark.parametrize(("generation", "ends"), [(2, []), (3, [4, 5])])
def test_all_take_the_merged_network_and_one_goes_on_after_the_last(generation: int, ends: list[int]) -> None:
    merge = Merge(1, generation, tuple(post(member, generation) for member in (3, 4, 5)))
    decided = ROUNDS.after([(merge, OUTCOME)], {3, 4, 5})
    assert [each.member for each in decided] == [3, 4, 5]
    assert {(each.group, each.donor) for each in decided} == {(1, None)}
    assert [each.member for each in decided if each.ends] == ends
    assert [each.numbers["bytes_up"] for each in decided] == [30, 40, 50]
    assert [each.numbers["flops"] for each in decided] == [7.0, 0.0, 0.0]
    assert [Assignment.from_json(each.to_json()) for each in decided] == decided


def test_who_goes_on_is_somebody_who_is_still_there() -> None:
    merge = Merge(1, 3, (post(4, 3), post(5, 3)))
    assert [each.ends for each in KEEPING.after([(merge, OUTCOME)], {4, 5})] == [True, False, True]
    back = KEEPING.after([(merge, OUTCOME)], {3, 4, 5})
    assert [(each.ends, each.numbers["flops"]) for each in back] == [(False, 7.0), (True, 0.0), (True, 0.0)]
    everybody = PartitionRounds(PartitionParallel(3, groups=2, fine_tune="all"), start=1, last=3)
    assert not any(each.ends for each in everybody.after([(merge, OUTCOME)], {4, 5}))


# --- the board


def board_of(storage: Storage, rounds: PartitionRounds = ROUNDS) -> Board:
    return Board(storage, Terms(rounds.search, range(6), rounds=rounds))


def advance(board: Board) -> list[tuple[int, int]]:
    """Merge what can be; the keys of the merges."""
    assert board.rounds is not None
    leaders = sorted({board.rounds.leader_of(member) for member in board.running})
    merges = [merge for leader in leaders if (merge := board.merge(leader)) is not None]
    for merge in merges:
        settle(board, board.merged(merge, OUTCOME))
    return [merge.key for merge in merges]


@settings(max_examples=6)
@given(st.data())
def test_neither_the_order_of_posts_nor_restarts_change_a_decision(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    outcomes = []
    for _ in range(2):
        storage = Storage(str(tmp_path_factory.mktemp("board")))
        board, merged = board_of(storage), []
        for generation in range(1, 5):
            for member in data.draw(st.permutations((0, 3) if generation == 1 else range(6))):
                tell(board, post(member, generation))
                if data.draw(st.booleans()):
                    board = board_of(storage)
                merged += advance(board)
        assert sorted(merged) == [(0, 2), (0, 3), (1, 2), (1, 3)]
        outcomes.append({key: each.to_json() for key, each in board.decisions.items()})
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 24


def test_followers_may_ask_for_the_start_before_it_is_there(tmp_path: Path) -> None:
    board = board_of(Storage(str(tmp_path)))
    assert board.assignment(4, 1) is None
    tell(board, post(3, 1))
    found = board.assignment(4, 1)
    assert found is not None
    assert found.donor == 3
    assert board.assignment(1, 1) is None
    with pytest.raises(KeyError, match="which it has not posted"):
        board.assignment(4, 2)


def test_who_fails_for_good_is_missed_unless_old_partitions_are_kept(tmp_path: Path) -> None:
    for name, rounds in (("again", ROUNDS), ("keep", KEEPING)):
        board = board_of(Storage(str(tmp_path / name)), rounds)
        tell(board, post(0, 1))
        for member in (0, 2):
            tell(board, post(member, 2))
        assert board.missing(0, 2) is None
        board.retire(1)
        assert advance(board) == ([] if name == "again" else [(0, 2)])
        assert board.missing(0, 2) == (1 if name == "again" else None)
        assert board.missing(4, 1) is None
        board.retire(3)
        assert board.missing(4, 1) == 3


def test_a_lost_member_jumps_to_where_the_others_are(tmp_path: Path) -> None:
    board = board_of(Storage(str(tmp_path)), KEEPING)
    tell(board, post(0, 1))
    for member in (0, 2):
        tell(board, post(member, 2))
    assert advance(board) == []
    board.lose(1, 2)
    assert advance(board) == [(0, 2)]
    found = board.assignment(1, 1)
    assert found is not None
    assert (found.generation, found.group) == (2, 0)
    for member in (0, 2):
        tell(board, post(member, 3))
    assert advance(board) == []
    tell(board, post(1, 3))
    assert advance(board) == [(0, 3)]


def test_neither_a_post_nor_a_question_looks_at_other_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Board.newest, set()

    def newest(self: Board, member: int) -> int:
        seen.add(member)
        return original(self, member)

    async def scenario() -> None:
        for leader in (0, 3):
            await exchange.post(post(leader, 1), [])
        seen.clear()
        await exchange.post(post(4, 2), [])
        assert not await exchange.decided(4, 2, 0.0)
        assert seen == {3, 4, 5}

    exchange = Exchange(str(tmp_path), Terms(ROUNDS.search, range(6), rounds=ROUNDS))
    monkeypatch.setattr(Board, "newest", newest)
    asyncio.run(scenario())


def test_a_merge_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    tries: list[Merge] = []

    async def merger(merge: Merge, references: list[list[Any]]) -> tuple[Outcome, list[Any]]:
        tries.append(merge)
        if len(tries) == 1:
            raise OSError("disk full")
        return OUTCOME, [f"merged {len(references)}"]

    rounds = PartitionRounds(SEARCH, 0, 3)
    exchange = Exchange(str(tmp_path), Terms(SEARCH, [0, 1], rounds=rounds), lambda: merger)

    async def scenario() -> None:
        await exchange.post(post(0, 0), [])
        for member in (0, 1):
            await exchange.post(post(member, 1), ["reference"])
        assert await exchange.ask(0, 1, 0.05) is None
        with pytest.raises(OSError, match="disk full"):
            await exchange.ask(1, 1, 0.05)
        for member in (0, 1):
            answer = await exchange.ask(member, 1, 5.0)
            assert answer is not None
            assert (answer[0].group, answer[1]) == (0, ["merged 2"])

    asyncio.run(scenario())
    assert len(tries) == 2


def test_merged_networks_that_could_not_be_deleted_are_deleted_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, rounds = Storage(str(tmp_path)), PartitionRounds(SEARCH, 0, 5)
    locked = [1, 2]

    async def merger(merge: Merge, references: list[list[Any]]) -> tuple[Outcome, list[Any]]:
        storage.write(merged_path(*merge.key), b"network")
        return OUTCOME, []

    def delete(self: Storage, path: str) -> None:
        if any(path == merged_path(0, generation) for generation in locked):
            raise PermissionError("may not delete")
        original(self, path)

    async def scenario() -> None:
        await exchange.post(post(0, 0), [])
        for generation in range(1, 6):
            if generation == 5:
                locked.clear()
            for member in (0, 1):
                await exchange.post(post(member, generation), [])
            for member in (0, 1):
                assert await exchange.ask(member, generation, 5.0) is not None
        await asyncio.gather(*exchange._merging.values())

    original = Storage.delete
    monkeypatch.setattr(Storage, "delete", delete)
    exchange = Exchange(str(tmp_path), Terms(SEARCH, [0, 1], rounds=rounds), lambda: merger)
    asyncio.run(scenario())
    assert storage.names("merged/p0000") == ["g0004.pt", "g0005.pt"]


# --- in one process, against the simulation


def assert_simulated(world: World, recipe: Make) -> tuple[Member, list[Round]]:
    """Weights, masks, BatchNorm buffers and what is told of the rounds, bit for bit; returns the simulated
    member and rounds.
    """
    assert not world.errors
    member, rounds = simulated(world.experiment, recipe)
    state, wanted = world.trials[0].member.model.state_dict(), member.model.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    assert world.trials[0].member.masks.digest() == member.masks.digest()
    assert ticket_of(world.storage, 0).id == take(member).id
    events = read(world.storage, "events")
    told = events[(events["kind"] == "merge") & (events["member"] == 0)]["numbers"].tolist()
    for each, numbers in zip(rounds, told, strict=True):
        assert {**numbers, "bytes_up": sum(each.bytes_up)} == each.numbers()
        assert numbers["bytes_up"] == each.bytes_up[0]
    return member, rounds


@pytest.mark.parametrize(
    ("model", "begin", "through_memory"), [("wrn-10-1", 1, True), ("lenet-300-100", 0, False)]
)
def test_a_population_comes_to_what_the_simulation_comes_to(
    tmp_path: Path, model: str, begin: int, through_memory: bool
) -> None:
    recipe = maker(model, begin)
    world = World(parallel(recipe), Storage(str(tmp_path)), through_memory=through_memory).run()
    member, rounds = assert_simulated(world, recipe)
    storage = world.storage
    reports, members = read(storage, "reports"), read(storage, "members")
    assert dict(zip(members["member"], members["status"], strict=True)) == {0: "done", 1: "merged"}
    # node accuracies: the reports at the rounds' ends
    for each in rounds:
        nodes = reports[reports["step"] == each.step].sort_values("member")["validation_accuracy"]
        assert tuple(nodes) == each.members
    assert leaderboard(storage)["member"].tolist() == [0, 1]
    newest = reports.groupby("member").tail(1)
    assert newest["train_flops"].sum() == member.train_flops
    explored = reports[reports["member"] == 0].set_index("step")["numbers"].map(lambda row: row["explored"])
    assert explored.iloc[-1] == 1.0
    layers = read(storage, "layers")
    assert any("changed" in numbers for numbers in layers[layers["step"] == reports["step"].max()]["numbers"])
    assert ancestors(storage, 1) == [
        (0, 0, begin * GENERATION),
        (1, begin * GENERATION, int(rounds[-1].step)),
    ]
    assert storage.names("merged/p0000") == [f"g{begin + 1:04d}.pt", f"g{begin + 2:04d}.pt"]
    merges = read(storage, "events").query("kind == 'merge'").set_index(["member", "generation"])["overlap"]
    assert (merges.drop((1, begin + 2)) < 1.0).all()
    assert math.isnan(merges[1, begin + 2])  # which goes no further, and takes nothing


def test_tickets_of_the_fine_tuning_are_superposed_at_the_end(tmp_path: Path) -> None:
    """The last round ends dense, so cycles can begin a step later at the earliest."""

    def recipe(hp: dict[str, Any]) -> Recipe:
        rounds = maker("lenet-300-100")(hp)
        cycles = TwoPhases(rounds.steps - 1, 2, 2)
        methods = (*rounds.methods, Superpose(cycles))
        return replace(rounds, steps=cycles.end, methods=methods)

    world = World(parallel(recipe), Storage(str(tmp_path))).run()
    member, _ = assert_simulated(world, recipe)
    assert member.masks.alive == round(0.1 * member.masks.total)
    (made,) = read(world.storage, "events").query("kind == 'superpose'")["numbers"]
    assert made["tickets"] == 3.0
    assert made["union_density"] == pytest.approx(0.1, abs=1e-3)  # nothing of the dense rounds is in it


def test_what_is_sent_is_within_5_percent_of_the_specification(tmp_path: Path) -> None:
    """Up 4 |P_i| and biases, down 4 alive + N / 8 and biases, in bytes, by round and member."""
    world = World(parallel(maker("lenet-300-100")), Storage(str(tmp_path))).run()
    events = read(world.storage, "events")
    merges = events[events["kind"] == "merge"]
    assert len(merges) == 2 * PARTS
    weights = [64 * 300, 300 * 100 + 100 * 10]
    others = [300, 110]
    total, alive = sum(weights), round(0.1 * sum(weights))
    for member, numbers in zip(merges["member"], merges["numbers"], strict=True):
        up, down = 4 * (weights[member] + others[member]), 4 * alive + total / 8 + 4 * sum(others)
        assert up <= numbers["bytes_up"] <= 1.05 * up
        assert down <= numbers["bytes_down"] <= 1.05 * down
    (start,) = events.query("kind == 'start' and member == 1")["numbers"]
    whole = 8 * (total + sum(others)) + 2 * total  # momentum; masks, and what was ever alive
    assert whole <= start["bytes_down"] <= 1.001 * whole


def test_groups_do_not_wait_for_each_other_and_all_may_fine_tune(tmp_path: Path) -> None:
    recipe = maker("lenet-300-100", 0)
    search = PartitionParallel(PARTS, groups=2, batches=3, fine_tune="all")
    world = World(parallel(recipe, search), Storage(str(tmp_path))).run()
    assert_simulated(world, recipe)
    assert set(read(world.storage, "members")["status"]) == {"done"}
    assert len({ticket_of(world.storage, member).id for member in range(4)}) == 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A population that nothing disturbed."""
    storage = Storage(str(tmp_path_factory.mktemp("whole")))
    recipe = maker("lenet-300-100")
    assert_simulated(World(parallel(recipe), storage).run(), recipe)
    return storage


@pytest.mark.parametrize("place", [3, 12, 17, 22, 27, 31])
def test_a_run_that_is_cut_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: Storage, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """All processes end at the `place`th file that is written; every other time it still arrives."""
    recipe, broken = maker("lenet-300-100"), Storage(str(tmp_path))

    with monkeypatch.context() as patch:
        cut(patch, place, arrives=bool(place % 2))
        world = World(parallel(recipe), broken)
        world.killed_together = True
        assert world.run().errors
    assert not World(parallel(recipe), broken).run().errors
    assert_same_results(broken, whole)
    assert ticket_of(broken, 0).id == ticket_of(whole, 0).id


@dataclass(frozen=True)
class Stumble(Method):
    """The process of member `who` ends at `step`, once."""

    folder: str
    step: int
    who: int

    def after_step(self, member: Member) -> None:
        grow, mark = member.recipe.methods[0], Path(self.folder, "stumbled")
        assert isinstance(grow, PartitionGrow)
        if member.step == self.step and grow.own == self.who and not mark.exists():
            mark.touch()
            raise Killed


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("lost", ["again", "keep"])
def test_a_member_that_is_killed_in_a_round_trains_it_again_or_its_old_partition_is_kept(
    tmp_path: Path, lost: str, step: int, who: int
) -> None:
    """One after the other: one member is killed in the round, which the other finishes, and comes back."""
    recipe = maker("lenet-300-100", 0, 2, Stumble(str(tmp_path), step, who))
    search = PartitionParallel(PARTS, batches=3, lost=lost)
    world = World(parallel(recipe, search), Storage(str(tmp_path / "small")))
    starts = world.experiment.starts()

    def attempt(member: int) -> bool:
        with world.client.baton:
            trial = MemberTrial(world.job, starts[member], lambda result: None, gives_way=lambda: True)
            world.trials[member] = trial
            return trial.run()

    killed, done = 0, [False, False]
    for turn in range(1000):
        member = turn % 2
        try:
            done[member] = done[member] or attempt(member)
        except Killed:
            killed += 1
        if all(done):
            break
    assert (killed, done) == (1, [True, True])
    events = read(world.storage, "events")
    merges = events[(events["kind"] == "merge") & (events["member"] == who)].sort_values("step")
    idle = [row["bytes_up"] == 0.0 for row in merges["numbers"]]
    if lost == "again":
        assert idle == [False, False]
        assert_simulated(world, maker("lenet-300-100", 0))
    else:
        assert idle == [step == 1, step == 3]
        assert world.trials[0].member.masks.density == pytest.approx(0.1, abs=1e-3)

"""Groups of parallel grow-and-prune that learn from each other between rounds, by the rule of PBT."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepop.config import ConfigError
from sparsepop.experiment import PARTITION, Experiment, PartitionParallel
from sparsepop.member import State
from sparsepop.merge import unpack
from sparsepop.methods import Partition, PartitionGrow
from sparsepop.methods.partition_grow import growth_of
from sparsepop.optim import SGD
from sparsepop.population import merging
from sparsepop.population.board import Board, Terms, welcome
from sparsepop.population.job import Job
from sparsepop.population.launch import train_all
from sparsepop.population.messages import Post
from sparsepop.population.partitions import PartitionRounds
from sparsepop.population.places import Places
from sparsepop.population.preflight import begin, check_experiment
from sparsepop.population.rounds import Merge, Outcome
from sparsepop.population.trial import MemberTrial
from sparsepop.recipe import Recipe
from sparsepop.results import ancestors, read
from sparsepop.schedule import Phases
from sparsepop.space import Domain, LogUniform
from sparsepop.storage import Storage
from tests.test_population.boards import settle, tell
from tests.test_population.rounds import GENERATION, parallel, ticket_of
from tests.test_population.worlds import World, assert_same_results, cut

SPACE: dict[str, Domain] = {"lr": LogUniform(1e-4, 0.3)}
SEARCH = PartitionParallel(2, groups=3, space=SPACE, batches=0, quantile=0.34)
ROUNDS = PartitionRounds(SEARCH, start=0, last=3, seed=7)
KEEPING = PartitionRounds(
    PartitionParallel(2, groups=3, space=SPACE, batches=0, quantile=0.34, lost="keep"), start=0, last=3
)
LRS = (0.1, 0.02, 0.003)
SCORES = (0.5, 0.9, 0.2)


def post(member: int, generation: int) -> Post:
    hp = {"lr": LRS[member // 2], PARTITION: member % 2}
    return Post(member, generation, 0.5, 0.3 + member / 10, hp, generation * GENERATION, 0.5)


def ended(group: int, generation: int) -> tuple[Merge, Outcome]:
    posts = tuple(post(member, generation) for member in (2 * group, 2 * group + 1))
    numbers = {"merged": SCORES[group], "merged_loss": 0.5, "collapsed": 0.0}
    return Merge(group, generation, posts), Outcome(numbers, {2 * group: 5, 2 * group + 1: 6}, 7.0)


# --- who takes what


def test_a_losing_group_takes_network_and_explored_hyperparameters_of_the_best_alike() -> None:
    decided = ROUNDS.after([ended(group, 1) for group in range(3)], range(6))
    assert [each.member for each in decided] == list(range(6))
    assert [each.group for each in decided] == [0, 0, 1, 1, 1, 1]
    assert [each.donor for each in decided] == [None] * 4 + [2, 3]
    assert [each.hp[PARTITION] for each in decided] == [0, 1, 0, 1, 0, 1]
    assert [each.hp["lr"] for each in decided[:4]] == [0.1, 0.1, 0.02, 0.02]
    assert decided[4].hp["lr"] == decided[5].hp["lr"] not in LRS
    assert [each.numbers["merged"] for each in decided] == [0.5, 0.5, 0.9, 0.9, 0.2, 0.2]
    assert [each.numbers["bytes_up"] for each in decided] == [5, 6] * 3


def test_groups_are_compared_between_rounds_alone_and_only_on_request() -> None:
    assert [generation for generation in range(5) if ROUNDS.compared(generation)] == [0, 1, 2]
    plain = PartitionRounds(PartitionParallel(2, groups=3, space=SPACE), start=0, last=3)
    assert not any(plain.compared(generation) for generation in range(5))


def test_low_scores_may_be_the_good_ones() -> None:
    rounds = PartitionRounds(SEARCH, start=0, last=3, mode="min")
    decided = rounds.after([ended(group, 1) for group in range(3)], range(6))
    assert [each.group for each in decided] == [0, 0, 2, 2, 2, 2]


# --- the board


def advance(board: Board, groups: Sequence[int] = (0, 1, 2)) -> list[str]:
    """Merge what can be; the names of what was journalled."""
    tags: list[str] = []
    for group in groups:
        if (merge := board.merge(2 * group)) is not None:
            tags += settle(board, board.merged(merge, ended(group, merge.generation)[1]))
    return tags


def board_of(storage: Storage, rounds: PartitionRounds = ROUNDS) -> Board:
    return Board(storage, Terms(rounds.search, range(6), rounds=rounds))


def begun(board: Board) -> Board:
    for leader in (0, 2, 4):
        tell(board, post(leader, 0))
    return board


@pytest.mark.parametrize("order", [range(6), (5, 4, 3, 2, 1, 0), (2, 0, 5, 1, 3, 4)])
@pytest.mark.parametrize("restarts", [False, True])
def test_neither_the_order_of_posts_nor_restarts_change_a_decision(
    tmp_path: Path, order: Sequence[int], restarts: bool
) -> None:
    board, tags = begun(board_of(Storage(str(tmp_path)))), []
    for member in order:
        tell(board, post(member, 1))
        tags += advance(board)
        if restarts:
            board = board_of(Storage(str(tmp_path)))
            tags += advance(board)
    assert tags == ["g0001"]
    wanted = ROUNDS.after([ended(group, 1) for group in range(3)], range(6))
    assert [board.decisions[member, 1].to_json() for member in range(6)] == [
        each.to_json() for each in wanted
    ]


def test_a_group_with_a_member_missing_is_not_waited_for(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    board = begun(board_of(storage))
    for member in range(5):
        tell(board, post(member, 1))
    assert advance(board) == []
    board.retire(5)
    board.keep_retired()
    assert settle(board, board.ripe()) == ["g0001"]
    assert [board.decisions[member, 1].group for member in range(4)] == [1, 1, 1, 1]
    assert board.missing(4, 1) == 5
    storage.delete_tree("retired")
    board = board_of(storage)
    tell(board, post(5, 1))
    assert advance(board) == ["g0001-p0002"]
    assert board.decisions[5, 1].group == 2


def test_a_group_that_keeps_old_partitions_is_waited_for(tmp_path: Path) -> None:
    board = begun(board_of(Storage(str(tmp_path)), KEEPING))
    for member in range(5):
        tell(board, post(member, 1))
    assert advance(board) == []
    board.retire(5)
    assert board.ripe() == []
    assert advance(board) == ["g0001"]


def test_a_round_knows_whose_network_it_began_with(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    board = begun(board_of(storage, KEEPING))
    for generation in (1, 2):
        for member in range(6):
            tell(board, post(member, generation))
        begun_from = {
            merge.group: merge.begun_from
            for group in range(3)
            if (merge := board_of(storage, KEEPING).merge(2 * group)) is not None
        }
        advance(board)
        if generation == 1:
            assert begun_from == dict.fromkeys(range(3))
    assert begun_from == {0: 0, 1: 1, 2: 1}


# --- what is refused


def recipe(hp: dict[str, Any]) -> Recipe:
    phases = Phases.regular(GENERATION, 3)
    methods = (PartitionGrow(0.1, Partition(2), hp[PARTITION], phases),)
    return Recipe("lenet-300-100", phases.end + 2, methods, SGD(hp["lr"]), batch=16)


def made(search: PartitionParallel = SEARCH, **more: Any) -> Experiment:
    return parallel(recipe, search, **more)


def test_what_cannot_be_compared_is_refused() -> None:
    check_experiment(made())
    check_experiment(made(score="validation_loss", mode="min"))
    with pytest.raises(ConfigError, match=r"merged networks, which have no 'phase': score by"):
        check_experiment(made(score="phase"))

    def one_round(hp: dict[str, Any]) -> Recipe:
        phases = Phases.regular(GENERATION, 1)
        return Recipe(
            "lenet-300-100", 4, (PartitionGrow(0.1, Partition(2), hp[PARTITION], phases),), batch=16
        )

    with pytest.raises(ConfigError, match="between rounds, and there is one alone"):
        check_experiment(parallel(one_round, SEARCH))


# --- in one process


@pytest.fixture(scope="module")
def taken() -> dict[tuple[int, int], dict[str, float]]:
    return {}


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, taken: dict[tuple[int, int], dict[str, float]]
) -> Storage:
    """A population that nothing disturbed; `taken`: the sums of weights that members went on from."""
    storage, original = Storage(str(tmp_path_factory.mktemp("whole"))), MemberTrial.adopt

    def adopt(self: MemberTrial, state: State, seconds: float) -> None:
        original(self, state, seconds)
        values = self.member.model.state_dict()
        taken[self.start.member, self.generation] = {n: float(v.double().sum()) for n, v in values.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemberTrial, "adopt", adopt)
        assert not World(made(), storage).run().errors
    return storage


def test_all_members_of_a_losing_group_go_on_from_the_winners_network(
    whole: Storage, taken: dict[tuple[int, int], dict[str, float]]
) -> None:
    events = read(whole, "events")
    exploits, merges = events.query("kind == 'exploit'"), events.query("kind == 'merge'")
    assert set(exploits["generation"]) <= {1, 2}
    assert len(exploits) >= 2
    assert len(merges) == 6 * 3
    for (_, generation), rows in exploits.groupby([exploits["member"] // 2, "generation"]):
        assert len(rows) == 2
        scores = merges[merges["generation"] == generation].set_index("member")["numbers"]
        for row in rows.to_dict("records"):
            assert row["donor"] % 2 == row["member"] % 2
            assert scores[row["donor"]]["merged"] > scores[row["member"]]["merged"]
            assert taken[row["member"], generation] == taken[row["donor"], generation]
        before, after = (
            [json.loads(text)["lr"] for text in rows[name]] for name in ("hp_before", "hp_after")
        )
        assert len(set(before)) == len(set(after)) == 1
        assert before[0] != after[0]
    first = exploits.sort_values("step").iloc[-1]
    steps = [start for _, start, _ in ancestors(whole, int(first["member"]))]
    assert int(first["step"]) in steps


Fallen = list[tuple[int, State, Collection[str]]]


def has_one_fall(patch: pytest.MonkeyPatch, world: World) -> Fallen:
    """The member that will fail for good in `world` once its group has just taken the winner's network; with
    the state that it had then, and the names of its weights.
    """
    exploited, fallen = MemberTrial.record_exploit, Fallen()

    def falls(self: MemberTrial, *args: Any) -> None:
        exploited(self, *args)
        if self.generation == 1 and self.start.member % 2 and not fallen:
            state = {name: value.clone() for name, value in self.member.model.state_dict().items()}
            fallen.append((self.start.member, state, self.member.masks.params.keys()))
            exchange = world.client.exchange
            assert exchange is not None
            world.client._call(exchange.retire(self.start.member))
            raise ValueError("it fell")

    patch.setattr(MemberTrial, "record_exploit", falls)
    return fallen


def test_who_fell_with_another_groups_network_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The winners are many rounds further by then, and need that network no more."""

    def longer(hp: dict[str, Any]) -> Recipe:
        phases = Phases.regular(GENERATION, 6)
        return replace(
            recipe(hp), steps=phases.end + 2, methods=(replace(growth_of(recipe(hp)), rounds=phases),)
        )

    storage, experiment = Storage(str(tmp_path)), parallel(longer, SEARCH)
    world = World(experiment, storage)
    with monkeypatch.context() as patch:
        fallen = has_one_fall(patch, world)
        errors = world.run().errors
        assert fallen[0][0] in errors
    welcome(storage)  # as a later run of the same command does
    assert not World(experiment, storage).run().errors


def test_a_partition_that_is_kept_is_the_one_that_its_member_had_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member that has just taken over the winner's network falls: its group had another one before."""
    storage, kept = Storage(str(tmp_path)), merging._kept
    seen: list[tuple[int, Mapping[str, torch.Tensor]]] = []

    def watched(job: Job, rounds: PartitionRounds, merge: Merge, member: int) -> State:
        parcel = kept(job, rounds, merge, member)
        if merge.generation == 2:
            seen.append((member, unpack(parcel)["model"]))
        return parcel

    monkeypatch.setattr(merging, "_kept", watched)
    world = World(made(replace(SEARCH, lost="keep")), storage)
    found = has_one_fall(monkeypatch, world)
    world.run()
    ((fallen, state, weights),) = found
    ((member, model),) = seen
    assert member == fallen
    own = [name for name in weights if name in model]
    assert own
    assert all(torch.equal(model[name], state[name]) for name in own)


@pytest.mark.parametrize("place", [20, 41, 52, 57, 61, 64, 68, 75])
def test_a_run_that_is_cut_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: Storage, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """All processes end at the `place`th file that is written; every other time it still arrives."""
    storage = Storage(str(tmp_path))

    with monkeypatch.context() as patch:
        cut(patch, place, arrives=bool(place % 2))
        world = World(made(), storage, through_memory=False)
        world.killed_together = True
        assert world.run().errors
    assert not World(made(), storage).run().errors
    assert_same_results(storage, whole)
    assert all(ticket_of(storage, m).id == ticket_of(whole, m).id for m in (0, 2, 4))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.usefixtures("ray_address")
def test_processes_come_to_what_one_process_comes_to(tmp_path: Path, whole: Storage) -> None:
    storage = Storage(str(tmp_path))
    begin(made(), storage, fresh=False)
    assert train_all(made(), storage, Places(1, 5.0, 0.0, 1)) == {}
    assert_same_results(storage, whole)

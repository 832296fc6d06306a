"""Members that are superposed while they train: who takes what when, and the same bits wherever it is cut."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsepop.config import ConfigError
from sparsepop.data import open_data
from sparsepop.experiment import Experiment, Sampled, SuperposeParallel
from sparsepop.member import Member, Task
from sparsepop.merge import superpose_states, superposition
from sparsepop.methods import Cut, Thresholds, gmp, rigl
from sparsepop.optim import SGD
from sparsepop.population.board import Board, Terms
from sparsepop.population.launch import train_all
from sparsepop.population.messages import Post
from sparsepop.population.places import Places
from sparsepop.population.preflight import begin, check_experiment
from sparsepop.population.rounds import Merge, Outcome, at_once, mergeable
from sparsepop.population.states import StateFiles, merged_path
from sparsepop.population.superpositions import Superpositions, averaged
from sparsepop.recipe import Recipe
from sparsepop.results import ancestors, read
from sparsepop.schedule import Every
from sparsepop.space import Domain, LogUniform
from sparsepop.storage import Storage
from sparsepop.train import train
from tests.test_population.boards import settle, tell
from tests.test_population.rounds import ticket_of
from tests.test_population.worlds import Killed, World, assert_same_results, cut
from tests.test_population.worlds import experiment as small

GENERATION, STEPS = 4, 20
SPACE: dict[str, Domain] = {"lr": LogUniform(0.02, 0.2)}
AT = Every(8, 8, 16)
SEARCH = SuperposeParallel(SPACE, 3, AT, batches=3)
WORST = SuperposeParallel(SPACE, 3, AT, share="worst", quantile=0.67)
ENDS = (2, 4)
OUTCOME = Outcome({"collapsed": 0.0}, {0: 5, 1: 6, 2: 7, 3: 8}, 9.0)


def recipe(hp: dict[str, Any]) -> Recipe:
    return Recipe("wrn-10-1", STEPS, rigl(0.1, STEPS, interval=3), SGD(hp["lr"], momentum=0.9), batch=16)


def cut_recipe(step: int) -> Recipe:
    return replace(recipe({"lr": 0.1}), methods=(Thresholds(1e-4), Cut(0.1, step)))


def experiment(search: SuperposeParallel = SEARCH, **changes: Any) -> Experiment:
    return replace(small(search, **{"recipe": recipe, **changes}), generation=GENERATION)


def rounds(search: SuperposeParallel, start: int = -1, mode: str = "max") -> Superpositions:
    hps = {member: {"lr": member / 10} for member in range(search.members)}
    return Superpositions(search, ENDS, start, mode, hps)


def post(member: int, generation: int, score: float = 0.5) -> Post:
    return Post(member, generation, score, 0.1, {"lr": member / 10}, GENERATION * generation, score)


FOUR = SuperposeParallel(SPACE, 4, AT)
SCORES = (0.7, float("nan"), 0.5, 0.9)


def merge_of(search: SuperposeParallel, mode: str = "max") -> Merge:
    posts = {member: post(member, 2, score) for member, score in enumerate(SCORES)}
    merge = mergeable(rounds(search, mode=mode), 0, 2, posts, (), ())
    assert merge is not None
    return merge


# --- who does what when


def test_members_wait_for_each_other_where_they_are_superposed_and_nowhere_else() -> None:
    each = rounds(FOUR)
    assert [generation for generation in range(7) if not at_once(each, post(0, generation))] == [2, 4]
    posts = {member: post(member, 2) for member in (0, 1, 2)}
    assert mergeable(each, 0, 2, posts, (), {3}) is None
    found = mergeable(each, 0, 2, posts, {3}, ())
    assert found is not None
    assert sorted(each.member for each in found.posts) == [0, 1, 2]


@pytest.mark.parametrize(("mode", "order"), [("max", [1, 2, 0, 3]), ("min", [1, 3, 0, 2])])
def test_the_worst_come_first_and_who_diverged_gives_nothing(mode: str, order: list[int]) -> None:
    merge = merge_of(FOUR, mode)
    assert [each.member for each in merge.posts] == order
    assert [each.member for each in averaged(merge)] == order[1:]


@pytest.mark.parametrize(
    ("share", "quantile", "takers"),
    [("all", 0.25, [0, 1, 2, 3]), ("worst", 0.25, [1]), ("worst", 0.5, [1, 2]), ("worst", 0.1, [1])],
)
def test_all_take_the_superposed_network_or_the_worst(share: str, quantile: float, takers: list[int]) -> None:
    search = SuperposeParallel(SPACE, 4, AT, share=share, quantile=quantile)
    decided = rounds(search).after([(merge_of(search), OUTCOME)], range(4))
    assert [each.member for each in decided] == [0, 1, 2, 3]
    assert [each.member for each in decided if each.group == 0] == takers
    assert [each.hp for each in decided] == [{"lr": member / 10} for member in range(4)]
    assert not any(each.ends or each.donor is not None for each in decided)
    assert sum(each.numbers.get("flops", 0.0) for each in decided) == 9.0
    assert {m: decided[m].numbers["bytes_up"] for m in takers} == {m: 5.0 + m for m in takers}


@pytest.mark.parametrize(("recalibrated", "takers"), [(0.9, [1]), (0.91, [0, 1, 2, 3])])
def test_a_network_that_has_to_be_better_is_left_where_it_is_not(
    recalibrated: float, takers: list[int]
) -> None:
    """Member 1 has diverged: anything is better than what it has."""
    search = replace(FOUR, accept="better")
    outcome = replace(OUTCOME, numbers={"collapsed": 0.0, "recalibrated": recalibrated, "best_member": 0.9})
    decided = rounds(search).after([(merge_of(search), outcome)], range(4))
    assert [each.member for each in decided if each.group == 0] == takers
    assert all(each.numbers["recalibrated"] == recalibrated for each in decided)
    assert all(each.reason.endswith("the best of them") for each in decided if each.group is None)


def test_all_start_from_the_first_member_each_with_its_own_hyperparameters() -> None:
    each = rounds(FOUR, start=1)
    decided = at_once(each, post(0, 1))
    assert [(one.member, one.donor) for one in decided] == [(0, None), (1, 0), (2, 0), (3, 0)]
    assert [one.hp["lr"] for one in decided] == [0.0, 0.1, 0.2, 0.3]
    assert [each.leader_of(member) for member in range(4)] == [0] * 4
    assert [rounds(FOUR).leader_of(member) for member in range(4)] == [0, 1, 2, 3]


# --- the board


def superpose(board: Board) -> list[tuple[int, int]]:
    """Superpose if it is time to; the key of the merge."""
    merge = board.merge(0)
    if merge is None:
        return []
    settle(board, board.merged(merge, OUTCOME))
    return [merge.key]


@pytest.mark.parametrize("share", ["all", "worst"])
def test_who_fails_for_good_is_not_waited_for_and_may_catch_up(tmp_path: Path, share: str) -> None:
    storage = Storage(str(tmp_path))
    each = rounds(SuperposeParallel(SPACE, 4, AT, share=share))
    board = Board(storage, Terms(each.search, range(4), rounds=each))
    for member in (0, 1, 2):
        tell(board, post(member, 2))
    assert superpose(board) == []
    board.retire(3)
    assert board.missing(0, 2) is None
    assert superpose(board) == [(0, 2)]
    board = Board(storage, Terms(each.search, range(4), rounds=each))
    assert superpose(board) == []
    tell(board, post(3, 2))
    late = board.assignment(3, 2)
    assert late is not None
    assert (late.group, late.reason) == (None, "decided without it")
    for member in range(3):
        tell(board, post(member, 3))
        tell(board, post(member, 4))
    assert superpose(board) == []
    tell(board, post(3, 4))
    assert superpose(board) == [(0, 4)]


def test_the_common_start_is_kept_until_all_have_started(tmp_path: Path) -> None:
    each = rounds(FOUR, start=0)
    board = Board(Storage(str(tmp_path)), Terms(each.search, range(4), rounds=each))
    for generation in range(3):
        tell(board, post(0, generation))
    assert (0, 0) in board.needs
    for member in (1, 2, 3):
        assert (0, 0) in board.needs
        for generation in (1, 2):
            tell(board, post(member, generation))
    assert (0, 0) not in board.needs


# --- what is refused


@pytest.mark.parametrize("step", ["8", 8.0, 0, -8, True])
def test_a_step_is_a_whole_number(step: Any) -> None:
    with pytest.raises(ValueError, match=f"at={step!r}: use a whole number of at least 1"):
        SuperposeParallel(SPACE, 3, (8, step))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (experiment(SuperposeParallel(SPACE, 3, (8, 10))), "step 10 ends no generation of 4 steps"),
        (experiment(SuperposeParallel(SPACE, 3, Every(4), common=6)), "step 6 ends no generation"),
        (experiment(SuperposeParallel(SPACE, 3, (20,))), "names no step between"),
        (experiment(SuperposeParallel(SPACE, 3, (4,), common=4)), "names no step between"),
        (
            experiment(SuperposeParallel(SPACE, 3, (8, 400))),
            "names step 400, .* the last step 20: leave it out",
        ),
        (experiment(SuperposeParallel(SPACE, 3, (8, 20))), "names step 20, "),
        (experiment(SuperposeParallel(SPACE, 3, (4, 8), common=4)), "names step 4, "),
        (
            experiment(recipe=lambda hp: Recipe("lenet-300-100", STEPS, (Thresholds(0.1),), batch=16)),
            "an average needs masks that hold at step 8, and Thresholds only observes them before step 20",
        ),
        (
            experiment(recipe=lambda hp: cut_recipe(9)),
            "an average needs masks that hold at step 8, .* before step 9: drop one, or Cut by step 8",
        ),
        (
            experiment(
                recipe=lambda hp: Recipe("lenet-300-100", 20 if hp["lr"] > 0.06 else 24, rigl(0.1, 20))
            ),
            "agree on steps",
        ),
        (
            experiment(
                recipe=lambda hp: Recipe(
                    "lenet-300-100", 20, gmp(0.1, 12 if hp["lr"] > 0.06 else 16, interval=1)
                )
            ),
            "differ in their densities after step 8",
        ),
    ],
)
def test_what_has_no_average_is_refused_before_the_run(changed: Experiment, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_experiment(changed)


# --- in one process, against members that know no population


def simulated(made: Experiment, search: SuperposeParallel) -> list[Member]:
    """What the population must come to where all take the superposed network on."""
    data, starts = open_data(made.data), made.starts()
    task = Task(data.shape, data.classes)
    members = [Member.build(recipe(dict(start.hp)), start.seed, task) for start in starts]
    common = members[0].state()
    if search.common is not None:
        _until(members[0], search.common)
        common = deepcopy(members[0].state())
        members[1:] = [
            Member.restore(recipe(dict(start.hp)), start.seed, task, common) for start in starts[1:]
        ]
    for end in ENDS:
        scores = [_until(member, end * GENERATION) for member in members]
        order = sorted(range(3), key=lambda place: (scores[place], -place))
        one, _ = superpose_states(
            members[order[-1]].recipe,
            task,
            [deepcopy(members[place].state()) for place in order],
            [scores[place] for place in order],
            data,
            batches=search.batches,
            average=search.average,
            scope=search.scope,
        )
        for member in members:
            member.load(deepcopy(one.state()))
    for member in members:
        _until(member, STEPS)
    return members


def _until(member: Member, step: int) -> float:
    if member.step >= step:
        return 0.0
    (report,) = train(member, open_data("digits"), every=step, until=step)
    return report.validation.accuracy


@pytest.mark.parametrize(
    ("search", "through_memory"),
    [
        (SEARCH, True),
        (SuperposeParallel(SPACE, 3, (8, 16), common=4, average="cima", scope="layer", batches=0), False),
        (SuperposeParallel(SPACE, 3, AT, common=None, batches=3), True),
    ],
)
def test_a_population_comes_to_what_members_averaged_by_hand_come_to(
    tmp_path: Path, search: SuperposeParallel, through_memory: bool
) -> None:
    made, storage = experiment(search), Storage(str(tmp_path))
    begin(made, storage, fresh=False)
    world = World(made, storage, through_memory=through_memory).run()
    assert not world.errors
    for member, wanted in enumerate(simulated(made, search)):
        found = world.trials[member].member
        assert found.masks.digest() == wanted.masks.digest()
        state = wanted.model.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in found.model.state_dict().items())
        assert found.masks.alive == round(0.1 * found.masks.total)
    events = read(storage, "events").query("kind == 'superpose'")
    assert events["step"].tolist() == [8, 16] * 3
    for numbers, overlap in zip(events["numbers"], events["overlap"], strict=True):
        assert {"union_density", "unpruned", "pruned", "recalibrated", "members", "from_1"} <= numbers.keys()
        assert 0.1 <= numbers["union_density"] <= 0.3
        assert 0.0 <= numbers["overlap"] <= 1.0
        assert 0.0 < overlap <= 1.0
        assert numbers["networks"] == 3.0
    assert storage.names("merged/p0000") == ["g0004.pt"]
    if search.common is not None:
        assert ancestors(storage, 2) == [(0, 0, search.common), (2, search.common, STEPS)]


def test_a_collapse_is_told_once_however_often_its_round_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(superposition, "COLLAPSED", -1.0)
    made, storage = experiment(replace(SEARCH, batches=0)), Storage(str(tmp_path))
    begin(made, storage, fresh=False)
    written = StateFiles.write

    def killed(self: StateFiles, member: int, generation: int, content: bytes) -> None:
        if (member, generation) == (1, 3):
            raise Killed
        written(self, member, generation, content)

    with monkeypatch.context() as patch:
        patch.setattr(StateFiles, "write", killed)
        world = World(made, storage)
        world.killed_together = True
        assert world.run().errors
    assert not World(made, storage).run().errors
    events = read(storage, "events")
    assert len(read(storage, "events", superseded=True)) > len(events)
    for kind in ("superpose", "collapse"):
        assert events.query(f"kind == '{kind}'")["step"].tolist() == [8, 16] * 3


def test_members_of_a_soft_method_are_superposed_once_they_are_cut(tmp_path: Path) -> None:
    made, storage = experiment(recipe=lambda hp: cut_recipe(8)), Storage(str(tmp_path))
    begin(made, storage, fresh=False)
    world = World(made, storage).run()
    assert not world.errors
    first, *others = (trial.member for trial in world.trials.values())
    assert first.masks.alive == round(0.1 * first.masks.total)
    events = read(storage, "events").query("kind == 'superpose'")
    assert events["step"].tolist() == [8, 16] * 3
    density = first.masks.alive / first.masks.total
    assert all(density <= numbers["union_density"] <= 3 * density for numbers in events["numbers"])
    # all have had one network since step 16, and masks that no method changes
    assert {member.masks.digest() for member in others} == {first.masks.digest()}


def test_who_leaves_the_superposed_network_trains_as_if_alone_and_has_paid_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members far apart have no useful average."""
    apart = replace(SEARCH, accept="better", common=None)
    alone, together = (Storage(str(tmp_path / name)) for name in ("alone", "together"))
    assert not World(replace(experiment(), search=Sampled(SPACE, 3)), alone).run().errors
    with monkeypatch.context() as patch:
        patch.setattr(Superpositions, "_accepts", lambda *_: False)
        assert not World(experiment(apart), together).run().errors
    for member in range(3):
        assert ticket_of(together, member).id == ticket_of(alone, member).id
    events = read(together, "events").query("kind == 'superpose'")
    assert len(events) == 3 * 2
    assert events["overlap"].isna().all()
    assert "collapse" not in set(read(together, "events")["kind"])  # nobody has it
    assert events["message"].str.endswith("left: no better than the best of them").all()
    spent = [read(each, "reports").query("final")["train_flops"].sum() for each in (alone, together)]
    assert spent[1] > spent[0]


def test_only_the_worst_takes_it_and_the_others_go_on(tmp_path: Path) -> None:
    search = SuperposeParallel(SPACE, 3, (8,), share="worst", quantile=0.34)
    made, storage = experiment(search), Storage(str(tmp_path))
    begin(made, storage, fresh=False)
    world = World(made, storage).run()
    assert not world.errors
    reports = read(storage, "reports").query("step == 8").set_index("member")["score"]
    (event,) = read(storage, "events").query("kind == 'superpose'").to_dict("records")
    assert reports[event["member"]] == reports.min()
    best = int(reports.idxmax())
    lineages = read(storage, "tickets").set_index("member")["lineage"]
    assert json.loads(str(lineages[event["member"]])) == []  # of weights that were three members'
    assert len(json.loads(str(lineages[best]))) > 0
    data, start = open_data("digits"), made.starts()[best]
    first = made.starts()[0]
    task = Task(data.shape, data.classes)
    common = Member.build(recipe(dict(first.hp)), first.seed, task).state()
    alone = Member.restore(recipe(dict(start.hp)), start.seed, task, common)
    _until(alone, STEPS)
    assert alone.masks.digest() == world.trials[best].member.masks.digest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A population that nothing disturbed."""
    storage = Storage(str(tmp_path_factory.mktemp("whole")))
    assert not World(experiment(WORST, recipe=light), storage).run().errors
    return storage


def light(hp: dict[str, Any]) -> Recipe:
    return Recipe("lenet-300-100", STEPS, rigl(0.1, STEPS, interval=3), SGD(hp["lr"]), batch=16)


@pytest.mark.parametrize("place", [1, 12, 23, 34, 38, 41, 44, 47, 50, 55, 66])
def test_a_run_that_is_cut_anywhere_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: Storage, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    """All processes end at the `place`th file that is written; every other time it still arrives."""
    made = experiment(WORST, recipe=light)
    storage = Storage(str(tmp_path))

    with monkeypatch.context() as patch:
        cut(patch, place, arrives=bool(place % 2))
        world = World(made, storage)
        world.killed_together = True
        assert world.run().errors
    assert not World(made, storage).run().errors
    assert_same_results(storage, whole)
    assert all(ticket_of(storage, m).id == ticket_of(whole, m).id for m in range(3))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_address")
def test_processes_come_to_what_one_process_comes_to(tmp_path: Path, whole: Storage) -> None:
    made = experiment(WORST, recipe=light)
    storage = Storage(str(tmp_path))
    begin(made, storage, fresh=False)
    assert train_all(made, storage, Places(1, 5.0, 0.0, 1)) == {}
    assert_same_results(storage, whole)
    assert all(ticket_of(storage, m).id == ticket_of(whole, m).id for m in range(3))
    assert storage.exists(merged_path(0, 4))

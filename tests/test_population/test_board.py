"""The board: who waits for whom, what is decided when, and that storage alone is enough to go on."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparsepop.experiment import PBT
from sparsepop.population.board import Board, Terms, welcome
from sparsepop.population.exchange import Exchange
from sparsepop.population.messages import Post
from sparsepop.population.states import StateFiles
from sparsepop.search.pbt import SELECTIONS
from sparsepop.space import LogUniform
from sparsepop.storage import Storage
from tests.test_population.boards import settle, tell

SPACE = {"lr": LogUniform(1e-3, 1.0)}
SYNCHRONOUS, ASYNCHRONOUS = (PBT(SPACE, members=4, synchronous=each) for each in (True, False))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "x"))


def post(member: int, generation: int = 1, score: float | None = None, step: int | None = None) -> Post:
    score = float(member) if score is None else score
    return Post(member, generation, score, 0.1, {"lr": 0.1}, 100 * generation if step is None else step)


def retire(board: Board, member: int) -> None:
    board.retire(member)
    board.keep_retired()
    settle(board, board.ripe())


def test_a_generation_is_decided_when_the_last_running_member_has_posted(storage: Storage) -> None:
    board = Board(storage, Terms(SYNCHRONOUS, range(4)))
    for member in (3, 1, 0):
        tell(board, post(member))
        assert board.assignment(member, 1) is None
    tell(board, post(2))
    decided = {member: board.assignment(member, 1) for member in range(4)}
    assert {member for member, each in decided.items() if each and each.donor is not None} == {0}
    assert decided[0]
    assert (decided[0].donor, decided[0].donor_generation) == (3, 1)


def test_a_question_without_a_post_is_an_error(storage: Storage) -> None:
    board = Board(storage, Terms(SYNCHRONOUS, range(4)))
    with pytest.raises(KeyError, match="member 2 asks about generation 1"):
        board.assignment(2, 1)


@pytest.mark.parametrize("search", [SYNCHRONOUS, ASYNCHRONOUS], ids=["synchronous", "asynchronous"])
def test_a_board_opened_anew_answers_the_same(storage: Storage, search: PBT) -> None:
    board = Board(storage, Terms(search, range(4)))
    for generation in (1, 2):
        for member in range(4):
            tell(board, post(member, generation, (member * 7) % 4))
    again = Board(storage, Terms(search, range(4)))
    assert again.decisions == board.decisions
    assert len(again.decisions) == 8
    states = [(member, generation) for member in range(4) for generation in (1, 2)]
    assert [state in again.needs for state in states] == [state in board.needs for state in states]
    tell(again, post(0, 2, score=99.0))
    assert again.decisions == board.decisions


def test_a_decision_that_did_not_reach_storage_is_made_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board(storage, Terms(SYNCHRONOUS, range(2)))
    tell(board, post(0))

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(board, "journal", fail)
    with pytest.raises(OSError, match="disk full"):
        tell(board, post(1))
    again = Board(storage, Terms(SYNCHRONOUS, range(2)))
    assert again.assignment(1, 1) is None
    tell(again, post(1))
    assert again.assignment(0, 1) is not None


def test_nobody_waits_for_a_retired_member(storage: Storage) -> None:
    board = Board(storage, Terms(SYNCHRONOUS, range(4)))
    for member in (0, 1, 2):
        tell(board, post(member))
    assert board.assignment(0, 1) is None
    retire(board, 3)
    assert board.assignment(0, 1) is not None
    assert Board(storage, Terms(SYNCHRONOUS, range(4))).running == {0, 1, 2}
    welcome(storage)
    assert Board(storage, Terms(SYNCHRONOUS, range(4))).running == {0, 1, 2, 3}


def test_a_member_that_comes_late_goes_on_and_changes_no_decision(storage: Storage) -> None:
    board = Board(storage, Terms(SYNCHRONOUS, range(4)))
    retire(board, 3)
    for member in (0, 1, 2):
        tell(board, post(member))
    before = {member: board.assignment(member, 1) for member in (0, 1, 2)}
    board = Board(storage, Terms(SYNCHRONOUS, range(4)))
    tell(board, post(3, score=-1.0))
    late = board.assignment(3, 1)
    assert late is not None
    assert late.donor is None
    assert {member: board.assignment(member, 1) for member in (0, 1, 2)} == before
    again = Board(storage, Terms(SYNCHRONOUS, range(4)))
    assert again.decisions == board.decisions


def test_a_population_decides_by_the_selection_of_its_search(storage: Storage) -> None:
    """Under truncation nobody but the worst two copies."""
    copied = {}
    for selection in SELECTIONS:
        board = Board(storage.child(selection), Terms(PBT(SPACE, members=8, selection=selection), range(8)))
        for member in range(8):
            tell(board, post(member))
        copied[selection] = {each.member for each in board.decisions.values() if each.donor is not None}
    assert copied["truncation"] == {0, 1}
    assert copied["tournament"] - {0, 1}


def test_asynchronous_members_are_answered_at_once(storage: Storage) -> None:
    board = Board(storage, Terms(ASYNCHRONOUS, range(4)))
    tell(board, post(3, 5, score=0.9))
    first = board.assignment(3, 5)
    assert first is not None
    assert first.donor is None
    tell(board, post(0, 1, score=0.1))
    second = board.assignment(0, 1)
    assert second is not None
    assert (second.donor, second.donor_generation) == (3, 5)
    assert (3, 5) in board.needs


def test_a_donors_state_is_kept_while_the_decision_is_written(storage: Storage) -> None:
    board = Board(storage, Terms(ASYNCHRONOUS, range(4)))
    tell(board, post(3, 5, score=0.9))
    board.note(taker := post(0, 1, score=0.1))
    ((tag, decided),) = board.due(taker)
    board.expect(decided)
    for generation in (6, 7):
        tell(board, post(3, generation, score=0.9))
    assert (3, 5) in board.needs
    board.journal(tag, decided)
    board.enter(decided)
    assert (3, 5) in board.needs


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_the_order_of_posts_and_restarts_change_no_decision(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    scores = data.draw(st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=12, max_size=12))
    outcomes = []
    for _ in range(2):
        storage = Storage(str(tmp_path_factory.mktemp("board")))
        board = Board(storage, Terms(SYNCHRONOUS, range(4)))
        for generation in range(1, 4):
            for member in data.draw(st.permutations(range(4))):
                tell(board, post(member, generation, scores[4 * generation - 4 + member]))
                if data.draw(st.booleans()):
                    board = Board(storage, Terms(SYNCHRONOUS, range(4)))
        outcomes.append({key: each.to_json() for key, each in board.decisions.items()})
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 12


def test_the_exchange_deletes_states_that_nobody_can_need(storage: Storage) -> None:
    files = StateFiles(storage)
    files.write(1, 9, b"saved by a run that was killed before it could post")
    exchange = Exchange(storage.root, Terms(PBT(SPACE, members=2, quantile=0.5), [0, 1]))

    async def generations(until: int) -> None:
        for generation in range(1, until):
            for member in (0, 1):
                files.write(member, generation, b"state")
                await exchange.post(post(member, generation), ["reference"])

    asyncio.run(generations(6))
    assert files.all() == {(0, 4), (0, 5), (1, 4), (1, 5), (1, 9)}
    assert set(exchange._references) == {(0, 4), (0, 5), (1, 4), (1, 5)}
    answer = asyncio.run(exchange.ask(0, 5, 1.0))
    assert answer is not None
    assert (answer[0].donor, answer[1]) == (1, ["reference"])
    assert asyncio.run(exchange.ask(1, 5, 1.0)) is not None


def test_states_that_could_not_be_deleted_are_deleted_later(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = StateFiles(storage)
    exchange = Exchange(storage.root, Terms(PBT(SPACE, members=2, quantile=0.5), [0, 1]))

    def locked(*_: object) -> None:
        raise PermissionError("may not delete")

    async def generation(number: int) -> None:
        for member in (0, 1):
            files.write(member, number, b"state")
            await exchange.post(post(member, number), ["reference"])

    async def scenario() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "delete", locked)
            for number in range(1, 5):
                await generation(number)
        assert files.generations(0) == [4, 3, 2, 1]
        assert sorted(exchange._references) == [(0, 3), (0, 4), (1, 3), (1, 4)]
        await generation(5)

    asyncio.run(scenario())
    assert files.all() == {(0, 4), (0, 5), (1, 4), (1, 5)}


def test_the_exchange_gives_no_answer_while_others_have_not_posted(storage: Storage) -> None:
    exchange = Exchange(storage.root, Terms(SYNCHRONOUS, [0, 1, 2, 3]))

    async def scenario() -> None:
        await exchange.post(post(0), [])
        assert await exchange.ask(0, 1, 0.01) is None
        asked = asyncio.ensure_future(exchange.ask(0, 1, 30.0))
        for member in (1, 2):
            await exchange.post(post(member), [])
        await exchange.retire(3)
        answer = await asked
        assert answer is not None
        assert answer[0].member == 0

    asyncio.run(scenario())


def test_a_member_that_retires_while_the_disk_is_full_is_not_waited_for_once_there_is_room(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Exchange(storage.root, Terms(SYNCHRONOUS, [0, 1, 2, 3]))

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    async def scenario() -> None:
        for member in (0, 1, 2):
            await exchange.post(post(member), [])
        with monkeypatch.context() as patch:
            patch.setattr(Storage, "write", full)
            with pytest.raises(OSError, match="no space"):
                await exchange.retire(3)
            with pytest.raises(OSError, match="no space"):
                await exchange.ask(0, 1, 0.01)
        assert await exchange.ask(0, 1, 0.01) is not None

    asyncio.run(scenario())
    assert Board(storage, Terms(SYNCHRONOUS, range(4))).running == {0, 1, 2}
    welcome(storage)
    assert Board(storage, Terms(SYNCHRONOUS, range(4))).running == {0, 1, 2, 3}


def test_nobody_waits_for_storage_that_takes_long_to_note_a_retirement(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = Exchange(storage.root, Terms(SYNCHRONOUS, [0, 1, 2, 3]))
    original, done = Storage.write, threading.Event()

    def slow(self: Storage, path: str, data: bytes, exclusive: bool = False) -> None:
        assert not path.startswith("retired/") or done.wait(2.0)
        original(self, path, data, exclusive)

    async def scenario() -> None:
        retired = asyncio.ensure_future(exchange.retire(3))
        for member in (0, 1, 2):
            await exchange.post(post(member), [])
        assert await exchange.ask(0, 1, 0.01) is not None
        assert storage.names("retired") == []
        done.set()
        await retired

    monkeypatch.setattr(Storage, "write", slow)
    asyncio.run(scenario())
    assert storage.names("retired") == ["0003"]


@pytest.mark.parametrize("content", [b"\n", b"{", b'{"member": 1}'])
def test_a_damaged_journal_is_refused(storage: Storage, content: bytes) -> None:
    storage.write("decisions/g0001.jsonl", content)
    with pytest.raises(ValueError, match="is no assignment"):
        Board(storage, Terms(SYNCHRONOUS, range(4)))

"""Compaction: one part instead of many, and no row more or less, wherever it is cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from sparsepop.results import ResultsError, Writer, compact, leaderboard, read
from sparsepop.results.__main__ import main
from sparsepop.results.schema import SCHEMAS
from sparsepop.storage import Storage
from tests.populations import clock, report_row, write_family, write_member

_BOTH = (False, True)


def everything(storage: Storage) -> dict[tuple[str, bool], pd.DataFrame]:
    """Every table as it reads, with and without superseded rows."""
    return {
        (table, all_): read(storage, table, superseded=all_) for table in SCHEMAS for all_ in (False, True)
    }


def assert_same(one: dict[Any, pd.DataFrame], other: dict[Any, pd.DataFrame]) -> None:
    for key, frame in one.items():
        pd.testing.assert_frame_equal(frame, other[key])


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Three members with exploits, and a fourth in two attempts of which the second went back a step."""
    storage = Storage(str(tmp_path / "family"))
    write_family(storage)
    write_member(storage, 3, {"lr": 0.1}, [0.1, 0.2, 0.3], status="started")
    second = Writer(storage, 3, 1)
    second.add("members", status="started", step=200, hp={"lr": 0.1}, time=clock(50))
    for step in (300, 400):
        second.add("reports", **report_row(step, 0.4))
        second.flush(f"g{step}")
    return storage


def test_tables_read_the_same_from_one_part_each(storage: Storage) -> None:
    before, board = everything(storage), leaderboard(storage)
    assert compact(storage) == {"members": 5, "reports": 6, "events": 3}
    assert [len(storage.names(table)) for table in ("members", "reports", "events")] == [1, 1, 1]
    assert_same(everything(storage), before)
    pd.testing.assert_frame_equal(leaderboard(storage), board)


def test_again_changes_nothing(storage: Storage) -> None:
    compact(storage)
    names = storage.names("reports")
    assert compact(storage) == {}
    assert storage.names("reports") == names


def test_rows_that_come_later_are_read_and_compacted_too(storage: Storage) -> None:
    compact(storage)
    write_member(storage, 4, {"lr": 1.0}, [0.7])
    before = everything(storage)
    assert before["reports", False]["member"].tolist().count(4) == 1
    assert compact(storage) == {"members": 2, "reports": 2}
    assert_same(everything(storage), before)


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
def test_cut_off_at_any_deletion_nothing_doubles(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    before = everything(storage)
    deleted: list[str] = []
    original: Callable[[Storage, str], None] = Storage.delete

    def delete(self: Storage, path: str) -> None:
        if len(deleted) >= kept:
            raise ConnectionError("cut off")
        deleted.append(path)
        original(self, path)

    monkeypatch.setattr(Storage, "delete", delete)
    with pytest.raises(ConnectionError):
        compact(storage, ["reports"])
    monkeypatch.undo()
    assert_same(everything(storage), before)
    compact(storage)
    assert_same(everything(storage), before)
    assert len(storage.names("reports")) <= 1 + (6 - kept)


def test_a_name_used_again_for_other_rows_is_read(storage: Storage) -> None:
    """As the driver does for a member that fails once more in the same attempt."""
    for message in ("first", "second"):
        writer = Writer(storage, 3, 1)
        writer.add("members", status="failed", step=400, message=message, time=clock(60 + len(message)))
        writer.flush("failed")
        compact(storage)
    failed = read(storage, "members", superseded=True).query("status == 'failed'")
    assert failed["message"].tolist() == ["first", "second"]
    assert read(storage, "members").set_index("member").loc[3, "message"] == "second"


def test_a_damaged_part_stops_it_before_anything_changes(storage: Storage) -> None:
    storage.write("reports/m00009-a00-g1.parquet", b"PAR1 and no more")
    names = storage.names("reports")
    with pytest.raises(ResultsError, match="m00009"):
        compact(storage, ["reports"])
    assert storage.names("reports") == names


def test_a_reader_that_meets_a_compaction_lists_again(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(storage, "reports")
    original = Storage.read
    compacted: list[bool] = []

    def slow(self: Storage, path: str) -> bytes:
        if not compacted:
            compacted.append(True)
            compact(storage)
        return original(self, path)

    monkeypatch.setattr(Storage, "read", slow)
    pd.testing.assert_frame_equal(read(storage, "reports"), before)
    assert compacted


def test_the_command(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([storage.root, "--compact"]) == 0
    printed = capsys.readouterr().out
    assert printed == "members: 5 parts became one\nreports: 6 parts became one\nevents: 3 parts became one\n"

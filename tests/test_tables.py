"""The tables of an experiment read once, whoever asks how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from sparsepop import figures
from sparsepop.report import render
from sparsepop.results import Tables, ancestors, hyperparameters, leaderboard, lineage, read
from sparsepop.results.reader import last_rows
from sparsepop.results.report import print_summary
from sparsepop.storage import Storage
from tests.populations import write_family, write_grid

LOOKS: dict[str, Callable[[Storage], Any]] = {
    "leaderboard": leaderboard,
    "ancestors": lambda storage: ancestors(storage, 0),
    "hyperparameters": hyperparameters,
    "summary": lambda storage: print_summary(storage, Console(quiet=True)),
    "population": figures.load_population,
    "runs": figures.load_runs,
    "gallery": lambda storage: list(figures.gallery(storage)),
    "page": render,
}


@pytest.fixture(params=[write_family, write_grid])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    storage = Storage(str(tmp_path / "an-experiment"))
    request.param(storage)
    return storage


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file is read."""
    real, counts = Storage.read, Counter[str]()

    def counted(self: Storage, path: str) -> bytes:
        counts[path] += 1
        return real(self, path)

    monkeypatch.setattr(Storage, "read", counted)
    return counts


@pytest.mark.parametrize("look", LOOKS)
def test_each_file_is_read_once(storage: Storage, opened: Counter[str], look: str) -> None:
    LOOKS[look](storage)
    assert any(path.startswith("members/") for path in opened)
    assert set(opened.values()) == {1}


def test_what_was_read_is_not_read_again(storage: Storage, opened: Counter[str]) -> None:
    tables = Tables(storage)
    board, taken, hp = leaderboard(tables), lineage(tables), hyperparameters(tables)
    assert set(opened.values()) == {1}
    pd.testing.assert_frame_equal(board, leaderboard(storage))
    pd.testing.assert_frame_equal(taken, lineage(storage.root))
    pd.testing.assert_frame_equal(hp, hyperparameters(Path(storage.root)))
    for superseded in (False, True):
        one, other = (read(each, "reports", superseded=superseded) for each in (tables, storage))
        pd.testing.assert_frame_equal(one, other)


def test_the_last_row_of_each_member() -> None:
    rows = pd.DataFrame({"member": [0, 0, 2, 2], "step": [10, 20, 10, 30]})
    assert last_rows(rows)["step"].to_dict() == {0: 20, 2: 30}
    assert last_rows(rows.iloc[:0]).empty


def test_nobody_changes_what_others_get(storage: Storage) -> None:
    tables = Tables(storage)
    before = {name: tables.read(name).copy(deep=True) for name in ("members", "reports", "events", "layers")}
    render(tables)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(tables.read(name), frame)

"""What the three commands say of an experiment in which nobody has got anywhere yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.figures import main as draw
from sparsepop.report.__main__ import main as report
from sparsepop.results.__main__ import main as results
from sparsepop.results.reader import NOTE
from sparsepop.storage import Storage
from tests.populations import write_member

NOBODY = "no member has started; look again"
STARTED = "its members have just started, or have failed; see python -m sparsepop.results"


def draw_all(arguments: list[str]) -> int:
    return draw([*arguments, "--all"])


def test_a_folder_of_code_is_no_experiment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "code/tickets").mkdir(parents=True)
    for command in (results, report, draw):
        assert command([str(tmp_path)]) == 2
        assert "check the path" in capsys.readouterr().err


def experiment(folder: Path, state: str) -> str:
    storage = Storage(str(folder / "mine"))
    if state == "empty":
        (folder / "mine").mkdir()
    elif state != "parent":
        storage.write(NOTE, b"{}")
    if state in ("started", "failed", "parent"):
        write_member(storage, 0, {"lr": 0.1}, [], status="failed" if state == "failed" else "started")
    return str(folder) if state == "parent" else storage.root


@pytest.mark.parametrize("command", [results, report, draw, draw_all])
@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("empty", "check the path"),
        ("parent", "name one of the experiments in it (mine)"),
        ("noted", NOBODY),
        ("started", STARTED),
        ("failed", STARTED),
    ],
)
def test_it_is_shown_or_one_line_says_why_not(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[list[str]], int],
    state: str,
    told: str,
) -> None:
    shown = command in (results, report) and state in ("started", "failed")
    where = experiment(tmp_path, state)
    assert command([where]) == (0 if shown else 2)
    printed = capsys.readouterr()
    if shown:
        assert printed.err == ""
        page = (tmp_path / "mine" / "report.html").read_text() if command is report else printed.out
        assert state in page
    else:
        assert printed.out == ""
        assert told in printed.err
        assert where in printed.err
        assert printed.err.count("\n") == 1

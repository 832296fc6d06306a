"""What a person sees: a table within 80 columns on a terminal, lines elsewhere."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from rich.console import Console

from sparsepop.population import progress
from sparsepop.population.progress import Progress, progress_table
from sparsepop.population.watch import Watch, one_line
from sparsepop.storage import Storage


def trial(member: int, status: str = "RUNNING") -> Any:
    return SimpleNamespace(config={"member": member}, status=status)


def result(member: int, generation: int = 1, **more: Any) -> dict[str, Any]:
    row = {"member": member, "generation": generation, "step": 100 * generation, "steps": 400, "score": 0.5}
    more = {"waiting": False, "final": False, **more}
    return {**row, "density": 0.05, "donor": -1, "seconds": 12.3, **more}


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def watched(
    members: int = 2, finished: int = 0, early: str = "stopped", **console: Any
) -> tuple[Progress, io.StringIO]:
    out = io.StringIO()
    return Progress("tiny", members, finished, Console(file=out, width=80, **console), early=early), out


def test_the_table_shows_every_member_in_80_columns() -> None:
    rows = {
        0: result(0, score=0.98765, donor=3, step=123_000, steps=200_000, seconds=98765.0),
        1: result(1, score=float("nan")),
    }
    out = io.StringIO()
    states = {0: "running", 1: "waiting", 2: "running"}
    Console(file=out, width=80).print(progress_table("tiny", rows, states, "0:10 elapsed"))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    cells = [line.split() for line in lines if line.strip()]
    assert ["member", "state", "step", "score", "density", "donor", "seconds"] in cells
    assert ["0", "running", "123000/200000", "0.9877", "5.00%", "3", "98765"] in cells
    assert ["1", "waiting", "100/400", "diverged", "5.00%", "12"] in cells
    assert ["2", "running"] in cells
    assert lines[-1].strip() == "0:10 elapsed"


def test_a_narrow_terminal_cuts_and_never_wraps() -> None:
    out = io.StringIO()
    rows = {member: result(member, step=123_000, steps=200_000) for member in range(3)}
    states = {member: "running" for member in range(3)}
    Console(file=out, width=40).print(progress_table("tiny", rows, states, "ok"))
    assert max(map(len, out.getvalue().splitlines())) <= 40
    assert len([line for line in out.getvalue().splitlines() if line.strip()]) == 7


def test_elapsed_and_expected_time(clock: Clock) -> None:
    view, _ = watched(members=2)
    for member in (0, 1):
        view.on_trial_start(0, [], trial(member))
    clock.now += 60  # processes start
    for generation in (1, 2):
        for member in (0, 1):
            view.on_trial_result(0, [], trial(member), result(member, generation))
        clock.now += 10
    assert view.summary() == "1:20 elapsed, 50% done, about 0:40 left"


def test_members_that_were_done_before_count_as_done(clock: Clock) -> None:
    view, _ = watched(members=4, finished=2)
    assert view.summary() == "0:00 elapsed, 50% done"
    view.on_trial_result(0, [], trial(3), result(3, 2))
    assert view.summary() == "0:00 elapsed, 62% done"


def test_states_follow_the_trials(clock: Clock) -> None:
    view, _ = watched()
    one = trial(0)
    view.on_trial_start(0, [], one)
    view.on_trial_result(0, [], one, result(0))
    assert view.states[0] == "running"
    view.on_trial_result(0, [], one, {"member": 0, "generation": 1, "waiting": True})
    assert (view.states[0], view.rows[0]["step"]) == ("waiting", 100)
    view.on_step_end(0, [trial(0, "PAUSED")])
    assert view.states[0] == "paused"
    view.on_trial_recover(0, [], one)
    assert view.states[0] == "again"
    view.on_trial_result(0, [], one, result(0, 4, final=True))
    view.on_trial_complete(0, [], one)
    assert view.states[0] == "done"
    view.on_trial_error(0, [], one)
    assert view.states[0] == "failed"
    assert view.summary().endswith("1 failed")


@pytest.mark.parametrize("early", ["stopped", "merged"])
def test_a_member_that_ended_early_has_nothing_left_to_do(clock: Clock, early: str) -> None:
    view, _ = watched(early=early)
    for member, end in ((0, {"final": True}), (1, {})):
        view.on_trial_start(0, [], trial(member))
        view.on_trial_result(0, [], trial(member), result(member, 4 if end else 1, **end))
        view.on_trial_complete(0, [], trial(member))
    assert view.states == {0: "done", 1: early}
    clock.now += 60
    assert view.summary().endswith("100% done")


def test_a_member_that_ends_where_an_earlier_run_left_it_is_merged(clock: Clock) -> None:
    view, _ = watched(members=3, early="merged")
    for member in (0, 1):
        view.on_trial_start(0, [], trial(member))
    view.on_trial_result(0, [], trial(0), result(0, 2))
    view.on_trial_complete(0, [], trial(1))
    assert view.states == {0: "running", 1: "merged"}
    assert view.summary() == "0:00 elapsed, 50% done"
    clock.now += 10
    view.on_trial_result(0, [], trial(0), result(0, 3))
    # 100 steps of member 0, and all 400 of the one that was not heard of
    assert view.summary() == "0:10 elapsed, 58% done, about 0:50 left"


def test_without_a_terminal_a_line_now_and_then(clock: Clock) -> None:
    view, out = watched()
    view.setup()
    for _ in range(100):
        clock.now += 1
        view.on_step_end(0, [])
    view.close()
    assert 3 <= len(out.getvalue().splitlines()) <= 4
    assert out.getvalue().startswith("tiny: 0:")


def test_on_a_terminal_the_table_stays_when_it_ends(clock: Clock) -> None:
    view, out = watched(force_terminal=True)
    view.setup()
    view.on_trial_start(0, [], trial(0))
    view.on_trial_result(0, [], trial(0), result(0, 4, final=True))
    view.on_trial_complete(0, [], trial(0))
    view.close()
    view.close()
    assert "done" in out.getvalue()
    assert view.live is None


def test_an_exchange_that_does_not_answer_does_not_hold_the_driver_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(reference: Any, timeout: float) -> None:
        raise ray.exceptions.GetTimeoutError(f"{reference} after {timeout} s")

    monkeypatch.setattr(ray, "get", get)
    (tmp_path / "error.txt").write_text("ValueError: it fell")
    exchange = SimpleNamespace(retire=SimpleNamespace(remote=lambda member: f"retire {member}"))
    view = Watch(Storage(str(tmp_path / "small")), exchange, "tiny", 2, 0)
    fallen = trial(1)
    fallen.pickled_error_file, fallen.error_file = None, str(tmp_path / "error.txt")
    view.on_trial_error(0, [], fallen)
    assert view.failed == {1: "ValueError: it fell"}


def test_tune_may_pickle_it() -> None:
    view, _ = watched(force_terminal=True)
    view.setup()
    copy = pickle.loads(pickle.dumps(view))
    view.close()
    assert copy.name == "tiny"
    assert not hasattr(copy, "live")


def traced(*files: str) -> str:
    frames = "\n".join(f'  File "{file}", line {line}, in f\n    f()' for line, file in enumerate(files, 1))
    return f"ray::ImplicitFunc.train() (pid=1)\n{frames}\nRuntimeError: shapes differ"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            ["PACKAGE/train.py", "/home/me/sparsepop/mine.py", "/x/lib/python3.12/site-packages/a.py"],
            " (mine.py:2)",
        ),
        (["/home/me/mine.py", "/home/me/loss.py", "<frozen importlib>"], " (loss.py:2)"),
        (["/usr/lib/python3.11/threading.py", "PACKAGE/member.py"], ""),
        ([], ""),
    ],
)
def test_a_failure_names_the_place_in_the_users_own_code(files: list[str], told: str) -> None:
    package = str(Path(progress.__file__).parents[1])
    text = traced(*(file.replace("PACKAGE", package) for file in files))
    assert one_line(RuntimeError(), text) == f"RuntimeError: shapes differ{told}"
    assert one_line(None, "") == "no message"

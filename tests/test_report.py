"""The summary after a run, and hyperparameters over time, on experiments that the real Writer left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from sparsepop.results import Writer, hyperparameters, leaderboard
from sparsepop.results.hyper import has_repeats, hp_keys
from sparsepop.results.report import print_summary, wall_seconds, with_train_flops
from sparsepop.results.table import hp_text, percent_text, rich_table
from sparsepop.storage import Storage
from tests.populations import clock, report_row, write_family, write_grid, write_member


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "an-experiment"))


def summary(storage: Storage, width: int = 100) -> list[str]:
    """The printed lines, without the spaces at their ends."""
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        print_summary(storage, console)
    return [line.rstrip() for line in capture.get().splitlines()]


def cells(lines: list[str], rank: str) -> list[str]:
    """The row of a rank, in words."""
    return next(line.split() for line in lines[4:] if line.split()[:1] == [rank])


def test_a_member_is_one_row(storage: Storage) -> None:
    write_member(storage, 0, {"lr": 0.03321, "fraction": 0.4119, "interval": 125}, [0.5, 0.9721])
    write_member(storage, 1, {"lr": 0.5}, [0.8], status="failed", exploits=[(100, 0, {"lr": 2})])
    lines = summary(storage)
    best = ["1", "0", "done", "0.9721", "0.9621", "5.00%", "0", "20"]
    assert cells(lines, "1") == [*best, "lr=0.0332", "fraction=0.412", "interval=125"]
    assert cells(lines, "2") == ["2", "1", "failed", "0.8000", "-", "5.00%", "1", "(0)", "10", "lr=2"]


def test_hp_keep_the_order_in_which_they_were_given(storage: Storage) -> None:
    write_member(storage, 0, {"z": 1, "a": 2}, [0.5])
    assert cells(summary(storage), "1")[-2:] == ["z=1", "a=2"]


def test_what_puts_the_results_in_doubt_is_said_once(storage: Storage) -> None:
    write_member(storage, 0, {"lr": 0.1}, [0.5, 0.9])
    writer = Writer(storage, 0, 0)
    ends = {"round_end": 20.0, "collapsed": 1.0}
    for step in (10, 20):
        at = {"generation": step // 10, "step": step}
        writer.add("events", kind="merge", **at, message="round", numbers=ends)
        writer.add("events", kind="collapse", **at, message=f"far worse after {step}", numbers=ends)
        writer.add("events", kind="ticket", **at, message="", numbers={"ticket": 0.0})
    writer.flush("events")
    *_, cost, warning, _ = summary(storage)
    assert cost.startswith("0 exploits, 2 merges; ")
    assert warning == "warning: collapse (2 times, of member 0): far worse after 20"


def test_what_is_said_below_the_table(storage: Storage) -> None:
    write_family(storage)
    assert summary(storage, 80)[-4:] == [
        "alive weights: 2,510 / 50,200",
        "best: member 0, score 0.9900, test 0.9800, 2,510 of 50,200 weights alive (5.00%)",
        "3 exploits; 40 s wall after start-up, 120 device-seconds",
        f"results: {storage}",
    ]


def test_alive_weights_are_a_column_where_members_differ(storage: Storage) -> None:
    write_member(storage, 0, {"lr": 1}, [0.5], density=0.05)
    write_member(storage, 1, {"lr": 2}, [0.4], density=0.0003)
    lines = summary(storage, 80)
    assert cells(lines, "1")[5:7] == ["5.00%", "2,510"]
    assert cells(lines, "2")[5:7] == ["0.03%", "15"]
    assert not any("alive weights:" in line for line in lines)
    assert "2,510 of 50,200 weights alive" in " ".join(lines)
    write_member(storage, 2, {"lr": 3}, [0.3], density=0.05, prunable=1000, alive=50)
    assert cells(summary(storage, 80), "3")[5:9] == ["5.00%", "50", "/", "1,000"]


def test_a_score_of_its_own_is_a_column(storage: Storage) -> None:
    write_member(storage, 0, {"lr": 1}, [0.5], validation_accuracy=0.25)
    assert cells(summary(storage), "1")[3:6] == ["0.5000", "0.2500", "0.4900"]


@pytest.mark.parametrize("width", [80, 100])
def test_only_hp_is_folded(storage: Storage, width: int) -> None:
    hp = {f"a_long_name_{place}": 0.123456 for place in range(6)}
    large: dict[str, Any] = {"alive": 1_276_352, "prunable": 25_502_912, "seconds": 123_456.0}
    for member in range(12):
        hp_now = hp | {"seed": member}
        exploits = [(100, 0, hp_now)] if member else []
        write_member(storage, member, hp_now, [0.9, 0.8 - member / 100], exploits=exploits, **large)
    lines = summary(storage, width)
    assert max(map(len, lines[:-1])) <= width
    assert cells(lines, "12")[:9] == ["12", "11", "done", "0.6900", "0.6800", "5.00%", "1", "(0)", "123,456"]
    for name in hp:
        assert sum(f"{name}=0.123" in line for line in lines) == 12
    assert lines[-1] == f"results: {storage}"


@pytest.mark.parametrize("width", [80, 100])
def test_large_networks_fit_beside_each_other(storage: Storage, width: int) -> None:
    for member in range(2):
        alive: dict[str, Any] = {"alive": 1_276_352 + member, "prunable": 25_502_912 + member}
        write_member(storage, member, {"lr": 0.0332}, [0.9], exploits=[(100, 0, {"lr": 0.1})], **alive)
    lines = summary(storage, width)
    assert cells(lines, "2")[6:9] == ["1,276,353", "/", "25,502,913"]
    assert max(map(len, lines[:-1])) <= width


def test_of_many_members_the_middle_is_left_out(storage: Storage) -> None:
    for member in range(22):
        status = "failed" if member in (12, 21) else "done"
        write_member(storage, member, {"lr": member}, [1 - member / 100], status=status)
    words = [line.split() for line in summary(storage)[:-4]]
    ranks = [row[0] for row in words if row[1:] and (row[0].isdigit() or row[0] == "…")]
    assert ranks == [*map(str, range(1, 11)), "…", "20", "21", "22"]
    assert any(" ".join(row) == "… 9 members left out (8 done, 1 failed)" for row in words)


def test_twenty_members_are_all_shown(storage: Storage) -> None:
    for member in range(20):
        write_member(storage, member, {"lr": member}, [1 - member / 100])
    lines = summary(storage)
    assert not any("left out" in line for line in lines)
    assert [cells(lines, str(rank))[1] for rank in range(1, 21)] == [str(member) for member in range(20)]


def test_repeated_settings_are_grouped(storage: Storage) -> None:
    write_grid(storage)
    lines = summary(storage, 80)
    rows = {line.split()[-1]: line.split()[:-1] for line in lines if "run=" in line}
    assert list(rows) == [f"run={name}" for name in ("dense,1", *grid_names())]
    accuracies = ["0.9000", "±", "0.0100", "0.9100", "±", "0.0100"]
    assert rows["run=rigl,0.1"] == ["3", *accuracies, "10.00%", "20", "(0.100x)"]
    assert rows["run=dense,1"][-3:] == ["100%", "200", "(1.000x)"]
    assert max(map(len, lines[:-1])) <= 80


def grid_names() -> list[str]:
    return [f"{name},{density}" for name in ("static", "rigl") for density in (0.1, 0.05)]


def test_unfinished_runs_of_a_setting_count_for_nothing(storage: Storage) -> None:
    write_member(storage, 0, {"lr": 1}, [0.5, 0.8])
    write_member(storage, 1, {"lr": 1}, [0.1], status="started")
    row = next(line for line in summary(storage) if "lr=1" in line)
    assert row.split() == ["1", "of", "2", "0.7900", "0.8000", "5.00%", "10", "lr=1"]


def test_flops_are_relative_to_the_dense_net_of_the_same_size(storage: Storage) -> None:
    for member, (density, size) in enumerate([(1.0, 100), (0.5, 100), (1.0, 400), (0.5, 400), (0.5, 900)]):
        flops = 1e9 * density * size
        write_member(storage, member, {}, [0.5], density=density, prunable=size, train_flops=flops)
    board = with_train_flops(storage, leaderboard(storage)).sort_values("member")
    assert board["relative"].tolist()[:4] == [1.0, 0.5, 1.0, 0.5]
    assert pd.isna(board["relative"].iloc[4])


def test_repetitions_are_told_from_exchanges(storage: Storage, tmp_path: Path) -> None:
    write_member(storage, 0, {"a": 1, "b": 2}, [0.5])
    write_member(storage, 1, {"b": 2, "a": 1}, [0.5])
    assert has_repeats(leaderboard(storage))
    assert hp_keys(leaderboard(storage)).nunique() == 1
    write_member(storage, 2, {"a": 3}, [0.5], exploits=[(100, 0, {"a": 4})])
    assert not has_repeats(leaderboard(storage))
    write_member(Storage(str(tmp_path / "b")), 0, {"a": 1}, [0.5])
    assert not has_repeats(leaderboard(tmp_path / "b"))


def test_summaries_of_next_to_nothing(storage: Storage, tmp_path: Path) -> None:
    Writer(storage, 0, 0).storage.write("experiment.json", b"{}")
    assert summary(storage) == [f"no member has started; results: {storage}"]
    write_member(storage, 0, {}, [], status="started")
    lines = summary(storage)
    assert cells(lines, "1") == ["1", "0", "started", "-", "-", "-", "-"]
    assert "best: nobody has reported yet" in lines


def test_names_are_taken_literally(tmp_path: Path) -> None:
    storage = Storage(
        str(tmp_path / "[bold]an experiment with a rather long name that must not be broken[red]")
    )
    write_member(storage, 0, {"kind": "[red]x"}, [0.5])
    lines = summary(storage, 80)
    assert lines[-1] == f"results: {storage}"
    assert cells(lines, "1")[-1] == "kind=[red]x"


def test_pauses_are_no_wall_time(storage: Storage) -> None:
    for member, attempt, times in ((0, 0, (0, 10)), (1, 0, (5, 30)), (0, 1, (100, 107)), (2, 0, (8, 9))):
        writer = Writer(storage, member, attempt)
        writer.add("members", status="started", step=0, time=clock(times[0]))
        writer.add("reports", **report_row(100, 0.5, time=clock(times[1])))
        writer.flush("all")
    assert wall_seconds(storage) == 37.0


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.05, "5.00%"), (1.0, "100%"), (0.0, "0.00%"), (0.00012345, "0.0123%"), (0.9999, "99.99%")],
)
def test_percentages(share: float, text: str) -> None:
    assert percent_text(share) == text
    assert percent_text(float("nan")) == "-"


def test_hyperparameters_in_words() -> None:
    schedule: dict[str, Any] = {"type": "Ramp", "start": 0.12345, "end": 1600}
    text = pd.Series([{"a": 0.033211, "n": 1600, "flag": True, "run": ["set", 0.1], "s": schedule}]).to_json()
    assert hp_text(text[5:-1]) == "a=0.0332 n=1600 flag=True run=set,0.1 s=Ramp(start=0.123,end=1600)"
    assert hp_text(None) == ""


def test_any_frame_becomes_a_table() -> None:
    frame = pd.DataFrame({"density": [0.05, 0.1], "numbers": [{"a": 1.0}, {}], "name": ["[red]", None]})
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(rich_table(frame, "the [title]"))
    printed = capture.get()
    assert all(text in printed for text in ("the [title]", "0.05 (95% zero)", "a=1", "[red]"))


def test_hyperparameters_over_time(storage: Storage) -> None:
    write_family(storage)
    frame = hyperparameters(storage)
    assert list(frame.columns) == ["member", "step", "name", "value"]
    assert frame[["member", "step"]].dtypes.astype(str).tolist() == ["int32", "int64"]
    rows = [tuple(row) for row in frame.astype(object).to_numpy() if row[0] == 1]
    start = [("batch", 64), ("fraction", 0.3), ("kind", "cosine"), ("lr", 0.002)]
    assert rows == [*((1, 0, *entry) for entry in start), (1, 100, "kind", "linear"), (1, 100, "lr", 0.03)]
    assert isinstance(frame["value"].iloc[0], int)


def test_superseded_hyperparameters_are_left_out(storage: Storage) -> None:
    write_member(
        storage, 0, {"lr": 1}, [0.1] * 4, status="failed", exploits=[(s, 1, {"lr": s}) for s in (100, 300)]
    )
    again = Writer(storage, 0, 1)
    again.add("members", status="started", step=300, hp={"lr": 100})
    again.add("events", kind="exploit", generation=3, step=300, donor=1, hp_after={"lr": 33})
    again.flush("all")
    frame = hyperparameters(storage)
    assert list(zip(frame["step"], frame["value"], strict=True)) == [(0, 1), (100, 100), (300, 33)]


def test_hyperparameters_of_nobody(storage: Storage) -> None:
    storage.write("experiment.json", b"{}")
    assert hyperparameters(storage).empty
    assert list(hyperparameters(storage)) == ["member", "step", "name", "value"]
    with pytest.raises(FileNotFoundError, match="no experiment"):
        hyperparameters(storage.child("elsewhere"))

"""The tables of an experiment: round trips, atomic flushes, superseded rows, lineage, leaderboard, CLI."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsepop.results import (
    SCHEMA_VERSION,
    SCHEMAS,
    ResultsError,
    Writer,
    ancestors,
    leaderboard,
    lineage,
    read,
)
from sparsepop.results.__main__ import main
from sparsepop.results.reader import current
from sparsepop.storage import Storage
from tests.populations import write_member

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
INT32, INT64 = st.integers(0, 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
FLOAT = st.floats(width=64)
TIMES = st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "experiment"))


def _values(field: pa.Field) -> st.SearchStrategy[Any]:
    by_type = {
        pa.int32(): INT32,
        pa.int64(): INT64,
        pa.float64(): FLOAT,
        pa.string(): TEXT,
        pa.bool_(): st.booleans(),
        pa.timestamp("us", "UTC"): TIMES,
        pa.list_(pa.string()): st.lists(TEXT, max_size=3),
        pa.map_(pa.string(), pa.float64()): st.dictionaries(TEXT, FLOAT | st.none(), max_size=3),
        pa.map_(pa.string(), pa.int64()): st.dictionaries(TEXT, INT64, max_size=3),
    }
    values = st.just("started") if field.name == "status" else by_type[field.type]
    return values | st.none() if field.nullable else values


def _rows(table: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    row = st.fixed_dictionaries({field.name: _values(field) for field in SCHEMAS[table]})
    return st.lists(row, min_size=1, max_size=3)


def _same(written: Any, found: Any) -> bool:
    """Equal; None and NaN are both the frame's missing value, but differ within a map."""
    if isinstance(written, dict):
        return list(written) == list(found) and all(
            (item is None) == (found[name] is None) and _same(item, found[name])
            for name, item in written.items()
        )
    if written is None or (isinstance(written, float) and math.isnan(written)):
        return bool(pd.isna(found))
    return bool(found == written)


def _write(storage: Storage, table: str, member: int = 0, attempt: int = 0, **row: Any) -> None:
    """One row in a part of its own."""
    writer = Writer(storage, member, attempt)
    writer.add(table, **row)
    writer.flush(uuid4().hex)


def _start(storage: Storage, member: int, attempt: int = 0, step: int = 0, **row: Any) -> None:
    _write(storage, "members", member, attempt, status="started", step=step, **row)


def _report(storage: Storage, member: int, step: int, attempt: int = 0, **row: Any) -> None:
    _write(storage, "reports", member, attempt, generation=0, step=step, **row)


def _exploit(storage: Storage, member: int, step: int, donor: int, attempt: int = 0, **row: Any) -> None:
    where = {"generation": step // 10, "step": step}
    _write(storage, "events", member, attempt, kind="exploit", donor=donor, **where, **row)


def _part(storage: Storage, table: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """A part as another version of the code may have left it."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    storage.write(f"{table}/m00000-a00-old.parquet", sink.getvalue().to_pybytes())


# --- round trips


@pytest.mark.parametrize("table", SCHEMAS)
@settings(max_examples=25)
@given(data=st.data())
def test_rows_come_back_as_written(table: str, data: st.DataObject) -> None:
    rows = data.draw(_rows(table))
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Storage(folder), 0, 0)
        for row in rows:
            writer.add(table, **row)
        writer.flush("one")
        frame = read(folder, table, superseded=True)
    order = [name for name in ("member", "step", "attempt", "time") if name in frame]
    rows = sorted(rows, key=lambda row: [row[name] for name in order])
    assert list(frame.columns) == SCHEMAS[table].names
    for row, found in zip(rows, frame.to_dict("records"), strict=True):
        assert all(_same(value, found[name]) for name, value in row.items()), (row, found)


@pytest.mark.parametrize("table", SCHEMAS)
def test_dtypes_do_not_depend_on_the_rows(storage: Storage, table: str) -> None:
    storage.write("experiment.json", b"{}")
    empty = read(storage, table)
    assert len(empty) == 0
    keys: dict[str, Any] = {
        "status": "done",
        "step": 1,
        "generation": 1,
        "layer": "a",
        "kind": "reset",
        "ticket": "t",
    }
    keys |= {"ensemble": "e", "tickets": ["a"]}
    _write(storage, table, **{name: keys[name] for name in keys if name in SCHEMAS[table].names})
    assert read(storage, table).dtypes.to_dict() == empty.dtypes.to_dict()


def test_large_counts_stay_exact_beside_missing_ones(storage: Storage) -> None:
    _report(storage, 0, 1, alive=2**62 + 1)
    _report(storage, 0, 2)
    alive = read(storage, "reports")["alive"]
    assert alive.iloc[0] == 2**62 + 1
    assert alive.iloc[1] is pd.NA


def test_omitted_values_and_python_numbers(storage: Storage) -> None:
    numbers = {"a": np.float32(0.5), "b": 2}
    _report(storage, 3, 7, score=np.float64(1), train_flops=10**17 + 1, others=np.int64(4), numbers=numbers)
    row = read(storage, "reports").iloc[0]
    assert (row["member"], row["attempt"], row["final"]) == (3, 0, False)
    assert row["learnables"] == {}
    assert row["numbers"] == {"a": 0.5, "b": 2.0}
    assert row["train_flops"] == 1e17  # more than a float holds exactly: rounded, not refused
    assert row["others"] == 4
    assert math.isnan(row["test_accuracy"])
    assert abs(row["time"] - pd.Timestamp.now("UTC")) < pd.Timedelta("1min")


def test_json_columns_take_values_and_strings(storage: Storage) -> None:
    _start(storage, 0, hp={"b": 1, "a": [0.1]}, recipe='{"x": 1}')
    row = read(storage, "members").iloc[0]
    assert json.loads(row["hp"]) == {"a": [0.1], "b": 1}
    assert row["recipe"] == '{"x": 1}'


def test_rows_are_copied_when_added(storage: Storage) -> None:
    writer, numbers = Writer(storage, 0, 0), {"a": 1.0}
    writer.add("reports", generation=0, step=0, numbers=numbers)
    numbers["a"] = 2.0
    writer.flush("x")
    assert read(storage, "reports")["numbers"].iloc[0] == {"a": 1.0}


# --- the writer's refusals


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("report", {}, "unknown table 'report': use one of members, reports"),
        ("reports", {"generation": 0, "step": 0, "loss": 1.0}, "no column loss: use member, .*'numbers'"),
        ("reports", {"generation": 0}, "needs 'step'"),
        ("reports", {"generation": 0, "step": 0, "alive": 1.5}, r"reports\.alive: 1\.5 does not fit int64"),
        ("reports", {"generation": 0, "step": 2**70}, r"reports\.step: .* does not fit int64"),
        (
            "reports",
            {"generation": 0, "step": 0, "score": "0.5"},
            r"reports\.score: '0\.5' does not fit double",
        ),
        ("reports", {"generation": 0, "step": 0, "final": 1}, r"reports\.final: 1 does not fit bool"),
        ("reports", {"generation": 0, "step": 0, "numbers": [1]}, r"reports\.numbers: .* does not fit map"),
        ("events", {"generation": 0, "step": 0, "kind": "\ud800"}, r"events\.kind: .* does not fit string"),
        ("ensembles", {"ensemble": "e", "kind": "vote", "tickets": "ab"}, r"ensembles\.tickets: 'ab'"),
        ("members", {"status": "gone", "step": 0}, "status 'gone' is unknown: use one of started, done"),
        ("members", {"status": "done", "step": 0, "hp": {"a": object()}}, r"members\.hp: .* does not fit"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_at_once(
    storage: Storage, table: str, row: dict[str, Any], message: str
) -> None:
    writer = Writer(storage, 0, 0)
    with pytest.raises(ValueError, match=message):
        writer.add(table, **row)
    writer.flush("x")
    assert not storage.exists()


def test_names_of_parts(storage: Storage) -> None:
    writer = Writer(storage, 12, 3)
    writer.add("members", status="started", step=0)
    writer.flush("g0001")
    writer.flush("g0002")  # nothing new: no part
    assert storage.names() == ["members"]
    assert storage.names("members") == ["m00012-a03-g0001.parquet"]
    with pytest.raises(ValueError, match="tag 'a/b' does not fit"):
        writer.flush("a/b")
    with pytest.raises(ValueError, match="member -1, attempt 0"):
        Writer(storage, -1, 0)


def test_a_tag_used_again_replaces_nothing(storage: Storage) -> None:
    writer = Writer(storage, 0, 0)
    for step in range(3):
        writer.add("reports", generation=0, step=step)
        writer.flush("same")
    assert read(storage, "reports")["step"].tolist() == [0, 1, 2]


def test_a_failed_flush_keeps_the_rows(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = Writer(storage, 0, 0)
    writer.add("reports", generation=1, step=1)
    with monkeypatch.context() as broken:
        broken.setattr(os, "replace", full)
        for tag in ("g1", "g2"):
            with pytest.raises(OSError, match="No space left"):
                writer.flush(tag)
    assert not any(path.is_file() for path in Path(storage.root).rglob("*"))
    writer.add("reports", generation=2, step=2)
    writer.flush("g2")
    assert storage.names("reports") == ["m00000-a00-g1.parquet"]
    assert read(storage, "reports")["step"].tolist() == [1, 2]
    writer.add("reports", generation=3, step=3)
    writer.flush("g2")
    assert storage.names("reports") == ["m00000-a00-g1.parquet", "m00000-a00-g2.parquet"]


def test_a_put_that_arrived_after_all_counts_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Storage.write

    def arrives_but_fails(self: Storage, path: str, data: bytes, exclusive: bool = False) -> None:
        write(self, path, data, exclusive)
        raise TimeoutError("no answer")

    writer = Writer(storage, 0, 0)
    writer.add("reports", generation=1, step=1)
    with monkeypatch.context() as broken:
        broken.setattr(Storage, "write", arrives_but_fails)
        with pytest.raises(TimeoutError):
            writer.flush("g1")
    writer.flush("g2")
    assert read(storage, "reports")["step"].tolist() == [1]


def test_the_newest_row_is_the_last_even_when_the_clock_is_set_back(storage: Storage) -> None:
    writer = Writer(storage, 0, 0)
    writer._clock = datetime(2999, 1, 1, tzinfo=timezone.utc)
    writer.add("members", status="started", step=0)
    writer.add("members", status="done", step=9)
    writer.flush("x")
    assert read(storage, "members")["status"].tolist() == ["done"]


# --- reading


def test_what_can_be_wrong_with_an_experiment(tmp_path: Path, storage: Storage) -> None:
    with pytest.raises(ValueError, match="unknown table 'layer': use one of members"):
        read(storage, "layer")
    with pytest.raises(FileNotFoundError, match=f"no experiment at {tmp_path}/absent"):
        read(tmp_path / "absent", "reports")
    storage.write("experiment.json", b"{}")
    assert len(read(storage, "reports")) == 0


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "flipped"])
def test_a_damaged_part_is_named(storage: Storage, damage: str) -> None:
    _start(storage, 0)
    name = f"members/{storage.names('members')[0]}"
    data = storage.read(name)
    broken = {"cut": data[:-20], "empty": b"", "foreign": b"hello" * 9, "flipped": bytes(200) + data[200:]}
    storage.write(name, broken[damage])
    with pytest.raises(ResultsError, match=f"{storage}/{name} is damaged .*restore the file, or remove it"):
        read(storage, "reports" if damage == "cut" else "members", superseded=damage != "cut")


def test_temporary_and_other_files_are_not_parts(storage: Storage) -> None:
    _start(storage, 0)
    storage.write("members/.0123.tmp", b"half")
    storage.write("members/notes.txt", b"mine")
    assert len(read(storage, "members")) == 1


def test_an_older_part_is_filled_with_nulls(storage: Storage) -> None:
    old = pa.schema([("member", pa.int64()), ("attempt", pa.int32()), ("generation", pa.int32())])
    old = old.append(pa.field("step", pa.int64())).append(pa.field("time", pa.timestamp("us", "UTC")))
    old = old.append(pa.field("gone", pa.string()))
    now = datetime.now(timezone.utc)
    row = {"member": 5, "attempt": 0, "generation": 1, "step": 2, "time": now, "gone": "x"}
    _part(storage, "reports", [row], old)
    _report(storage, 6, 1, alive=3)
    frame = read(storage, "reports")
    assert frame["member"].tolist() == [5, 6]
    assert frame["alive"].iloc[0] is pd.NA
    assert frame["numbers"].tolist() == [{}, {}]
    assert frame["final"].tolist() == [False, False]
    assert frame["alive"].dtype == pd.Int64Dtype()


@pytest.mark.parametrize("step", [None, "absent"])
def test_a_part_without_its_keys_is_damaged(storage: Storage, step: str | None) -> None:
    fields = {"member": pa.int32(), "attempt": pa.int32(), "generation": pa.int32(), "layer": pa.string()}
    row: dict[str, Any] = {"member": 0, "attempt": 0, "generation": 0, "layer": "a"}
    if step is None:
        fields["step"], row["step"] = pa.int64(), None
    _part(storage, "layers", [row], pa.schema(list(fields.items())))
    with pytest.raises(ResultsError, match=r"old\.parquet is damaged .*step"):
        read(storage, "layers")


def test_a_newer_part_says_so(storage: Storage) -> None:
    newer = pa.schema([("member", pa.string())], metadata={"sparsepop.schema": str(SCHEMA_VERSION + 1)})
    _part(storage, "reports", [{"member": "m"}], newer)
    with pytest.raises(ResultsError, match=rf"schema version {SCHEMA_VERSION + 1} .*update sparsepop"):
        read(storage, "reports")


def test_parts_of_a_file_system_that_is_not_local() -> None:
    remote = Storage(f"mock:///{uuid4().hex}")
    with pytest.raises(FileNotFoundError, match="no experiment at mock:///"):
        read(remote, "members")
    _start(remote, 0)
    _report(remote, 0, 5, score=0.5)
    assert read(remote.root, "reports")["score"].tolist() == [0.5]
    assert leaderboard(remote)["step"].tolist() == [5]


# --- superseded rows


def test_a_later_attempt_supersedes_what_lies_beyond_its_start(storage: Storage) -> None:
    _start(storage, 0)
    for step in (10, 20, 30):
        _report(storage, 0, step, score=0.0)
        _write(storage, "layers", 0, 0, generation=0, step=step, layer="a")
        _write(storage, "tickets", 0, 0, generation=0, step=step, ticket=f"t{step}")
    _start(storage, 1)
    _report(storage, 1, 30, score=0.0)
    _start(storage, 0, attempt=1, step=20)
    _report(storage, 0, 30, attempt=1, score=1.0)
    reports = read(storage, "reports")
    assert reports[["member", "attempt", "step"]].values.tolist() == [
        [0, 0, 10],
        [0, 0, 20],
        [0, 1, 30],
        [1, 0, 30],
    ]
    assert read(storage, "layers")["step"].tolist() == [10, 20]
    assert read(storage, "tickets")["ticket"].tolist() == ["t10", "t20"]
    assert len(read(storage, "reports", superseded=True)) == 5


def test_events_at_the_start_of_a_later_attempt_are_written_again(storage: Storage) -> None:
    for step in (10, 20, 30):
        _exploit(storage, 0, step, donor=1)
    _start(storage, 0, attempt=1, step=20)
    assert read(storage, "events")["step"].tolist() == [10]
    _exploit(storage, 0, 20, donor=2, attempt=1)
    assert read(storage, "events")["donor"].tolist() == [1, 2]


def test_what_a_method_noted_before_a_later_attempt_started_stays(storage: Storage) -> None:
    for step in (10, 20, 30):
        _write(storage, "events", 0, kind="collapse", generation=1, step=step)
    _start(storage, 0, attempt=1, step=20)
    assert read(storage, "events")["step"].tolist() == [10, 20]


def test_each_attempt_supersedes_all_before_it(storage: Storage) -> None:
    for attempt, start in enumerate((0, 20, 10)):
        _start(storage, 0, attempt=attempt, step=start)
        _report(storage, 0, start + 10, attempt=attempt)
        _report(storage, 0, start + 20, attempt=attempt)
    reports = read(storage, "reports")
    assert reports[["attempt", "step"]].values.tolist() == [[0, 10], [2, 20], [2, 30]]


STEPS = st.integers(0, 4) | st.just(2**62 + 1)  # floats would round it
PLACES = st.tuples(st.integers(0, 2), st.integers(0, 3), STEPS)


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(PLACES, st.booleans()), max_size=8),
    starts=st.lists(st.tuples(PLACES, st.sampled_from(["started", "failed"])), max_size=8),
)
def test_rows_are_superseded_by_any_later_start_that_lies_before_them(
    rows: list[tuple[tuple[int, int, int], bool]], starts: list[tuple[tuple[int, int, int], str]]
) -> None:
    def superseded(place: tuple[int, int, int], again: bool) -> bool:
        member, attempt, step = place
        later = [s for (m, a, s), status in starts if (m, status) == (member, "started") and a > attempt]
        return any(step > start or (step == start and again) for start in later)

    kinds = {"member": "int32", "attempt": "int32", "step": "int64"}
    frame = pd.DataFrame([place for place, _ in rows], columns=list(kinds)).astype(kinds)
    members = pd.DataFrame([place for place, _ in starts], columns=list(kinds)).astype(kinds)
    members["status"] = [status for _, status in starts]
    again = pd.Series([each for _, each in rows], dtype=bool)
    found = current(frame, members, again=again)
    assert [*found.itertuples(index=False, name=None)] == [
        place for place, flag in rows if not superseded(place, flag)
    ]
    assert found.dtypes.equals(frame.dtypes)
    assert found.index.equals(pd.RangeIndex(len(found)))


def test_only_a_start_supersedes(storage: Storage) -> None:
    _report(storage, 0, 30)
    _write(storage, "members", 0, 1, status="failed", step=10)
    assert read(storage, "reports")["step"].tolist() == [30]


def test_members_holds_the_newest_row_of_each(storage: Storage) -> None:
    late, early = (datetime(year, 1, 1, tzinfo=timezone.utc) for year in (2031, 2030))
    _write(storage, "members", 0, 0, status="failed", step=9, time=late)
    _write(storage, "members", 0, 1, status="done", step=8, time=early)
    _write(storage, "members", 2, 0, status="done", step=7, time=late)
    _write(storage, "members", 2, 0, status="started", step=0, time=early)
    frame = read(storage, "members")
    assert frame[["member", "status", "step"]].values.tolist() == [[0, "done", 8], [2, "done", 7]]
    assert len(read(storage, "members", superseded=True)) == 4


# --- who came from whom


@pytest.fixture
def family(storage: Storage) -> Storage:
    """Three members of 40 steps: 1 takes 0 at 10; 2 takes 1, and 1 takes 2, both at 20; 0 takes 2 at 30."""
    for member in range(3):
        _start(storage, member)
        _write(storage, "members", member, status="done", step=40)
    for step, member, donor in ((10, 1, 0), (20, 2, 1), (20, 1, 2), (30, 0, 2)):
        _exploit(storage, member, step, donor)
    _write(storage, "events", 0, kind="reset", generation=1, step=15)
    return storage


def test_lineage_lists_the_exploits(family: Storage) -> None:
    frame = lineage(family)
    assert list(frame.columns) == ["member", "generation", "step", "donor"]
    assert frame.values.tolist() == [[1, 1, 10, 0], [1, 2, 20, 2], [2, 2, 20, 1], [0, 3, 30, 2]]


def test_ancestors_follow_donors_back(family: Storage) -> None:
    # Both exchanged at 20, so each took what the other was before: 2's past is 1's, which was 0's until 10.
    assert ancestors(family, 2) == [(0, 0, 10), (1, 10, 20), (2, 20, 40)]
    assert ancestors(family, 1) == [(2, 0, 20), (1, 20, 40)]
    assert ancestors(family, 0) == [(0, 0, 10), (1, 10, 20), (2, 20, 30), (0, 30, 40)]


def test_an_exploit_at_the_last_step_counts(family: Storage) -> None:
    _exploit(family, 2, 40, donor=1)
    assert ancestors(family, 2) == [(2, 0, 20), (1, 20, 40), (2, 40, 40)]


def test_a_superseded_exploit_is_no_ancestor(family: Storage) -> None:
    _start(family, 0, attempt=1, step=30)
    _report(family, 0, 35, attempt=1)
    assert ancestors(family, 0) == [(0, 0, 35)]


def test_what_a_donor_takes_later_is_no_ancestor_even_at_an_earlier_step(storage: Storage) -> None:
    """2 takes what 0 was at 30, which was 1's until 10; then 0 takes what 1 was at 20."""
    for member in range(3):
        _start(storage, member)
    _exploit(storage, 0, 10, donor=1, numbers={"donor_generation": 1})
    _exploit(storage, 2, 30, donor=0, numbers={"donor_generation": 3})
    _start(storage, 0, attempt=1, step=20)
    _write(
        storage,
        "events",
        0,
        1,
        kind="exploit",
        donor=1,
        generation=3,
        step=20,
        numbers={"donor_generation": 2},
    )
    for member, attempt in ((0, 1), (1, 0), (2, 0)):
        _write(storage, "members", member, attempt, status="done", step=40)
    assert ancestors(storage, 2) == [(1, 0, 10), (0, 10, 30), (2, 30, 40)]
    assert ancestors(storage, 0) == [(1, 0, 20), (0, 20, 40)]


def test_a_donor_that_found_nothing_to_take_when_it_asked_again_took_nothing(storage: Storage) -> None:
    """0 is killed after it took 1's state, which is gone when its next attempt asks for it."""
    _start(storage, 0)
    _exploit(storage, 0, 10, donor=1, numbers={"donor_generation": 1})
    _start(storage, 0, attempt=1, step=10)
    _write(storage, "events", 0, 1, kind="lost", donor=1, generation=1, step=10)
    _start(storage, 2)
    _exploit(storage, 2, 20, donor=0, numbers={"donor_generation": 2})
    assert ancestors(storage, 2) == [(0, 0, 20), (2, 20, 20)]


def test_ancestors_of_a_running_and_of_an_unknown_member(storage: Storage) -> None:
    _start(storage, 4)
    assert ancestors(storage, 4) == [(4, 0, 0)]
    _report(storage, 4, 12)
    assert ancestors(storage, 4) == [(4, 0, 12)]
    with pytest.raises(ValueError, match=r"member 5 is not in .*: its members are 4"):
        ancestors(storage, 5)


# --- the leaderboard and the command


@pytest.fixture
def scored(storage: Storage) -> Storage:
    """Member 1 leads, 0 took it at 20, 2 diverged, 3 failed before its first report."""
    for member in range(4):
        _start(storage, member, hp={"lr": member})
    _report(storage, 0, 20, score=0.2, alive=10, prunable=100, density=0.1)
    _report(storage, 0, 40, score=0.8, test_accuracy=0.7, seconds=3.5, alive=11, prunable=100, final=True)
    _report(storage, 1, 40, score=0.9)
    _report(storage, 2, 20, score=math.nan)
    _exploit(storage, 0, 20, donor=1, hp_after='{"lr": 1.5}')
    _write(storage, "members", 0, status="done", step=40)
    _write(storage, "members", 3, status="failed", step=0, message="[red]no")
    return storage


def test_leaderboard(scored: Storage) -> None:
    board = leaderboard(scored)
    assert list(board.columns) == [
        *("rank", "member", "status", "step", "score", "validation_accuracy", "test_accuracy", "density"),
        *("alive", "prunable", "exploits", "donor", "seconds", "hp"),
    ]
    assert board["rank"].tolist() == [1, 2, 3, 4]
    assert board["member"].tolist() == [1, 0, 2, 3]
    assert board["status"].tolist() == ["started", "done", "started", "failed"]
    assert board["step"].tolist() == [40, 40, 20, 0]
    assert board["exploits"].tolist() == [0, 1, 0, 0]
    assert board["donor"].fillna(-1).tolist() == [-1, 1, -1, -1]
    assert [json.loads(hp)["lr"] for hp in board["hp"]] == [1, 1.5, 2, 3]
    second = board.iloc[1]
    assert (second["score"], second["test_accuracy"], second["seconds"], second["alive"]) == (
        0.8,
        0.7,
        3.5,
        11,
    )


def test_the_lowest_score_leads_where_the_mode_is_min(scored: Storage) -> None:
    scored.write("experiment.json", json.dumps({"mode": "min"}).encode())
    assert leaderboard(scored)["member"].tolist() == [0, 1, 2, 3]


def test_of_equal_scores_the_lower_loss_leads(storage: Storage) -> None:
    for member, loss in enumerate((0.3, 0.1, 0.2)):
        _start(storage, member)
        _report(storage, member, 10, score=0.5, validation_loss=loss)
    assert leaderboard(storage)["member"].tolist() == [1, 2, 0]


def test_a_later_attempt_brings_its_own_hp(scored: Storage) -> None:
    _start(scored, 0, attempt=1, step=30, hp={"lr": 7})
    board = leaderboard(scored).set_index("member")
    assert json.loads(board.loc[0, "hp"]) == {"lr": 7}
    assert board.loc[0, "score"] == 0.2
    assert board.loc[0, "exploits"] == 1


def test_who_stopped_or_failed_while_denser_than_those_that_ended_comes_after_them(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "asha"))
    write_member(storage, 0, {}, [0.5, 0.8], density=0.05)
    write_member(storage, 1, {}, [0.95], status="stopped", density=0.45)
    write_member(storage, 2, {}, [0.7], status="stopped", density=0.05)
    write_member(storage, 3, {}, [0.9], status="started", density=0.45)
    write_member(storage, 4, {}, [0.99], status="failed", density=0.45)
    assert leaderboard(storage)["member"].tolist() == [3, 0, 2, 4, 1]


def test_leaderboard_of_nobody(storage: Storage) -> None:
    storage.write("experiment.json", b"{}")
    assert len(leaderboard(storage)) == 0
    assert len(lineage(storage)) == 0


def test_the_command_prints_the_leaderboard(scored: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([scored.root]) == 0
    out = capsys.readouterr().out
    assert "members, best first" in out
    assert f"results: {scored}" in out
    assert main([scored.root, "--table", "leaderboard"]) == 0
    out = capsys.readouterr().out
    assert f"leaderboard of {scored}" in out
    assert "test_accuracy" in out
    assert '{"lr": 1.5}' in out


def test_the_command_prints_the_tail_of_a_table(scored: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([scored.root, "--table", "reports", "--rows", "3"]) == 0
    out = capsys.readouterr().out
    assert "0.1 (90% zero)" not in out  # the first of the four rows
    assert out.count("│\n") == 3
    assert main([scored.root, "--table", "reports"]) == 0
    assert "0.1 (90% zero)" in capsys.readouterr().out
    assert main([scored.root, "--table", "members"]) == 0
    assert "[red]no" in capsys.readouterr().out


@pytest.mark.parametrize("inside", ["absent", "", "plain", "plain/file"])
def test_a_wrong_path_exits_with_one_line(
    scored: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str], inside: str
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/file").write_bytes(b"")
    assert main([str(tmp_path / inside)]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    assert str(tmp_path / inside) in streams.err
    assert inside or "name one of the experiments in it (experiment)" in streams.err


def test_the_command_runs_without_torch_and_ray(scored: Storage) -> None:
    code = (
        "import runpy, sys; sys.argv = ['results', sys.argv[1]]\n"
        "try: runpy.run_module('sparsepop.results', run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "found = {'torch', 'ray', 'torchvision'} & set(sys.modules)\n"
        "sys.exit(f'{code} {found}' if code or found else 0)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code, scored.root], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "members, best first" in done.stdout


def test_what_became_of_a_member_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends in between leaves no member done without its ticket's row."""
    written: list[str] = []
    original = Storage.write

    def noted(self: Storage, path: str, data: bytes, exclusive: bool = False) -> None:
        written.append(path.partition("/")[0])
        original(self, path, data, exclusive)

    monkeypatch.setattr(Storage, "write", noted)
    writer = Writer(Storage(str(tmp_path)), 0, 0)
    writer.add("members", status="done", step=1, time=datetime.now(timezone.utc))
    writer.add("events", kind="notice", generation=0, step=1, time=datetime.now(timezone.utc))
    writer.flush("end")
    assert written == ["events", "members"]

"""What the members were trained with: hyperparameters over time, and which members share them."""

from __future__ import annotations

import json

import pandas as pd

from sparsepop.results.reader import Folder, current
from sparsepop.results.tables import Tables, tables_of


def hyperparameters(experiment: Folder | Tables) -> pd.DataFrame:
    """Every member's hyperparameters over time: one row for each value that was set or changed.

    Columns: member, step (from which on the value held, until the member's next row of that name), name,
    value (as JSON gives it: a number, text, a list, ...). Sorted by member, step, name. Rows of attempts
    that a later one superseded are left out.
    """
    tables = tables_of(experiment)
    members = tables.read("members", superseded=True)
    starts = members[members["status"] == "started"]
    changed = tables.read("events").rename(columns={"hp_after": "hp"})
    known = pd.concat([frame[["member", "attempt", "step", "time", "hp"]] for frame in (starts, changed)])
    known = current(known.dropna(subset="hp").reset_index(drop=True), members, again=True)
    known = known.sort_values(["member", "attempt", "time"])
    rows = [
        (row.member, row.step, name, value)
        for row in known.itertuples()
        for name, value in json.loads(str(row.hp)).items()
    ]
    frame = pd.DataFrame(rows, columns=["member", "step", "name", "value"], dtype=object)
    frame = frame.astype({"member": "int32", "step": "int64", "name": "str"})
    return _changes(frame.drop_duplicates(["member", "step", "name"], keep="last"))


def _changes(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose value differs from the one before it of the same member and name."""
    frame = frame.sort_values(["member", "step", "name"], ignore_index=True)
    text = frame["value"].map(json.dumps)
    before = text.groupby([frame["member"], frame["name"]]).shift()
    return frame[text != before].reset_index(drop=True)


def hp_keys(board: pd.DataFrame) -> pd.Series:
    """One text per row of a leaderboard that is equal where the hyperparameters are, whatever their order."""
    return (
        board["hp"]
        .map(lambda hp: json.dumps(json.loads(hp), sort_keys=True) if isinstance(hp, str) else "")
        .astype("str")
    )


def has_repeats(board: pd.DataFrame) -> bool:
    """Whether a leaderboard holds runs that repeat a setting over seeds: equal hp, and no exploits."""
    return not board["exploits"].any() and bool(hp_keys(board).duplicated().any())

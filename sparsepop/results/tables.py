"""The tables of an experiment as pandas frames, without the rows that no longer hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from sparsepop.results.reader import Folder, current, description, every_row, open_experiment
from sparsepop.storage import Storage

# an attempt starts with the exchange after the state that it goes on from, and what the next step grows
_REPEATED = ("exploit", "lost", "start", "merge", "superpose", "grow")


@dataclass(frozen=True)
class Tables:
    """An experiment's tables, each read from `storage` once, when it is first asked for, in the place of the
    experiment itself. All who ask get the same frames, so nobody may change them in place.
    """

    storage: Storage
    _frames: dict[tuple[str, bool], pd.DataFrame] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def description(self) -> dict[str, Any]:
        """What `experiment.json` says; empty where nobody wrote it."""
        return description(self.storage)

    def read(self, table: str, *, superseded: bool = False) -> pd.DataFrame:
        """One table, as `results.read` gives it, and with its errors."""
        key = (table, superseded)
        if key not in self._frames:
            self._frames[key] = every_row(self.storage, table) if superseded else self._holding(table)
        return self._frames[key]

    def _holding(self, table: str) -> pd.DataFrame:
        rows = self.read(table, superseded=True)
        if "attempt" not in rows:
            return rows
        if table == "members":
            last = rows.sort_values(["attempt", "time"], kind="stable").groupby("member").tail(1)
            return last.sort_values("member").reset_index(drop=True)
        again = _repeated(rows) if table == "events" else False
        return current(rows, self.read("members", superseded=True), again=again)


def _repeated(events: pd.DataFrame) -> pd.Series[bool]:
    # a merge whose networks lie far apart tells its collapse beside itself, with the same numbers
    merged = events["numbers"].map(lambda numbers: "collapsed" in (numbers or {})).astype(bool)
    return events["kind"].isin(_REPEATED) | ((events["kind"] == "collapse") & merged)


def tables_of(experiment: Folder | Tables) -> Tables:
    """The tables of an experiment, or what was read of them already."""
    return experiment if isinstance(experiment, Tables) else Tables(open_experiment(experiment))


def read(experiment: Folder | Tables, table: str, *, superseded: bool = False) -> pd.DataFrame:
    """One table of an experiment, sorted by member and step (ensembles: by time), with a fresh index.

    Dtypes are those of `convert.to_frame`, also when there are no rows. With `superseded` all rows ever
    written come back; without it, rows of an attempt beyond the step at which a later attempt of the same
    member started are left out (what an exchange did at that very step too: the later attempt repeats it),
    and `members` holds the newest row per member.

    Raises ValueError for an unknown table, FileNotFoundError for a missing experiment, and ResultsError for
    a damaged part or one that a newer version wrote.
    """
    return tables_of(experiment).read(table, superseded=superseded)

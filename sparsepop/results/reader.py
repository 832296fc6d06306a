"""Reading a table: all its parts as one pandas frame, and which rows of it still hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sparsepop.results.convert import conform, to_frame
from sparsepop.results.schema import PARTS_KEY, SCHEMA_VERSION, ResultsError, schema_of, version_of
from sparsepop.storage import Storage, side_by_side

Folder: TypeAlias = "str | Path | Storage"  # where an experiment lies

NOTE = "experiment.json"  # in an experiment: what it is
COMMAND = "command.txt"  # in an experiment: the command that last trained it
_LISTINGS = 3
_ORDER = ("member", "step", "attempt", "time")


def open_experiment(experiment: Folder) -> Storage:
    return experiment if isinstance(experiment, Storage) else Storage(str(experiment))


def description(experiment: Folder) -> dict[str, Any]:
    """What `experiment.json` says an experiment is; empty where nobody wrote it, ResultsError for damage."""
    storage = open_experiment(experiment)
    try:
        return dict(json.loads(storage.read(NOTE)))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise ResultsError(
            f"{storage}/{NOTE} is damaged ({error}): restore it, or start over with --fresh"
        ) from error


def nothing_yet(storage: Storage, what: str) -> str:
    """What to tell of a folder without the rows that were asked for (`what`): why, and what helps."""
    if storage.names("members"):
        return (
            f"{storage} holds no {what} yet: its members have just started, or have failed; see "
            f"python -m sparsepop.results {storage}"
        )
    if storage.exists(NOTE):
        return f"{storage} holds no {what} yet: no member has started; look again in a minute"
    inside = [name for name in storage.names() if {NOTE, "members"} & set(storage.names(name))]
    hint = f"name one of the experiments in it ({', '.join(inside)})" if inside else "check the path"
    return f"{storage} holds no {what}: {hint}"


def every_row(storage: Storage, table: str) -> pd.DataFrame:
    """All rows of a table that were ever written, sorted, with a fresh index; raises as `read` does."""
    schema = schema_of(table)
    parts = [part.rows for part in read_parts(storage, table)]
    frame = to_frame(pa.concat_tables([schema.empty_table(), *parts]))
    order = [column for column in _ORDER if column in schema.names]
    return frame.sort_values(order, kind="stable", ignore_index=True)


def last_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The last of each member's rows, by member."""
    return rows.groupby("member").tail(1).set_index("member")


def current(rows: pd.DataFrame, members: pd.DataFrame, *, again: bool | pd.Series) -> pd.DataFrame:
    """Rows that no later attempt superseded; `again`: which ones the later attempt repeats at its first
    step.
    """
    until = _superseded_from(rows, members)
    beyond = (rows["step"] > until) | ((rows["step"] == until) & again)
    return rows[~beyond.fillna(False)].reset_index(drop=True)


def _superseded_from(rows: pd.DataFrame, members: pd.DataFrame) -> pd.Series:
    """For each row the lowest step at which a later attempt of its member started; missing without one."""
    starts = members[members["status"] == "started"].groupby(["attempt", "member"])["step"].min()
    lowest = starts[::-1].groupby("member").cummin()[::-1].astype("Int64").rename("until").reset_index()
    asked = rows[["member", "attempt"]].sort_values("attempt")
    found = pd.merge_asof(
        asked, lowest, on="attempt", by="member", direction="forward", allow_exact_matches=False
    )
    return found["until"].set_axis(asked.index).reindex(rows.index)


@dataclass(frozen=True)
class Part:
    """One file of a table: its rows, and which parts it stands for (names and digests)."""

    name: str
    digest: str
    rows: pa.Table
    stands_for: Mapping[str, str]


def read_parts(storage: Storage, table: str) -> list[Part]:
    """All parts of a table in order of their names, without those that another one stands for.

    Raises as `read` does.
    """
    for _ in range(_LISTINGS):
        names = [name for name in storage.names(table) if name.endswith(".parquet")]
        if not names and not storage.exists():
            raise FileNotFoundError(
                f"no experiment at {storage}: check the path, or run the experiment first"
            )
        with suppress(FileNotFoundError):  # somebody compacts it at this moment
            return _without_replaced(_decoded(storage, table, names))
    raise FileNotFoundError(f"parts of {storage}/{table} vanish while they are read: try again")


def _decoded(storage: Storage, table: str, names: list[str]) -> list[Part]:
    schema = schema_of(table)
    contents = side_by_side(storage.read, [f"{table}/{name}" for name in names])
    found = zip(names, contents, strict=True)
    return [_decode(f"{storage}/{table}", name, data, schema) for name, data in found]


def _without_replaced(parts: list[Part]) -> list[Part]:
    """What is left of a compaction that was cut off reads as if it had not been."""
    replaced: dict[str, str] = {}
    for part in parts:
        replaced |= part.stands_for
    # a part of a replaced one's name and other content came later: its rows are new
    return [part for part in parts if replaced.get(part.name) != part.digest]


def _decode(folder: str, name: str, data: bytes, schema: pa.Schema) -> Part:
    path = f"{folder}/{name}"
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found = file.schema_arrow
        version = version_of(found)
        if version <= SCHEMA_VERSION:
            stands_for = json.loads((found.metadata or {}).get(PARTS_KEY, b"{}"))
            rows = conform(file.read(use_threads=False).replace_schema_metadata(schema.metadata), schema)
            return Part(name, hashlib.sha256(data).hexdigest(), rows, stands_for)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise ResultsError(
            f"{path} is damaged ({' '.join(str(error).split())}): restore the file, "
            "or remove it to go on without its rows"
        ) from error
    raise ResultsError(
        f"{path} has schema version {version} and this sparsepop reads up to {SCHEMA_VERSION}: "
        "update sparsepop"
    )

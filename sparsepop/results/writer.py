"""The Writer: one attempt of one member collects rows and writes them as Parquet parts of its own."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sparsepop.results.convert import value_of
from sparsepop.results.schema import SCHEMAS, STATUSES, schema_of
from sparsepop.storage import Storage


class Writer:
    """Collects rows in memory until `flush` writes them; no other writer touches the same files.

    `storage` is rooted at the experiment. Two writers of the same member must differ in their attempt.
    """

    def __init__(self, storage: Storage, member: int, attempt: int) -> None:
        if member < 0 or attempt < 0:
            raise ValueError(f"member {member}, attempt {attempt}: give numbers from 0 up")
        self.storage, self.member, self.attempt = storage, member, attempt
        self._rows: dict[str, list[dict[str, Any]]] = {table: [] for table in SCHEMAS}
        self._pending: dict[str, str] = {}  # parts whose write has not succeeded yet
        self._parts: Counter[str] = Counter()
        self._clock = datetime.min.replace(tzinfo=timezone.utc)

    def add(self, table: str, **row: Any) -> None:
        """Collect one row; `member`, `attempt` and `time` are filled in where the table has them.

        Columns may be left out or None where the schema allows null; maps default to empty, `final` to False.
        JSON columns take a string of JSON as it is, and anything else is encoded. Values are copied.
        Raises ValueError for an unknown table or column, a missing key, or a value that doesn't fit.
        """
        schema = schema_of(table)
        if unknown := sorted(set(row) - set(schema.names)):
            raise ValueError(
                f"table {table!r} has no column {', '.join(unknown)}: use {', '.join(schema.names)}, "
                "or put a number into the map 'numbers'"
            )
        row = {"member": self.member, "attempt": self.attempt, "time": self._now(), **row}
        if table == "members" and row.get("status") not in STATUSES:
            raise ValueError(f"status {row.get('status')!r} is unknown: use one of {', '.join(STATUSES)}")
        checked = {field.name: _checked(table, field, row.get(field.name)) for field in schema}
        self._rows[table].append(checked)

    def flush(self, tag: str) -> None:
        """Write each table's rows as one part, `TABLE/mMMMMM-aAA-TAG.parquet`, and forget those written.

        Raises OSError when a part cannot be written: its rows stay for the next flush, which then uses the
        failed part's name, so that a write that did arrive after all is replaced and no row appears twice.
        A tag that this writer used before gets another part (`TAG+1`), never an older one's place.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", tag):
            raise ValueError(f"tag {tag!r} does not fit a file name: use letters, digits, '.', '_' and '-'")
        # what became of the member comes last: who is told to be done is not run again, whatever it lacks
        for table in sorted(self._rows, key=lambda table: table == "members"):
            if rows := self._rows[table]:
                self._write(table, rows, tag)

    def _write(self, table: str, rows: list[dict[str, Any]], tag: str) -> None:
        if table not in self._pending:
            self._pending[table] = self._name(table, tag)
        self.storage.write(self._pending[table], encode(pa.Table.from_pylist(rows, schema=SCHEMAS[table])))
        rows.clear()
        del self._pending[table]

    def _name(self, table: str, tag: str) -> str:
        name = f"{table}/m{self.member:05d}-a{self.attempt:02d}-{tag}"
        self._parts[name] += 1
        again = self._parts[name] - 1
        return f"{name}+{again}.parquet" if again else f"{name}.parquet"

    def _now(self) -> datetime:
        """The time, later than the last row's even if the clock is set back: the newest row is the last."""
        self._clock = max(datetime.now(timezone.utc), self._clock + timedelta(microseconds=1))
        return self._clock


def encode(table: pa.Table) -> bytes:
    """A table as the bytes of one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _checked(table: str, field: pa.Field, value: Any) -> Any:
    try:
        return value_of(field, value)
    except KeyError:
        raise ValueError(f"a row of {table!r} needs {field.name!r}: give it") from None
    except (pa.ArrowException, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"{table}.{field.name}: {value!r} does not fit {field.type} ({error}): "
            "convert it before adding the row"
        ) from error

"""Compaction: the many parts of a table become one, so that reading it takes a moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import pyarrow as pa

from sparsepop.results.reader import Folder, Part, open_experiment, read_parts
from sparsepop.results.schema import PARTS_KEY, SCHEMAS, schema_of
from sparsepop.results.writer import encode
from sparsepop.storage import Storage, side_by_side

TABLES = ("members", "reports", "layers", "events")  # tickets and ensembles are few
WORTH = 200  # parts beyond which a finished run compacts its tables by itself


def compact(experiment: Folder, tables: Iterable[str] = TABLES, least: int = 2) -> dict[str, int]:
    """Put all parts of each table that has at least `least` into one; returns how many each had. Nothing is
    lost: every row ever written stays, also those that `read` leaves out.

    For experiments that nobody writes to: parts that come later are simply read beside it. Whoever is cut off
    here leaves a table that reads the same, for the new part says which ones it stands for. Raises as `read`
    does; then nothing was changed.
    """
    storage = open_experiment(experiment)
    done = {}
    for table in tables:
        parts = read_parts(storage, table)
        if len(parts) >= least:
            _merge(storage, table, parts)
            done[table] = len(parts)
    return done


def _merge(storage: Storage, table: str, parts: list[Part]) -> None:
    known: dict[str, str] = {}
    for part in parts:
        known |= {**part.stands_for, part.name: part.digest}
    metadata = {**schema_of(table).metadata, PARTS_KEY: json.dumps(known, sort_keys=True).encode()}
    rows = pa.concat_tables([SCHEMAS[table].empty_table(), *(part.rows for part in parts)])
    data = encode(rows.replace_schema_metadata(metadata))
    # named by its content: no other part can have this name
    storage.write(f"{table}/all-{hashlib.sha256(data).hexdigest()[:16]}.parquet", data)
    list(side_by_side(storage.delete, [f"{table}/{name}" for name in known]))

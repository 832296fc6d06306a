"""How Python values become columns, and columns a pandas frame, with every number kept as it was written."""

from __future__ import annotations

import json
import operator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sparsepop.results.schema import default


def value_of(field: pa.Field, value: Any) -> Any:
    """A Python value checked and copied for its column; raises TypeError, ValueError or ArrowException.

    Floats may be given as anything that float() takes but strings; integers must be whole in type, so that
    no count is rounded silently. None and NaN stay what they are.
    """
    if value is None:
        return default(field)
    if field.metadata and b"json" in field.metadata and not isinstance(value, str):
        value = json.dumps(value, sort_keys=True)
    value = _convert(field.type, value)
    pa.scalar(value, type=field.type)  # refuses what does not fit: ranges, surrogates
    return value


def _convert(kind: Any, value: Any) -> Any:
    if pa.types.is_map(kind):
        return [(_text(name), _number(kind.item_type, item)) for name, item in value.items()]
    if pa.types.is_list(kind):
        return [_text(item) for item in _plain(value)]
    if pa.types.is_string(kind):
        return _text(value)
    return value if pa.types.is_timestamp(kind) else _number(kind, value)


def _number(kind: Any, value: Any) -> Any:
    if value is None:
        return None
    if pa.types.is_integer(kind):
        return operator.index(value)
    if pa.types.is_boolean(kind):
        return _flag(value)
    return float(_plain(value))


def _flag(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{value!r} is not a bool")
    return bool(value)


def _plain(value: Any) -> Any:
    if isinstance(value, str | bytes):  # float() would parse it, list() would take it apart
        raise TypeError(f"{value!r} is a string")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def conform(part: pa.Table, schema: pa.Schema) -> pa.Table:
    """A part in this version's schema: missing columns filled with their defaults, unknown ones dropped.

    Raises KeyError when a column is missing that every row must hold, ArrowException when a cast loses data.
    """
    if part.schema.equals(schema):
        return part
    return pa.table([_column(part, field) for field in schema], schema=schema)


def _column(part: pa.Table, field: pa.Field) -> Any:
    if field.name not in part.column_names:
        return pa.array([default(field)] * len(part), type=field.type)
    column = part[field.name]
    if not field.nullable and column.null_count:
        raise ValueError(f"nulls in column {field.name!r}")
    return column.cast(field.type)


_NULLABLE: dict[Any, Any] = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A table as a pandas frame whose dtypes depend on the schema alone, never on the rows.

    Integers that every row holds are plain int32 or int64; integers that may be missing are pandas' Int32 or
    Int64 (exact up to 64 bits, missing = pd.NA). Floats are float64: a null reads as NaN, as a NaN does (the
    parts keep them apart). Strings have pandas' default string dtype, times are UTC with microseconds, maps
    are dicts, lists lists.
    """
    frame: pd.DataFrame = table.to_pandas(types_mapper=_NULLABLE.get, maps_as_pydicts="strict")
    for field in table.schema:
        if pa.types.is_integer(field.type) and not field.nullable:
            frame[field.name] = frame[field.name].astype(field.type.to_pandas_dtype())
        elif pa.types.is_list(field.type):
            frame[field.name] = pd.Series([list(items) for items in frame[field.name]], dtype=object)
    return frame

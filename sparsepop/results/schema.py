"""The tables of an experiment: every column's name, type and meaning."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised by one whenever a column is added, renamed or changes its meaning."""

_VERSION_KEY = b"sparsepop.schema"
PARTS_KEY = b"sparsepop.parts"
"""Metadata of a part that stands for others: a JSON map from their names to the digests of their content."""
_TIME = pa.timestamp("us", "UTC")
_NUMBERS = pa.map_(pa.string(), pa.float64())
_COUNTS = pa.map_(pa.string(), pa.int64())


class ResultsError(ValueError):
    """A part of a table that cannot be read; the message names the file."""


def _key(name: str, kind: Any) -> pa.Field:
    """A column that every row holds."""
    return pa.field(name, kind, nullable=False)


def _json(name: str) -> pa.Field:
    """A string column holding JSON; the Writer encodes whatever is not a string yet."""
    return pa.field(name, pa.string(), metadata={"json": "1"})


def _columns(kind: Any, *names: str) -> list[pa.Field]:
    return [pa.field(name, kind) for name in names]


def _schema(*fields: pa.Field) -> pa.Schema:
    return pa.schema(fields, metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()})


_WHO = (_key("member", pa.int32()), _key("attempt", pa.int32()))
_WHEN = (_key("generation", pa.int32()), _key("step", pa.int64()))
_MAP = _key("numbers", _NUMBERS)

SCHEMAS: dict[str, pa.Schema] = {
    # What became of a member: one row per change of status; step is where this attempt stood.
    "members": _schema(
        *_WHO,
        _key("status", pa.string()),
        _key("step", pa.int64()),
        _key("time", _TIME),
        _json("recipe"),
        _json("hp"),
        pa.field("seed", pa.int64()),
        pa.field("git_sha", pa.string()),
        _json("hardware"),
        pa.field("message", pa.string()),
    ),
    # One row per report. step: optimizer steps; epoch: passes over the training images; *_loss: mean
    # cross-entropy (nats); *_accuracy and density: 0..1; test_*: null except where final is set; alive and
    # prunable: weights; others: learnables that are not prunable, all kinds together. seconds (device-seconds
    # of training: evaluation, saving and waiting are left out) and train_flops (all samples, forward and
    # backward): what this member has spent itself so far, whoever's weights it holds now. inference_flops and
    # dense_flops: of one sample's forward pass through the sparse and the dense net. bytes: of weights, dead
    # ones too, buffers and masks in memory. lr: of the last step.
    "reports": _schema(
        *_WHO,
        *_WHEN,
        pa.field("epoch", pa.float64()),
        _key("time", _TIME),
        *_columns(pa.float64(), "seconds", "score", "train_loss", "validation_loss", "validation_accuracy"),
        *_columns(pa.float64(), "test_loss", "test_accuracy", "density"),
        *_columns(pa.int64(), "alive", "prunable", "others"),
        *_columns(pa.float64(), "train_flops", "inference_flops", "dense_flops"),
        pa.field("bytes", pa.int64()),
        pa.field("lr", pa.float64()),
        _key("final", pa.bool_()),
        _key("learnables", _COUNTS),
        _MAP,
    ),
    # One row per layer and report.
    "layers": _schema(
        *_WHO, *_WHEN, _key("layer", pa.string()), *_columns(pa.int64(), "size", "alive"), _MAP
    ),
    # Exploits, merges, superpositions, collapses, resets, restarts; overlap: of the masks before and after.
    # Where a state was taken, numbers hold DONOR_GENERATION; of a common start, bytes_down.
    "events": _schema(
        *_WHO,
        *_WHEN,
        _key("time", _TIME),
        _key("kind", pa.string()),
        pa.field("donor", pa.int32()),
        _json("hp_before"),
        _json("hp_after"),
        pa.field("overlap", pa.float64()),
        pa.field("message", pa.string()),
        _MAP,
    ),
    # One row per sparse subnetwork, of finished members and, on request, of those in mid-training; path:
    # relative to the experiment.
    "tickets": _schema(
        _key("ticket", pa.string()),
        *_WHO,
        *_WHEN,
        _key("time", _TIME),
        pa.field("path", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("density", pa.float64()),
        *_columns(pa.int64(), "alive", "prunable"),
        *_columns(pa.float64(), "score", "validation_accuracy"),
        _json("lineage"),
        _json("recipe"),
        _MAP,
    ),
    # One row per evaluation on a split of what was made of several tickets (vote, uniform, ...), or of one
    # alone beside them (single).
    "ensembles": _schema(
        _key("ensemble", pa.string()),
        _key("kind", pa.string()),
        _key("tickets", pa.list_(pa.string())),
        pa.field("split", pa.string()),
        _key("time", _TIME),
        *_columns(pa.float64(), "accuracy", "nll", "calibration_error", "disagreement"),
        *_columns(pa.int64(), "alive", "prunable"),
        pa.field("inference_flops", pa.float64()),
        _MAP,
    ),
}

DONOR_GENERATION = "donor_generation"
"""At the end of which of its generations a donor gave its state: it may take an older one itself later."""

STATUSES = ("started", "done", "failed", "stopped", "merged")
"""`merged`: ended with the last round of a merge, for another member goes on with the network."""


def schema_of(table: str) -> pa.Schema:
    """The schema of a table; raises ValueError listing the tables when there is none of that name."""
    if table not in SCHEMAS:
        raise ValueError(f"unknown table {table!r}: use one of {', '.join(SCHEMAS)}")
    return SCHEMAS[table]


def version_of(schema: pa.Schema) -> int:
    """The schema version that a part was written with; 0 when it says nothing."""
    return int((schema.metadata or {}).get(_VERSION_KEY, b"0"))


def default(field: pa.Field) -> Any:
    """What an omitted value means: null, empty or False; raises KeyError for a column that must be given."""
    if field.nullable:
        return None
    if pa.types.is_map(field.type) or pa.types.is_list(field.type):
        return []
    if pa.types.is_boolean(field.type):
        return False
    raise KeyError(field.name)

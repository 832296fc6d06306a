"""What figures ask of the frames that they are drawn from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd


class MissingRows(ValueError):
    """A frame without the rows that a figure is drawn from; the message names them."""


def need(frame: pd.DataFrame, what: str, columns: Iterable[str] = ()) -> pd.DataFrame:
    """The frame, when it has these columns (else ValueError) and a row (else MissingRows)."""
    if absent := sorted(set(columns) - set(frame.columns)):
        raise ValueError(f"no column {', '.join(absent)}: give {what}")
    if frame.empty:
        raise MissingRows(f"no rows: give {what}")
    return frame


def spread(frame: pd.DataFrame, names: Iterable[str], what: str) -> pd.DataFrame:
    """The rows whose map `numbers` holds any of `names`, each of them a column (NaN where it is absent).

    Raises MissingRows, naming them, when no row does.
    """
    need(frame, what, ["numbers"])
    wanted = list(names)
    rows = [{name: numbers.get(name, np.nan) for name in wanted} for numbers in frame["numbers"]]
    found = pd.DataFrame(rows, index=frame.index, columns=wanted, dtype="float64")
    kept = found.notna().any(axis=1)
    if not kept.any():
        raise MissingRows(f"no row has the number {' or '.join(wanted)}: give {what}")
    clash = [name for name in wanted if name in frame]
    return pd.concat([frame.drop(columns=clash), found], axis=1)[kept]


def numbers_in(frame: pd.DataFrame, prefix: str = "") -> list[str]:
    """Names in the maps `numbers` of any row that begin with `prefix`, in order of appearance."""
    names = dict.fromkeys(name for numbers in frame["numbers"] for name in numbers)
    return [name for name in names if name.startswith(prefix)]


def of_member(frame: pd.DataFrame, member: int, what: str) -> pd.DataFrame:
    """The rows of one member, by step; MissingRows, naming those that there are, when there is none."""
    need(frame, what, ["member", "step"])
    rows = frame[frame["member"] == member]
    if rows.empty:
        known = ", ".join(map(str, sorted(frame["member"].unique())[:20]))
        raise MissingRows(f"no rows of member {member}: there are those of {known}; give {what}")
    return rows.sort_values("step", kind="stable")

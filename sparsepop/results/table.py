"""Frames and values as people read them: rich tables, densities, counts, hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table


def rich_table(frame: pd.DataFrame, title: str) -> Table:
    """Any table of results with all its columns; its title and its values are taken literally."""
    table = Table(title=escape(title))
    for column in frame:
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in frame.to_dict("records"):
        table.add_row(*(escape(_cell(str(column), value)) for column, value in row.items()))
    return table


def _cell(column: str, value: Any) -> str:
    """One value for people: missing as '-', a density beside the share that is zero."""
    if isinstance(value, dict):
        return " ".join(f"{name}={_cell(name, item)}" for name, item in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    if pd.isna(value):
        return "-"
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if column == "density":
        return f"{value:.4g} ({100 * (1 - value):.6g}% zero)"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def counted(count: int, name: str) -> str:
    """A number of things: `1 merge`, `2 merges`."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def percent_text(share: float) -> str:
    """A share from 0 to 1 as a percentage: `5.00%`, `100%`, `0.0312%` where two decimals say too little."""
    if pd.isna(share):
        return "-"
    if share == 1:
        return "100%"
    return f"{share:.2%}" if share >= 0.001 or share == 0 else f"{100 * share:.3g}%"


def hp_text(hp: str | None) -> str:
    """Hyperparameters, given as JSON, in one line: `lr=0.0332 fraction=0.41 interval=125`."""
    if not isinstance(hp, str):  # None, or pandas' missing value
        return ""
    return " ".join(f"{name}={value_text(value)}" for name, value in json.loads(hp).items())


def value_text(value: Any) -> str:
    """One decoded hyperparameter: floats to three digits, lists joined by commas, schedules by name."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, Mapping):
        inner = ",".join(f"{name}={value_text(item)}" for name, item in value.items() if name != "type")
        return f"{value.get('type', '')}({inner})"
    if isinstance(value, list):
        return ",".join(map(value_text, value))
    return str(value)


def base_name(path: str) -> str:
    """The last part of a path or URI: what a data set or an experiment is called."""
    return path.rstrip("/").rpartition("/")[2]

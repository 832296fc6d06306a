"""`python -m sparsepop.results PATH`: the leaderboard of an experiment, or the tail of one of its tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparsepop.results.lineage import leaderboard
from sparsepop.results.reader import open_experiment, read
from sparsepop.results.schema import SCHEMAS
from sparsepop.storage import Storage

_WIDE = 10_000  # a pipe has no width to keep to: nothing is cut there


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table; 0 when it worked, 2 with one line on stderr when the experiment cannot be read."""
    options = _parser().parse_args(arguments)
    try:
        storage = open_experiment(options.path)
        _check_holds_results(storage)
        frame = read(storage, options.table).tail(options.rows) if options.table else leaderboard(storage)
    except (OSError, ValueError) as error:
        print(f"sparsepop.results: {error}", file=sys.stderr)
        return 2
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    console.print(_rich(frame, title=f"{options.table or 'leaderboard'} of {storage}"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sparsepop.results", description=__doc__)
    parser.add_argument("path", help="folder or URI of one experiment")
    parser.add_argument("--table", choices=list(SCHEMAS), help="print the last rows of this table instead")
    parser.add_argument("--rows", type=int, default=20, help="how many rows of it (default: 20)")
    return parser


def _check_holds_results(storage: Storage) -> None:
    if not storage.exists():
        raise FileNotFoundError(f"no experiment at {storage}: check the path")
    names = storage.names()
    if not set(names) & set(SCHEMAS):
        inside = [name for name in names if set(storage.names(name)) & set(SCHEMAS)]
        hint = f"name one of the experiments in it ({', '.join(inside)})" if inside else "check the path"
        raise FileNotFoundError(f"{storage} holds no results: {hint}")


def _rich(frame: pd.DataFrame, title: str) -> Table:
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
        return f"{value:.4g} ({1 - value:.4%} zero)"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m sparsepop.results PATH`: what the end of a run tells, or the tail of a table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from sparsepop.results.compact import compact
from sparsepop.results.lineage import leaderboard
from sparsepop.results.reader import nothing_yet, open_experiment
from sparsepop.results.report import print_summary
from sparsepop.results.schema import SCHEMAS
from sparsepop.results.table import rich_table
from sparsepop.results.tables import read
from sparsepop.storage import Storage

LEADERBOARD = "leaderboard"
_WIDE = 10_000  # a pipe has no width to keep to: nothing is cut there


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what is asked for; 0 when it worked, 2 with one line on stderr when it cannot be read."""
    options = _parser().parse_args(arguments)
    try:
        storage = open_experiment(options.path)
        _check_holds_results(storage)
        if options.compact:
            for table, parts in compact(storage).items():
                print(f"{table}: {parts} parts became one")
            return 0
        _print(storage, options.table, options.rows)
    except (OSError, ValueError) as error:
        print(f"sparsepop.results: {error}", file=sys.stderr)
        return 2
    return 0


def _print(storage: Storage, table: str | None, rows: int) -> None:
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    if table is None:
        print_summary(storage, console)
        return
    frame = leaderboard(storage) if table == LEADERBOARD else read(storage, table).tail(rows)
    console.print(rich_table(frame, title=f"{table} of {storage}"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparsepop.results", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("path", help="folder or URI of one experiment")
    parser.add_argument(
        "--table",
        choices=[LEADERBOARD, *SCHEMAS],
        help="print the last rows of this table instead, all columns; of the leaderboard every member",
    )
    parser.add_argument(
        "--compact", action="store_true", help="make one file of each table's parts: reading is then quick"
    )
    parser.add_argument("--rows", type=int, default=20, help="how many rows of it (default: 20)")
    return parser


def _check_holds_results(storage: Storage) -> None:
    if not storage.exists():
        raise FileNotFoundError(f"no experiment at {storage}: check the path")
    if not set(storage.names()) & set(SCHEMAS):
        raise FileNotFoundError(nothing_yet(storage, "results"))


if __name__ == "__main__":
    sys.exit(main())

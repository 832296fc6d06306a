"""python -m sparsepop.report EXPERIMENT: one HTML page that tells all about it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from sparsepop.figures import read_published
from sparsepop.report.page import render
from sparsepop.results.reader import open_experiment
from sparsepop.storage import Storage

BAD_INPUT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page and print where it is; 0 when it worked, 2 with one line on stderr when it could not."""
    flags = _parser().parse_args(arguments)
    try:
        published = read_published(flags.published) if flags.published else None
        page = render(open_experiment(flags.experiment), published)
        folder, name = os.path.split(flags.output) if flags.output else (flags.experiment, "report.html")
        storage = Storage(folder or ".")
        storage.write(name, page.encode())
    except (OSError, ValueError) as error:
        print(f"sparsepop.report: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    print(f"{storage}/{name}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparsepop.report", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("experiment", help="folder or URI of one experiment")
    parser.add_argument("--output", help="the HTML file to write (default: report.html in EXPERIMENT)")
    parser.add_argument(
        "--published", metavar="CSV", help="published numbers to draw beside ours (analysis/published.csv)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

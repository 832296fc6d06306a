"""The picture of an experiment, drawn from its tables: a population over time, or a grid over density.

`python -m analysis.figures EXPERIMENT [--out FILE]` draws the one that fits, with the published numbers of
the same network and data beside ours; `--all` draws every figure that the experiment has rows for. The
figures themselves are functions of `sparsepop.figures`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

if __package__ in (None, ""):  # run as a file of a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsepop.figures import draw, encode, fitting, gallery, read_published
from sparsepop.results.reader import open_experiment

PUBLISHED = Path(__file__).resolve().parent / "published.csv"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one experiment: 0 and the pictures' paths when it worked, 2 and one line when it did not."""
    options = _parser().parse_args(arguments)
    try:
        published = read_published(PUBLISHED)
        if options.all:
            _draw_all(options.experiment, options.out or options.experiment, published)
        else:
            _draw_one(options.experiment, options.out, published)
    except (OSError, ValueError) as error:
        print(f"analysis.figures: {error}", file=sys.stderr)
        return 2
    return 0


def _draw_one(experiment: str, out: str | None, published: pd.DataFrame) -> None:
    kind = fitting(experiment)
    figure = draw(experiment, kind, published)
    folder, name = os.path.split(out) if out else (experiment, f"{kind}.png")
    where = _written(folder, name, figure)
    print(out or where)


def _draw_all(experiment: str, folder: str, published: pd.DataFrame) -> None:
    pictures: Iterator[tuple[str, Figure]] = (
        (f"{picture.name}.png", picture.figure) for picture in gallery(experiment, published)
    )
    for name, figure in pictures:
        print(_written(folder, name, figure))


def _written(folder: str, name: str, figure: Figure) -> str:
    storage = open_experiment(folder or ".")
    storage.write(name, encode(figure, name))
    return f"{storage}/{name}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.figures", description=__doc__.splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("experiment", help="folder or URI of one experiment")
    parser.add_argument("--out", help="file to write, of the kind its ending says (default: in EXPERIMENT)")
    parser.add_argument(
        "--all", action="store_true", help="every figure there are rows for (--out: a folder)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

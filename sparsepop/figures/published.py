"""Published numbers, to stand beside ours: where they are read from, and which are comparable to a run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sparsepop.figures.frames import need
from sparsepop.results.table import base_name

COLUMNS = ("method", "model", "data", "density", "accuracy", "epochs", "flops", "source")


def read_published(path: str | Path) -> pd.DataFrame:
    """The table in a CSV file: method, model, data, density (0..1), accuracy (percent), epochs and flops
    (of training, relative to the dense network's; both missing where not published), source.

    Raises ValueError for a file that is no table, lacks one of these columns, or has a density or an accuracy
    out of range.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a CSV file ({error}): check the path") from error
    frame = need(table, f"a table of published numbers in {path}", COLUMNS)
    wrong = frame[~frame["density"].between(0, 1, "right") | ~frame["accuracy"].between(0, 100)]
    if len(wrong):
        raise ValueError(f"{path}, row {wrong.index[0] + 2}: densities lie in (0, 1], accuracies in 0..100")
    return frame


def like(published: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The published numbers of a network and data set that one of the runs has."""
    ours = set(zip(runs["model"], runs["data"].map(base_name), strict=True))
    kept = [pair in ours for pair in zip(published["model"], published["data"], strict=True)]
    return published[kept]

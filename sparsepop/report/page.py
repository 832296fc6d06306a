"""The page itself: what the tables say, put into the template."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from sparsepop.figures import Picture, encode, gallery
from sparsepop.report import facts, repeat
from sparsepop.report.cells import Table
from sparsepop.results import Tables, leaderboard
from sparsepop.results.lineage import merges
from sparsepop.results.reader import Folder, nothing_yet
from sparsepop.results.table import base_name
from sparsepop.results.tables import tables_of

HEAVY = 500_000  # bytes of SVG beyond which a PNG takes less
_EM, _LEAST = 8.0, 3.4  # rem for each inch of a figure: at most, and at least before it scrolls


@dataclass(frozen=True)
class Shown:
    """A picture as the template takes it; sizes in rem."""

    name: str
    shows: str
    source: str
    widest: float
    narrowest: float


def render(experiment: Folder | Tables, published: pd.DataFrame | None = None) -> str:
    """The page of an experiment. Equal tables give equal pages. Text from the tables is escaped; the page
    loads nothing and runs nothing, and says so to the browser.

    Raises FileNotFoundError for a missing experiment, ValueError for one in which no member has started, or
    what was read is damaged.
    """
    tables = tables_of(experiment)
    board = leaderboard(tables)
    if board.empty:
        raise ValueError(nothing_yet(tables.storage, "members"))
    reports, events = tables.read("reports"), tables.read("events")
    made = merges(events)
    context = {
        "name": base_name(str(tables.storage)),
        "about": facts.about(tables.description, reports),
        "tiles": facts.tiles(tables, board, reports, made),
        "board": facts.board_table(board, reports),
        "pictures": list(_pictures(tables, published)),
        "ancestry": facts.ancestry(tables, board, made),
        "exploits": facts.exploit_table(events),
        "ended": facts.ended_table(tables.read("members")),
        "events": facts.event_table(events),
        "ensembles": facts.ensemble_table(tables.read("ensembles")),
        "repeat": repeat.how(tables, board),
    }
    return _environment().get_template("page.html").render(**context)


def _environment() -> Environment:
    loader = PackageLoader("sparsepop.report", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["table"] = lambda value: isinstance(value, Table)
    return environment


def _pictures(tables: Tables, published: pd.DataFrame | None) -> Iterator[Shown]:
    if tables.read("reports")["score"].notna().any():
        for picture in gallery(tables, published):
            width = picture.figure.get_figwidth()
            yield Shown(picture.name, picture.shows, _inline(picture), _EM * width, _LEAST * width)


def _inline(picture: Picture) -> str:
    """A picture as a data URI, in which it can neither run nor load anything."""
    data, kind = encode(picture.figure, "figure.svg"), "svg+xml"
    if len(data) > HEAVY:
        data, kind = encode(picture.figure, "figure.png"), "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

"""What the figures of a population are drawn from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from sparsepop.figures.style import ACCENT, shades
from sparsepop.results import Tables, ancestors, hyperparameters, leaderboard, lineage
from sparsepop.results.lineage import Merged, merges, since_merge
from sparsepop.results.reader import Folder, nothing_yet
from sparsepop.results.table import base_name, counted
from sparsepop.results.tables import tables_of

NAMED = 16  # members named beside the colours at most
PANELS = 8  # hyperparameters drawn at most


@dataclass(frozen=True)
class Population:
    """The frames of a population: its leaderboard, its reports with a score, the states that were taken over
    (`lineage`: exploits and common starts), `hyperparameters`, the step at which each member began, the
    merges, and the `ancestors` of the best member since the merge that its weights came out of (`origin`).
    """

    name: str
    board: pd.DataFrame
    reports: pd.DataFrame
    taken: pd.DataFrame
    hp: pd.DataFrame
    begins: dict[int, int]
    merges: list[Merged]
    origin: Merged | None
    ancestry: list[tuple[int, int, int]]

    @property
    def exploits(self) -> int:
        """How many exploits there were; a common start is none."""
        return int(self.board["exploits"].sum())

    @property
    def counts(self) -> str:
        """How many exploits there were, and merges where there were any."""
        merged = f", {counted(len(self.merges), 'merge')}" if self.merges else ""
        return counted(self.exploits, "exploit") + merged

    @cached_property
    def colors(self) -> dict[int, Any]:
        """A colour per member, the best first and darkest."""
        return dict(zip(self.board["member"], shades(len(self.board)), strict=True))

    @property
    def many(self) -> bool:
        """Whether lines must be thin, and the ancestry lie above them, to be seen at all."""
        return len(self.board) > NAMED

    @property
    def width(self) -> float:
        return 0.6 if self.many else 1.3

    @property
    def bold(self) -> dict[str, Any]:
        """How the ancestry is drawn."""
        width, level = (2.2, 4.0) if self.many else (3.5, 1.9)
        return {"color": ACCENT, "linewidth": width, "alpha": 0.8, "zorder": level, "label": "ancestry"}

    @property
    def searched(self) -> list[str]:
        """The hyperparameters that take more than one value, in alphabetical order, eight at most."""
        distinct = self.hp.assign(value=self.hp["value"].map(json.dumps)).groupby("name")["value"].nunique()
        return [str(name) for name in distinct.index[distinct > 1]][:PANELS]

    @property
    def last(self) -> int:
        """The last step that anybody reported."""
        return int(self.reports["step"].max())

    def score(self, member: int, step: int) -> float:
        """What a member reported at a step; NaN when it reported nothing there."""
        return self._scores.get((member, step), float("nan"))

    @cached_property
    def _scores(self) -> dict[tuple[int, int], float]:
        columns = (self.reports[name].tolist() for name in ("member", "step", "score"))
        return {(member, step): score for member, step, score in zip(*columns, strict=True)}

    def end(self, member: int) -> int:
        """The last step at which a member reported; 0 before that."""
        return max(self.reports.loc[self.reports["member"] == member, "step"], default=0)


def load_population(experiment: Folder | Tables) -> Population:
    """Read a population; raises FileNotFoundError for a missing experiment and ValueError for one without
    reports.
    """
    tables = tables_of(experiment)
    reports = tables.read("reports")
    reports = reports[reports["score"].notna()]
    if reports.empty:
        raise ValueError(nothing_yet(tables.storage, "reports with a score"))
    board = leaderboard(tables)
    made = merges(tables.read("events"))
    origin, ancestry = since_merge(ancestors(tables, int(board.iloc[0]["member"])), made)
    started = tables.read("members", superseded=True).query("status == 'started'")
    begins = started.groupby("member")["step"].min().to_dict()
    name, hp = base_name(str(tables.storage)), hyperparameters(tables)
    return Population(name, board, reports, lineage(tables), hp, begins, made, origin, ancestry)

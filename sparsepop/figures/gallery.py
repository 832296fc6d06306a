"""All figures that an experiment has rows for, each with a sentence that says what it shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd
from matplotlib.figure import Figure

from sparsepop.figures import accuracy, methods, population, tickets, time
from sparsepop.figures import layers as inside
from sparsepop.figures.family import Population, load_population
from sparsepop.figures.frames import MissingRows
from sparsepop.figures.published import like
from sparsepop.figures.rounds import rounds
from sparsepop.figures.runs import load_runs
from sparsepop.results import Tables, leaderboard
from sparsepop.results.hyper import has_repeats
from sparsepop.results.lineage import Merged, merges
from sparsepop.results.reader import Folder
from sparsepop.results.table import base_name
from sparsepop.results.tables import tables_of

Drawings: TypeAlias = dict[str, tuple[str, Callable[[], Figure]]]
CLASSES = {"digits": 10, "mnist": 10, "cifar10": 10, "cifar100": 100}


@dataclass(frozen=True)
class Picture:
    """A figure, its name (fit for a file), and what it shows, in a sentence."""

    name: str
    shows: str
    figure: Figure


def fitting(experiment: Folder | Tables) -> str:
    """`grid` where runs that were never merged repeat settings over seeds or end at different densities, else
    `population`.
    """
    tables = tables_of(experiment)
    return _kind(leaderboard(tables), merges(tables.read("events")))


def _kind(board: pd.DataFrame, merged: Sequence[Merged]) -> str:
    if merged:
        return "population"
    densities = board["density"].dropna().round(3).nunique()
    return "grid" if has_repeats(board) or (not board["exploits"].any() and densities > 1) else "population"


def draw(experiment: Folder | Tables, kind: str, published: pd.DataFrame | None = None) -> Figure:
    """The figure of this kind (`fitting`); raises as `load_population` and `load_runs` do."""
    if kind == "population":
        return population.population(load_population(experiment))
    runs = load_runs(experiment)
    return accuracy.accuracy_density(runs, None if published is None else like(published, runs))


def gallery(experiment: Folder | Tables, published: pd.DataFrame | None = None) -> Iterator[Picture]:
    """Every figure that the experiment has rows for; those of single members show the best one, or the best
    that is sparse where there is one. Raises ValueError for an experiment without reports.
    """
    tables = tables_of(experiment)
    found, runs = load_population(tables), load_runs(tables)
    sparse = found.board[found.board["density"] < 1]
    best = int((sparse if len(sparse) else found.board).iloc[0]["member"])
    printed = None if published is None else like(published, runs)
    frames = {name: tables.read(name) for name in ("reports", "layers", "events", "ensembles")}
    whole = _kind(found.board, found.merges) == "population"
    drawings = _of_population(found) if whole else _of_runs(runs, printed)
    for name, (shows, drawn) in {**drawings, **_of_one(best, **frames)}.items():
        try:
            figure = drawn()
        except MissingRows:
            continue
        yield Picture(name, shows, figure)


def _of_population(found: Population) -> Drawings:
    return {
        "population": (
            "every member's score; arrows lead from donors to receivers",
            lambda: population.population(found),
        ),
        "family-tree": ("who took over whose weights", lambda: population.family_tree(found)),
    }


def _of_runs(runs: pd.DataFrame, printed: pd.DataFrame | None) -> Drawings:
    drawings: Drawings = {
        "accuracy-density": (
            "accuracy against density",
            lambda: accuracy.accuracy_density(runs, printed),
        ),
        "accuracy-flops": ("what accuracy costs in training", lambda: accuracy.accuracy_flops(runs)),
    }
    if runs["alive"].nunique() > 1:
        drawings["pareto"] = ("the most accurate runs for their weights", lambda: accuracy.pareto(runs))
    classes = CLASSES.get(base_name(runs["data"].iloc[0]), 0)
    if classes and (runs["accuracy"] < 2 / classes).any():
        shows = "the share of runs that are hardly better than guessing"
        drawings["collapse"] = (shows, lambda: accuracy.collapse_rate(runs, classes))
    return drawings


def _of_one(
    best: int, reports: pd.DataFrame, layers: pd.DataFrame, events: pd.DataFrame, ensembles: pd.DataFrame
) -> Drawings:
    """Of the member `best`, over time where it has reported more than once, and of what was made of all."""
    who, often = f"member {best}:", (reports["member"] == best).sum() > 1
    over_time: Drawings = {
        "learning": (f"{who} losses and accuracy", lambda: time.learning(reports, best)),
        "schedule": (f"{who} density, learning rate and phase", lambda: time.schedule(reports, best)),
        "remaining": (f"{who} how much of each layer is alive", lambda: inside.remaining(layers, best)),
        "thresholds": (f"{who} its trained thresholds", lambda: inside.thresholds(layers, best)),
        "gradients": (f"{who} whether gradients reach each stage", lambda: inside.gradients(reports, best)),
    }
    return {
        **(over_time if often else {}),
        "coefficients": (f"{who} coefficients against weights", lambda: inside.coefficients(layers, best)),
        "gap": (
            f"{who} which layers were dense when, and what accuracy that left",
            lambda: methods.gap_schedule(events, best, reports if often else None),
        ),
        "rounds": ("what each merge cost and changed", lambda: rounds(events)),
        "superposition": (f"{who} the tickets it is made of", lambda: methods.superposition(events, best)),
        "calibration": (
            "how well votes and superposed networks know what they do not know",
            lambda: tickets.calibration(ensembles),
        ),
    }

"""Pictures of an experiment, drawn from its tables: a population over time, a grid over density.

`python -m analysis.figures EXPERIMENT [--out FILE]` draws the one that fits.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

if __package__ in (None, ""):  # run as a file of a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sparsepop.results import ancestors, hyperparameters, leaderboard, lineage, read
from sparsepop.results.hyper import has_repeats, hp_keys
from sparsepop.results.reader import Experiment, open_experiment
from sparsepop.results.table import percent_text, value_text

ANCESTRY = "#D55E00"  # vermilion: no colour-blind eye takes it for a tone of viridis
EXPLOIT = "0.35"
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")  # Okabe and Ito
MARKERS = "osD^vPX"
MANY = 10.0  # values that span more than this factor get a logarithmic axis
PANELS = 8  # hyperparameters drawn at most
NAMED = 16  # members named beside the colours at most
NINES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
TEXT: Any = {"font.size": 9.0, "axes.titlesize": 10.0, "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True)
class Population:
    """What the picture of a population is drawn from; `ancestry` is that of the best member."""

    name: str
    board: pd.DataFrame
    reports: pd.DataFrame
    exploits: pd.DataFrame
    hp: pd.DataFrame
    ancestry: list[tuple[int, int, int]]

    @property
    def colors(self) -> dict[int, Any]:
        """A colour per member, the best first and darkest; the palest tones of the map are left out."""
        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.93, len(self.board)))
        return dict(zip(self.board["member"], map(tuple, shades), strict=True))

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
        return {"color": ANCESTRY, "linewidth": width, "alpha": 0.8, "zorder": level, "label": "ancestry"}

    def score(self, member: int, step: int) -> float:
        """What a member reported at a step; NaN when it reported nothing there."""
        found = self.reports[(self.reports["member"] == member) & (self.reports["step"] == step)]["score"]
        return float(found.iloc[-1]) if len(found) else float("nan")

    def end(self, member: int) -> int:
        """The last step at which a member reported; 0 before that."""
        return max(self.reports.loc[self.reports["member"] == member, "step"], default=0)


def load_population(experiment: Experiment) -> Population:
    """Read what `population` draws; raises FileNotFoundError or ValueError where there is nothing to draw."""
    storage = open_experiment(experiment)
    reports = read(storage, "reports")
    reports = reports[reports["score"].notna()]
    if reports.empty:
        raise ValueError(f"{storage} holds no reports: name the folder of one experiment that has run")
    board = leaderboard(storage)
    best = ancestors(storage, int(board.iloc[0]["member"]))
    return Population(_name(storage), board, reports, lineage(storage), hyperparameters(storage), best)


def _name(storage: object) -> str:
    return str(storage).rstrip("/").rpartition("/")[2]


def population(experiment: Experiment) -> Figure:
    """Every member's score over the steps, arrows from donors to receivers, the best member's ancestry in
    bold, and at the right each hyperparameter that differs between members or changes.

    Raises FileNotFoundError for a missing experiment and ValueError for one without reports.
    """
    found = load_population(experiment)
    names = searched(found.hp)
    with matplotlib.rc_context(TEXT):
        size = (11.5 if names else 8.0, max(5.0, 1.5 * len(names)))
        figure = Figure(figsize=size, layout="constrained")
        main, panels = _axes(figure, len(names))
        _draw_scores(main, found)
        _draw_exploits(main, found)
        _draw_ancestry(main, found)
        _dress(figure, main, found)
        for axes, name in zip(panels, names, strict=True):
            _draw_hp(axes, found, name)
        _label_steps([main, *panels[-1:]], found)
    return figure


def searched(hp: pd.DataFrame) -> list[str]:
    """The hyperparameters that take more than one value, in alphabetical order, eight at most."""
    distinct = hp.assign(value=hp["value"].map(json.dumps)).groupby("name")["value"].nunique()
    return [str(name) for name in distinct.index[distinct > 1]][:PANELS]


def _axes(figure: Figure, count: int) -> tuple[Axes, list[Axes]]:
    if not count:
        return figure.add_subplot(), []
    grid = figure.add_gridspec(count, 2, width_ratios=(2.2, 1.0))
    main = figure.add_subplot(grid[:, 0])
    panels = [figure.add_subplot(grid[row, 1], sharex=main) for row in range(count)]
    for axes in panels:
        axes.tick_params(labelbottom=False)
    return main, panels


def _draw_scores(axes: Axes, found: Population) -> None:
    for member in found.board["member"][::-1]:  # the best on top
        rows = found.reports[found.reports["member"] == member]
        style: Any = {"color": found.colors[member], "linewidth": found.width, "marker": "o"}
        axes.plot(
            rows["step"],
            rows["score"],
            label=f"member {member}",
            zorder=2,
            markersize=2.3 * found.width,
            **style,
        )


def _draw_exploits(axes: Axes, found: Population) -> None:
    columns = (found.exploits[name].tolist() for name in ("step", "donor", "member"))
    for step, donor, member in zip(*columns, strict=True):
        start, end = (step, found.score(donor, step)), (step, found.score(member, step))
        if not np.isfinite([start[1], end[1]]).all():
            continue
        bent = "arc3,rad=0.15"  # apart from other arrows of the same step
        arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, connectionstyle=bent)
        arrow.set(color=EXPLOIT, linewidth=0.5 if found.many else 0.8, zorder=3)
        axes.add_patch(arrow)


def _draw_ancestry(axes: Axes, found: Population) -> None:
    path = pd.concat([_piece(found.reports, *segment) for segment in found.ancestry])
    axes.plot(path["step"], path["score"], **found.bold)


def _piece(reports: pd.DataFrame, member: int, start: int, end: int) -> pd.DataFrame:
    after = start if start else -1  # a report at step 0 belongs to the first segment
    return reports[(reports["member"] == member) & (reports["step"] > after) & (reports["step"] <= end)]


def _dress(figure: Figure, axes: Axes, found: Population) -> None:
    """Title, colours' meaning, legend, and the scale of the scores."""
    best = found.board.iloc[0]
    axes.set_title(
        f"{found.name}: {len(found.board)} members, {len(found.exploits)} exploits; "
        f"best is member {best['member']} with {best['score']:.4f}",
        loc="left",
    )
    scores = found.reports["score"]
    accuracy = (scores == found.reports["validation_accuracy"]).all() and scores.between(0, 1).all()
    axes.set_ylabel("validation accuracy" if accuracy else "score")
    if accuracy and scores.max() > 0.9:
        _nines(axes, scores)
    elif accuracy:
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    handles = [
        Line2D([], [], color=ANCESTRY, linewidth=3.5, alpha=0.8, label=f"ancestry of member {best['member']}")
    ]
    if len(found.exploits):
        arrow: Any = {"color": EXPLOIT, "linewidth": 0.8, "marker": ">", "markersize": 5, "markevery": (1, 2)}
        handles.append(Line2D([0, 1], [0, 0], label="exploit: donor to receiver", **arrow))
    axes.legend(handles=handles, loc="best", frameon=False)
    _draw_ranks(figure, axes, found)


def _percent(value: float, _: int = 0) -> str:
    return f"{100 * value:.3g}%" if value < 0.99 else f"{100 * value:.4g}%"


def _nines(axes: Axes, scores: pd.Series) -> None:
    """An axis on which equal distances are equal ratios of error, so that 90, 99 and 99.9% stand apart."""
    errors = 1 - scores
    # half the least error is added to all, for an error of zero has no logarithm
    spare = float(errors[errors > 0].min()) / 2 if (errors > 0).any() else 0.5

    def height(score: Any) -> Any:
        return -np.log10(np.maximum(1 + spare - np.asarray(score), spare / 4))

    def score_at(height: Any) -> Any:
        return 1 + spare - 10.0 ** -np.asarray(height)

    low, high = height(scores.min()), height(scores.max())
    room = 0.05 * (high - low) or 0.05
    ticks = [tick for tick in NINES if low - room <= height(tick) <= high - room]
    axes.set_yscale("function", functions=(height, score_at))
    axes.set_ylim(score_at(low - room), score_at(high + room))
    axes.yaxis.set_major_locator(FixedLocator([*ticks, float(scores.max())]))
    axes.yaxis.set_major_formatter(FuncFormatter(_percent))
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_ranks(figure: Figure, axes: Axes, found: Population) -> None:
    """Beside the axes: which colour is which rank, and which member."""
    count = len(found.board)
    shades = ScalarMappable(
        BoundaryNorm(np.arange(count + 1) + 0.5, count), ListedColormap(list(found.colors.values()))
    )
    shown = (
        range(1, count + 1)
        if count <= NAMED
        else sorted({1, *range(5, count - 2, max(5, count // 50 * 5)), count})
    )
    bar = figure.colorbar(shades, ax=axes, ticks=list(shown), aspect=40, pad=0.02)
    bar.ax.invert_yaxis()
    bar.ax.minorticks_off()
    bar.ax.tick_params(length=0)
    members = found.board["member"].tolist()
    bar.ax.set_yticklabels([f"{rank}: m{members[rank - 1]}" for rank in shown])
    bar.ax.set_title("rank: member", fontsize=9.0, loc="left")


def _draw_hp(axes: Axes, found: Population, name: str) -> None:
    """One hyperparameter of every member over the steps, and bold along the best member's ancestry."""
    rows = found.hp[found.hp["name"] == name]
    rows = rows.assign(value=_scaled(axes, rows["value"]))
    for member in found.board["member"][::-1]:
        path = _held(rows, member, 0, found.end(member))
        axes.step(
            *path, where="post", color=found.colors[member], linewidth=found.width, label=f"member {member}"
        )
    paths = [_held(rows, *segment) for segment in found.ancestry]
    steps, values = ([point for path in paths for point in path[axis]] for axis in (0, 1))
    axes.step(steps, values, where="post", **found.bold)
    axes.set_title(name, loc="left")


def _scaled(axes: Axes, values: pd.Series) -> pd.Series:
    """Values as numbers on a fitting axis: logarithmic for wide spans, a level each for what is no number."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        texts = values.map(value_text)
        levels = sorted(set(texts))
        axes.set_yticks(range(len(levels)), levels)
        axes.set_ylim(-0.5, len(levels) - 0.5)
        return texts.map(levels.index)
    numbers = values.astype(float)
    if numbers.min() > 0 and numbers.max() > MANY * numbers.min():
        axes.set_yscale("log")
        wide = numbers.max() > 100 * numbers.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    return numbers


def _held(rows: pd.DataFrame, member: int, start: int, end: int) -> tuple[list[int], list[float]]:
    """The steps and values between two steps: what held at `start`, each change before `end`, the end."""
    own = rows[(rows["member"] == member) & ((rows["step"] < end) | (rows["step"] <= start))]
    own = own.iloc[max(int((own["step"] <= start).sum()) - 1, 0) :]
    steps = [max(start, int(step)) for step in own["step"]]
    values = own["value"].tolist()
    return ([*steps, end], [*values, values[-1]]) if values else ([], [])


def _label_steps(axes: Sequence[Axes], found: Population) -> None:
    for each in axes:
        each.set_xlabel("step")
        each.tick_params(labelbottom=True)
        each.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if found.reports["step"].max() >= 10_000:
            each.xaxis.set_major_formatter(EngFormatter(sep=""))


def grid(experiment: Experiment) -> Figure:
    """Accuracy against density: seeds as points, a line through the means of each method or setting, bars of
    one sample standard deviation. Settings of one density stand a little apart, so that bars can be told.

    Raises FileNotFoundError for a missing experiment and ValueError for one without reports.
    """
    name, runs, column = load_runs(experiment)
    with matplotlib.rc_context(TEXT):
        figure = Figure(figsize=(8.0, 5.0), layout="constrained")
        axes = figure.add_subplot()
        _density_axis(axes, runs)
        sparse = [
            (label, rows) for label, rows in runs.groupby("label", sort=False) if (rows["density"] < 1).any()
        ]
        for index, (label, rows) in enumerate(sparse):
            _draw_series(axes, str(label), rows, column, index, apart=_apart(axes, index, len(sparse)))
        _draw_dense(axes, runs[runs["dense"]], column)
        title = column.replace("_", " ")
        axes.set_ylabel(title)
        axes.yaxis.set_major_formatter(FuncFormatter(_percent))
        axes.set_title(f"{name}: {title} against density, {_seeds(runs)}", loc="left")
        axes.grid(axis="y", color="0.9", zorder=0)
        figure.legend(loc="outside right upper", frameon=False)
    return figure


def load_runs(experiment: Experiment) -> tuple[str, pd.DataFrame, str]:
    """The experiment's name, its runs (of the leaderboard, with key, label and dense), and the accuracy to
    draw: that of the test split over finished runs, or the validation accuracy so far where there are none.
    """
    storage = open_experiment(experiment)
    board = leaderboard(storage).sort_values("member")
    column = "test_accuracy" if board["test_accuracy"].notna().any() else "validation_accuracy"
    runs = board[board[column].notna()].assign(key=hp_keys)
    if runs.empty:
        raise ValueError(f"{storage} holds no reports: name the folder of one experiment that has run")
    runs["label"] = labels(runs)
    runs["dense"] = ~runs.groupby("label")["density"].transform(lambda densities: (densities < 1).any())
    return _name(storage), runs, column


def labels(runs: pd.DataFrame) -> list[str]:
    """A name per run: its hyperparameters without those that all runs share or that say the density."""
    flat = pd.DataFrame([_flat(json.loads(str(hp))) for hp in runs["hp"]], index=runs.index)
    kept = [
        name
        for name in flat
        if flat[name].map(json.dumps).nunique() > 1 and not _says_density(flat[name], runs["density"])
    ]
    return [
        " ".join(_labelled(str(name), flat.loc[row, name]) for name in kept) or "all" for row in flat.index
    ]


def _flat(hp: dict[str, Any]) -> dict[str, Any]:
    """Lists taken apart: {"run": ["rigl", 0.1]} becomes {"run.0": "rigl", "run.1": 0.1}."""
    entries: dict[str, Any] = {}
    for name, value in hp.items():
        items = (
            {f"{name}.{place}": item for place, item in enumerate(value)}
            if isinstance(value, list)
            else {name: value}
        )
        entries.update(items)
    return entries


def _says_density(values: pd.Series, densities: pd.Series) -> bool:
    if not all(isinstance(value, int | float) for value in values):
        return False
    numbers = values.astype(float)
    near = [np.isclose(share, densities, rtol=0.03, atol=1e-3).all() for share in (numbers, 1 - numbers)]
    return bool(any(near))


def _labelled(name: str, value: Any) -> str:
    return value_text(value) if isinstance(value, str) else f"{name}={value_text(value)}"


def _density_axis(axes: Axes, runs: pd.DataFrame) -> None:
    densities = sorted({float(f"{density:.2g}") for density in runs["density"]})
    if densities[-1] > MANY / 2 * densities[0]:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(densities))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent_text(share).replace(".00%", "%")))
    axes.set_xlabel("density (share of prunable weights alive)")


def _apart(axes: Axes, index: int, count: int) -> tuple[float, float]:
    """Factor and offset that set series number `index` of `count` aside, on either kind of axis."""
    aside = index - (count - 1) / 2
    return (1 + 0.035 * aside, 0.0) if axes.get_xscale() == "log" else (1.0, 0.004 * aside)


def _draw_series(
    axes: Axes, label: str, rows: pd.DataFrame, column: str, index: int, apart: tuple[float, float]
) -> None:
    color, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
    rows = rows.assign(density=rows["density"] * apart[0] + apart[1])
    settings = (
        rows.groupby("key")
        .agg(x=("density", "mean"), y=(column, "mean"), bar=(column, "std"))
        .sort_values("x")
    )
    beside = rows["density"] * 1.012  # where the bar does not cover them
    axes.plot(beside, rows[column], marker, color=color, markersize=4, alpha=0.6, markeredgewidth=0)
    style: Any = {
        "color": color,
        "marker": marker,
        "markersize": 6,
        "linewidth": 1.4,
        "elinewidth": 1.0,
        "capsize": 3,
    }
    axes.errorbar(
        settings["x"], settings["y"], yerr=settings["bar"].fillna(0.0), label=label, zorder=3, **style
    )


def _draw_dense(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """Dense runs: their points, and a line across for the eye to compare with."""
    for index, (label, own) in enumerate(rows.groupby("label", sort=False)):
        mean, shade = own[column].mean(), str(0.2 + 0.15 * (index % 4))
        axes.plot(own["density"], own[column], "*", color=shade, markersize=5, alpha=0.6, markeredgewidth=0)
        axes.axhline(mean, color=shade, linestyle="--", linewidth=1.0, label=f"{label} (mean)", zorder=1)


def _seeds(runs: pd.DataFrame) -> str:
    counts = sorted(set(runs.groupby("key").size()))
    if counts == [1]:
        return "one run each"
    return f"mean ± std over {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} seeds"


def fitting(experiment: Experiment) -> str:
    """`grid` where runs repeat settings over seeds or end at different densities, else `population`."""
    board = leaderboard(experiment)
    densities = board["density"].dropna().round(3).nunique()
    return "grid" if has_repeats(board) or (not board["exploits"].any() and densities > 1) else "population"


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one experiment: 0 and the picture's path when it worked, 2 and one line when it did not."""
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=__doc__.splitlines()[0])
    parser.add_argument("experiment", help="folder or URI of one experiment")
    parser.add_argument("--out", help="file to write, of the kind its ending says (default: in EXPERIMENT)")
    options = parser.parse_args(arguments)
    try:
        kind = fitting(options.experiment)
        figure = {"grid": grid, "population": population}[kind](options.experiment)
        folder, name = os.path.split(options.out) if options.out else (options.experiment, f"{kind}.png")
        storage = open_experiment(folder or ".")
        storage.write(name, encode(figure, name))
    except (OSError, ValueError) as error:
        print(f"analysis.figures: {error}", file=sys.stderr)
        return 2
    print(options.out or f"{storage}/{name}")
    return 0


def encode(figure: Figure, name: str) -> bytes:
    """A figure as the bytes of a file of that name; ValueError for an ending that is no kind of picture."""
    ending = os.path.splitext(name)[1].lstrip(".")
    if ending not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"{name!r} does not end in a kind of picture: use .png, .svg or .pdf")
    picture = BytesIO()
    figure.savefig(picture, format=ending, dpi=160)
    return picture.getvalue()


if __name__ == "__main__":
    sys.exit(main())

"""A population over time: everybody's score, who took whose weights, and the hyperparameters that won."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.ticker import FuncFormatter

from sparsepop.figures.axes import nines, percent, step_axis, wide_axis
from sparsepop.figures.family import NAMED, Population
from sparsepop.figures.frames import MissingRows
from sparsepop.figures.style import ACCENT, GREY, sheet
from sparsepop.results.table import value_text

_MERGE: Any = {"color": GREY, "linewidth": 0.8, "linestyle": ":", "zorder": 1}


def population(found: Population) -> Figure:
    """Every member's score over the steps, arrows from donors to receivers (exploits, common starts), the
    best member's ancestry in bold, and at the right each hyperparameter that differs between members or
    changes.
    """
    names = found.searched
    with sheet(11.5 if names else 8.0, max(5.0, 1.5 * len(names))) as figure:
        main, panels = _axes(figure, len(names))
        _draw_scores(main, found)
        _draw_taken(main, found)
        _draw_ancestry(main, found)
        _draw_merges(main, found)
        _dress(main, found)
        _draw_ranks(figure, main, found)
        for axes, name in zip(panels, names, strict=True):
            _draw_hp(axes, found, name)
        for axes in [main, *panels[-1:]]:
            step_axis(axes, found.last)
            axes.tick_params(labelbottom=True)
    return figure


def family_tree(found: Population) -> Figure:
    """The population's family tree: a line across for each member, best at the top, an arrow from donor to
    receiver for each state that was taken over (exploits, common starts), a line down for each merge, and
    bold the way that the best member's weights took since the merge that they came out of.

    Raises ValueError for a population in which nobody took over a state or was merged.
    """
    if found.taken.empty and not found.merges:
        raise MissingRows("no rows: give an experiment in which members took over each other's states")
    rows = {member: place for place, member in enumerate(found.board["member"])}
    height = min(9.0, max(2.6, 1.2 + (0.14 if found.many else 0.3) * len(rows)))
    with sheet(8.0, height) as figure:
        axes = figure.add_subplot()
        for member, row in rows.items():
            span = [found.begins.get(member, 0), found.end(member)]
            axes.plot(span, [row, row], color=found.colors[member], linewidth=found.width)
        columns = (found.taken[name].tolist() for name in ("step", "donor", "member"))
        for step, donor, member in zip(*columns, strict=True):
            if donor in rows:
                _arrow(axes, found, (step, rows[donor]), (step, rows[member]))
        _draw_way(axes, found, rows)
        _draw_merges(axes, found)
        _dress_tree(axes, found, rows)
    return figure


def trajectories(found: Population) -> Figure:
    """The searched hyperparameters of every member over the steps, bold along the best member's ancestry.

    Raises ValueError where no hyperparameter differs between members or changes.
    """
    names = found.searched
    if not names:
        raise MissingRows("no rows: give an experiment in which hyperparameters differ or change")
    with sheet(6.4, 0.8 + 1.6 * len(names)) as figure:
        panels = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
        for axes, name in zip(panels, names, strict=True):
            _draw_hp(axes, found, name)
        step_axis(panels[-1], found.last)
        bold = Line2D([], [], **found.bold)
        bold.set_label(f"ancestry of member {found.board.iloc[0]['member']}, the best")
        figure.legend(handles=[bold], loc="outside upper right")
    return figure


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
        style: Any = {"color": found.colors[member], "linewidth": found.width, "marker": "o", "zorder": 2}
        style |= {"markersize": 2.3 * found.width, "label": f"member {member}"}
        axes.plot(rows["step"], rows["score"], **style)


def _draw_taken(axes: Axes, found: Population) -> None:
    columns = (found.taken[name].tolist() for name in ("step", "donor", "member"))
    for step, donor, member in zip(*columns, strict=True):
        start, end = (step, found.score(donor, step)), (step, found.score(member, step))
        if np.isfinite([start[1], end[1]]).all():
            _arrow(axes, found, start, end)


def _arrow(axes: Axes, found: Population, start: tuple[int, float], end: tuple[int, float]) -> None:
    bent = "arc3,rad=0.15"  # apart from other arrows of the same step
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, connectionstyle=bent)
    arrow.set(color=GREY, linewidth=0.5 if found.many else 0.8, zorder=3)
    axes.add_patch(arrow)


def _draw_ancestry(axes: Axes, found: Population) -> None:
    path = pd.concat([_piece(found.reports, *segment) for segment in found.ancestry])
    if found.origin:  # from where the best stood as it was merged, or one report alone would not be seen
        member, step, _ = found.ancestry[0]
        path = pd.concat([_piece(found.reports, member, step - 1, step), path])
    axes.plot(path["step"], path["score"], **found.bold)


def _draw_merges(axes: Axes, found: Population) -> None:
    for step in sorted({each.step for each in found.merges}):
        axes.axvline(step, **_MERGE)


def _piece(reports: pd.DataFrame, member: int, start: int, end: int) -> pd.DataFrame:
    after = start if start else -1  # a report at step 0 belongs to the first segment
    return reports[(reports["member"] == member) & (reports["step"] > after) & (reports["step"] <= end)]


def _draw_way(axes: Axes, found: Population, rows: dict[int, int]) -> None:
    steps = [step for _, start, end in found.ancestry for step in (start, end)]
    places = [rows[member] for member, *_ in found.ancestry for _ in range(2)]
    axes.plot(steps, places, **found.bold)


def _dress_tree(axes: Axes, found: Population, rows: dict[int, int]) -> None:
    every = max(1, len(rows) // 40)
    shown = list(rows.items())[::every]
    axes.set_yticks([row for _, row in shown], [f"m{member}" for member, _ in shown], fontsize=8.0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_ylabel("member, best at the top")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    step_axis(axes, found.last)
    told = "and where the best weights come from"
    source = f"; the best weights are {found.origin}" if found.origin else f", {told}"
    axes.set_title(f"{found.name}: {found.counts}{source}")
    axes.figure.legend(handles=_handles(found), loc="outside lower right", ncols=3)


def _dress(axes: Axes, found: Population) -> None:
    """Title, legend, and the scale of the scores."""
    best = found.board.iloc[0]
    axes.set_title(
        f"{found.name}: {len(found.board)} members, {found.counts}; "
        f"best is member {best['member']} with {best['score']:.4f}"
    )
    scores = found.reports["score"]
    accuracy = (scores == found.reports["validation_accuracy"]).all() and scores.between(0, 1).all()
    axes.set_ylabel("validation accuracy (%)" if accuracy else "score")
    if accuracy and scores.max() > 0.9:
        nines(axes, scores)
    elif accuracy:
        axes.yaxis.set_major_formatter(FuncFormatter(percent))
    axes.legend(handles=_handles(found), loc="best")


def _handles(found: Population) -> list[Line2D]:
    bold: Any = {"color": ACCENT, "linewidth": 3.5, "alpha": 0.8}
    since = " since it was merged" if found.origin else ""
    handles = [Line2D([], [], **bold, label=f"ancestry of member {found.board.iloc[0]['member']}{since}")]
    if len(found.taken):
        arrow: Any = {"color": GREY, "linewidth": 0.8, "marker": ">", "markersize": 5, "markevery": (1, 2)}
        handles.append(Line2D([0, 1], [0, 0], label="state taken over: donor to receiver", **arrow))
    if found.merges:
        handles.append(Line2D([], [], **_MERGE, label="members merged"))
    return handles


def _draw_ranks(figure: Figure, axes: Axes, found: Population) -> None:
    """Beside the axes: which colour is which rank, and which member."""
    count = len(found.board)
    norm = BoundaryNorm(np.arange(count + 1) + 0.5, count)
    colors = ScalarMappable(norm, ListedColormap(list(found.colors.values())))
    shown: Sequence[int] = range(1, count + 1)
    if count > NAMED:
        shown = sorted({1, *range(5, count - 2, max(5, count // 50 * 5)), count})
    bar = figure.colorbar(colors, ax=axes, ticks=list(shown), aspect=40, pad=0.02)
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
        style: Any = {"color": found.colors[member], "linewidth": found.width, "label": f"member {member}"}
        axes.step(*path, where="post", **style)
    paths = [_held(rows, *segment) for segment in found.ancestry]
    steps, values = ([point for path in paths for point in path[axis]] for axis in (0, 1))
    axes.step(steps, values, where="post", **found.bold)
    axes.set_title(name)


def _scaled(axes: Axes, values: pd.Series) -> pd.Series:
    """Values as numbers on a fitting axis: logarithmic for wide spans, a level each for what is no number."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        texts = values.map(value_text)
        levels = sorted(set(texts))
        axes.set_yticks(range(len(levels)), levels)
        axes.set_ylim(-0.5, len(levels) - 0.5)
        return texts.map(levels.index)
    numbers = values.astype(float)
    wide_axis(axes, numbers)
    return numbers


def _held(rows: pd.DataFrame, member: int, start: int, end: int) -> tuple[list[int], list[float]]:
    """The steps and values between two steps: what held at `start`, each change before `end`, the end."""
    own = rows[(rows["member"] == member) & ((rows["step"] < end) | (rows["step"] <= start))]
    own = own.iloc[max(int((own["step"] <= start).sum()) - 1, 0) :]
    steps = [max(start, int(step)) for step in own["step"]]
    values = own["value"].tolist()
    return ([*steps, end], [*values, values[-1]]) if values else ([], [])

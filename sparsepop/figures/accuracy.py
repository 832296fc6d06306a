"""Runs against each other: accuracy over density, over training FLOPs and over weights, and who collapsed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Transform, offset_copy

from sparsepop.figures.axes import MANY, accuracy_axis, density_axis
from sparsepop.figures.frames import need
from sparsepop.figures.published import COLUMNS as PUBLISHED
from sparsepop.figures.runs import COLUMNS
from sparsepop.figures.style import GREY, MARKERS, series, sheet

_RUNS = "the runs of an experiment that has reported (runs.load_runs)"
_LABELLED = 12  # series with a line of their own in the legend


def accuracy_density(runs: pd.DataFrame, published: pd.DataFrame | None = None) -> Figure:
    """Accuracy (percent) against density (log axis): runs as points, a line through the means of each label,
    bars of one sample standard deviation, dense runs as lines across; `published` numbers (`published.like`)
    as hollow markers. Labels at one density stand a little apart, so that bars can be told.

    Raises ValueError without runs.
    """
    need(runs, _RUNS, COLUMNS)
    printed = None
    if published is not None and not published.empty:
        printed = need(published, "published numbers", PUBLISHED)
    sparse = list(_by_label(runs[~runs["dense"]]))
    with sheet(6.4, 4.9) as figure:
        axes = figure.add_subplot()
        there = [runs["density"]] if printed is None else [runs["density"], printed["density"]]
        density_axis(axes, pd.concat(there))
        for index, (label, rows) in enumerate(sparse):
            _draw_series(axes, _named(label, index), rows, index, _aside(index, len(sparse)))
        _draw_dense(axes, runs[runs["dense"]])
        if printed is not None:
            _draw_published(axes, printed)
        split = f"{runs['split'].iloc[0]} accuracy"
        accuracy_axis(axes, split)
        axes.set_title(f"{_experiments(runs)}{split} against density, {_seeds(runs)}")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.0)
    return figure


def accuracy_flops(runs: pd.DataFrame) -> Figure:
    """Accuracy (percent) against the FLOPs that each run's own training took (log axis where they span much),
    one series per label, its mean densest to sparsest joined by a line.

    Raises ValueError without runs, or without their FLOPs.
    """
    need(runs, _RUNS, (*COLUMNS, "train_flops"))
    runs = need(runs[runs["train_flops"] > 0], "runs whose reports hold train_flops")
    with sheet(6.4, 4.9) as figure:
        axes = figure.add_subplot()
        for index, (label, rows) in enumerate(_by_label(runs)):
            style = _dense_style(index) if rows["dense"].all() else series(index)
            means = rows.groupby("key")[["train_flops", "accuracy"]].mean().sort_values("train_flops")
            axes.plot(means["train_flops"], means["accuracy"], **style, label=_named(label, index), zorder=3)
            points: Any = {"color": style["color"], "marker": style["marker"], "alpha": 0.45}
            axes.scatter(rows["train_flops"], rows["accuracy"], s=14, linewidths=0, **points)
        _wide_x(axes, runs["train_flops"])
        axes.set_xlabel("training FLOPs of a run")
        accuracy_axis(axes, f"{runs['split'].iloc[0]} accuracy")
        axes.set_title(f"{_experiments(runs)}what accuracy costs in training")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.0)
    return figure


def pareto(runs: pd.DataFrame) -> Figure:
    """Accuracy (percent) against alive weights (log axis where they span much), and the front: the runs that
    no other run beats with as few weights. Raises ValueError without runs.
    """
    need(runs, _RUNS, (*COLUMNS, "alive"))
    runs = need(runs[runs["alive"].notna()], "runs whose reports hold alive weights")
    runs = runs.assign(alive=runs["alive"].astype(float))
    best = front(runs)
    with sheet() as figure:
        axes = figure.add_subplot()
        axes.scatter(
            runs["alive"], runs["accuracy"], s=16, color=GREY, alpha=0.5, linewidths=0, label="a run"
        )
        line: Any = {
            "where": "post",
            "color": series(0)["color"],
            "marker": "o",
            "markersize": 5,
            "zorder": 3,
        }
        axes.step(best["alive"], best["accuracy"], label=f"front: {len(best)} of {len(runs)} runs", **line)
        _wide_x(axes, runs["alive"])
        axes.set_xlabel("alive weights (prunable ones only)")
        accuracy_axis(axes, f"{runs['split'].iloc[0]} accuracy")
        axes.set_title(f"{_experiments(runs)}Pareto front of accuracy and weights")
        axes.legend(loc="best")
    return figure


def front(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that are more accurate than every other with as few alive weights or fewer, fewest first."""
    ordered = runs.sort_values(["alive", "accuracy", "member"], ascending=[True, False, True])
    before = ordered["accuracy"].astype(float).cummax().shift().fillna(-np.inf)
    return ordered[ordered["accuracy"] > before]


def collapse_rate(runs: pd.DataFrame, classes: int) -> Figure:
    """The share of runs, for each label and density, whose accuracy is below 2 / `classes`, twice what
    guessing gives. Means hide such runs; so the count of runs stands at each point.

    Raises ValueError without runs, and for fewer than two classes.
    """
    need(runs, _RUNS, COLUMNS)
    if classes < 2:
        raise ValueError(f"guessing needs at least 2 classes, got {classes}")
    fell = runs.assign(fell=runs["accuracy"] < 2 / classes)
    table = (
        fell.groupby(["label", "dense", "density"], sort=False)["fell"].agg(["mean", "size"]).reset_index()
    )
    with sheet() as figure:
        axes = figure.add_subplot()
        density_axis(axes, runs["density"])
        for index, (label, rows) in enumerate(_by_label(table)):
            rows = rows.sort_values("density")
            axes.plot(
                rows["density"], rows["mean"], label=_named(label, index), **series(index), clip_on=False
            )
        counts = "/".join(map(str, sorted(set(table["size"]))))
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylabel(f"runs below {200 / classes:.3g}% accuracy (%)")
        axes.set_title(f"{_experiments(runs)}collapse rate, {counts} runs a point")
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.0)
    return figure


def _by_label(runs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The runs of each label, dense ones last, so that a method has one style in all figures."""
    ordered = runs.sort_values("dense", kind="stable")
    for label, rows in ordered.groupby("label", sort=False):
        yield str(label), rows


def _dense_style(index: int) -> dict[str, Any]:
    return {"color": str(0.2 + 0.15 * (index % 4)), "marker": "*", "linestyle": "--"}


def _named(label: str, index: int) -> str:
    """What the legend calls a series; the last of many stay nameless, for no legend holds them."""
    return label if index < _LABELLED else f"_{label}"


def _experiments(runs: pd.DataFrame) -> str:
    names = runs["experiment"].unique()
    return f"{names[0]}: " if len(names) == 1 else ""


def _seeds(runs: pd.DataFrame) -> str:
    counts = sorted(set(runs.groupby(["experiment", "key"]).size()))
    if counts == [1]:
        return "one run each"
    return f"mean ± std over {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''} seeds"


def _aside(index: int, count: int) -> float:
    """How far series number `index` of `count` is set aside, in points: on paper, not in densities."""
    return (index - (count - 1) / 2) * 9.0 * min(1.0, 6 / max(1, count))


def _draw_series(axes: Axes, label: str, rows: pd.DataFrame, index: int, aside: float) -> None:
    style: Any = series(index)
    settings = (
        rows.groupby("key")
        .agg(x=("density", "mean"), y=("accuracy", "mean"), bar=("accuracy", "std"))
        .sort_values("x")
    )
    points: Any = {"linestyle": "None", "marker": style["marker"], "color": style["color"]}
    points["transform"] = _moved(axes, aside + 4.0)  # where the bar does not cover them
    axes.plot(rows["density"], rows["accuracy"], **points, markersize=4, alpha=0.6, markeredgewidth=0)
    heights = settings["bar"].fillna(0.0)
    bars: Any = {"yerr": heights, "elinewidth": 1.0, "capsize": 3, "markersize": 6}
    bars["transform"] = _moved(axes, aside)
    axes.errorbar(settings["x"], settings["y"], label=label, zorder=3, **style, **bars)
    for ends in (settings["y"] - heights, settings["y"] + heights):  # what is moved sets no limits itself
        axes.update_datalim(list(zip(settings["x"], ends, strict=True)))
    axes.update_datalim(rows[["density", "accuracy"]].to_numpy(dtype=float))


def _moved(axes: Axes, points: float) -> Transform:
    return offset_copy(axes.transData, axes.get_figure(root=True), x=points, units="points")


def _draw_dense(axes: Axes, rows: pd.DataFrame) -> None:
    """Dense runs: their points, and a line across for the eye to compare with."""
    for index, (label, own) in enumerate(rows.groupby("label", sort=False)):
        mean, shade = own["accuracy"].mean(), _dense_style(index)["color"]
        points: Any = {"color": shade, "markersize": 5, "alpha": 0.6, "markeredgewidth": 0}
        axes.plot(own["density"], own["accuracy"], "*", **points)
        axes.axhline(mean, color=shade, linestyle="--", linewidth=1.0, label=f"{label} (mean)", zorder=1)


def _draw_published(axes: Axes, published: pd.DataFrame) -> None:
    for index, (method, rows) in enumerate(published.groupby("method", sort=False)):
        style: Any = {"marker": MARKERS[::-1][index % len(MARKERS)], "color": GREY, "linestyle": "None"}
        style |= {"markerfacecolor": "white", "markersize": 7, "zorder": 4}
        axes.plot(rows["density"], rows["accuracy"] / 100, label=f"published: {method}", **style)


def _wide_x(axes: Axes, values: pd.Series) -> None:
    """A logarithmic x axis where positive values span more than a factor of five, labelled at 1, 2 and 5."""
    if values.min() > 0 and values.max() > MANY / 2 * values.min():
        axes.set_xscale("log")
        decades = np.log10(values.max() / values.min())
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _: int = 0) -> str:
    """Large numbers as powers of ten, others with commas: `2e12`, `26,620`."""
    return f"{value:.3g}".replace("e+", "e") if value >= 1e6 else f"{value:,.0f}"
